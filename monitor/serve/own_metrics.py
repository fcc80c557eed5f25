"""The query service's own metrics: once a minute, the switches between data centers and how far they differ.

Both follow from what the store holds, and so does the time of each point: two processes write the same points, and one
that starts again overwrites its own.
"""

import threading
from collections.abc import Iterator, Sequence
from itertools import pairwise

import structlog

from monitor.core.codes import MINUTE_MS
from monitor.core.metrics import DataPoint, health_series
from monitor.kairosdb.client import Client
from monitor.kairosdb.delivery import Closed
from monitor.kairosdb.errors import KairosDbError
from monitor.serve.evidence import Visits, current_evidence, visits_by
from monitor.serve.failover import Evidence, minutes
from monitor.serve.health import DIVERGENCE, FAILOVER, failovers
from monitor.serve.models import ServingReason
from monitor.serve.point_delivery import delivery_of
from monitor.serve.problems import ProblemError
from monitor.serve.service import Service
from monitor.serve.spans import HOUR_MS, Span

EVERY_S = 60.0
COMPARED_MS = HOUR_MS
"""How many of the newest minutes that are final in all data centers are compared."""

log = structlog.get_logger(__name__)


class Watch:
    """Looks once a minute, in a thread, for as long as the context lasts."""

    def __init__(self, service: Service, url: str) -> None:
        self._service = service
        self._ending = threading.Event()
        timeout_s = service.settings.serve.query_timeout_s
        self._client = Client(url, timeout_s, timeout_s)
        self._deliveries = {dc: delivery_of(service.settings, self._client, dc, self._ending) for dc in service.dcs}
        self._thread = threading.Thread(target=self._run, name="serve-own-metrics")
        self._compared_ms = 0

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._client.cut()
        self._thread.join()
        self._client.close()

    def once(self) -> int:
        """Looks once and writes what is new; returns the number of points.

        Raises ProblemError, KairosDbError, and Closed at the end of the context.
        """
        service = self._service
        current = current_evidence(service, service.now_ms() - 2 * COMPARED_MS)
        points = [*_switched(current, service.rules.stale_after_ms)]
        sealed_ms = _sealed_by_all_ms(current)
        span = Span(max(self._compared_ms, sealed_ms - COMPARED_MS), sealed_ms)
        if len(service.dcs) > 1 and span.start_ms < span.end_ms:
            for tenant in service.settings.tenants:
                points += _of_tenant(service, current, tenant, span)
        for dc, delivery in self._deliveries.items():
            delivery.deliver(point for of_dc, point in points if of_dc == dc)
        self._compared_ms = max(self._compared_ms, sealed_ms)
        return len(points)

    def _run(self) -> None:
        while True:
            try:
                self.once()
            except ProblemError as error:
                log.warning("own_metrics_not_computed", reason=error.problem.detail)
            except KairosDbError as error:
                log.warning("own_metrics_not_written", reason=str(error))
            except Closed:
                return
            if self._ending.wait(EVERY_S):
                return


def _switched(evidence: Evidence, settle_ms: int) -> Iterator[tuple[str, DataPoint]]:
    """A point for each switch of the present, at its moment; not for the newest, which late reports may still move."""
    for switch in failovers(evidence):
        at_ms = round(switch.at.timestamp() * 1_000)
        if at_ms <= evidence.now_ms - settle_ms:
            tags = {"from": switch.from_dc, "reason": str(switch.reason)}
            yield switch.to_dc, DataPoint(health_series(_short(FAILOVER), **tags), at_ms, 1)


def _of_tenant(service: Service, evidence: Evidence, tenant: str, span: Span) -> Iterator[tuple[str, DataPoint]]:
    """For each experiment its divergence in each minute, and its switches."""
    names = list(service.settings.tenants[tenant].experiments)
    before = span._replace(start_ms=span.start_ms - MINUTE_MS)
    early = span._replace(start_ms=(before.start_ms - evidence.rules.return_after_ms) // MINUTE_MS * MINUTE_MS)
    for name, visits in visits_by(service, evidence, tenant, names, early, MINUTE_MS).items():
        tags = {"tenant": tenant, "experiment": name}
        yield from _apart(service.dcs, visits, span, tags)
        for left, entered in pairwise(minutes(evidence, *before, visits)):
            if left.dc != entered.dc and ServingReason.LESS_COMPLETE in (left.reason, entered.reason):
                of_switch = {"from": left.dc, "reason": str(entered.reason), **tags}
                yield entered.dc, DataPoint(health_series(_short(FAILOVER), **of_switch), entered.start_ms, 1)


def _apart(dcs: Sequence[str], visits: Visits, span: Span, tags: dict[str, str]) -> Iterator[tuple[str, DataPoint]]:
    """Each data center against the preferred one: assigned visits that differ, in a million of the larger number."""
    against, *others = dcs
    for dc in others:
        series = health_series(_short(DIVERGENCE), against=against, **tags)
        for minute_ms in range(span.start_ms, span.end_ms, MINUTE_MS):
            here, there = visits[dc].get(minute_ms, 0), visits[against].get(minute_ms, 0)
            if most := max(here, there):
                yield dc, DataPoint(series, minute_ms, round(abs(here - there) * 1_000_000 / most))


def _sealed_by_all_ms(evidence: Evidence) -> int:
    """The time before which the minutes of all data centers are final; 0 if one has never reported."""
    lasts = [evidence.last(dc) for dc in evidence.order]
    watermarks_ms = [last.watermark_ms for last in lasts if last is not None]
    if len(watermarks_ms) < len(lasts):
        return 0
    return max(0, min(watermarks_ms) // MINUTE_MS * MINUTE_MS)


def _short(name: str) -> str:
    return name.removeprefix("monitor.")
