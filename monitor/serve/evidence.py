"""What the store tells about the data centers, and what an answer over a range rests on."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from monitor.core.codes import MINUTE_MS, MetricKey
from monitor.core.metrics import metric_name
from monitor.serve.failover import Evidence, Report, Stretch, lookback_ms, minutes, sealed_until_ms
from monitor.serve.models import Basis, DcState, Served, ServingReason
from monitor.serve.problems import refuse_size, refuse_unknown
from monitor.serve.service import Service
from monitor.serve.spans import DAY_MS, HOUR_MS, Span, moment
from monitor.serve.store import Ask, Row
from monitor.serve.sums import Job, Key, Wanted, sums

WATERMARK = "monitor.watermark_s"
FRESH_MS = 1_000
SETTLED_MS = 2 * HOUR_MS
"""So long after an hour its reports are taken to be all there: some may have waited for KairosDB."""

Visits = dict[str, dict[int, int]]
"""Data center -> minute -> assigned visits of an experiment."""


class Rest(NamedTuple):
    """What an answer rests on: the evidence, and who serves each minute, by experiment."""

    known: Evidence
    served: dict[str, list[Stretch]]


def evidence(service: Service, since_ms: int) -> Evidence:
    """What is known of the data centers from a moment on until now, as of this second. Raises ProblemError."""
    now_ms, rules = service.now_ms(), service.rules
    first_ms = (since_ms - lookback_ms(rules)) // HOUR_MS * HOUR_MS
    key = first_ms, now_ms // FRESH_MS
    held = service.evidence.get(key)
    if held is None:
        held = _evidence(service, first_ms, now_ms)
        service.evidence.put(key, held)
    return held


def _evidence(service: Service, first_ms: int, now_ms: int) -> Evidence:
    rules = service.rules
    told: dict[str, set[Report]] = {dc: set() for dc in service.dcs}
    rows = _reports(service, first_ms, now_ms)
    early = {row.group[0] for row in rows if row.at_ms <= first_ms + rules.stale_after_ms}
    rows += _before(service, sorted(set(service.dcs) - early), first_ms)
    for row in rows:
        told[row.group[0]].add(Report(row.at_ms, row.value * 1_000))
    return Evidence(service.dcs, {dc: sorted(reports) for dc, reports in told.items()}, now_ms, rules)


def rest(service: Service, tenant: str, experiments: Sequence[str], span: Span, dc: str | None) -> Rest:
    """Who serves each minute of a range for each of the experiments; `dc` forces one. Raises ProblemError."""
    days = service.settings.serve.range_days
    if span.end_ms - span.start_ms > days * DAY_MS:
        asked = (span.end_ms - span.start_ms) / DAY_MS
        detail = f"a range must not be longer than serve.range_days, {days} days; got {asked:.1f}"
        refuse_size(detail, "Ask for a shorter range, or raise serve.range_days.")
    if dc is not None and dc not in service.dcs:
        refuse_unknown("data center", dc, service.dcs)
    known = evidence(service, span.start_ms)
    if dc is not None or len(service.dcs) == 1 or not experiments:
        return Rest(known, {name: by_health(known, span, dc) for name in experiments})
    visits = assigned_visits(service, known, tenant, experiments, span)
    return Rest(known, {name: minutes(known, *span, visits[name]) for name in experiments})


def assigned_visits(
    service: Service, known: Evidence, tenant: str, experiments: Sequence[str], span: Span
) -> dict[str, Visits]:
    """By experiment, the assigned visits of each minute in each data center; from as long before as choices last.

    Hours of which all data centers hold the same are left out: there they are equally complete.
    """
    whole = Span(span.start_ms - known.rules.return_after_ms, span.end_ms).widened(HOUR_MS)
    by_hour = visits_by(service, known, tenant, experiments, whole, HOUR_MS)
    differing = {
        (name, hour_ms)
        for name, visits in by_hour.items()
        for hour_ms in range(*whole, HOUR_MS)
        if len({visits[dc].get(hour_ms, 0) for dc in service.dcs}) > 1
    }
    found: dict[str, Visits] = {name: {dc: {} for dc in service.dcs} for name in experiments}
    for hours in _ranges(hour_ms for _, hour_ms in differing):
        within = range(*hours, HOUR_MS)
        names = [name for name in experiments if any((name, hour_ms) in differing for hour_ms in within)]
        for name, visits in visits_by(service, known, tenant, names, hours, MINUTE_MS).items():
            for dc, of_dc in visits.items():
                kept = {at: count for at, count in of_dc.items() if (name, at // HOUR_MS * HOUR_MS) in differing}
                found[name][dc].update(kept)
    return found


def visits_by(
    service: Service, known: Evidence, tenant: str, experiments: Sequence[str], span: Span, sampling_ms: int
) -> dict[str, Visits]:
    """By experiment, the assigned visits in each data center, by minute or by hour."""
    owners = {
        metric_name(tenant, MetricKey(name, "assigned", variation, None, "beta")): name
        for name in experiments
        for variation in service.experiment(tenant, name).variations
    }
    want = Wanted(tuple(owners), (), ("experiment",), sampling_ms)
    visits: dict[str, Visits] = {name: {dc: {} for dc in service.dcs} for name in experiments}
    jobs = [Job(want, [Stretch(*span, dc, ServingReason.FORCED)]) for dc in service.dcs]
    for dc, found in zip(service.dcs, sums(service.store, service.kept, known, jobs), strict=True):
        for (name, (experiment,), at_ms), count in found.items():
            if owners[name] == experiment:  # else it is of another experiment that had this variation before
                of_dc = visits[experiment][dc]
                of_dc[at_ms] = of_dc.get(at_ms, 0) + count
    return visits


def _ranges(hours_ms: Iterable[int]) -> list[Span]:
    """The hours as ranges, neighbours put together."""
    ranges: list[Span] = []
    for hour_ms in sorted(set(hours_ms)):
        if ranges and ranges[-1].end_ms == hour_ms:
            ranges[-1] = Span(ranges[-1].start_ms, hour_ms + HOUR_MS)
        else:
            ranges.append(Span(hour_ms, hour_ms + HOUR_MS))
    return ranges


def by_health(known: Evidence, span: Span, dc: str | None) -> list[Stretch]:
    """Who serves each minute of a range where no experiment is asked for."""
    return [Stretch(*span, dc, ServingReason.FORCED)] if dc is not None else minutes(known, *span, {})


def basis(known: Evidence, served: Sequence[Stretch]) -> Basis:
    """What an answer over these minutes says of itself."""
    start_ms, end_ms = served[0].start_ms, served[-1].end_ms
    sealed_ms = max(start_ms, sealed_until_ms(known, served))
    dc = served[0].dc if served[0].reason is ServingReason.FORCED else known.present().dc
    last = known.last(dc)
    return Basis(
        start=moment(start_ms),
        end=moment(end_ms),
        served=[Served(start=moment(s.start_ms), end=moment(s.end_ms), dc=s.dc, reason=s.reason) for s in served],
        sealed_until=moment(sealed_ms),
        is_sealed=sealed_ms == end_ms,
        serving_dc=dc,
        newest=None if last is None else moment(last.at_ms),
        newest_age_s=None if last is None else (known.now_ms - last.at_ms) / 1_000,
        is_fresh=known.state(dc, known.now_ms) not in (DcState.STALE, DcState.MISSING),
    )


def _before(service: Service, silent: Sequence[str], first_ms: int) -> list[Row]:
    """The last report before a moment, of data centers that were silent then."""
    if not silent:
        return []
    oldest_ms = max(0, first_ms - service.settings.kairosdb.ttl_days * DAY_MS)
    last = Ask((WATERMARK,), oldest_ms, first_ms, {"dc": silent}, ("dc",), None, only="newest")
    return service.store.rows([last])[0]


def _reports(service: Service, first_ms: int, now_ms: int) -> list[Row]:
    """The first and the last report of each `stale_after_ms`: no longer silence is overlooked. Old hours are kept."""
    settled_ms = max(first_ms, (now_ms - SETTLED_MS) // HOUR_MS * HOUR_MS)
    rows: list[Row] = []
    missing: list[tuple[int, int]] = []
    for hour_ms in range(first_ms, settled_ms, HOUR_MS):
        of_hour = service.kept.get(_key(hour_ms))
        if of_hour is not None:
            rows += of_hour
        elif missing and missing[-1][1] == hour_ms:
            missing[-1] = missing[-1][0], hour_ms + HOUR_MS
        else:
            missing.append((hour_ms, hour_ms + HOUR_MS))
    for start_ms, end_ms in missing:
        found = _asked(service, start_ms, end_ms)
        rows += found
        for hour_ms in range(start_ms, end_ms, HOUR_MS):
            of_hour = tuple(row for row in found if hour_ms <= row.at_ms < hour_ms + HOUR_MS)
            service.kept.put(_key(hour_ms), of_hour)
    return rows + _asked(service, settled_ms, now_ms + 1)


def _key(hour_ms: int) -> Key:
    return WATERMARK, "", hour_ms, 0


def _asked(service: Service, start_ms: int, end_ms: int) -> list[Row]:
    tags, length_ms = {"dc": service.dcs}, service.rules.stale_after_ms
    asks: Iterable[Ask] = [
        Ask((WATERMARK,), start_ms, end_ms, tags, ("dc",), which, length_ms) for which in ("first", "last")
    ]
    return [row for found in service.store.rows(asks) for row in found]
