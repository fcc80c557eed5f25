"""The questions of each page to the query service, shared by all readers where equal. Blocks."""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import NamedTuple

from cachetools import LRUCache

from monitor.page import charts, colours
from monitor.page.address import Range, View
from monitor.page.courses import GuardCourses, SharedCourses
from monitor.page.experiment import ExperimentContext
from monitor.page.goals import goal_of
from monitor.page.issues import (
    Issue,
    distinct,
    issues_of,
    of_large_visits,
    of_tenant,
    of_values,
    of_verdicts,
    unknown_experiments,
)
from monitor.page.overview import Overview, gather
from monitor.page.overview_rows import Judged
from monitor.page.store_watch import StoreWatch
from monitor.page.verdict_watch import History, VerdictWatch
from monitor.runtime.shared_answers import Shared
from monitor.serve import answers, spans
from monitor.serve.budgets import smallest_effect
from monitor.serve.evidence import current_evidence, refuse_long
from monitor.serve.goal_lift import clearest, lifts
from monitor.serve.health import health
from monitor.serve.health_models import HealthAnswer
from monitor.serve.levels import Levels, levels
from monitor.serve.messages import messages
from monitor.serve.models import BreakdownAnswer, ExperimentAnswer, ExperimentState, Measure, Scope, SeriesAnswer, Step
from monitor.serve.outlook import Outlook, outlook
from monitor.serve.plans import Plan, together
from monitor.serve.service import Service
from monitor.serve.spans import DAY_MS, Span, moment
from monitor.serve.states import state_plan
from monitor.serve.verdict_models import VerdictsAnswer

FRESH_S, FRESH_MS = 4.0, 4_000
"""The largest age of an answer that readers share: less than the time between two refreshes of a page."""
CACHED_S = 60.0
"""The largest age of an answer that is shown at first, until a fresh one arrives."""
REQUESTS = 6
"""Questions to the query service at a time, of all readers together; others wait."""
VIEWS_MAX = 64
"""Views of experiments whose answers readers share; the least recently used one is dropped."""


class OfExperiment(NamedTuple):
    """The content of an experiment's page."""

    context: ExperimentContext
    state: ExperimentState
    issues: list[Issue]
    health: HealthAnswer
    base: SeriesAnswer
    visits: Mapping[str, SeriesAnswer]
    breakdowns: Mapping[str, BreakdownAnswer]
    verdicts: VerdictsAnswer | None
    courses: GuardCourses
    outlook: Outlook | None
    levels: Levels


class OfOverview(NamedTuple):
    """The content of the overview."""

    overview: Overview
    health: HealthAnswer
    history: History


class Asking:
    """Asks one query service for all readers. Thread-safe; its methods raise ProblemError unless they say otherwise."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._pool = ThreadPoolExecutor(REQUESTS, "page-request")
        self._tenants = {
            name: Shared(partial(answers.experiments, service, name), FRESH_S) for name in service.settings.tenants
        }
        self._health = Shared(partial(health, service, FRESH_MS), FRESH_S)
        self._views: LRUCache[tuple[str, str, View], Shared[OfExperiment]] = LRUCache(VIEWS_MAX)
        self._lock = threading.Lock()
        self.store_watch = StoreWatch(service.store)
        self.verdict_watch = VerdictWatch(service)
        self._courses = SharedCourses(service, self.verdict_watch.latest)

    def close(self) -> None:
        """Waits for the requests in progress."""
        self.store_watch.close()
        self.verdict_watch.close()
        self._pool.shutdown()

    def now(self) -> datetime:
        """The time of the service."""
        return moment(self.service.now_ms())

    def health(self) -> HealthAnswer:
        """The state of the monitor; never raises, since it is the state of the store too."""
        return self._health.get()

    def overview(self) -> OfOverview:
        """All experiments of all tenants."""
        current_evidence(self.service, self.service.now_ms() - DAY_MS, FRESH_MS)
        state = self._pool.submit(self._health.get)
        experiments = list(self._pool.map(Shared.get, self._tenants.values()))
        return OfOverview(
            gather(experiments, state.result(), self._judged), state.result(), self.verdict_watch.history()
        )

    def cached_overview(self) -> OfOverview | None:
        """The last answer for the overview, if it is not too old; asks nothing."""
        state = self._health.cached(CACHED_S)
        experiments = [answer for shared in self._tenants.values() if (answer := shared.cached(CACHED_S)) is not None]
        if state is None or len(experiments) < len(self._tenants):
            return None
        return OfOverview(gather(experiments, state, self._judged), state, self.verdict_watch.history())

    def _judged(self, tenant: str, name: str) -> Judged:
        """The verdicts of an experiment, and the goal beside them."""
        answer, table = self.verdict_watch.latest(tenant, name), self.service.experiment(tenant, name)
        goal = goal_of(self.service.tenant(tenant).points, table.goal)
        lift = None if answer is None or goal is None else clearest(lifts(answer, goal, table.control))
        return Judged(answer, goal, lift)

    def experiment(self, tenant: str, name: str, view: View) -> OfExperiment:
        """One experiment, with the choices of a view; computed once for all readers who have made the same."""
        self.service.experiment(tenant, name)  # raises if it is not configured
        view = self.known(tenant, view)
        key = tenant, name, view
        with self._lock:
            shared = self._views.get(key)
            if shared is None:
                shared = self._views[key] = Shared(partial(self._experiment, tenant, name, view), FRESH_S)
        return shared.get()

    def _experiment(self, tenant: str, name: str, view: View) -> OfExperiment:
        service = self.service
        judged = self.verdict_watch.latest(tenant, name)
        span, of_tenant = self.span(view, judged), service.tenant(tenant)
        refuse_long(service, span)
        evidence = current_evidence(service, min(span.start_ms, service.now_ms() - DAY_MS), FRESH_MS)
        of_health = self._pool.submit(self._health.get)
        definition = service.experiment(tenant, name)
        goal = goal_of(of_tenant.points, view.goal, definition.goal)
        of_courses = self._pool.submit(self._courses.get, tenant, name, goal)
        step = charts.step_of(view.by, (span.end_ms - span.start_ms) / 1_000)
        tags = answers.tag_values(service, tenant)
        plans = _Plans(service, tenant, name, span, view)
        of_state = state_plan(service, tenant, name)
        is_late = span.end_ms >= of_state.span.start_ms
        answer, base, *others = together(
            service,
            tenant,
            name,
            [
                plans.experiment(),
                plans.series(Measure.QUALIFIED if view.scope is Scope.QUALIFIED else Measure.ASSIGNED, step),
                *(plans.series(Measure.VISITS, step, point) for point in of_tenant.points),
                *(plans.breakdown(tag, [goal] if goal else []) for tag in tags),
                *([of_state] if is_late else []),
            ],
            view.dc,
            evidence,
        )
        apart = [] if is_late else together(service, tenant, name, [of_state], view.dc, evidence)
        state: ExperimentState = (apart or others).pop()
        health, smallest = of_health.result(), smallest_effect(service.settings.guard, definition)
        context = ExperimentContext(
            answer,
            definition.compiled(name),
            {point.name: point for point in of_tenant.compiled(tenant).points},
            view,
            colours.of_variations(definition.control, definition.variations),
            goal,
        )
        return OfExperiment(
            context,
            state,
            distinct(of_verdicts(judged) + _issues(tenant, state, moment(evidence.now_ms), answer, health)),
            health,
            base,
            dict(zip(of_tenant.points, others, strict=False)),
            dict(zip(tags, others[len(of_tenant.points) :], strict=True)),
            judged,
            of_courses.result(),
            outlook(judged, goal, definition.control, smallest) if judged and goal else None,
            levels(service.settings.guard, definition),
        )

    def known(self, tenant: str, view: View) -> View:
        """The view without tags, values and data centers that do not exist."""
        values = answers.tag_values(self.service, tenant)
        tags = tuple((tag, value) for tag, value in view.tags if value in values.get(tag, ()))
        return view._replace(tags=tags, dc=view.dc if view.dc in self.service.dcs else None)

    def span(self, view: View, judged: VerdictsAnswer | None = None) -> Span:
        """The range of a view; that of the phase only with verdicts that have one, and at most serve.range_days."""
        now_ms = self.service.now_ms()
        if view.start is not None or view.end is not None:
            return spans.parse(view.start, view.end, now_ms)
        present = spans.last(now_ms, view.last.hours)
        if view.last is not Range.PHASE or judged is None or judged.phase is None:
            return present
        first_ms = present.end_ms - round(self.service.settings.serve.range_days * DAY_MS)
        return present._replace(start_ms=max(first_ms, round(judged.phase.visits_from.timestamp() * 1_000)))


def _issues(
    tenant: str, state: ExperimentState, at: datetime, answer: ExperimentAnswer, health: HealthAnswer
) -> list[Issue]:
    serving = next((dc for dc in health.dcs if dc.is_serving), None)
    issues = issues_of(tenant, state, at, answer.basis, serving) + of_large_visits(answer.large_visits)
    if serving is not None:
        issues += of_tenant(messages(serving)[tenant], unknown_experiments(tenant, serving))
        issues += of_values(tenant, serving)
    return issues


class _Plans(NamedTuple):
    """The plans of the answers about one experiment."""

    service: Service
    tenant: str
    name: str
    span: Span
    view: View

    def experiment(self) -> Plan[ExperimentAnswer]:
        v = self.view
        return answers.experiment_plan(*self[:4], tags=v.filter(), scope=v.scope, intervals=v.intervals)

    def series(self, measure: Measure, step: Step, point: str | None = None) -> Plan[SeriesAnswer]:
        v = self.view
        return answers.series_plan(*self[:4], measure, step, point=point, tags=v.filter(), scope=v.scope)

    def breakdown(self, tag: str, points: Sequence[str]) -> Plan[BreakdownAnswer]:
        v = self.view
        tags = v.filter()
        return answers.breakdown_plan(*self[:4], [tag], tags=tags, scope=v.scope, only=points, intervals=v.intervals)
