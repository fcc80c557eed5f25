"""Once a minute: switches between data centers and the divergence of the mirrors, written to the store as points.

Both follow from what the store holds, and a point's time from what it tells: two processes write the same points, and
one that starts again writes over its own.
"""

import threading
from collections.abc import Iterator, Sequence
from itertools import pairwise

import structlog

from monitor.core.codes import MINUTE_MS
from monitor.core.metrics import DataPoint, health_series
from monitor.kairosdb.client import Misconfigured, Refused, Transient, Transport
from monitor.kairosdb.points import Renderer, batches, body
from monitor.serve.evidence import Visits, evidence, visits_by
from monitor.serve.failover import Evidence, minutes
from monitor.serve.health import DIVERGENCE, FAILOVER, switches
from monitor.serve.models import ServingReason
from monitor.serve.problems import ProblemError
from monitor.serve.service import Service
from monitor.serve.spans import DAY_MS, HOUR_MS, Span

DAY_S = DAY_MS // 1_000
EVERY_S = 60.0
COMPARED_MS = HOUR_MS
"""How many of the newest minutes that all data centers have sealed are compared."""
POINTS_PER_REQUEST, BYTES_PER_REQUEST = 2_000, 524_288

log = structlog.get_logger(__name__)


class Watch:
    """Watches in a thread, for as long as the context lasts."""

    def __init__(self, service: Service, url: str) -> None:
        self._service = service
        table = service.settings.serve
        self._transport = Transport(url, table.query_timeout_s, table.query_timeout_s)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="serve-watch")
        self._compared_ms = 0

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._transport.cut()
        self._thread.join()
        self._transport.close()

    def once(self) -> int:
        """Looks once, and writes what is new; how many points. Raises ProblemError, Transient, Misconfigured."""
        service = self._service
        known = evidence(service, service.now_ms() - 2 * COMPARED_MS)
        points = [*_switched(known, service.rules.stale_after_ms)]
        sealed_ms = _sealed_by_all_ms(known)
        span = Span(max(self._compared_ms, sealed_ms - COMPARED_MS), sealed_ms)
        if len(service.dcs) > 1 and span.start_ms < span.end_ms:
            for tenant in service.settings.tenants:
                points += _of_tenant(service, known, tenant, span)
        self._write(points)
        self._compared_ms = max(self._compared_ms, sealed_ms)
        return len(points)

    def _run(self) -> None:
        while True:
            try:
                self.once()
            except ProblemError as error:
                log.warning("watch_waits", reason=error.problem.detail)
            except (Transient, Misconfigured) as error:
                log.warning("watch_cannot_write", reason=str(error))
            if self._ending.wait(EVERY_S):
                return

    def _write(self, points: Sequence[tuple[str, DataPoint]]) -> None:
        ttl_s = self._service.settings.kairosdb.ttl_days * DAY_S
        rendered = []
        for dc in self._service.dcs:
            rendered += Renderer(dc, ttl_s).render(point for of_dc, point in points if of_dc == dc)[0]
        for batch in batches(rendered, POINTS_PER_REQUEST, BYTES_PER_REQUEST):
            answer = self._transport.post(body(batch))
            if isinstance(answer, Refused):
                log.error("watch_points_refused", status=answer.status, text=answer.text)


def _switched(known: Evidence, settle_ms: int) -> Iterator[tuple[str, DataPoint]]:
    """A point for each switch of the present, at its moment; not the newest, that late reports might still move."""
    for switch in switches(known):
        at_ms = round(switch.at.timestamp() * 1_000)
        if at_ms <= known.now_ms - settle_ms:
            tags = {"from": switch.from_dc, "reason": str(switch.reason)}
            yield switch.to_dc, DataPoint(health_series(_short(FAILOVER), **tags), at_ms, 1)


def _of_tenant(service: Service, known: Evidence, tenant: str, span: Span) -> Iterator[tuple[str, DataPoint]]:
    """For each experiment its divergence in each minute, and its switches."""
    names = list(service.settings.tenants[tenant].experiments)
    before = span._replace(start_ms=span.start_ms - MINUTE_MS)
    early = span._replace(start_ms=(before.start_ms - known.rules.return_after_ms) // MINUTE_MS * MINUTE_MS)
    for name, visits in visits_by(service, known, tenant, names, early, MINUTE_MS).items():
        tags = {"tenant": tenant, "experiment": name}
        yield from _apart(service.dcs, visits, span, tags)
        for left, entered in pairwise(minutes(known, *before, visits)):
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


def _sealed_by_all_ms(known: Evidence) -> int:
    """Up to when all data centers have sealed; 0 if one never told."""
    lasts = [known.last(dc) for dc in known.order]
    watermarks_ms = [last.watermark_ms for last in lasts if last is not None]
    if len(watermarks_ms) < len(lasts):
        return 0
    return max(0, min(watermarks_ms) // MINUTE_MS * MINUTE_MS)


def _short(name: str) -> str:
    return name.removeprefix("monitor.")
