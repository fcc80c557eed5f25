"""The difference of the goal from control over time, with its confidence sequence."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from monitor.config.stored_names import stored_experiments, stored_metrics
from monitor.core.codes import MINUTE_MS
from monitor.serve.failover import Evidence, Stretch
from monitor.serve.goal_lift import ALPHA
from monitor.serve.models import Scope
from monitor.serve.plans import Plan, together
from monitor.serve.results import Metrics
from monitor.serve.service import Service
from monitor.serve.spans import Span
from monitor.serve.sums import SumQuery, Sums
from monitor.verdicts import sequences


class CoursePoint(NamedTuple):
    """The difference of the conversion rate from control at the end of a step, of all visits until then: a share."""

    at_ms: int
    difference: float
    low: float
    high: float


Courses = Mapping[str, Sequence[CoursePoint]]
"""Variation, without the control -> its difference over time, from where there are conversions enough."""


def goal_courses(service: Service, tenant: str, experiment: str, goal: str, span: Span, step_ms: int) -> Courses:
    """Those of the final minutes of a phase, `span`, in steps of at most an hour. Raises ProblemError.

    Rates are those of qualified visits, both counted from the start of the span. The band is the asymptotic
    confidence sequence of `verdicts.sequences`; of several variations all hold together, with ALPHA divided.
    """
    metrics, table = Metrics(tenant, experiment), service.experiment(tenant, experiment)
    names = {v: (metrics.point(Scope.QUALIFIED, v, goal, "beta"), metrics.visits("fm", v)) for v in table.variations}
    stored = tuple(stored_metrics((name for pair in names.values() for name in pair), table))
    query = SumQuery(stored, (("experiment", stored_experiments(experiment, table)),), (), step_ms)

    def answer(_evidence: Evidence, _served: Sequence[Stretch], of_reads: Sequence[Sums]) -> Courses:
        cumulative = {v: list(_cumulative(of_reads[0], pair, span, step_ms)) for v, pair in names.items()}
        control, others = cumulative[table.control], [v for v in names if v != table.control]
        ends = [min(span.end_ms, at + step_ms) for at in _steps(span, step_ms)]
        return {v: list(_course(ends, cumulative[v], control, ALPHA / len(others))) for v in others}

    found: Courses = together(service, tenant, experiment, [Plan(span, [(query, span)], answer)])[0]
    return found


def _steps(span: Span, step_ms: int) -> range:
    return range(*span.widened(step_ms), step_ms)


def _cumulative(of: Sums, pair: tuple[str, str], span: Span, step_ms: int) -> Iterator[tuple[int, int]]:
    """Conversions and visits until the end of each step."""
    counts = [dict.fromkeys(_steps(span, step_ms), 0) for _ in pair]
    for (name, _, at_ms), count in of.items():
        if name in pair:
            counts[pair.index(name)][at_ms // step_ms * step_ms] += count
    conversions, visits = (accumulate(by_step.values()) for by_step in counts)
    return zip(conversions, visits, strict=True)


def _course(
    ends: Sequence[int], own: Sequence[tuple[int, int]], control: Sequence[tuple[int, int]], alpha: float
) -> Iterator[CoursePoint]:
    rho = sequences.rho(alpha)
    for at_ms, of_variation, of_control in zip(ends, own, control, strict=True):
        rates = [sequences.rate(conversions, visits) for conversions, visits in (of_variation, of_control)]
        if rates[0] is not None and rates[1] is not None:
            estimate = sequences.difference(rates[0], rates[1])
            yield CoursePoint(at_ms, estimate.value, *sequences.band(estimate, alpha, rho))


STEPS_MAX = 300
"""Steps of a course over a phase; above so many hours there is one each hour."""


def step_ms(span: Span) -> int:
    """The step of a course over a phase: a minute, five, fifteen or an hour."""
    length = span.end_ms - span.start_ms
    fitting = (minutes * MINUTE_MS for minutes in (1, 5, 15) if length <= STEPS_MAX * minutes * MINUTE_MS)
    return next(fitting, 60 * MINUTE_MS)
