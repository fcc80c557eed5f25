"""The state of the monitor: store, data centers, failovers between them, and how far they differ."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from monitor.core.codes import MINUTE_MS
from monitor.kairosdb.reader import Ask, Row
from monitor.serve.evidence import current_evidence
from monitor.serve.failover import Evidence
from monitor.serve.health_ranges import DIVERGENCE as DIVERGENCE_RANGE
from monitor.serve.health_ranges import LAG
from monitor.serve.models import (
    Count,
    DcHealth,
    DcState,
    Divergence,
    Failover,
    HealthAnswer,
    ServingReason,
    Status,
    StoreHealth,
    TenantFlow,
)
from monitor.serve.problems import ProblemError
from monitor.serve.service import Service
from monitor.serve.spans import DAY_MS, HOUR_MS, iso, moment

COUNTED_MS, RATE_MS = HOUR_MS, 5 * MINUTE_MS
DIVERGENCE_MS = 2 * HOUR_MS
"""Minutes are compared when they are final: an hour of them, which may be an hour old."""
LISTED_MAX = 100

FAILOVER, DIVERGENCE = "monitor.failover", "monitor.divergence_ppm"

Reports = dict[str, list[Row]]
"""Health metric, without `monitor.` -> rows."""


def health(service: Service) -> HealthAnswer:
    """The state of the monitor; never raises, since a store that does not answer is part of that state."""
    started_s = time.perf_counter()
    try:
        evidence = current_evidence(service, service.now_ms() - DAY_MS)
        gauges, counters, recent = _gauges(service, evidence), _counters(service, evidence), _recent(service, evidence)
        by_experiment, divergences, compared = _experiments(service, evidence)
    except ProblemError as error:
        return _without_store(service, error)
    answer_ms = (time.perf_counter() - started_s) * 1_000
    store = StoreHealth(url=service.store.url, reachable=True, answer_ms=round(answer_ms, 1), message=None)
    dcs = [_dc(service, evidence, dc, gauges, counters, recent) for dc in service.dcs]
    advice = list(_advice(dcs, divergences))
    reporting = any(dc.state not in (DcState.STALE, DcState.MISSING) for dc in dcs)
    serving = next(dc for dc in dcs if dc.is_serving)
    newest_first = sorted([*failovers(evidence), *by_experiment], key=lambda failover: failover.at, reverse=True)
    return HealthAnswer(
        status=Status.DOWN if not reporting else Status.DEGRADED if advice else Status.OK,
        advice=advice,
        at=moment(evidence.now_ms),
        serving_dc=serving.dc,
        final_until=serving.watermark,
        store=store,
        dcs=dcs,
        failovers=newest_first[:LISTED_MAX],
        divergences=divergences,
        compared_experiments=compared,
    )


def failovers(evidence: Evidence, days_ms: int = DAY_MS) -> Iterator[Failover]:
    """The moments at which another data center began to serve the present."""
    for before, after in pairwise(evidence.moments):
        if before.dc != after.dc and after.start_ms > evidence.now_ms - days_ms:
            yield Failover(at=moment(after.start_ms), from_dc=before.dc, to_dc=after.dc, reason=after.reason)


def _gauges(service: Service, evidence: Evidence) -> Reports:
    """The last values of gauges within the last hour; each heartbeat has all of a data center's."""
    return _reported(
        service,
        evidence,
        COUNTED_MS,
        "last",
        {"lag": ("dc", "topic", "partition"), "sessions": ("dc",), "totals": ("dc",), "memory_bytes": ("dc", "worker")},
    )


def _counters(service: Service, evidence: Evidence) -> Reports:
    of_tenant, of_reason = ("dc", "tenant"), ("dc", "tenant", "reason")
    by: dict[str, tuple[str, ...]] = {name: of_tenant for name in ("events", "delay_ms.sum", "delay_ms.count")}
    by |= {name: of_reason for name in ("rejected", "noted")}
    by |= {name: ("dc",) for name in ("corrections", "points_written", "retries", "dead_letters")}
    sums = _reported(service, evidence, COUNTED_MS, "sum", by)
    return sums | _reported(service, evidence, COUNTED_MS, "max", {"delay_ms.max": of_tenant})


def _recent(service: Service, evidence: Evidence) -> Reports:
    of_reason = ("dc", "tenant", "reason")
    return _reported(
        service, evidence, RATE_MS, "sum", {"events": ("dc", "tenant"), "rejected": of_reason, "noted": of_reason}
    )


def _reported(
    service: Service, evidence: Evidence, span_ms: int, aggregator: str, by: dict[str, tuple[str, ...]]
) -> Reports:
    start_ms, end_ms, tags = evidence.now_ms - span_ms, evidence.now_ms + 1, {"dc": service.dcs}
    asks = [
        Ask((f"monitor.{name}",), start_ms, end_ms, tags, group, aggregator, 10 * HOUR_MS) for name, group in by.items()
    ]
    return dict(zip(by, service.store.rows(asks), strict=True))


def _dc(service: Service, evidence: Evidence, dc: str, gauges: Reports, counters: Reports, recent: Reports) -> DcHealth:
    last = evidence.last(dc)

    def of(rows: Sequence[Row]) -> Iterator[Row]:
        return (row for row in rows if row.group[0] == dc)

    def newest(rows: Sequence[Row]) -> dict[tuple[str, ...], int]:
        return {row.group[1:]: row.value for row in sorted(of(rows), key=lambda row: row.at_ms)}

    def counted(name: str) -> int:
        return sum(row.value for row in of(counters[name]))

    def gauge(name: str) -> int | None:
        values = newest(gauges[name])
        return sum(values.values()) if values else None

    lag = {"/".join(place): behind for place, behind in sorted(newest(gauges["lag"]).items())}
    return DcHealth(
        dc=dc,
        state=evidence.state(dc, evidence.now_ms),
        is_serving=evidence.present().dc == dc,
        last_heartbeat=None if last is None else moment(last.at_ms),
        heartbeat_age_s=None if last is None else (evidence.now_ms - last.at_ms) / 1_000,
        watermark=None if last is None else moment(last.watermark_ms),
        watermark_age_s=None if last is None else (evidence.now_ms - last.watermark_ms) / 1_000,
        lag_messages=sum(lag.values()) if lag else None,
        lag_by_partition=lag,
        sessions=gauge("sessions"),
        totals=gauge("totals"),
        memory_bytes=gauge("memory_bytes"),
        corrections=counted("corrections"),
        points_written=counted("points_written"),
        retries=counted("retries"),
        dead_letters=counted("dead_letters"),
        tenants=list(_flows(service, dc, counters, recent)),
        rejected=_counts(of(counters["rejected"]), of(recent["rejected"])),
        warnings=_counts(of(counters["noted"]), of(recent["noted"])),
    )


def _flows(service: Service, dc: str, counters: Reports, recent: Reports) -> Iterator[TenantFlow]:
    def by_tenant(rows: Sequence[Row]) -> Counter[str]:
        of_dc = _summed(row for row in rows if row.group[0] == dc)
        return Counter({tenant: count for (tenant,), count in of_dc.items()})

    events, now, counts = (
        by_tenant(rows) for rows in (counters["events"], recent["events"], counters["delay_ms.count"])
    )
    sums = by_tenant(counters["delay_ms.sum"])
    maxima: defaultdict[str, list[int]] = defaultdict(list)
    for row in counters["delay_ms.max"]:
        if row.group[0] == dc:
            maxima[row.group[1]].append(row.value)
    for tenant in service.settings.tenants:
        yield TenantFlow(
            tenant=tenant,
            events=events[tenant],
            events_per_s=now[tenant] * 1_000 / RATE_MS,
            delay_ms_mean=sums[tenant] / counts[tenant] if counts[tenant] else None,
            delay_ms_max=max(maxima[tenant], default=None),
        )


def _counts(of_hour: Iterator[Row], recent: Iterator[Row]) -> list[Count]:
    hour, minutes = _summed(of_hour), _summed(recent)
    return [
        Count(tenant=tenant, reason=reason, messages=count, last_5_min=minutes[tenant, reason])
        for (tenant, reason), count in hour.most_common()
    ]


def _summed(rows: Iterator[Row]) -> Counter[tuple[str, ...]]:
    """Sums by tags besides dc."""
    sums: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        sums[row.group[1:]] += row.value
    return sums


def _experiments(service: Service, evidence: Evidence) -> tuple[list[Failover], list[Divergence], int]:
    """Failovers of single experiments, divergences, and the number of experiments compared, as they were written."""
    end_ms, tags = evidence.now_ms + 1, {"dc": service.dcs}
    of_failover = ("dc", "from", "reason", "tenant", "experiment")
    of_divergence = ("dc", "against", "tenant", "experiment")
    failover_rows, divergence_rows = service.store.rows(
        [
            Ask((FAILOVER,), evidence.now_ms - DAY_MS, end_ms, tags, of_failover, None),
            Ask((DIVERGENCE,), evidence.now_ms - DIVERGENCE_MS, end_ms, tags, of_divergence, None),
        ]
    )
    of_experiments = []
    for row in failover_rows:
        dc, from_dc, reason, tenant, experiment = row.group
        if experiment:
            of_experiments.append(
                Failover(
                    at=moment(row.at_ms),
                    from_dc=from_dc,
                    to_dc=dc,
                    reason=ServingReason(reason),
                    tenant=tenant,
                    experiment=experiment,
                )
            )
    minutes: defaultdict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in divergence_rows:
        minutes[row.group].append(row)
    divergences = []
    for (dc, against, tenant, experiment), rows in minutes.items():
        worst = max(rows, key=lambda row: (row.value, row.at_ms))
        if worst.value:
            divergences.append(
                Divergence(
                    tenant=tenant,
                    experiment=experiment,
                    dc=dc,
                    against=against,
                    ppm_max=worst.value,
                    worst_minute=moment(worst.at_ms),
                    minutes=len(rows),
                )
            )
    divergences.sort(key=lambda divergence: divergence.ppm_max, reverse=True)
    return of_experiments, divergences[:LISTED_MAX], len({group[2:] for group in minutes})


def _advice(dcs: Sequence[DcHealth], divergences: Sequence[Divergence]) -> Iterator[str]:
    """A sentence for each problem, with what to do."""
    for dc in dcs:
        match dc.state:
            case DcState.MISSING:
                yield f"{dc.dc} has never reported: is its job started, with dc = '{dc.dc}' and this KairosDB?"
            case DcState.STALE:
                since = "" if dc.last_heartbeat is None else f" since {dc.last_heartbeat:%Y-%m-%dT%H:%M:%SZ}"
                yield f"{dc.dc} has been silent{since}: look at its job, its log, and whether it reaches KairosDB."
            case DcState.BEHIND:
                yield f"{dc.dc} is behind: look at lag_by_partition, and at its CPU; it catches up by itself if it can."
        if (
            dc.lag_messages is not None
            and dc.lag_messages > LAG.normal
            and dc.state in (DcState.HEALTHY, DcState.RECOVERING)
        ):
            yield f"{dc.dc} is {dc.lag_messages:,} messages behind: look at lag_by_partition."
        if dc.dead_letters:
            yield f"{dc.dc} has {dc.dead_letters:,} dead letters in the last hour: look at its dead-letter file."
    for apart in divergences:
        if apart.ppm_max >= DIVERGENCE_RANGE.normal:
            name, at = f"{apart.tenant}/{apart.experiment}", iso(round(apart.worst_minute.timestamp() * 1_000))
            yield (
                f"{apart.dc} and {apart.against} differ by {apart.ppm_max / 10_000:.1f} % in {name} at {at}: "
                f"run monitor verify --dc {apart.dc} --against {apart.against}."
            )


def _without_store(service: Service, error: ProblemError) -> HealthAnswer:
    problem = error.problem
    return HealthAnswer(
        status=Status.DOWN,
        advice=[f"{problem.detail}. {problem.fix}"],
        at=moment(service.now_ms()),
        serving_dc=service.dcs[0],
        final_until=None,
        store=StoreHealth(url=service.store.url, reachable=False, answer_ms=None, message=problem.detail),
        dcs=[],
        failovers=[],
        divergences=[],
        compared_experiments=0,
    )
