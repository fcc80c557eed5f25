"""From sums of metrics to the results of variations. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from monitor.config.settings import ExperimentTable, PointTable, TenantTable
from monitor.core.codes import MetricKey
from monitor.core.metrics import metric_name
from monitor.serve import statistics
from monitor.serve.models import Estimate, PointResult, Scope, VariationResult

SCOPES = {Scope.ASSIGNED: "assigned", Scope.QUALIFIED: "fm"}
CROSSED = "crossed"

Totals = Mapping[str, int]
"""Metric name -> its sum."""


class Metrics:
    """The metric names of one experiment."""

    def __init__(self, tenant: str, experiment: str) -> None:
        self._tenant, self._experiment = tenant, experiment

    def visits(self, scope: str, variation: str) -> str:
        """Of the visits in a scope: `assigned`, `fm` or `crossed`."""
        return metric_name(self._tenant, MetricKey(self._experiment, scope, variation, None, "beta"))

    def point(self, scope: Scope, variation: str, point: str, part: str | None = None) -> str:
        """Of a point: its total, or its part `beta`, `sum` or `sumsq`."""
        return metric_name(self._tenant, MetricKey(self._experiment, SCOPES[scope], variation, point, part))

    def counts(self, table: ExperimentTable) -> list[str]:
        """Those of assigned, qualified and crossed visits."""
        return [self.visits(scope, v) for v in table.variations for scope in (*SCOPES.values(), CROSSED)]

    def all(self, table: ExperimentTable, points: Mapping[str, PointTable], scope: Scope) -> list[str]:
        """All that the results of the experiment are made of."""
        return self.counts(table) + [
            self.point(scope, variation, name, part)
            for variation in table.variations
            for name, point in points.items()
            for part in (None, "beta", *(("sum", "sumsq") if point.value else ()))
        ]


def variation_results(
    metrics: Metrics, table: ExperimentTable, tenant: TenantTable, scope: Scope, totals: Totals
) -> list[VariationResult]:
    """The results of all variations, the control's first."""
    ordered = sorted(table.variations, key=lambda variation: variation != table.control)
    assigned = {v: totals.get(metrics.visits("assigned", v), 0) for v in ordered}
    all_assigned, all_weights = sum(assigned.values()), sum(table.variations.values())
    control = {
        name: _estimates(metrics, table.control, name, point, scope, totals) for name, point in tenant.points.items()
    }
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
            points=list(_points(metrics, v, v == table.control, tenant, scope, totals, control)),
        )
        for v in ordered
    ]


def assigned_by_weight(
    metrics: Metrics, table: ExperimentTable, totals: Totals
) -> tuple[Sequence[int], Sequence[float]]:
    """Assigned visits and weights, variation by variation: what the test of the split compares."""
    counts = [totals.get(metrics.visits("assigned", variation), 0) for variation in table.variations]
    return counts, list(table.variations.values())


Estimates = tuple[Estimate | None, Estimate | None]
"""Rate and mean of a point."""


def _estimates(
    metrics: Metrics, variation: str, name: str, point: PointTable, scope: Scope, totals: Totals
) -> Estimates:
    in_scope = totals.get(metrics.visits(SCOPES[scope], variation), 0)

    def part(of: str) -> int:
        return totals.get(metrics.point(scope, variation, name, of), 0)

    rate = statistics.rate(part("beta"), in_scope)
    if point.value is None:
        return rate, None
    return rate, statistics.mean(part("sum"), part("sumsq"), in_scope, point.value.scale)


def _points(
    metrics: Metrics,
    variation: str,
    is_control: bool,
    tenant: TenantTable,
    scope: Scope,
    totals: Totals,
    control: Mapping[str, Estimates],
) -> Iterator[PointResult]:
    for name, point in tenant.points.items():
        rate, mean = _estimates(metrics, variation, name, point, scope, totals)
        control_rate, control_mean = (None, None) if is_control else control[name]
        total = totals.get(metrics.point(scope, variation, name, "sum"), 0)
        yield PointResult(
            point=name,
            total=totals.get(metrics.point(scope, variation, name), 0),
            visits=totals.get(metrics.point(scope, variation, name, "beta"), 0),
            rate=rate,
            rate_difference=statistics.difference(rate, control_rate),
            sum=None if point.value is None else total / point.value.scale,
            mean=mean,
            mean_difference=statistics.difference(mean, control_mean),
        )
