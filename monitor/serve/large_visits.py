"""Visits so large that they alone make a variation's numbers: a robot, or one id for many visitors."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from monitor.config.settings import ExperimentTable, PointTable
from monitor.config.stored_names import stored_experiments
from monitor.core.metrics import health_series
from monitor.serve.findings import LargeVisit
from monitor.serve.spans import HOUR_MS
from monitor.serve.sums import SumQuery, Sums

SHARE_MAX = 0.05
"""A visit that makes more than this share of a variation's total is worth a word."""
EVENTS_MIN = 20
"""Fewer events are none, whatever their share."""
CONVERTING_MIN = 100
"""With fewer visits that have the point, one of them may well make so much of the value."""

_EVENTS, _VALUE = health_series("largest_visit.events"), health_series("largest_visit.value")


class PointTotals(NamedTuple):
    """A variation's point over the range of an answer: its events, visits with one, and the sum of its value."""

    variation: str
    point: str
    total: int
    visits: int
    sum: float | None


def query(tenant: str, experiment: str, table: ExperimentTable) -> SumQuery:
    """The largest visits of an experiment as its job has reported them, by variation and point."""
    tags = ("tenant", (tenant,)), ("experiment", stored_experiments(experiment, table))
    return SumQuery((_EVENTS, _VALUE), tags, ("variation", "point"), HOUR_MS, "max")


def large_visits(
    largest: Sums, totals: Collection[PointTotals], points: Mapping[str, PointTable], aliases: Mapping[str, str]
) -> Sequence[LargeVisit]:
    """Those that are worth a word, the largest share first; `largest` answers `query`; `aliases` of the experiment."""
    return sorted(_large(largest, totals, points, aliases), key=lambda visit: visit.share, reverse=True)


def _large(
    largest: Sums, totals: Collection[PointTotals], points: Mapping[str, PointTable], aliases: Mapping[str, str]
) -> Iterator[LargeVisit]:
    sizes: dict[tuple[str, str, str], int] = {}
    for (metric, (variation, point), _), size in largest.items():
        key = metric, aliases.get(variation, variation), point
        sizes[key] = max(size, sizes.get(key, 0))
    for of in totals:
        events = sizes.get((_EVENTS, of.variation, of.point), 0)
        if events >= EVENTS_MIN and events > SHARE_MAX * of.total > 0:
            yield LargeVisit(
                variation=of.variation, point=of.point, of="events", size=events, share=min(1.0, events / of.total)
            )
        value = points[of.point].value
        if value is None or not of.sum or of.visits < CONVERTING_MIN:
            continue
        amount = sizes.get((_VALUE, of.variation, of.point), 0) / abs(value.scale)
        if (share := amount / abs(of.sum)) > SHARE_MAX:
            yield LargeVisit(variation=of.variation, point=of.point, of="value", size=amount, share=share)
