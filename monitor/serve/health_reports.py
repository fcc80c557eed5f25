"""What the jobs and the service have reported lately, read with one request to the store."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from monitor.core.codes import MINUTE_MS
from monitor.kairosdb.reader import Ask, Row
from monitor.serve.failover import Evidence
from monitor.serve.service import Service
from monitor.serve.spans import DAY_MS, HOUR_MS

COUNTED_MS, RATE_MS = HOUR_MS, 5 * MINUTE_MS
READ_MS = 2 * HOUR_MS
"""Divergences are those of final minutes: an hour of them, which may be an hour old."""
FAILOVERS_EVERY_MS, FAILOVERS_PHASE_MS = 5 * MINUTE_MS, 150_000
"""Older failovers of experiments are read again so often, and not when an hour begins, when other things are."""

FAILOVER, DIVERGENCE = "monitor.failover", "monitor.divergence_ppm"

_REASON = ("dc", "tenant", "reason")
GAUGES = {
    "lag": ("dc", "topic", "partition"),
    "sessions": ("dc",),
    "totals": ("dc",),
    "memory_bytes": ("dc", "worker"),
    "notice": ("dc", "topic", "notice"),
    "new_partitions": ("dc", "topic"),
}
"""Metric, without `monitor.`, to the tags that it is read by; the first is the data center."""
COUNTERS = {
    "events": ("dc", "tenant"),
    "delay_ms.sum": ("dc", "tenant"),
    "delay_ms.count": ("dc", "tenant"),
    "rejected": _REASON,
    "noted": (*_REASON, "point"),
    "corrections": ("dc", "tenant"),
    "points_written": ("dc",),
    "write_ms": ("dc",),
    "retries": ("dc",),
    "dead_letters": ("dc",),
    "rewritten": ("dc",),
    "repaired": ("dc",),
    "unread": ("dc",),
    "late": ("dc", "tenant", "experiment", "variation"),
    "future": ("dc", "tenant", "tag", "value"),
    "unknown": ("dc", "tenant", "kind", "experiment", "name"),
    "snapshot_ms": ("dc", "worker"),
    "cpu_ms": ("dc", "worker"),
}
"""Likewise. `delay_ms.max` is asked for apart, since largest values are no sum."""
_OF_FAILOVER = ("dc", "from", "reason", "tenant", "experiment")
_OF_DIVERGENCE = ("dc", "against", "tenant", "experiment")


class Reports(NamedTuple):
    """Rows by the name of the metric, without `monitor.`: of the last hour, of the last 5 minutes."""

    hour: dict[str, list[Row]]
    recent: dict[str, list[Row]]
    failovers: list[Row]
    """Of single experiments, of the last 24 hours."""
    divergences: list[Row]

    def newest(self, name: str, dc: str) -> dict[tuple[str, ...], Row]:
        """The last row of a gauge in a data center, by its other tags."""
        ordered = sorted(self.hour[name], key=lambda row: row.at_ms)
        return {row.group[1:]: row for row in ordered if row.group[0] == dc}

    def counts(self, name: str, dc: str, tags: int) -> list[tuple[tuple[str, ...], int, int]]:
        """A counter in a data center by its first other tags: (values of the tags, last hour, last 5 minutes)."""
        hour, recent = (_summed(rows[name], dc, tags) for rows in (self.hour, self.recent))
        return [(group, count, recent[group]) for group, count in hour.most_common()]

    def total(self, name: str, dc: str) -> int:
        """A counter in a data center within the last hour."""
        return sum(row.value for row in self.hour[name] if row.group[0] == dc)

    def largest(self, name: str, dc: str) -> dict[str, int]:
        """The largest value in a data center within the last hour, by tenant."""
        values: defaultdict[str, list[int]] = defaultdict(list)
        for row in self.hour[name]:
            if row.group[0] == dc:
                values[row.group[1]].append(row.value)
        return {tenant: max(of_tenant) for tenant, of_tenant in values.items()}


def reports(service: Service, evidence: Evidence) -> Reports:
    """The reports of all data centers up to the moment of the evidence. Raises ProblemError."""
    now_ms, tags = evidence.now_ms, {"dc": service.dcs}
    start_ms, end_ms = now_ms - READ_MS, now_ms + 1

    def ask(name: str, by: tuple[str, ...], aggregator: str | None) -> Ask:
        return Ask((name,), start_ms, end_ms, tags, by, aggregator, RATE_MS, is_aligned=False)

    asks = {name: ask(f"monitor.{name}", by, "last") for name, by in GAUGES.items()}
    asks |= {name: ask(f"monitor.{name}", by, "sum") for name, by in COUNTERS.items()}
    asks["delay_ms.max"] = ask("monitor.delay_ms.max", ("dc", "tenant"), "max")
    asks["divergence"] = ask(DIVERGENCE, _OF_DIVERGENCE, None)
    asks["failover"] = ask(FAILOVER, _OF_FAILOVER, None)
    rows = dict(zip(asks, service.store.rows(asks.values()), strict=True))
    divergences, late_failovers = rows.pop("divergence"), rows.pop("failover")
    return Reports(
        {name: [row for row in of if row.at_ms >= now_ms - COUNTED_MS] for name, of in rows.items()},
        {name: [row for row in of if row.at_ms >= now_ms - RATE_MS] for name, of in rows.items()},
        list(dict.fromkeys([*_earlier_failovers(service, now_ms), *late_failovers])),
        divergences,
    )


def _earlier_failovers(service: Service, now_ms: int) -> list[Row]:
    """Those of the last 24 hours, as of some minutes ago."""
    round_ms = (now_ms + FAILOVERS_PHASE_MS) // FAILOVERS_EVERY_MS * FAILOVERS_EVERY_MS
    key = FAILOVER, "", round_ms, 0
    rows = service.cache.get(key)
    if rows is None:
        ask = Ask((FAILOVER,), now_ms - DAY_MS, now_ms + 1, {"dc": service.dcs}, _OF_FAILOVER, None)
        rows = tuple(service.store.rows([ask])[0])
        service.cache.put(key, rows)
    return list(rows)


def _summed(rows: Iterable[Row], dc: str, tags: int) -> Counter[tuple[str, ...]]:
    sums: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        if row.group[0] == dc:
            sums[row.group[1 : 1 + tags]] += row.value
    return sums
