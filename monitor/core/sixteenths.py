"""Live A/A: unique counts of an experiment by sixteenth, as if its sessions were given 16 equal variations. Pure.

A session's sixteenth is crc32 of its id modulo 16. Session key groups are crc32 modulo a multiple of 16, so all of a
group's sessions are in one sixteenth, and the tallies of a group are those of its sixteenth. Counts are summed over
variations and tags: of a tally's changes only the `.beta` in scopes `assigned` and `fm` matter.
"""

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias, final
from zlib import crc32

from monitor.core.codes import SCOPES, TAGS_BITS
from monitor.core.compiled import CompiledTenant
from monitor.core.deltas import Deltas
from monitor.core.metrics import SIXTEENTHS, Series, sixteenth_metric_name
from monitor.core.sessions import Tally

SIXTEENTH_KEYS_BYTES_MAX = 33_554_432
"""Estimated size of the remembered metric keys of contributions of a tenant; at the bound all are looked up anew."""

_ENTRY_BYTES: Final = 250
_KEY_BYTES: Final = 8
"""Measured with tracemalloc on CPython 3.11: an entry with its two tuples, and each metric key."""


Row: TypeAlias = list[int | None]
"""The changes of one minute, by number of the counter; None where there is none."""


def sixteenth_of(session_id: str) -> int:
    """The sixteenth of a session."""
    return crc32(session_id.encode()) % SIXTEENTHS


@final
class SixteenthTable:
    """The counters of a tenant's experiments with live A/A, and their series with their metric key groups."""

    def __init__(self, tenant: CompiledTenant, groups: int) -> None:
        numbering = tenant.program.numbering
        experiments = {experiment.name for experiment in tenant.program.tenant.experiments if experiment.aa}
        counters: dict[tuple[str, str, str | None], int] = {}
        self._counter_of: dict[int, int] = {}
        """Number of a metric key -> number of the counter that counts it too."""
        for number in range(len(numbering.key_objects)):
            experiment, scope, _, point, part = numbering.metric_key(number)
            if experiment in experiments and scope in SCOPES and part == "beta":
                self._counter_of[number] = counters.setdefault((experiment, scope, point), len(counters))
        self.width = len(counters)
        self.series = [
            [_series(tenant.name, sixteenth, counter, groups) for counter in counters]
            for sixteenth in range(SIXTEENTHS)
        ]
        """Sixteenth -> by number of the counter, its series and metric key group."""
        self.remembered: dict[tuple[int, ...], tuple[int, ...]] = {}
        """Results of `counters`: to be looked up first."""
        self._bytes = 0

    def counters(self, metric_keys: tuple[int, ...]) -> tuple[int, ...]:
        """The counters of a contribution's metric keys."""
        if self._bytes >= SIXTEENTH_KEYS_BYTES_MAX:
            self.remembered.clear()
            self._bytes = 0
        counters = tuple([self._counter_of[key] for key in metric_keys if key in self._counter_of])
        self.remembered[metric_keys] = counters
        self._bytes += _ENTRY_BYTES + _KEY_BYTES * len(metric_keys)
        return counters


def sixteenth_deltas(tallies: Mapping[int, Sequence[Tally]], table: SixteenthTable) -> dict[int, Deltas]:
    """The changes of a tenant's tallies, given by sixteenth, summed, by metric key group.

    Changes that add up to 0 stay in, as in `deltas_of`.
    """
    groups: dict[int, Deltas] = {}
    for sixteenth, of_sixteenth in tallies.items():
        rows: dict[int, Row] = {}
        for tally in of_sixteenth:
            _count(rows, tally.plus.increments, 1, table)
            _count(rows, tally.minus.increments, -1, table)
        of_counters = table.series[sixteenth]
        for minute, row in rows.items():
            for counter, change in enumerate(row):
                if change is not None:
                    series, group = of_counters[counter]
                    groups.setdefault(group, {}).setdefault(minute, {})[series] = change
    return groups


def _count(
    rows: dict[int, Row], increments: list[tuple[int, tuple[int, ...]]], sign: int, table: SixteenthTable
) -> None:
    """Adds +1s to the changes by minute and counter."""
    remembered = table.remembered
    for bucket, metric_keys in increments:
        counters = remembered.get(metric_keys)
        if counters is None:
            counters = table.counters(metric_keys)
        if counters:
            minute = bucket >> TAGS_BITS
            row = rows.get(minute)
            if row is None:
                row = rows[minute] = [None] * table.width
            for counter in counters:
                change = row[counter]
                row[counter] = sign if change is None else change + sign


def _series(tenant: str, sixteenth: int, counter: tuple[str, str, str | None], groups: int) -> tuple[Series, int]:
    experiment, scope, point = counter
    series = f"{sixteenth_metric_name(tenant, scope, sixteenth, point)}|experiment={experiment}"
    return series, crc32(series.encode()) % groups
