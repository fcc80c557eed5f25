"""Metrics: names, series, and the totals per (series, minute) that become points. Pure.

A *series* is written `name|tag=value|...`, for example
`uswm.visit.fm.red.item_page.beta|experiment=button_color|device=mobile`; neither `|` nor `=` can occur in a part, and
the tenant's tags stand in the order of their names. The tag `dc` is the same for all and added last, by the sink.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias
from zlib import crc32

from monitor.core.attribution import MetricKey, minute_and_tags
from monitor.core.events import EventWarning, RejectReason
from monitor.core.sessions import Measured, Tally
from monitor.core.watermark import NEVER, smallest

MINUTE_MS = 60_000

Series: TypeAlias = str
Deltas: TypeAlias = dict[int, dict[Series, int]]
"""Minute (since the epoch) -> series -> change of its total."""


class DataPoint(NamedTuple):
    """One value of one series: what the sink writes."""

    series: Series
    timestamp_ms: int
    value: int


def metric_name(tenant: str, metric_key: MetricKey) -> str:
    """The name of what a stem counts: `T.visit.SCOPE.V[.P][.part]`."""
    parts = (tenant, "visit", metric_key.scope, metric_key.variation, metric_key.point, metric_key.part)
    return ".".join(part for part in parts if part is not None)


def metric_names(tenant: str, variations: Iterable[str], points: Iterable[tuple[str, bool]]) -> list[str]:
    """All metric names that a tenant's experiment with these variations and points (name, has a value) can have."""
    points = list(points)
    names = []
    for variation in variations:
        names.append(f"{tenant}.visit.crossed.{variation}.beta")
        for scope in ("assigned", "fm"):
            metric_key = f"{tenant}.visit.{scope}.{variation}"
            names.append(f"{metric_key}.beta")
            for point, has_value in points:
                names += [f"{metric_key}.{point}", f"{metric_key}.{point}.beta"]
                names += [f"{metric_key}.{point}.sum", f"{metric_key}.{point}.sumsq"] if has_value else []
    return names


def health_series(name: str, **tags: str) -> Series:
    """A series of the job's own health: `monitor.NAME` with these tags besides dc."""
    return "|".join([f"monitor.{name}", *(f"{tag}={value}" for tag, value in tags.items())])


def counts_of(tenant: str, tallies: Sequence[Tally]) -> dict[Series, int]:
    """The counters of a tenant's tallies as health series."""
    rejected: Counter[RejectReason] = Counter()
    noted: Counter[EventWarning] = Counter()
    for tally in tallies:
        if tally.rejected or tally.noted:
            rejected.update(tally.rejected)
            noted.update(tally.noted)
    counts = {health_series("rejected", tenant=tenant, reason=reason): n for reason, n in rejected.items()}
    counts |= {health_series("noted", tenant=tenant, reason=note): n for note, n in noted.items()}
    if accepted := sum([tally.accepted for tally in tallies]):
        counts[health_series("events", tenant=tenant)] = accepted
        counts[health_series("delay_ms.sum", tenant=tenant)] = sum([tally.delay_sum_ms for tally in tallies])
        counts[health_series("delay_ms.count", tenant=tenant)] = accepted
    if corrections := sum([tally.corrections for tally in tallies]):
        counts[health_series("corrections", tenant=tenant)] = corrections
    return counts


class SeriesTable:
    """The series of a tenant's stems and tag combinations, each with its metric key group; written once."""

    def __init__(self, tenant: Measured, groups: int) -> None:
        self._tenant = tenant
        self._groups = groups
        self._known: dict[int, dict[int, tuple[Series, int]]] = {}

    def of_tags(self, tags: int) -> dict[int, tuple[Series, int]]:
        """What `series` has found so far for a tag combination, by stem."""
        return self._known.setdefault(tags, {})

    def series(self, metric_key: int, tags: int) -> tuple[Series, int]:
        """The series and its key group: the same in every process, for ever."""
        known = self.of_tags(tags)
        if metric_key not in known:
            what = self._tenant.program.metric_key(metric_key)
            name = metric_name(self._tenant.name, what)
            # by name, so that a configuration with its tags in another order means the same series
            texts = sorted(self._tenant.matcher.tag_sets.texts(tags).items())
            series = "|".join([name, f"experiment={what.experiment}", *(f"{tag}={value}" for tag, value in texts)])
            known[metric_key] = series, crc32(series.encode()) % self._groups
        return known[metric_key]


def regroup(tallies: Sequence[Tally], table: SeriesTable) -> dict[int, Deltas]:
    """The changes that a tenant's tallies make, summed, by metric key group.

    Changes that add up to 0 stay in: what is replayed after a crash may come in other batches than before, and the
    store may hold what was in between.
    """
    buckets: dict[int, dict[int, int]] = {}
    _count(buckets, [increments for tally in tallies for increments in tally.plus.increments], 1)
    _count(buckets, [increments for tally in tallies for increments in tally.minus.increments], -1)
    for tally in tallies:
        for bucket, metric_key, amount in tally.plus.sum_increments:
            metric_keys = buckets.setdefault(bucket, {})
            metric_keys[metric_key] = metric_keys.get(metric_key, 0) + amount
    groups: dict[int, Deltas] = {}
    for bucket, metric_keys in buckets.items():
        minute, tags = minute_and_tags(bucket)
        known = table.of_tags(tags)
        for metric_key, change in metric_keys.items():
            series, group = known.get(metric_key) or table.series(metric_key, tags)
            groups.setdefault(group, {}).setdefault(minute, {})[series] = change
    return groups


def _count(buckets: dict[int, dict[int, int]], increments: list[tuple[int, tuple[int, ...]]], sign: int) -> None:
    """Adds +1s to the changes by cell and stem; events that contribute the same are counted together."""
    for (bucket, metric_keys), times in Counter(increments).items():
        changes = buckets.get(bucket)
        if changes is None:
            changes = buckets[bucket] = {}
        for metric_key in metric_keys:
            changes[metric_key] = changes.get(metric_key, 0) + sign * times


def add(into: Deltas, deltas: Mapping[int, Mapping[Series, int]]) -> None:
    """Adds changes to changes."""
    for minute, changes in deltas.items():
        known = into.setdefault(minute, {})
        for series, change in changes.items():
            known[series] = known.get(series, 0) + change


class Ledger:
    """The totals of one metric key group: what the store holds for every (series, minute) that can still change."""

    def __init__(self, totals: Deltas | None = None, watermarks: Mapping[int, int] | None = None) -> None:
        self.totals: Deltas = totals or {}
        self.watermarks = dict(watermarks or {})
        """Session key group -> its watermark."""

    def apply(self, deltas: Mapping[int, Mapping[Series, int]]) -> list[DataPoint]:
        """Adds changes, those of 0 too; the new totals of all that was touched."""
        points = []
        for minute, changes in deltas.items():
            totals = self.totals.setdefault(minute, {})
            for series, change in changes.items():
                total = totals[series] = totals.get(series, 0) + change
                points.append(DataPoint(series, minute * MINUTE_MS, total))
        return points

    def seal(self, watermarks: Mapping[int, int], groups: int) -> int:
        """Takes in how far the session key groups are, and forgets the minutes that all have passed.

        Returns the watermark that all of the `groups` have passed: minutes that end by then are sealed.
        """
        for group, watermark_ms in watermarks.items():
            self.watermarks[group] = max(self.watermarks.get(group, NEVER), watermark_ms)
        passed_ms = smallest(self.watermarks, range(groups))
        for minute in [minute for minute in self.totals if (minute + 1) * MINUTE_MS <= passed_ms]:
            del self.totals[minute]
        return passed_ms

    def size(self) -> int:
        """How many totals are held."""
        return sum(len(totals) for totals in self.totals.values())
