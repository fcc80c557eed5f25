"""The requests of each page to the query service: in parallel, and shared by all readers where equal. Blocks."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from monitor.page import charts, colours
from monitor.page.address import View
from monitor.page.experiment import ExperimentContext
from monitor.page.issues import Issue, messages, of_experiment, of_tenant
from monitor.page.overview import Overview, gather
from monitor.page.shared_answers import Shared
from monitor.serve import answers, spans
from monitor.serve.health import health
from monitor.serve.models import (
    BreakdownAnswer,
    ExperimentAnswer,
    ExperimentState,
    HealthAnswer,
    Measure,
    Scope,
    SeriesAnswer,
    Step,
)
from monitor.serve.service import Service
from monitor.serve.spans import Span

FRESH_S = 4.0
"""The largest age of an answer that readers share: less than the time between two refreshes of a page."""
CACHED_S = 60.0
"""The largest age of an answer that is shown at first, until a fresh one arrives."""
REQUESTS = 6
"""Requests to the query service at a time, of all readers together; others wait."""


class OfExperiment(NamedTuple):
    """The content of an experiment's page."""

    context: ExperimentContext
    state: ExperimentState
    issues: list[Issue]
    health: HealthAnswer
    base: SeriesAnswer
    visits: Mapping[str, SeriesAnswer]
    breakdowns: Mapping[str, BreakdownAnswer]


class OfOverview(NamedTuple):
    """The content of the overview."""

    overview: Overview
    health: HealthAnswer


class Asking:
    """Asks one query service for all readers. Thread-safe; its methods raise ProblemError unless they say otherwise."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._pool = ThreadPoolExecutor(REQUESTS, "page-request")
        self._tenants = {
            name: Shared(partial(answers.experiments, service, name), FRESH_S) for name in service.settings.tenants
        }
        self._health = Shared(partial(health, service), FRESH_S)

    def close(self) -> None:
        """Waits for the requests in progress."""
        self._pool.shutdown()

    def health(self) -> HealthAnswer:
        """The state of the monitor; never raises, since it is the state of the store too."""
        return self._health.get()

    def overview(self) -> OfOverview:
        """All experiments of all tenants."""
        state = self._pool.submit(self._health.get)
        experiments = list(self._pool.map(Shared.get, self._tenants.values()))
        return OfOverview(gather(experiments, state.result()), state.result())

    def cached_overview(self) -> OfOverview | None:
        """The last answer for the overview, if it is not too old; asks nothing."""
        state = self._health.cached(CACHED_S)
        experiments = [answer for shared in self._tenants.values() if (answer := shared.cached(CACHED_S)) is not None]
        if state is None or len(experiments) < len(self._tenants):
            return None
        return OfOverview(gather(experiments, state), state)

    def experiment(self, tenant: str, name: str, view: View) -> OfExperiment:
        """One experiment, with the choices of a view."""
        service = self.service
        definition = service.experiment(tenant, name)  # raises if it is not configured, before any request
        span = self.span(view)
        step = charts.step_of(view.by, (span.end_ms - span.start_ms) / 1_000)
        about = _About(service, tenant, name, span, view)
        points = list(service.tenant(tenant).points)
        submit = self._pool.submit
        of_state = submit(self._tenants[tenant].get)
        of_health = submit(self._health.get)
        answer = submit(about.experiment)
        measure = Measure.QUALIFIED if view.scope is Scope.QUALIFIED else Measure.ASSIGNED
        base = submit(about.series, measure, step)
        visits = {point: submit(about.series, Measure.VISITS, step, point) for point in points}
        tags = answers.tag_values(service, tenant)
        breakdowns = {tag: submit(about.breakdown, tag) for tag in tags}
        compiled = service.tenant(tenant).compiled(tenant)
        context = ExperimentContext(
            answer.result(),
            definition.compiled(name),
            {point.name: point for point in compiled.points},
            view,
            colours.of_variations(definition.control, definition.variations),
        )
        state = next(state for state in of_state.result().experiments if state.experiment == name)
        return OfExperiment(
            context,
            state,
            _issues(tenant, state, of_health.result()),
            of_health.result(),
            base.result(),
            {point: series.result() for point, series in visits.items()},
            {tag: breakdown.result() for tag, breakdown in breakdowns.items()},
        )

    def span(self, view: View) -> Span:
        """The range of a view."""
        now_ms = self.service.now_ms()
        if view.start is not None or view.end is not None:
            return spans.parse(view.start, view.end, now_ms)
        return spans.last(now_ms, view.last.hours)


def _issues(tenant: str, state: ExperimentState, health: HealthAnswer) -> list[Issue]:
    issues = of_experiment(state, health.at)
    for dc in health.dcs:
        if dc.is_serving:
            issues += of_tenant(messages(dc)[tenant])
    return issues


class _About(NamedTuple):
    """The requests about one experiment."""

    service: Service
    tenant: str
    name: str
    span: Span
    view: View

    def experiment(self) -> ExperimentAnswer:
        v = self.view
        return answers.experiment(*self[:4], tags=v.filter(), scope=v.scope, dc=v.dc)

    def series(self, measure: Measure, step: Step, point: str | None = None) -> SeriesAnswer:
        v = self.view
        return answers.series(*self[:4], measure, step, point=point, tags=v.filter(), scope=v.scope, dc=v.dc)

    def breakdown(self, tag: str) -> BreakdownAnswer:
        v = self.view
        return answers.breakdown(*self[:4], [tag], tags=v.filter(), scope=v.scope, dc=v.dc)
