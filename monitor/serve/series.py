"""The lines of a series, from sums of metrics. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from monitor.config.settings import ExperimentTable
from monitor.serve import statistics
from monitor.serve.models import Estimate, Line, Measure, Scope, SeriesPoint
from monitor.serve.results import CROSSED, SCOPES, Metrics
from monitor.serve.spans import Span, moment
from monitor.serve.sums import Sums

_OF_VISITS = {
    Measure.ASSIGNED: "assigned",
    Measure.SHARE: "assigned",
    Measure.QUALIFIED: "fm",
    Measure.CROSSED: CROSSED,
}
_PARTS: dict[Measure, tuple[str | None, ...]] = {
    Measure.TOTAL: (None,),
    Measure.VISITS: ("beta",),
    Measure.RATE: ("beta",),
    Measure.SUM: ("sum",),
    Measure.MEAN: ("sum", "sumsq"),
}


class SeriesSpec(NamedTuple):
    """The measure of the lines, with its point if it has one."""

    metrics: Metrics
    measure: Measure
    point: str | None
    scope: Scope
    scale: float
    """Of the point's value; 1 if it has none."""

    def names(self, variation: str) -> list[str]:
        """The metrics behind a variation's line."""
        if self.point is None:
            return [self.metrics.visits(_OF_VISITS[self.measure], variation)]
        names = [self.metrics.point(self.scope, variation, self.point, part) for part in _PARTS[self.measure]]
        if self.measure in (Measure.RATE, Measure.MEAN):
            names.append(self.metrics.visits(SCOPES[self.scope], variation))
        return names

    def value(self, counts: list[int], of_all: int) -> Estimate | None:
        """The value from a variation's sums, in the order of its names; `of_all`: the first sum of all variations."""
        match self.measure:
            case Measure.SHARE:
                return Estimate(value=counts[0] / of_all) if of_all > 0 else None
            case Measure.RATE:
                return statistics.rate(counts[0], counts[1])
            case Measure.MEAN:
                return statistics.mean(counts[0], counts[1], counts[2], self.scale)
            case Measure.SUM:
                return Estimate(value=counts[0] / self.scale)
            case _:
                return Estimate(value=counts[0])


def lines(
    spec: SeriesSpec,
    table: ExperimentTable,
    by: tuple[str, ...],
    counted: Sums,
    span: Span,
    step_ms: int,
    final_ms: int,
) -> Iterator[Line]:
    """A line per variation and group in the sums, the control's first, with every step of the range.

    Without tags to split by there is a line per variation, even without any sums.
    """
    by_group: defaultdict[tuple[str, ...], Counter[tuple[str, int]]] = defaultdict(Counter)
    if not by:
        by_group[()] = Counter()
    for (name, group, at_ms), count in counted.items():
        by_group[group][name, at_ms // step_ms * step_ms] += count
    ordered = sorted(table.variations, key=lambda variation: variation != table.control)
    names = {variation: spec.names(variation) for variation in ordered}
    firsts = [of_variation[0] for of_variation in names.values()]
    for group, counts in sorted(by_group.items()):
        for variation in ordered:
            points = []
            for at_ms in range(span.start_ms, span.end_ms, step_ms):
                of_all = sum(counts[first, at_ms] for first in firsts) if spec.measure is Measure.SHARE else 0
                value = spec.value([counts[name, at_ms] for name in names[variation]], of_all)
                points.append(
                    SeriesPoint(
                        start=moment(at_ms),
                        value=None if value is None else value.value,
                        standard_error=None if value is None else value.standard_error,
                        is_provisional=at_ms + step_ms > final_ms,
                    )
                )
            yield Line(variation=variation, tags=dict(zip(by, group, strict=True)), points=points)
