"""The monitor's health as it was at the end of a minute: a function of the store, the same for all who ask later."""

from dataclasses import replace

from monitor.config.settings import milliseconds
from monitor.core.codes import MINUTE_MS
from monitor.serve.health import health_with_reports
from monitor.serve.health_alarms import HealthAlarm, alarms
from monitor.serve.health_ranges import ranges
from monitor.serve.service import Recent, Service

ARRIVED_MS = MINUTE_MS
"""So long after a minute and a flush what the jobs report of it is in the store."""


def last_minute_ms(service: Service) -> int:
    """The end of the last minute whose reports have arrived."""
    arrived_ms = service.now_ms() - ARRIVED_MS - milliseconds(service.settings.time.flush_s)
    return arrived_ms // MINUTE_MS * MINUTE_MS


def alarms_at(service: Service, at_ms: int) -> list[HealthAlarm]:
    """What was not well at a moment. Raises ProblemError."""
    then = replace(service, now_ms=lambda: at_ms, evidence=Recent())
    return alarms(health_with_reports(then).answer, ranges(service.settings))
