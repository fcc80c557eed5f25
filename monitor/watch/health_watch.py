"""Every minute the monitor's own health: what is not well for some minutes is told, and recorded, like a verdict.

The minutes are judged in their order and from the store alone, so watchers that run side by side say the same under the
same ids. What holds at a start is counted from there on; alerts of before are in the audit trail.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence

import msgspec
import structlog

from monitor.alerts.changes import Change
from monitor.core.codes import MINUTE_MS
from monitor.serve.health_alarms import HealthAlarm
from monitor.serve.health_moments import alarms_at, last_minute_ms
from monitor.serve.messages import STRANGERS
from monitor.serve.problems import ProblemError
from monitor.serve.service import Service
from monitor.verdicts.judge import State
from monitor.watch.audit import Audit, Latest, Recorded
from monitor.watch.lasting import Key, Lasting, Turn

log = structlog.get_logger(__name__)

MISSED_MINUTES_MAX = 15
"""Minutes that are judged at once when the store did not answer for a while; earlier ones are left out."""

TellHealth = Callable[[Sequence[Change]], None]


class HealthWatch:
    """Looks at the health of the monitor; `tell` gets the alerts that begin and end, before they are recorded."""

    def __init__(self, service: Service, audit: Audit, tell: TellHealth) -> None:
        self._service, self._audit, self._tell = service, audit, tell
        self._judged_ms: int | None = None
        """The end of the last minute that was judged."""
        self._lasting = Lasting(
            ((tenant, name), latest.phase_ms)
            for tenant in ("", *self._tenants())
            for name, latest in audit.latest(tenant, "").items()
        )

    def once(self) -> int:
        """Judges the minutes since the last look; returns how many. Raises ProblemError."""
        last_ms = last_minute_ms(self._service)
        first_ms = last_ms
        if self._judged_ms is not None:
            first_ms = max(self._judged_ms, last_ms - MISSED_MINUTES_MAX * MINUTE_MS) + MINUTE_MS
        minutes = range(first_ms, last_ms + 1, MINUTE_MS)
        for end_ms in minutes:
            self._take_in(end_ms, {(of.tenant, of.check): of for of in alarms_at(self._service, end_ms)})
            self._judged_ms = end_ms
        return len(minutes)

    def _take_in(self, end_ms: int, found: Mapping[Key, HealthAlarm]) -> None:
        lasting = self._lasting.copy()
        if turns := lasting.minute(end_ms, found):
            self._tell_and_record([_change(turn, end_ms, found.get(turn.key)) for turn in turns], lasting)
        self._lasting = lasting

    def _tell_and_record(self, changes: Sequence[Change], lasting: Lasting) -> None:
        self._tell(changes)
        latest = lasting.alerts()
        for tenant in dict.fromkeys(change.tenant for change in changes):
            known = [(name, Latest(since_ms, State.WARN, 0.0)) for (of, name), since_ms in latest if of == tenant]
            recorded = [_recorded(change) for change in changes if change.tenant == tenant]
            self._audit.record(tenant, "", known, recorded)
        for change in changes:
            log.info(
                "health_changed",
                tenant=change.tenant,
                check=change.check,
                state=change.state.value,
                words=change.words,
            )

    def _tenants(self) -> list[str]:
        return [*self._service.settings.tenants, STRANGERS]


def health_looked(watch: HealthWatch) -> None:
    """Looks once; what the store does not answer is judged at the next look."""
    try:
        watch.once()
    except ProblemError as error:
        log.warning("health_not_judged", reason=error.problem.detail)


def _change(turn: Turn, end_ms: int, alarm: HealthAlarm | None) -> Change:
    """The alert of a turn; when it ends, the condition is not there any more."""
    tenant, check = turn.key
    state = State.WARN if turn.is_alert else State.HEALTHY
    parts = tenant, "", check, state.value, str(end_ms)
    return Change(
        id=hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32],
        tenant=tenant,
        experiment="",
        check=check,
        state=state,
        previous=State.HEALTHY if turn.is_alert else State.WARN,
        at_ms=end_ms,
        since_ms=turn.since_ms if turn.is_alert else None,
        words=alarm.words if alarm is not None else "It is well again.",
        details=alarm.details if alarm is not None else {},
        link="/health",
    )


def _recorded(change: Change) -> Recorded:
    return Recorded(
        change.id,
        change.at_ms,
        change.tenant,
        "",
        change.check,
        change.previous,
        change.state,
        msgspec.json.encode({"tenant": change.tenant, "experiment": "", "health": change}).decode(),
    )
