"""The state of the monitor: store, data centers, switches between them, and how far they are apart."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from monitor.core.codes import MINUTE_MS
from monitor.serve.evidence import evidence
from monitor.serve.failover import Evidence
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
from monitor.serve.store import Ask, Row

COUNTED_MS, RATE_MS = HOUR_MS, 5 * MINUTE_MS
DIVERGENCE_MS = 2 * HOUR_MS
"""Minutes are compared when they are sealed: an hour of them is looked at, and they may be an hour old."""
LISTED_MAX = 100
DIVERGENCE_PPM_LOOK = 10_000
"""From here on a divergence is more than what clocks of two brokers make of late events."""
LAG_LOOK = 100_000

FAILOVER, DIVERGENCE = "monitor.failover", "monitor.divergence_ppm"

Told = dict[str, list[Row]]
"""Name without `monitor.` -> rows."""


def health(service: Service) -> HealthAnswer:
    """The state of the monitor; also where the store does not answer, which it then says."""
    started_s = time.perf_counter()
    try:
        known = evidence(service, service.now_ms() - DAY_MS)
        gauges, counters, recent = _gauges(service, known), _counters(service, known), _recent(service, known)
        by_experiment, divergences, compared = _experiments(service, known)
    except ProblemError as error:
        return _without_store(service, error)
    answer_ms = (time.perf_counter() - started_s) * 1_000
    store = StoreHealth(url=service.store.url, reachable=True, answer_ms=round(answer_ms, 1), message=None)
    dcs = [_dc(service, known, dc, gauges, counters, recent) for dc in service.dcs]
    advice = list(_advice(dcs, divergences))
    reporting = any(dc.state not in (DcState.STALE, DcState.MISSING) for dc in dcs)
    serving = next(dc for dc in dcs if dc.is_serving)
    newest_first = sorted([*switches(known), *by_experiment], key=lambda switch: switch.at, reverse=True)
    return HealthAnswer(
        status=Status.DOWN if not reporting else Status.DEGRADED if advice else Status.OK,
        advice=advice,
        at=moment(known.now_ms),
        serving_dc=serving.dc,
        sealed_until=serving.watermark,
        store=store,
        dcs=dcs,
        switches=newest_first[:LISTED_MAX],
        divergences=divergences,
        compared_experiments=compared,
    )


def switches(known: Evidence, days_ms: int = DAY_MS) -> Iterator[Failover]:
    """The moments at which another data center began to serve the present."""
    for before, after in pairwise(known.moments):
        if before.dc != after.dc and after.start_ms > known.now_ms - days_ms:
            yield Failover(at=moment(after.start_ms), from_dc=before.dc, to_dc=after.dc, reason=after.reason)


def _gauges(service: Service, known: Evidence) -> Told:
    """The last values of gauges of the last hour; each report tells all of a data center's."""
    return _told(
        service,
        known,
        COUNTED_MS,
        "last",
        {"lag": ("dc", "topic", "partition"), "visits": ("dc",), "totals": ("dc",), "memory_bytes": ("dc", "worker")},
    )


def _counters(service: Service, known: Evidence) -> Told:
    of_tenant, of_reason = ("dc", "tenant"), ("dc", "tenant", "reason")
    by: dict[str, tuple[str, ...]] = {name: of_tenant for name in ("events", "delay_ms.sum", "delay_ms.count")}
    by |= {name: of_reason for name in ("rejected", "noted")}
    by |= {name: ("dc",) for name in ("corrections", "points_written", "retries", "dead_letters")}
    told = _told(service, known, COUNTED_MS, "sum", by)
    return told | _told(service, known, COUNTED_MS, "max", {"delay_ms.max": of_tenant})


def _recent(service: Service, known: Evidence) -> Told:
    of_reason = ("dc", "tenant", "reason")
    return _told(
        service, known, RATE_MS, "sum", {"events": ("dc", "tenant"), "rejected": of_reason, "noted": of_reason}
    )


def _told(service: Service, known: Evidence, span_ms: int, aggregator: str, by: dict[str, tuple[str, ...]]) -> Told:
    start_ms, end_ms, tags = known.now_ms - span_ms, known.now_ms + 1, {"dc": service.dcs}
    asks = [
        Ask((f"monitor.{name}",), start_ms, end_ms, tags, group, aggregator, 10 * HOUR_MS) for name, group in by.items()
    ]
    return dict(zip(by, service.store.rows(asks), strict=True))


def _dc(service: Service, known: Evidence, dc: str, gauges: Told, counters: Told, recent: Told) -> DcHealth:
    last = known.last(dc)

    def of(rows: Sequence[Row]) -> Iterator[Row]:
        return (row for row in rows if row.group[0] == dc)

    def newest(rows: Sequence[Row]) -> dict[tuple[str, ...], int]:
        return {row.group[1:]: row.value for row in sorted(of(rows), key=lambda row: row.at_ms)}

    def counted(name: str) -> int:
        return sum(row.value for row in of(counters[name]))

    def gauge(name: str) -> int | None:
        found = newest(gauges[name])
        return sum(found.values()) if found else None

    lag = {"/".join(place): behind for place, behind in sorted(newest(gauges["lag"]).items())}
    return DcHealth(
        dc=dc,
        state=known.state(dc, known.now_ms),
        is_serving=known.present().dc == dc,
        last_report=None if last is None else moment(last.at_ms),
        report_age_s=None if last is None else (known.now_ms - last.at_ms) / 1_000,
        watermark=None if last is None else moment(last.watermark_ms),
        watermark_age_s=None if last is None else (known.now_ms - last.watermark_ms) / 1_000,
        lag_messages=sum(lag.values()) if lag else None,
        lag_by_partition=lag,
        visits=gauge("visits"),
        totals=gauge("totals"),
        memory_bytes=gauge("memory_bytes"),
        corrections=counted("corrections"),
        points_written=counted("points_written"),
        retries=counted("retries"),
        dead_letters=counted("dead_letters"),
        tenants=list(_flows(service, dc, counters, recent)),
        rejected=_counts(of(counters["rejected"]), of(recent["rejected"])),
        noted=_counts(of(counters["noted"]), of(recent["noted"])),
    )


def _flows(service: Service, dc: str, counters: Told, recent: Told) -> Iterator[TenantFlow]:
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
    found: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        found[row.group[1:]] += row.value
    return found


def _experiments(service: Service, known: Evidence) -> tuple[list[Failover], list[Divergence], int]:
    """Switches of single experiments, what is far apart, and how many experiments were compared: as was written."""
    end_ms, tags = known.now_ms + 1, {"dc": service.dcs}
    of_switch = ("dc", "from", "reason", "tenant", "experiment")
    of_divergence = ("dc", "against", "tenant", "experiment")
    switched, apart = service.store.rows(
        [
            Ask((FAILOVER,), known.now_ms - DAY_MS, end_ms, tags, of_switch, None),
            Ask((DIVERGENCE,), known.now_ms - DIVERGENCE_MS, end_ms, tags, of_divergence, None),
        ]
    )
    found = []
    for row in switched:
        dc, from_dc, reason, tenant, experiment = row.group
        if experiment:
            found.append(
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
    for row in apart:
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
    return found, divergences[:LISTED_MAX], len({group[2:] for group in minutes})


def _advice(dcs: Sequence[DcHealth], divergences: Sequence[Divergence]) -> Iterator[str]:
    """What is not as it should be, and what to do."""
    for dc in dcs:
        match dc.state:
            case DcState.MISSING:
                yield f"{dc.dc} has never reported: is its job started, with dc = '{dc.dc}' and this KairosDB?"
            case DcState.STALE:
                since = "" if dc.last_report is None else f" since {dc.last_report:%Y-%m-%dT%H:%M:%SZ}"
                yield f"{dc.dc} is silent{since}: look at its job, its log, and whether it reaches KairosDB."
            case DcState.BEHIND:
                yield f"{dc.dc} is behind: look at lag_by_partition, and at its CPU; it catches up by itself if it can."
        if (
            dc.lag_messages is not None
            and dc.lag_messages > LAG_LOOK
            and dc.state in (DcState.HEALTHY, DcState.RECOVERING)
        ):
            yield f"{dc.dc} has {dc.lag_messages:,} messages before it: look at lag_by_partition."
        if dc.dead_letters:
            yield f"{dc.dc} has given up {dc.dead_letters:,} points within the hour: look at its dead-letter file."
    for apart in divergences:
        if apart.ppm_max >= DIVERGENCE_PPM_LOOK:
            which, at = f"{apart.tenant}/{apart.experiment}", iso(round(apart.worst_minute.timestamp() * 1_000))
            yield (
                f"{apart.dc} and {apart.against} differ by {apart.ppm_max / 10_000:.1f} % in {which} at {at}: "
                f"run monitor verify --dc {apart.dc} --against {apart.against}."
            )


def _without_store(service: Service, error: ProblemError) -> HealthAnswer:
    problem = error.problem
    return HealthAnswer(
        status=Status.DOWN,
        advice=[f"{problem.detail}. {problem.fix}"],
        at=moment(service.now_ms()),
        serving_dc=service.dcs[0],
        sealed_until=None,
        store=StoreHealth(url=service.store.url, reachable=False, answer_ms=None, message=problem.detail),
        dcs=[],
        switches=[],
        divergences=[],
        compared_experiments=0,
    )
