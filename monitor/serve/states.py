"""The state of a tenant's experiments: their traffic, its split, and the last hours."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from monitor.config.settings import ExperimentTable
from monitor.config.stored_names import stored_experiments, stored_metrics
from monitor.core.codes import MINUTE_MS
from monitor.kairosdb.reader import Ask
from monitor.serve import statistics
from monitor.serve.evidence import Serving, basis, by_health, owned, serving
from monitor.serve.failover import Evidence, Stretch
from monitor.serve.models import ExperimentsAnswer, ExperimentState, Running
from monitor.serve.plans import Plan
from monitor.serve.results import CROSSED, Metrics, assigned_by_weight
from monitor.serve.service import Service
from monitor.serve.spans import DAY_MS, HOUR_MS, last, moment
from monitor.serve.sums import Job, Key, SumQuery, Sums, sums

STATE_HOURS, RECENT_HOURS = 24, 2
RUNNING_MINUTES = 15
ASSIGNED_MINUTES = 16
STEP_MINUTES = 5

Tables = Mapping[str, ExperimentTable]


class Counts(NamedTuple):
    """One experiment: metric -> (start of an hour or minute -> sum), by hour over the day, by minute over 2 hours."""

    hours: defaultdict[str, Counter[int]]
    minutes: defaultdict[str, Counter[int]]


def experiments(service: Service, tenant: str, dc: str | None = None) -> ExperimentsAnswer:
    """The experiments of a tenant, with their state over the last 24 hours. Raises ProblemError."""
    tables = service.tenant(tenant).experiments
    day = last(service.now_ms(), STATE_HOURS)
    evidence, served = serving(service, tenant, list(tables), day, dc)
    counts = _counts(service, tenant, tables, Serving(evidence, served))
    first_ms = first_visits_ms(service, tenant, tables, evidence.now_ms)
    return ExperimentsAnswer(
        tenant=tenant,
        at=moment(evidence.now_ms),
        experiments=[
            _state(tenant, name, table, counts[name], first_ms.get(name), evidence.now_ms)
            for name, table in tables.items()
        ],
        basis=basis(evidence, by_health(evidence, day, dc)),
    )


def state_plan(service: Service, tenant: str, name: str) -> Plan[ExperimentState]:
    """The plan of the state of one experiment over the last 24 hours. Raises ProblemError."""
    table, metrics = service.experiment(tenant, name), Metrics(tenant, name)
    day = last(service.now_ms(), STATE_HOURS)
    stored = tuple(stored_metrics(metrics.counts(table), table))
    tags = (("experiment", stored_experiments(name, table)),)
    late = day._replace(start_ms=day.end_ms - RECENT_HOURS * HOUR_MS)
    reads = [(SumQuery(stored, tags, (), HOUR_MS), day), (SumQuery(stored, tags, (), MINUTE_MS), late)]

    def answer(evidence: Evidence, _served: Sequence[Stretch], of_reads: Sequence[Sums]) -> ExperimentState:
        counts = Counts(defaultdict(Counter), defaultdict(Counter))
        for into, of_read in zip(counts, of_reads, strict=True):
            for (metric, _, at_ms), count in of_read.items():
                into[metric][at_ms] += count
        first_ms = first_visits_ms(service, tenant, {name: table}, evidence.now_ms).get(name)
        return _state(tenant, name, table, counts, first_ms, evidence.now_ms)

    return Plan(day, reads, answer)


def _counts(service: Service, tenant: str, tables: Tables, serving_: Serving) -> dict[str, Counts]:
    """The counts of all experiments; those with the same data centers share a query."""
    alike: defaultdict[tuple[Stretch, ...], list[str]] = defaultdict(list)
    for name in tables:
        alike[tuple(serving_.served[name])].append(name)
    jobs = []
    for served, names in alike.items():
        metrics = tuple(
            dict.fromkeys(
                metric
                for name in names
                for metric in stored_metrics(Metrics(tenant, name).counts(tables[name]), tables[name])
            )
        )
        tags = tuple(dict.fromkeys(old for name in names for old in stored_experiments(name, tables[name])))
        for sampling_ms, stretches in ((HOUR_MS, served), (MINUTE_MS, _late(served))):
            jobs.append(Job(SumQuery(metrics, (("experiment", tags),), ("experiment",), sampling_ms), stretches))
    owners = _owners(tenant, tables)
    counts = {name: Counts(defaultdict(Counter), defaultdict(Counter)) for name in tables}
    for number, of_job in enumerate(sums(service.store, service.cache, serving_.evidence, jobs)):
        for (metric, (experiment,), at_ms), count in of_job.items():
            if (owner := owners.get((experiment, metric))) is not None:
                counts[owner[0]][number % 2][owner[1]][at_ms] += count
    return counts


def _owners(tenant: str, tables: Tables) -> dict[tuple[str, str], tuple[str, str]]:
    """(value of the tag `experiment`, stored metric) -> (experiment, its metric by the configured variation)."""
    old: dict[tuple[str, str], tuple[str, str]] = {}
    configured: dict[tuple[str, str], tuple[str, str]] = {}
    for name, table in tables.items():
        stored = stored_metrics(Metrics(tenant, name).counts(table), table)
        for stored_as in stored_experiments(name, table):
            of_name = configured if stored_as == name else old
            of_name |= {(stored_as, metric): (name, of) for metric, of in stored.items()}
    return old | configured


def _late(served: Sequence[Stretch]) -> list[Stretch]:
    """The part within the last two hours."""
    start_ms = served[-1].end_ms - RECENT_HOURS * HOUR_MS
    return [
        stretch._replace(start_ms=max(start_ms, stretch.start_ms)) for stretch in served if stretch.end_ms > start_ms
    ]


def first_visits_ms(service: Service, tenant: str, tables: Tables, now_ms: int) -> dict[str, int]:
    """The first minute of each experiment with a visit that the store still holds; queried once an hour.

    For one that has not begun it is queried once a minute: its first visit must not wait for the next hour.
    """
    found = {name: service.cache.get(_first_key(tenant, name, True, now_ms)) for name in tables}
    missing = [
        name
        for name, rows in found.items()
        if rows is None and service.cache.get(_first_key(tenant, name, False, now_ms)) is None
    ]
    if missing:
        owners = owned(service, tenant, missing, "assigned")
        oldest_ms = max(0, now_ms - service.settings.kairosdb.ttl_days * DAY_MS)
        metrics, tags = (tuple(dict.fromkeys(key[at] for key in owners)) for at in (1, 0))
        ask = Ask(
            metrics,
            oldest_ms,
            now_ms + 1,
            {"dc": service.dcs, "experiment": tags},
            ("experiment",),
            None,
            only="oldest",
        )
        (rows,) = service.store.rows([ask])
        for name in missing:
            of_name = tuple(row for row in rows if owners.get((row.group[0], row.name)) == name)
            service.cache.put(_first_key(tenant, name, bool(of_name), now_ms), of_name)
            found[name] = of_name
    return {name: min(row.at_ms for row in rows) for name, rows in found.items() if rows}


def _first_key(tenant: str, name: str, has_begun: bool, now_ms: int) -> Key:
    """Of an hour that begins at half past, when no other hour of a range does; of a minute, where nothing is found."""
    length_ms = HOUR_MS if has_begun else MINUTE_MS
    begun_ms = (now_ms + HOUR_MS // 2) // length_ms * length_ms
    return f"first assigned of {tenant} {name}, {has_begun}", "", begun_ms, 0


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
    """The last minute with an assigned visit, or the last hour if that is more than 2 hours ago."""
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
    """Qualified visits of all variations in steps; the last one ends with the current minute."""
    steps = RECENT_HOURS * 60 // STEP_MINUTES
    counts_by_step = [0] * steps
    for variation in table.variations:
        for at_ms, count in counts.minutes[metrics.visits("fm", variation)].items():
            ago = (present_ms - at_ms) // MINUTE_MS // STEP_MINUTES
            if 0 <= ago < steps:
                counts_by_step[steps - 1 - ago] += count
    return counts_by_step


def _moment(time_ms: int | None) -> datetime | None:
    return None if time_ms is None else moment(time_ms)
