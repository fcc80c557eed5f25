"""The answers about tenants and experiments. Each waits for the store, and raises ProblemError.

All take `dc` to force a data center; without it, failover.py chooses one for each minute.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence

from monitor.config.settings import ExperimentTable, PointTable
from monitor.config.stored_names import stored_experiments, stored_metrics
from monitor.serve import large_visits, statistics
from monitor.serve.abouts import about_experiment, about_experiments
from monitor.serve.anytime import Intervals
from monitor.serve.evidence import basis, by_health, current_evidence
from monitor.serve.failover import Evidence, Stretch
from monitor.serve.findings import LargeVisit
from monitor.serve.large_visits import PointTotals
from monitor.serve.models import (
    BreakdownAnswer,
    ExperimentAnswer,
    Group,
    Measure,
    Scope,
    SeriesAnswer,
    Step,
    TenantsAnswer,
    TenantSummary,
    VariationResult,
)
from monitor.serve.plans import Plan, together
from monitor.serve.problems import refuse_parameter, refuse_size, refuse_unknown
from monitor.serve.results import Metrics, assigned_by_weight, variation_results
from monitor.serve.series import SeriesSpec, lines
from monitor.serve.service import Service
from monitor.serve.spans import HOUR_MS, STEP_MS, Span, last
from monitor.serve.states import experiments
from monitor.serve.sums import SumQuery, Sums

__all__ = ["breakdown", "experiment", "experiments", "series", "tag_values", "tenants"]

READ_VALUES_MAX = 2_000_000
"""Values that one answer may have to read from the store, estimated from the numbers of tag values."""

Tags = Mapping[str, Sequence[str]]


def tenants(service: Service) -> TenantsAnswer:
    """All tenants, with their experiments, points and tags."""
    span = last(service.now_ms(), 1)
    evidence = current_evidence(service, span.start_ms)
    return TenantsAnswer(
        tenants=[
            TenantSummary(
                tenant=name,
                experiments=list(table.experiments),
                about=about_experiments(table),
                points={point: definition.value is not None for point, definition in table.points.items()},
                tags={tag: list(values) for tag, values in tag_values(service, name).items()},
            )
            for name, table in service.settings.tenants.items()
        ],
        dcs=service.dcs,
        basis=basis(evidence, by_health(evidence, span, None)),
    )


def experiment(
    service: Service,
    tenant: str,
    experiment: str,
    span: Span,
    *,
    tags: Tags | None = None,
    scope: Scope = Scope.QUALIFIED,
    dc: str | None = None,
    intervals: Intervals = Intervals.FIXED,
) -> ExperimentAnswer:
    """One experiment over a range: each variation's visits, share and points, with uncertainty."""
    plan = experiment_plan(service, tenant, experiment, span, tags=tags, scope=scope, intervals=intervals)
    answer: ExperimentAnswer = together(service, tenant, experiment, [plan], dc)[0]
    return answer


def breakdown(
    service: Service,
    tenant: str,
    experiment: str,
    span: Span,
    by: Sequence[str],
    *,
    tags: Tags | None = None,
    scope: Scope = Scope.QUALIFIED,
    dc: str | None = None,
    intervals: Intervals = Intervals.FIXED,
) -> BreakdownAnswer:
    """One experiment over a range, for each combination of the tags `by` that there is, the largest first."""
    plan = breakdown_plan(service, tenant, experiment, span, by, tags=tags, scope=scope, intervals=intervals)
    answer: BreakdownAnswer = together(service, tenant, experiment, [plan], dc)[0]
    return answer


def series(
    service: Service,
    tenant: str,
    experiment: str,
    span: Span,
    measure: Measure,
    step: Step,
    *,
    point: str | None = None,
    by: Sequence[str] = (),
    tags: Tags | None = None,
    scope: Scope = Scope.QUALIFIED,
    dc: str | None = None,
) -> SeriesAnswer:
    """A measure over time, a line per variation and combination of the tags `by`, over a range of whole steps."""
    plan = series_plan(service, tenant, experiment, span, measure, step, point=point, by=by, tags=tags, scope=scope)
    answer: SeriesAnswer = together(service, tenant, experiment, [plan], dc)[0]
    return answer


def experiment_plan(
    service: Service,
    tenant: str,
    experiment: str,
    span: Span,
    *,
    tags: Tags | None,
    scope: Scope,
    intervals: Intervals = Intervals.FIXED,
) -> Plan[ExperimentAnswer]:
    """The plan of `experiment`. Raises ProblemError."""
    plan = breakdown_plan(service, tenant, experiment, span, [], tags=tags, scope=scope, intervals=intervals)
    table, points = service.experiment(tenant, experiment), service.tenant(tenant).points
    is_whole = not any((tags or {}).values())  # the size of a visit is reported without its tags

    def answer(evidence: Evidence, served: Sequence[Stretch], of_reads: Sequence[Sums]) -> ExperimentAnswer:
        whole = plan.answer(evidence, served, of_reads)
        (group,) = whole.groups
        return ExperimentAnswer(
            tenant=tenant,
            experiment=experiment,
            about=about_experiment(service.tenant(tenant), table),
            control=whole.control,
            scope=scope,
            tags=whole.tags,
            variations=group.variations,
            split=group.split,
            large_visits=_large_visits(group.variations, of_reads[-1], points, table.aliases) if is_whole else [],
            basis=whole.basis,
        )

    largest = [(large_visits.query(tenant, experiment, table), span)] if is_whole else []
    return Plan(span, [*plan.reads, *largest], answer)


def _large_visits(
    variations: Sequence[VariationResult],
    largest: Sums,
    points: Mapping[str, PointTable],
    aliases: Mapping[str, str],
) -> list[LargeVisit]:
    totals = [
        PointTotals(variation=of.variation, point=p.point, total=p.total, visits=p.visits, sum=p.sum)
        for of in variations
        for p in of.points
    ]
    return list(large_visits.large_visits(largest, totals, points, aliases))


def breakdown_plan(
    service: Service,
    tenant: str,
    experiment: str,
    span: Span,
    by: Sequence[str],
    *,
    tags: Tags | None,
    scope: Scope,
    only: Collection[str] | None = None,
    intervals: Intervals = Intervals.FIXED,
) -> Plan[BreakdownAnswer]:
    """The plan of `breakdown`; `only`: the points, if not all of them. Raises ProblemError."""
    table, metrics = service.experiment(tenant, experiment), Metrics(tenant, experiment)
    all_points = service.tenant(tenant).points
    points = {name: point for name, point in all_points.items() if only is None or name in only}
    tag_filter = _filter(service, tenant, tags or {})
    groups_max = _groups_max(service, tenant, by, tag_filter)
    names = stored_metrics(metrics.all(table, points, scope), table)
    _refuse_too_many(service, groups_max * len(table.variations) * (1 + len(points)), "results")
    _refuse_too_much_reading(len(names) * groups_max, span, HOUR_MS)
    query = SumQuery(tuple(names), _filtered_tags(experiment, table, tag_filter), tuple(by), HOUR_MS)

    def answer(evidence: Evidence, served: Sequence[Stretch], of_reads: Sequence[Sums]) -> BreakdownAnswer:
        totals: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        if not by:
            totals[()] = Counter()
        for (name, group, _), count in of_reads[0].items():
            totals[group][name] += count
        groups = [
            Group(
                tags=dict(zip(by, group, strict=True)),
                variations=variation_results(metrics, table, points, scope, of_group, intervals),
                split=statistics.split(*assigned_by_weight(metrics, table, of_group)),
            )
            for group, of_group in sorted(totals.items())
        ]
        groups.sort(key=lambda group: sum(variation.assigned for variation in group.variations), reverse=True)
        return BreakdownAnswer(
            tenant=tenant,
            experiment=experiment,
            control=table.control,
            scope=scope,
            by=list(by),
            tags=tag_filter,
            groups=groups,
            basis=basis(evidence, served),
        )

    return Plan(span, [(query, span)], answer)


def series_plan(
    service: Service,
    tenant: str,
    experiment: str,
    span: Span,
    measure: Measure,
    step: Step,
    *,
    point: str | None = None,
    by: Sequence[str] = (),
    tags: Tags | None,
    scope: Scope,
) -> Plan[SeriesAnswer]:
    """The plan of `series`. Raises ProblemError."""
    table, metrics, step_ms = service.experiment(tenant, experiment), Metrics(tenant, experiment), STEP_MS[step]
    spec = SeriesSpec(metrics, measure, point, scope, _scale(service, tenant, measure, point))
    tag_filter = _filter(service, tenant, tags or {})
    groups_max = _groups_max(service, tenant, by, tag_filter)
    span = span.widened(step_ms)
    steps = (span.end_ms - span.start_ms) // step_ms
    names = stored_metrics((name for variation in table.variations for name in spec.names(variation)), table)
    _refuse_too_many(service, groups_max * len(table.variations) * steps, "values")
    _refuse_too_much_reading(len(names) * groups_max, span, min(step_ms, HOUR_MS))
    query = SumQuery(tuple(names), _filtered_tags(experiment, table, tag_filter), tuple(by), min(step_ms, HOUR_MS))

    def answer(evidence: Evidence, served: Sequence[Stretch], of_reads: Sequence[Sums]) -> SeriesAnswer:
        of_answer = basis(evidence, served)
        final_ms = round(of_answer.final_until.timestamp() * 1_000)
        return SeriesAnswer(
            tenant=tenant,
            experiment=experiment,
            measure=measure,
            point=point,
            scope=scope,
            step=step,
            by=list(by),
            tags=tag_filter,
            lines=list(lines(spec, table, tuple(by), of_reads[0], span, step_ms, final_ms)),
            basis=of_answer,
        )

    return Plan(span, [(query, span)], answer)


def tag_values(service: Service, tenant: str) -> dict[str, tuple[str, ...]]:
    """The tags of a tenant, each with all its possible values."""
    compiled = service.tenant(tenant).compiled(tenant)
    return {tag.name: tuple(dict.fromkeys((*tag.values, "other", "unknown"))) for tag in compiled.tags}


def _scale(service: Service, tenant: str, measure: Measure, point: str | None) -> float:
    """The scale of a point's value; refuses a measure without its point, and a point with another measure."""
    if not measure.is_of_point:
        if point is not None:
            refuse_parameter(
                "point", f"cannot be combined with the measure {measure}; got '{point}'", "Leave point out."
            )
        return 1
    points = service.tenant(tenant).points
    if point is None:
        refuse_parameter(
            "point", f"is required for the measure {measure}: it must name a point", f"Add one of {', '.join(points)}."
        )
    if point not in points:
        refuse_unknown("point", point, points)
    value = points[point].value
    if value is None and measure in (Measure.SUM, Measure.MEAN):
        with_value = [name for name, table in points.items() if table.value is not None]
        fix = f"Ask for another measure, or one of: {', '.join(with_value) or 'no point of the tenant has one'}."
        refuse_parameter("point", f"must have a value to have a {measure}; got '{point}'", fix)
    return 1 if value is None else value.scale


def _filter(service: Service, tenant: str, tags: Tags) -> dict[str, list[str]]:
    """The filter in canonical order; refuses tags and values that the tenant does not have."""
    values_of = tag_values(service, tenant)
    for tag, values in tags.items():
        if tag not in values_of:
            refuse_unknown("tag", tag, values_of)
        for value in values:
            if value not in values_of[tag]:
                refuse_unknown("tag value", f"{tag}:{value}", values_of[tag])
    return {tag: sorted(set(tags[tag])) for tag in sorted(tags) if tags[tag]}


def _filtered_tags(
    experiment: str, table: ExperimentTable, tag_filter: Tags
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return ("experiment", stored_experiments(experiment, table)), *(
        (tag, tuple(values)) for tag, values in tag_filter.items()
    )


def _groups_max(service: Service, tenant: str, by: Sequence[str], tag_filter: Tags) -> int:
    """The number of possible combinations of the tags."""
    values_of = tag_values(service, tenant)
    for tag in by:
        if tag not in values_of:
            refuse_unknown("tag", tag, values_of)
    if len(set(by)) < len(by):
        refuse_parameter("by", f"must not name a tag twice; got {', '.join(by)}", "Name each tag once.")
    return math.prod(len(tag_filter.get(tag, values_of[tag])) for tag in by)


def _refuse_too_many(service: Service, values: int, what: str) -> None:
    allowed = service.settings.serve.values
    if values > allowed:
        detail = f"an answer may have up to serve.values, {allowed:,} {what}; this one could have {values:,}"
        refuse_size(detail, "Ask for a shorter range, a longer step, or fewer tags.")


def _refuse_too_much_reading(series_: int, span: Span, sampling_ms: int) -> None:
    values = series_ * -(-(span.end_ms - span.start_ms) // sampling_ms)
    if values > READ_VALUES_MAX:
        detail = f"an answer may read up to {READ_VALUES_MAX:,} values from the store; this one could need {values:,}"
        refuse_size(detail, "Ask for a shorter range, a longer step, or fewer tags.")
