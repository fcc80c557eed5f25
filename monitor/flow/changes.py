"""Changes of totals on their way from the session key groups to one metric key group, summed between two flushes."""

from typing import Any, NamedTuple, TypeAlias

from monitor.core.deltas import Deltas, add_deltas
from monitor.core.metrics import Series
from monitor.core.watermark import NEVER

PlainChanges: TypeAlias = tuple[
    int, Deltas, dict[int, int], dict[Series, int], dict[Series, int], dict[tuple[Series, str], int]
]
"""Changes as they come out of a snapshot or from another process: the fields of `Changes` in their order."""


class Changes(NamedTuple):
    """Changes for one metric key group.

    Entries are bounded by the configuration: `deltas` by its series times the minutes of the allowed lateness,
    `watermarks` by the session key groups (128), the others by the series of health metrics.
    """

    group: int
    deltas: Deltas
    watermarks: dict[int, int]
    """Session key group -> watermark in ms."""
    counts: dict[Series, int]
    maxima: dict[Series, int]
    gauges: dict[tuple[Series, str], int]
    """(series, part) -> value; what is written is the sum over the parts."""

    def __deepcopy__(self, memo: object) -> "Changes":
        """A copy for a snapshot; copy.deepcopy's own way takes microseconds for each number."""
        deltas = {minute: dict(changes) for minute, changes in self.deltas.items()}
        counts, maxima, gauges = dict(self.counts), dict(self.maxima), dict(self.gauges)
        return Changes(self.group, deltas, dict(self.watermarks), counts, maxima, gauges)

    def __reduce__(self) -> tuple[type[tuple[Any, ...]], tuple[PlainChanges]]:
        """Pickled as a plain tuple: a class path must not become part of the state format."""
        plain: PlainChanges = self
        return tuple, (plain[:],)  # a slice of a named tuple is a plain one


def no_changes(group: int) -> Changes:
    """Empty changes for a metric key group."""
    return Changes(group, {}, {}, {}, {}, {})


def merge(into: Changes, more: Changes) -> None:
    """Adds changes in place: sums of deltas and counts, maxima of watermarks and maxima, the newest of gauges."""
    assert into.group == more.group, "changes are merged within one metric key group"
    add_deltas(into.deltas, more.deltas)
    for group, watermark_ms in more.watermarks.items():
        into.watermarks[group] = max(into.watermarks.get(group, NEVER), watermark_ms)
    add_counts(into.counts, more.counts)
    for series, value in more.maxima.items():
        into.maxima[series] = max(into.maxima.get(series, value), value)
    into.gauges.update(more.gauges)


def add_counts(into: dict[Series, int], counts: dict[Series, int]) -> None:
    """Adds counters to counters in place."""
    for series, count in counts.items():
        into[series] = into.get(series, 0) + count
