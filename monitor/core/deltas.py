"""Deltas: the changes of tallies, summed by metric key group, minute and series. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias
from zlib import crc32

from monitor.core.codes import minute_and_tags
from monitor.core.compiled import CompiledTenant
from monitor.core.events import EventWarning, RejectReason
from monitor.core.metrics import Series, health_series, metric_name
from monitor.core.sessions import Tally

SERIES_MAX = 262_144
"""Remembered series of a tenant; at the bound all are forgotten and written anew."""
SERIES_BYTES_MAX = 67_108_864
"""Their estimated size; at the bound likewise."""

_SERIES_BYTES: Final = 300
"""Measured with tracemalloc on CPython 3.11: a remembered series without its text."""

Deltas: TypeAlias = dict[int, dict[Series, int]]
"""Minute (since the epoch) -> series -> change of its total."""


class SeriesTable:
    """The series of a tenant's metric keys and tag combinations, each with its metric key group; remembered."""

    def __init__(self, tenant: CompiledTenant, groups: int) -> None:
        self._tenant = tenant
        self._groups = groups
        self._remembered: dict[int, dict[int, tuple[Series, int]]] = {}
        self._entries = self._bytes = 0

    def of_tags(self, tags: int) -> dict[int, tuple[Series, int]]:
        """Results of `series` for a tag combination, by metric key: to be looked up first."""
        return self._remembered.setdefault(tags, {})

    def series(self, metric_key: int, tags: int) -> tuple[Series, int]:
        """The series and its key group: the same in every process, for ever."""
        remembered = self.of_tags(tags)
        if metric_key not in remembered:
            key = self._tenant.program.numbering.metric_key(metric_key)
            name = metric_name(self._tenant.name, key)
            # by name, so that a configuration with its tags in another order means the same series
            texts = sorted(self._tenant.classifier.tag_sets.texts(tags).items())
            series = "|".join([name, f"experiment={key.experiment}", *(f"{tag}={value}" for tag, value in texts)])
            if self._entries >= SERIES_MAX or self._bytes >= SERIES_BYTES_MAX:
                self._remembered.clear()
                self._entries = self._bytes = 0
                remembered = self.of_tags(tags)
            self._entries += 1
            self._bytes += _SERIES_BYTES + len(series)
            remembered[metric_key] = series, crc32(series.encode()) % self._groups
        return remembered[metric_key]


def deltas_of(tallies: Sequence[Tally], table: SeriesTable) -> dict[int, Deltas]:
    """The changes of a tenant's tallies, summed, by metric key group.

    Changes that add up to 0 stay in: after a crash the same messages may come in other batches than before, and the
    store may hold a total from in between.
    """
    buckets: dict[int, dict[int, int]] = {}
    _count(buckets, [increments for tally in tallies for increments in tally.plus.increments], 1)
    _count(buckets, [increments for tally in tallies for increments in tally.minus.increments], -1)
    for tally in tallies:
        for bucket, metric_key, amount in tally.plus.amounts:
            metric_keys = buckets.setdefault(bucket, {})
            metric_keys[metric_key] = metric_keys.get(metric_key, 0) + amount
    groups: dict[int, Deltas] = {}
    for bucket, metric_keys in buckets.items():
        minute, tags = minute_and_tags(bucket)
        remembered = table.of_tags(tags)
        for metric_key, change in metric_keys.items():
            series, group = remembered.get(metric_key) or table.series(metric_key, tags)
            groups.setdefault(group, {}).setdefault(minute, {})[series] = change
    return groups


def _count(buckets: dict[int, dict[int, int]], increments: list[tuple[int, tuple[int, ...]]], sign: int) -> None:
    """Adds +1s to the changes by bucket and metric key; events that contribute the same are counted together."""
    for (bucket, metric_keys), times in Counter(increments).items():
        changes = buckets.get(bucket)
        if changes is None:
            changes = buckets[bucket] = {}
        for metric_key in metric_keys:
            changes[metric_key] = changes.get(metric_key, 0) + sign * times


def add_deltas(into: Deltas, deltas: Mapping[int, Mapping[Series, int]]) -> None:
    """Adds changes to changes."""
    for minute, changes in deltas.items():
        sums = into.setdefault(minute, {})
        for series, change in changes.items():
            sums[series] = sums.get(series, 0) + change


def counts_of(tenant: str, tallies: Sequence[Tally], compiled: CompiledTenant | None) -> dict[Series, int]:
    """The counters of a tenant's tallies as health series; `compiled` is None for messages of no known tenant."""
    rejected: Counter[RejectReason] = Counter()
    warnings: Counter[EventWarning] = Counter()
    for tally in tallies:
        if tally.rejected or tally.warnings:
            rejected.update(tally.rejected)
            warnings.update(tally.warnings)
    counts = {health_series("rejected", tenant=tenant, reason=reason): n for reason, n in rejected.items()}
    counts |= {health_series("noted", tenant=tenant, reason=warning): n for warning, n in warnings.items()}
    if accepted := sum([tally.accepted for tally in tallies]):
        counts[health_series("events", tenant=tenant)] = accepted
        counts[health_series("delay_ms.sum", tenant=tenant)] = sum([tally.delay_sum_ms for tally in tallies])
        counts[health_series("delay_ms.count", tenant=tenant)] = accepted
    if corrections := sum([tally.corrections for tally in tallies]):
        counts[health_series("corrections", tenant=tenant)] = corrections
    if compiled is not None:
        counts |= _counts_by_definition(tallies, compiled)
    return counts


def _counts_by_definition(tallies: Sequence[Tally], compiled: CompiledTenant) -> dict[Series, int]:
    """Late visits by variation, bad values by point, and events from the future by tag."""
    late: Counter[int] = Counter()
    bad_values: Counter[int] = Counter()
    future: Counter[int] = Counter()
    for tally in tallies:
        if tally.late or tally.bad_values or tally.future:
            late.update(tally.late)
            bad_values.update(tally.bad_values)
            future.update(tally.future)
    numbering, tenant = compiled.program.numbering, compiled.name
    counts: dict[Series, int] = {}
    for number, visits in late.items():
        experiment, variation = numbering.variations[number]
        counts[health_series("late", tenant=tenant, experiment=experiment, variation=variation)] = visits
    for point, events in bad_values.items():
        name = numbering.point_names[point]
        counts[health_series("noted", tenant=tenant, reason=EventWarning.BAD_VALUE, point=name)] = events
    for tags, events in future.items():
        for tag, value in compiled.classifier.tag_sets.texts(tags).items():
            series = health_series("future", tenant=tenant, tag=tag, value=value)
            counts[series] = counts.get(series, 0) + events
    return counts


def maxima_of(tenant: str, tallies: Sequence[Tally], compiled: CompiledTenant | None) -> dict[Series, int]:
    """The largest delay and the largest visits of a tenant's tallies as health series."""
    maxima: dict[Series, int] = {}
    if any([tally.accepted for tally in tallies]):
        maxima[health_series("delay_ms.max", tenant=tenant)] = max([tally.delay_max_ms for tally in tallies])
    largest: dict[int, int] = {}
    for tally in tallies:
        for metric_key, size in tally.largest.items():
            largest[metric_key] = max(largest.get(metric_key, 0), size)
    if compiled is not None:
        for metric_key, size in largest.items():
            experiment, _, variation, point, part = compiled.program.numbering.metric_key(metric_key)
            assert point is not None, "the size of a visit is that of a point"
            if part == "sum":
                series = health_series(
                    "largest_visit.value", tenant=tenant, experiment=experiment, variation=variation, point=point
                )
            else:
                series = health_series(
                    "largest_visit.events", tenant=tenant, experiment=experiment, variation=variation, point=point
                )
            maxima[series] = size
    return maxima
