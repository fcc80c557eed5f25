"""The evidence in the store about the data centers, and the basis of an answer over a range."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from monitor.config.stored_names import stored_experiments, stored_metrics
from monitor.core.codes import MINUTE_MS, MetricKey
from monitor.core.metrics import metric_name
from monitor.kairosdb.reader import Ask, Row
from monitor.serve.failover import Evidence, Report, Stretch, final_until_ms, lookback_ms, minutes
from monitor.serve.models import Basis, DcState, Served, ServingReason
from monitor.serve.problems import refuse_size, refuse_unknown
from monitor.serve.service import Service
from monitor.serve.spans import DAY_MS, HOUR_MS, Span, last, moment
from monitor.serve.sums import Job, Key, SumQuery, sums

WATERMARK = "monitor.watermark_s"
FRESH_MS = 1_000
SETTLED_MS = 2 * HOUR_MS
"""An hour's reports are taken to be complete this long after it: some may have waited for KairosDB."""

Visits = dict[str, dict[int, int]]
"""Data center -> minute -> assigned visits of an experiment."""


class Serving(NamedTuple):
    """The evidence, and the data center of each minute, by experiment."""

    evidence: Evidence
    served: dict[str, list[Stretch]]


def current_evidence(service: Service, since_ms: int, age_max_ms: int = FRESH_MS) -> Evidence:
    """The evidence about the data centers from a moment until now, or until `age_max_ms` ago. Raises ProblemError."""
    now_ms, rules = service.now_ms(), service.rules
    first_ms = (since_ms - lookback_ms(rules)) // HOUR_MS * HOUR_MS
    evidence = service.evidence.get(first_ms)
    if evidence is None or not 0 <= now_ms - evidence.now_ms < age_max_ms:
        evidence = _evidence(service, first_ms, now_ms)
        service.evidence.put(first_ms, evidence)
    return evidence


def _evidence(service: Service, first_ms: int, now_ms: int) -> Evidence:
    rules = service.rules
    reports: dict[str, set[Report]] = {dc: set() for dc in service.dcs}
    rows = _reports(service, first_ms, now_ms)
    early = {row.group[0] for row in rows if row.at_ms <= first_ms + rules.stale_after_ms}
    rows += _before(service, sorted(set(service.dcs) - early), first_ms)
    for row in rows:
        reports[row.group[0]].add(Report(row.at_ms, row.value * 1_000))
    return Evidence(service.dcs, {dc: sorted(of_dc) for dc, of_dc in reports.items()}, now_ms, rules)


def refuse_long(service: Service, span: Span) -> None:
    """Raises ProblemError for a range that is longer than `serve.range_days`."""
    days = service.settings.serve.range_days
    if span.end_ms - span.start_ms > days * DAY_MS:
        asked = (span.end_ms - span.start_ms) / DAY_MS
        detail = f"The range is {asked:.4g} days; the limit is {days:g} (serve.range_days)"
        refuse_size(detail, "Choose a shorter one.")


def serving(
    service: Service,
    tenant: str,
    experiments: Sequence[str],
    span: Span,
    dc: str | None,
    evidence: Evidence | None = None,
) -> Serving:
    """The data center of each minute of a range, for each experiment; `dc` forces one. Raises ProblemError.

    `evidence`, if given, must reach back to the start of the range.
    """
    if dc is not None and dc not in service.dcs:
        refuse_unknown("data center", dc, service.dcs)
    evidence = evidence or current_evidence(service, span.start_ms)
    if dc is not None or len(service.dcs) == 1 or not experiments:
        return Serving(evidence, {name: by_health(evidence, span, dc) for name in experiments})
    visits = assigned_visits(service, evidence, tenant, experiments, span)
    return Serving(evidence, {name: minutes(evidence, *span, visits[name]) for name in experiments})


def assigned_visits(
    service: Service, evidence: Evidence, tenant: str, experiments: Sequence[str], span: Span
) -> dict[str, Visits]:
    """By experiment, the assigned visits of each minute in each data center, from `return_after_ms` before the range.

    Hours in which all data centers have the same are left out: there they are equally complete.
    """
    whole = Span(span.start_ms - evidence.rules.return_after_ms, span.end_ms).widened(HOUR_MS)
    open_ms = next((hour for hour in range(*whole, HOUR_MS) if not _is_final(evidence, hour)), whole.end_ms)
    present_ms = max(open_ms, min(whole.end_ms, last(evidence.now_ms).end_ms))
    owners = owned(service, tenant, experiments, "assigned")
    final, provisional = Span(whole.start_ms, open_ms), Span(open_ms, present_ms)
    by_hour, by_minute = _visits(service, evidence, owners, [(final, HOUR_MS), (provisional, MINUTE_MS)])
    differing = {
        (name, hour_ms)
        for name, visits in by_hour.items()
        for hour_ms in range(*final, HOUR_MS)
        if len({visits[dc].get(hour_ms, 0) for dc in service.dcs}) > 1
    }
    for hours in _ranges(hour_ms for _, hour_ms in differing):
        names = {name for name, hour_ms in differing if hour_ms in range(*hours)}
        of_names = {stored: name for stored, name in owners.items() if name in names}
        (of_hours,) = _visits(service, evidence, of_names, [(hours, MINUTE_MS)])
        for name, visits in of_hours.items():
            for dc, of_dc in visits.items():
                counts = {at: count for at, count in of_dc.items() if (name, at // HOUR_MS * HOUR_MS) in differing}
                by_minute.setdefault(name, {dc: {} for dc in service.dcs})[dc].update(counts)
    return by_minute


def _is_final(evidence: Evidence, hour_ms: int) -> bool:
    """True if an hour is final in all data centers."""
    return all(evidence.final_since_ms(dc, hour_ms + HOUR_MS) is not None for dc in evidence.order)


def visits_by(
    service: Service, evidence: Evidence, tenant: str, experiments: Sequence[str], span: Span, sampling_ms: int
) -> dict[str, Visits]:
    """By experiment, the assigned visits in each data center, by minute or by hour."""
    (visits,) = _visits(service, evidence, owned(service, tenant, experiments, "assigned"), [(span, sampling_ms)])
    return {name: visits.get(name, {dc: {} for dc in service.dcs}) for name in experiments}


Owners = dict[tuple[str, str], str]
"""(value of the tag `experiment`, metric) -> the experiment."""


def owned(service: Service, tenant: str, experiments: Iterable[str], scope: str) -> Owners:
    """All series of the visits of these experiments in a scope, under their present and their old names.

    Variations are unique within an experiment only, so a metric alone does not say whose it is.
    """
    old: Owners = {}
    configured: Owners = {}
    for name in experiments:
        table = service.experiment(tenant, name)
        metrics = [
            metric_name(tenant, MetricKey(name, scope, variation, None, "beta")) for variation in table.variations
        ]
        for stored_as in stored_experiments(name, table):
            of_name = configured if stored_as == name else old
            of_name |= {(stored_as, metric): name for metric in stored_metrics(metrics, table)}
    return old | configured


def _visits(
    service: Service, evidence: Evidence, owners: Owners, parts: Sequence[tuple[Span, int]]
) -> list[dict[str, Visits]]:
    """For each range with its sampling: by experiment, the visits in each data center."""
    tags = (("experiment", tuple(dict.fromkeys(experiment for experiment, _ in owners))),)
    metrics = tuple(dict.fromkeys(metric for _, metric in owners))
    ranges = [(number, span, sampling_ms) for number, (span, sampling_ms) in enumerate(parts) if span[0] < span[1]]
    jobs = [
        (
            number,
            dc,
            Job(SumQuery(metrics, tags, ("experiment",), sampling_ms), [Stretch(*span, dc, ServingReason.FORCED)]),
        )
        for number, span, sampling_ms in ranges
        for dc in service.dcs
    ]
    visits: list[dict[str, Visits]] = [
        {name: {dc: {} for dc in service.dcs} for name in owners.values()} for _ in parts
    ]
    summed = sums(service.store, service.cache, evidence, [job for _, _, job in jobs])
    for (number, dc, _), of_job in zip(jobs, summed, strict=True):
        for (metric, (experiment,), at_ms), count in of_job.items():
            if (name := owners.get((experiment, metric))) is not None:
                of_dc = visits[number][name][dc]
                of_dc[at_ms] = of_dc.get(at_ms, 0) + count
    return visits


def _ranges(hours_ms: Iterable[int]) -> list[Span]:
    """The hours as ranges, with neighbours joined."""
    ranges: list[Span] = []
    for hour_ms in sorted(set(hours_ms)):
        if ranges and ranges[-1].end_ms == hour_ms:
            ranges[-1] = Span(ranges[-1].start_ms, hour_ms + HOUR_MS)
        else:
            ranges.append(Span(hour_ms, hour_ms + HOUR_MS))
    return ranges


def by_health(evidence: Evidence, span: Span, dc: str | None) -> list[Stretch]:
    """The data center of each minute of a range, without looking at an experiment's completeness."""
    return [Stretch(*span, dc, ServingReason.FORCED)] if dc is not None else minutes(evidence, *span, {})


def basis(evidence: Evidence, served: Sequence[Stretch]) -> Basis:
    """The basis of an answer over these minutes."""
    start_ms, end_ms = served[0].start_ms, served[-1].end_ms
    final_ms = max(start_ms, final_until_ms(evidence, served))
    dc = served[0].dc if served[0].reason is ServingReason.FORCED else evidence.present().dc
    report = evidence.last(dc)
    return Basis(
        start=moment(start_ms),
        end=moment(end_ms),
        served=[Served(start=moment(s.start_ms), end=moment(s.end_ms), dc=s.dc, reason=s.reason) for s in served],
        final_until=moment(final_ms),
        is_final=final_ms == end_ms,
        serving_dc=dc,
        newest=None if report is None else moment(report.at_ms),
        newest_age_s=None if report is None else (evidence.now_ms - report.at_ms) / 1_000,
        is_fresh=evidence.state(dc, evidence.now_ms) not in (DcState.STALE, DcState.MISSING),
    )


def _before(service: Service, silent: Sequence[str], first_ms: int) -> list[Row]:
    """The last report before a moment, for data centers that were silent then; it is cached, since none comes later."""
    if not silent:
        return []
    key = f"{WATERMARK} before, of {' '.join(silent)}", "", first_ms, 0
    rows = service.cache.get(key)
    if rows is None:
        oldest_ms = max(0, first_ms - service.settings.kairosdb.ttl_days * DAY_MS)
        newest = Ask((WATERMARK,), oldest_ms, first_ms, {"dc": silent}, ("dc",), None, only="newest")
        rows = tuple(service.store.rows([newest])[0])
        if first_ms < service.now_ms() - SETTLED_MS:
            service.cache.put(key, rows)
    return list(rows)


def _reports(service: Service, first_ms: int, now_ms: int) -> list[Row]:
    """The first and last report in each `stale_after_ms`, which shows every longer silence. Old hours are cached."""
    settled_ms = max(first_ms, (now_ms - SETTLED_MS) // HOUR_MS * HOUR_MS)
    rows: list[Row] = []
    missing: list[tuple[int, int]] = []
    for hour_ms in range(first_ms, settled_ms, HOUR_MS):
        of_hour = service.cache.get(_key(hour_ms))
        if of_hour is not None:
            rows += of_hour
        elif missing and missing[-1][1] == hour_ms:
            missing[-1] = missing[-1][0], hour_ms + HOUR_MS
        else:
            missing.append((hour_ms, hour_ms + HOUR_MS))
    if missing and missing[-1][1] == settled_ms:
        missing[-1] = missing[-1][0], now_ms + 1
    else:
        missing.append((settled_ms, now_ms + 1))
    for start_ms, end_ms in missing:
        fetched = _fetched(service, start_ms, end_ms)
        rows += fetched
        for hour_ms in range(start_ms, min(end_ms, settled_ms), HOUR_MS):
            of_hour = tuple(row for row in fetched if hour_ms <= row.at_ms < hour_ms + HOUR_MS)
            service.cache.put(_key(hour_ms), of_hour)
    return rows


def _key(hour_ms: int) -> Key:
    return WATERMARK, "", hour_ms, 0


def _fetched(service: Service, start_ms: int, end_ms: int) -> list[Row]:
    tags, length_ms = {"dc": service.dcs}, service.rules.stale_after_ms
    asks: Iterable[Ask] = [
        Ask((WATERMARK,), start_ms, end_ms, tags, ("dc",), aggregator, length_ms) for aggregator in ("first", "last")
    ]
    return [row for of_ask in service.store.rows(asks) for row in of_ask]
