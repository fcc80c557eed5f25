"""The state of a tenant's experiments: whether they get visits, how these are split, and their course of late."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from monitor.config.settings import ExperimentTable
from monitor.core.codes import MINUTE_MS
from monitor.serve import statistics
from monitor.serve.evidence import Rest, basis, by_health, rest
from monitor.serve.failover import Evidence, Stretch
from monitor.serve.models import ExperimentsAnswer, ExperimentState, Running
from monitor.serve.results import CROSSED, Metrics, assigned_by_weight
from monitor.serve.service import Service
from monitor.serve.spans import DAY_MS, HOUR_MS, last, moment
from monitor.serve.store import Ask, Row
from monitor.serve.sums import Job, Wanted, sums

STATE_HOURS, RECENT_HOURS = 24, 2
RUNNING_MINUTES = 15
ASSIGNED_MINUTES = 16
STEP_MINUTES = 5

Tables = Mapping[str, ExperimentTable]


class Counts(NamedTuple):
    """Of one experiment: metric -> (beginning of an hour or minute -> sum), over the day, and of late by minute."""

    hours: defaultdict[str, Counter[int]]
    minutes: defaultdict[str, Counter[int]]


def experiments(service: Service, tenant: str, dc: str | None = None) -> ExperimentsAnswer:
    """The experiments of a tenant, with their state over the last 24 hours. Raises ProblemError."""
    tables = service.tenant(tenant).experiments
    day = last(service.now_ms(), STATE_HOURS)
    found = rest(service, tenant, list(tables), day, dc)
    counts = _counts(service, tenant, tables, found)
    first_ms = _first_ms(service, tenant, tables, found.known)
    return ExperimentsAnswer(
        tenant=tenant,
        experiments=[
            _state(tenant, name, table, counts[name], first_ms.get(name), found.known.now_ms)
            for name, table in tables.items()
        ],
        basis=basis(found.known, by_health(found.known, day, dc)),
    )


def _counts(service: Service, tenant: str, tables: Tables, found: Rest) -> dict[str, Counts]:
    """The counts of all experiments: those that are served alike are asked for together."""
    alike: defaultdict[tuple[Stretch, ...], list[str]] = defaultdict(list)
    for name in tables:
        alike[tuple(found.served[name])].append(name)
    jobs = []
    for served, names in alike.items():
        metrics = tuple(metric for name in names for metric in Metrics(tenant, name).counts(tables[name]))
        for sampling_ms, stretches in ((HOUR_MS, served), (MINUTE_MS, _late(served))):
            jobs.append(Job(Wanted(metrics, (), ("experiment",), sampling_ms), stretches))
    counts = {name: Counts(defaultdict(Counter), defaultdict(Counter)) for name in tables}
    for job, of_job in zip(jobs, sums(service.store, service.kept, found.known, jobs), strict=True):
        for (metric, (experiment,), at_ms), count in of_job.items():
            if experiment in counts:
                of_experiment = counts[experiment]
                into = of_experiment.hours if job.wanted.sampling_ms == HOUR_MS else of_experiment.minutes
                into[metric][at_ms] += count
    return counts


def _late(served: Sequence[Stretch]) -> list[Stretch]:
    """The part within the last two hours."""
    start_ms = served[-1].end_ms - RECENT_HOURS * HOUR_MS
    return [
        stretch._replace(start_ms=max(start_ms, stretch.start_ms)) for stretch in served if stretch.end_ms > start_ms
    ]


def _first_ms(service: Service, tenant: str, tables: Tables, known: Evidence) -> dict[str, int]:
    """The first minute of each experiment with a visit that the store still holds; asked for once an hour."""
    hour_ms = known.now_ms // HOUR_MS * HOUR_MS
    key = f"first assigned of {tenant}", "", hour_ms, 0
    rows = service.kept.get(key)
    if rows is None:
        names = tuple(
            Metrics(tenant, name).visits("assigned", variation)
            for name, table in tables.items()
            for variation in table.variations
        )
        oldest_ms = max(0, known.now_ms - service.settings.kairosdb.ttl_days * DAY_MS)
        ask = Ask(names, oldest_ms, known.now_ms + 1, {"dc": service.dcs}, ("experiment",), None, only="oldest")
        rows = tuple(service.store.rows([ask])[0])
        if _all_found(rows, tables):
            service.kept.put(key, rows)
    first_ms: dict[str, int] = {}
    for row in rows:
        (experiment,) = row.group
        first_ms[experiment] = min(first_ms.get(experiment, row.at_ms), row.at_ms)
    return first_ms


def _all_found(rows: Sequence[Row], tables: Tables) -> bool:
    """Whether each experiment has had visits: one that starts must not wait for the next hour."""
    return {row.group[0] for row in rows} >= tables.keys()


def _state(
    tenant: str, name: str, table: ExperimentTable, counts: Counts, first_ms: int | None, now_ms: int
) -> ExperimentState:
    metrics = Metrics(tenant, name)
    present_ms = now_ms // MINUTE_MS * MINUTE_MS
    totals = {metric: sum(of_metric.values()) for metric, of_metric in counts.hours.items()}
    seen_ms = _seen_ms(metrics, table, counts)

    def of(scope: str) -> dict[str, int]:
        return {variation: totals.get(metrics.visits(scope, variation), 0) for variation in table.variations}

    assigned, qualified = of("assigned"), of("fm")
    return ExperimentState(
        experiment=name,
        state=_running(seen_ms, now_ms),
        control=table.control,
        variations=dict(table.variations),
        first_assigned=_moment(first_ms),
        last_assigned=_moment(seen_ms),
        assigned=sum(assigned.values()),
        qualified=sum(qualified.values()),
        crossed=sum(of(CROSSED).values()),
        assigned_by_variation=assigned,
        qualified_by_variation=qualified,
        qualified_recent=_qualified_recent(metrics, table, counts, present_ms),
        assigned_recent={
            variation: [
                counts.minutes[metrics.visits("assigned", variation)][present_ms - ago * MINUTE_MS]
                for ago in reversed(range(ASSIGNED_MINUTES))
            ]
            for variation in table.variations
        },
        split=statistics.split(*assigned_by_weight(metrics, table, totals)),
    )


def _seen_ms(metrics: Metrics, table: ExperimentTable, counts: Counts) -> int | None:
    """The last minute with an assigned visit, or the last hour where that is long ago."""
    names = [metrics.visits("assigned", variation) for variation in table.variations]
    for by_time in (counts.minutes, counts.hours):
        seen = [at_ms for name in names for at_ms, count in by_time[name].items() if count > 0]
        if seen:
            return max(seen)
    return None


def _running(seen_ms: int | None, now_ms: int) -> Running:
    if seen_ms is None:
        return Running.NO_DATA
    return Running.RUNNING if now_ms - seen_ms <= RUNNING_MINUTES * MINUTE_MS else Running.SILENT


def _qualified_recent(metrics: Metrics, table: ExperimentTable, counts: Counts, present_ms: int) -> list[int]:
    """Qualified visits of all variations in steps, the last of which ends with the minute under way."""
    steps = RECENT_HOURS * 60 // STEP_MINUTES
    found = [0] * steps
    for variation in table.variations:
        for at_ms, count in counts.minutes[metrics.visits("fm", variation)].items():
            ago = (present_ms - at_ms) // MINUTE_MS // STEP_MINUTES
            if 0 <= ago < steps:
                found[steps - 1 - ago] += count
    return found


def _moment(time_ms: int | None) -> datetime | None:
    return None if time_ms is None else moment(time_ms)
