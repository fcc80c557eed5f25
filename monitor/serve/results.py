"""The results of variations, from sums of metrics. Pure."""

from collections.abc import Mapping, Sequence

from monitor.config.settings import ExperimentTable, PointTable
from monitor.core.codes import MetricKey
from monitor.core.metrics import metric_name
from monitor.serve import anytime, statistics
from monitor.serve.anytime import Intervals, PointSums
from monitor.serve.models import Estimate, PointResult, Scope, VariationResult

SCOPES = {Scope.ASSIGNED: "assigned", Scope.QUALIFIED: "fm"}
CROSSED = "crossed"
TARDY = "tardy"

Totals = Mapping[str, int]
"""Metric name -> its sum."""


class Metrics:
    """The metric names of one experiment."""

    def __init__(self, tenant: str, experiment: str) -> None:
        self._tenant, self._experiment = tenant, experiment

    def visits(self, scope: str, variation: str) -> str:
        """The metric of the visits in a scope: `assigned`, `fm`, `crossed` or `tardy`."""
        return metric_name(self._tenant, MetricKey(self._experiment, scope, variation, None, "beta"))

    def point(self, scope: Scope, variation: str, point: str, part: str | None = None) -> str:
        """The metric of a point: its total, or its part `beta`, `sum` or `sumsq`."""
        return metric_name(self._tenant, MetricKey(self._experiment, SCOPES[scope], variation, point, part))

    def counts(self, table: ExperimentTable) -> list[str]:
        """The metrics of assigned, qualified and crossed visits."""
        return [self.visits(scope, v) for v in table.variations for scope in (*SCOPES.values(), CROSSED)]

    def all(self, table: ExperimentTable, points: Mapping[str, PointTable], scope: Scope) -> list[str]:
        """All metrics behind the results of the experiment."""
        return self.counts(table) + [
            self.point(scope, variation, name, part)
            for variation in table.variations
            for name, point in points.items()
            for part in (None, "beta", *(("sum", "sumsq") if point.value else ()))
        ]


def variation_results(
    metrics: Metrics,
    table: ExperimentTable,
    points: Mapping[str, PointTable],
    scope: Scope,
    totals: Totals,
    intervals: Intervals = Intervals.FIXED,
) -> list[VariationResult]:
    """The results of all variations, the control's first, with intervals of this kind."""
    ordered = sorted(table.variations, key=lambda variation: variation != table.control)
    assigned = {v: totals.get(metrics.visits("assigned", v), 0) for v in ordered}
    all_assigned, all_weights = sum(assigned.values()), sum(table.variations.values())
    control = {name: _sums(metrics, table.control, name, scope, totals) for name in points}

    def result(variation: str, name: str, point: PointTable) -> PointResult:
        own, of_control = _sums(metrics, variation, name, scope, totals), control[name]
        compared_with = None if variation == table.control else of_control
        fixed = _point(name, point, own, compared_with)
        if intervals is Intervals.FIXED:
            return fixed
        scale = None if point.value is None else point.value.scale
        return anytime.of_point(fixed, own, compared_with, scale, len(ordered) - 1)

    return [
        VariationResult(
            variation=v,
            is_control=v == table.control,
            weight=table.variations[v],
            assigned=assigned[v],
            qualified=totals.get(metrics.visits("fm", v), 0),
            crossed=totals.get(metrics.visits(CROSSED, v), 0),
            share=assigned[v] / all_assigned if all_assigned > 0 else None,
            planned_share=table.variations[v] / all_weights,
            points=[result(v, name, point) for name, point in points.items()],
        )
        for v in ordered
    ]


def assigned_by_weight(
    metrics: Metrics, table: ExperimentTable, totals: Totals
) -> tuple[Sequence[int], Sequence[float]]:
    """Assigned visits and weights, variation by variation, for the test of the split."""
    counts = [totals.get(metrics.visits("assigned", variation), 0) for variation in table.variations]
    return counts, list(table.variations.values())


def _sums(metrics: Metrics, variation: str, point: str, scope: Scope, totals: Totals) -> PointSums:
    parts = (totals.get(metrics.point(scope, variation, point, part), 0) for part in (None, "beta", "sum", "sumsq"))
    return PointSums(totals.get(metrics.visits(SCOPES[scope], variation), 0), *parts)


def _sample(of: PointSums) -> statistics.Sample:
    """The visits with the point, of those in scope."""
    return statistics.Sample(of.visits, of.in_scope)


def _mean(of: PointSums, scale: float) -> Estimate | None:
    """The mean of the value per visit in scope."""
    return statistics.mean(of.sum, of.squares, of.in_scope, scale)


def _point(name: str, point: PointTable, own: PointSums, control: PointSums | None) -> PointResult:
    """The result of a point; `control` is None for the control itself."""
    mean = None if point.value is None else _mean(own, point.value.scale)
    mean_difference = None
    if point.value is not None and control is not None:
        of_control = _mean(control, point.value.scale)
        mean_difference = statistics.mean_difference(mean, of_control, own.visits, control.visits)
    return PointResult(
        point=name,
        total=own.total,
        visits=own.visits,
        rate=statistics.rate(*_sample(own)),
        rate_difference=None if control is None else statistics.rate_difference(_sample(own), _sample(control)),
        sum=None if point.value is None else own.sum / point.value.scale,
        mean=mean,
        mean_difference=mean_difference,
    )
