"""The state of the monitor: store, data centers, failovers between them, and how far they differ."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from monitor.config.settings import milliseconds
from monitor.core.notices import NOTICES
from monitor.kairosdb.reader import Row
from monitor.serve.evidence import current_evidence
from monitor.serve.failover import Evidence
from monitor.serve.findings import BadValueCount, FutureCount, LateCount, UnknownNameCount
from monitor.serve.health_figures import advice
from monitor.serve.health_models import (
    Count,
    DcHealth,
    Divergence,
    Failover,
    HealthAnswer,
    Status,
    StoreHealth,
    TenantFlow,
)
from monitor.serve.health_ranges import UNREAD, ranges
from monitor.serve.health_reports import DIVERGENCE, FAILOVER, RATE_MS, Reports, reports
from monitor.serve.live_aa import live_aa
from monitor.serve.models import DcState, ServingReason
from monitor.serve.problems import ProblemError
from monitor.serve.service import Service
from monitor.serve.spans import DAY_MS, moment

__all__ = ["DIVERGENCE", "FAILOVER", "failovers", "health"]

LISTED_MAX = 100
BAD_VALUE = "bad_value"


class Reported(NamedTuple):
    """The state of the monitor, and the reports that it follows from."""

    answer: HealthAnswer
    reports: Reports


def health(service: Service, age_max_ms: int = 1_000) -> HealthAnswer:
    """The state of the monitor; never raises, since a store that does not answer is part of that state.

    What is known of the data centers may be `age_max_ms` old.
    """
    try:
        return health_with_reports(service, age_max_ms).answer
    except ProblemError as error:
        return without_store(service, error)


def health_with_reports(service: Service, age_max_ms: int = 1_000) -> Reported:
    """The state of the monitor as the store has it. Raises ProblemError."""
    evidence = current_evidence(service, service.now_ms() - DAY_MS, age_max_ms)
    started_s = time.perf_counter()
    reported = reports(service, evidence)
    answer_ms = (time.perf_counter() - started_s) * 1_000
    of_aa = [of for tenant in service.settings.tenants if (of := live_aa(service, tenant)) is not None]
    store = StoreHealth(url=service.store.url, reachable=True, answer_ms=round(answer_ms, 1), message=None)
    dcs = [_dc(service, evidence, dc, reported) for dc in service.dcs]
    divergences = _divergences(reported.divergences)
    said = advice(dcs, store, divergences, ranges(service.settings))
    reporting = any(dc.state not in (DcState.STALE, DcState.MISSING) for dc in dcs)
    serving = next(dc for dc in dcs if dc.is_serving)
    switches = [*failovers(evidence), *_failovers_of_experiments(reported.failovers)]
    answer = HealthAnswer(
        status=Status.DOWN if not reporting else Status.DEGRADED if said else Status.OK,
        advice=said,
        notices=[
            *(f"{dc.dc}: {notice}" for dc in dcs for notice in dc.notices),
            *(f"{of.tenant}: {of.words}" for of in of_aa if of.is_dependent),
        ],
        at=moment(evidence.now_ms),
        serving_dc=serving.dc,
        final_until=serving.watermark,
        store=store,
        dcs=dcs,
        failovers=sorted(switches, key=lambda failover: failover.at, reverse=True)[:LISTED_MAX],
        divergences=divergences[:LISTED_MAX],
        compared_experiments=len({row.group[2:] for row in reported.divergences}),
        live_aa=of_aa,
    )
    return Reported(answer, reported)


def failovers(evidence: Evidence, days_ms: int = DAY_MS) -> Iterator[Failover]:
    """The moments at which another data center began to serve the present."""
    for before, after in pairwise(evidence.moments):
        if before.dc != after.dc and after.start_ms > evidence.now_ms - days_ms:
            yield Failover(at=moment(after.start_ms), from_dc=before.dc, to_dc=after.dc, reason=after.reason)


def _dc(service: Service, evidence: Evidence, dc: str, reported: Reports) -> DcHealth:
    last, now_ms = evidence.last(dc), evidence.now_ms

    def gauge(name: str) -> int | None:
        values = [row.value for row in reported.newest(name, dc).values()]
        return sum(values) if values else None

    def is_present(row: Row) -> bool:
        return last is not None and row.at_ms >= last.at_ms - evidence.rules.stale_after_ms

    lag = {"/".join(place): row for place, row in sorted(reported.newest("lag", dc).items())}
    present = {place: row.value for place, row in lag.items() if is_present(row)}
    unread = [row.value for row in reported.newest("new_partitions", dc).values() if is_present(row)]
    return DcHealth(
        dc=dc,
        state=evidence.state(dc, now_ms),
        is_serving=evidence.present().dc == dc,
        last_heartbeat=None if last is None else moment(last.at_ms),
        heartbeat_age_s=None if last is None else (now_ms - last.at_ms) / 1_000,
        watermark=None if last is None else moment(last.watermark_ms),
        watermark_age_s=None if last is None else (now_ms - last.watermark_ms) / 1_000,
        lag_messages=sum(present.values()) if present else None,
        lag_by_partition=present,
        sessions=gauge("sessions"),
        totals=gauge("totals"),
        memory_bytes=gauge("memory_bytes"),
        corrections=reported.total("corrections", dc),
        points_written=reported.total("points_written", dc),
        retries=reported.total("retries", dc),
        dead_letters=reported.total("dead_letters", dc),
        repaired=reported.total("repaired", dc),
        unread=reported.total("unread", dc),
        tenants=list(_flows(service, dc, reported, now_ms)),
        rejected=_counts("rejected", dc, reported),
        warnings=_counts("noted", dc, reported),
        **_by_name(dc, reported),
        new_partitions=sum(unread),
        vanished_partitions=[place for place in lag if place not in present],
        notices=[
            *(
                f"{topic}: {NOTICES.get(notice, notice)}."
                for (topic, notice), row in sorted(reported.newest("notice", dc).items())
                if is_present(row)
            ),
            *_of_unread(reported.total("unread", dc)),
        ],
    )


def _of_unread(totals: int) -> Iterator[str]:
    if totals:
        yield f"{totals:,} totals of final minutes were not read back within an hour. {UNREAD.fix}"


def _by_name(dc: str, reported: Reports) -> dict[str, Any]:
    """The experiments, points and names at which messages or visits were not counted."""
    points: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for (tenant, reason, point), hour, recent in reported.counts("noted", dc, 3):
        if reason == BAD_VALUE and point:
            points[tenant, point][0] += hour
            points[tenant, point][1] += recent
    return {
        "late": [
            LateCount(tenant=tenant, experiment=experiment, variation=variation, visits=hour, last_5_min=recent)
            for (tenant, experiment, variation), hour, recent in reported.counts("late", dc, 3)
            if hour
        ],
        "future": [
            FutureCount(tenant=tenant, tag=tag, value=value, events=hour, last_5_min=recent)
            for (tenant, tag, value), hour, recent in reported.counts("future", dc, 3)[:LISTED_MAX]
        ],
        "bad_values": [
            BadValueCount(tenant=tenant, point=point, events=hour, last_5_min=recent)
            for (tenant, point), (hour, recent) in points.items()
        ],
        "unknown_names": [
            UnknownNameCount(tenant=tenant, kind=kind, experiment=experiment, name=name, events=hour, last_5_min=recent)
            for (tenant, kind, experiment, name), hour, recent in reported.counts("unknown", dc, 4)[:LISTED_MAX]
        ],
    }


def _flows(service: Service, dc: str, reported: Reports, now_ms: int) -> Iterator[TenantFlow]:
    """The flow of each tenant; the rate is that of 5 minutes, or of the time since the job's first report."""

    def by_tenant(name: str) -> dict[str, tuple[int, int]]:
        return {tenant: (hour, recent) for (tenant,), hour, recent in reported.counts(name, dc, 1)}

    first_ms = min((row.at_ms for row in reported.hour["events"] if row.group[0] == dc), default=now_ms)
    told_ms = max(1_000, min(RATE_MS, now_ms - first_ms + milliseconds(service.settings.time.flush_s)))
    events, counts, sums = (by_tenant(name) for name in ("events", "delay_ms.count", "delay_ms.sum"))
    maxima = reported.largest("delay_ms.max", dc)
    for tenant in service.settings.tenants:
        accepted, recent = events.get(tenant, (0, 0))
        delays, delay_ms = counts.get(tenant, (0, 0))[0], sums.get(tenant, (0, 0))[0]
        yield TenantFlow(
            tenant=tenant,
            events=accepted,
            last_5_min=recent,
            events_per_s=recent * 1_000 / told_ms,
            delay_ms_mean=delay_ms / delays if delays else None,
            delay_ms_max=maxima.get(tenant),
        )


def _counts(name: str, dc: str, reported: Reports) -> list[Count]:
    return [
        Count(tenant=tenant, reason=reason, messages=hour, last_5_min=recent)
        for (tenant, reason), hour, recent in reported.counts(name, dc, 2)
    ]


def _failovers_of_experiments(rows: Sequence[Row]) -> Iterator[Failover]:
    for row in rows:
        dc, from_dc, reason, tenant, experiment = row.group
        if experiment:
            yield Failover(
                at=moment(row.at_ms),
                from_dc=from_dc,
                to_dc=dc,
                reason=ServingReason(reason),
                tenant=tenant,
                experiment=experiment,
            )


def _divergences(rows: Sequence[Row]) -> list[Divergence]:
    """The worst minute of each experiment and pair of data centers that differ, the largest difference first."""
    minutes: defaultdict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        minutes[row.group].append(row)
    divergences = []
    for (dc, against, tenant, experiment), of_group in minutes.items():
        worst = max(of_group, key=lambda row: (row.value, row.at_ms))
        if worst.value:
            divergences.append(
                Divergence(
                    tenant=tenant,
                    experiment=experiment,
                    dc=dc,
                    against=against,
                    ppm_max=worst.value,
                    worst_minute=moment(worst.at_ms),
                    minutes=len(of_group),
                )
            )
    return sorted(divergences, key=lambda divergence: divergence.ppm_max, reverse=True)


def without_store(service: Service, error: ProblemError) -> HealthAnswer:
    """The state of the monitor while the store does not answer."""
    problem = error.problem
    return HealthAnswer(
        status=Status.DOWN,
        advice=[f"{problem.detail}. {problem.fix}"],
        notices=[],
        at=moment(service.now_ms()),
        serving_dc=service.dcs[0],
        final_until=None,
        store=StoreHealth(url=service.store.url, reachable=False, answer_ms=None, message=problem.detail),
        dcs=[],
        failovers=[],
        divergences=[],
        compared_experiments=0,
        live_aa=[],
    )
