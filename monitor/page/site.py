"""The pages, which show the answers for their addresses. Mounted into the application of `monitor serve`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from fastapi import FastAPI, Request, Response
from nicegui import Client, context, ui
from nicegui import app as elements

from monitor.page import (
    alarm_list,
    charts,
    checks,
    chosen,
    controls,
    experiment,
    frame,
    health,
    overview,
    queries,
    summary,
)
from monitor.page.address import Charted, Range, Search, View
from monitor.page.assets import CachedAssets
from monitor.page.chosen import Chosen
from monitor.page.data import Asking, OfExperiment, OfOverview
from monitor.page.elements import Fragment, Living, Plot
from monitor.page.guard_plots import GuardPlots
from monitor.page.markup import Html, element, joined
from monitor.serve import answers, health_ranges
from monitor.serve.health_models import HealthAnswer
from monitor.serve.health_ranges import HealthRange
from monitor.serve.problems import ProblemError
from monitor.serve.service import Service

T = TypeVar("T")
FOLDER = Path(__file__).parent
TITLE = "AB Monitor"
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#0072b2"/>'
    '<path d="M6 22l6-8 5 4 9-11" stroke="#fff" stroke-width="3" fill="none"/></svg>'
)
WITHOUT_SCRIPTS_S = 3
"""The time until a browser without scripts asks again: less than that for which an answer is shared."""
RECONNECT_S = 10.0
"""The time for which a reader's page outlives a broken connection; after that it is built again."""


def mount(app: FastAPI, service: Service, notice: str = "") -> None:
    """Adds the pages to an application, at every path that the API leaves free; with a notice on top, if any."""
    frame.announce(notice)
    asking = Asking(service)
    elements.on_shutdown(asking.close)
    _add_style()
    _add_overview(asking)
    _add_experiment(asking)
    _add_query(asking)
    _add_health(asking)
    _add_nowhere(asking)
    ui.run_with(
        app,
        title=TITLE,
        favicon=ICON,
        dark=None,
        language="en-US",
        tailwind=False,
        reconnect_timeout=RECONNECT_S,
        show_welcome_message=False,
    )
    app.add_middleware(CachedAssets)


def _living(
    asking: Asking, request: Request, ask: Callable[[str], T], show: Callable[[T], None], top: frame.Top
) -> Living[T]:
    top.expect_signs_of_life()
    return Living(request.url.query, ask, show, top, asking.store_watch.problem)


def _add_style() -> None:
    style, script = ((FOLDER / name).read_text() for name in ("page.css", "page.js"))
    again = f'<noscript><meta http-equiv="refresh" content="{WITHOUT_SCRIPTS_S}"></noscript>'
    ui.add_head_html(f"<style>{style}</style><script>{script}</script>{again}", shared=True)


def _add_overview(asking: Asking) -> None:
    stale_after_s = asking.service.settings.serve.stale_after_s

    @ui.page("/", title=TITLE)
    async def show_overview(request: Request) -> None:
        search = Search.read(request.url.query)
        with frame.page("/", stale_after_s) as top:
            ui.html(element("h1", "Experiments"), sanitize=False)
            ui.html(_search_box(search.text), sanitize=False)
            summary_place, strangers = Fragment(classes="found"), Fragment()
            with ui.element("div").classes("body"):
                tenants = Fragment(frame.waiting())
                past = Fragment(classes="part")

            def show(answer: tuple[Search, OfOverview]) -> None:
                search, (experiments, state, history) = answer
                top.show(state, asking.now())
                summary_place.show(overview.summary(experiments, search))
                strangers.show(overview.strangers(experiments))
                tenants.show(overview.tenants(experiments, search))
                past.show(alarm_list.table(alarm_list.newest(history.alarms), history.since, with_names=True))

            def ask(query: str) -> tuple[Search, OfOverview]:
                return Search.read(query), asking.overview()

            cached = asking.cached_overview()
            first = None if cached is None else (Search.read(request.url.query), cached)
            await _living(asking, request, ask, show, top).begin(first)


def _search_box(text: str) -> str:
    words = "Search tenants, experiments, variations"
    return element(
        "input",
        type="search",
        value=text,
        placeholder=f"{words} (press /)",
        aria_label=words,
        data_param="q",
        class_="search",
        autocomplete="off",
    )


def _add_experiment(asking: Asking) -> None:
    stale_after_s = asking.service.settings.serve.stale_after_s

    @ui.page("/experiments/{tenant}/{name}", title=TITLE)
    async def show_experiment(request: Request, tenant: str, name: str) -> Response | None:
        ui.page_title(f"{name}, {tenant} - {TITLE}")
        with frame.page("/", stale_after_s) as top:
            try:
                asking.service.experiment(tenant, name)
            except ProblemError as error:
                ui.html(frame.not_found(error.problem), sanitize=False)
                return context.client.build_response(request, error.problem.status)
            content = _ExperimentPage(asking, tenant, top)

            def ask(query: str) -> Chosen:
                return chosen.experiment(asking, tenant, name, View.read(query))

            await _living(asking, request, ask, content.show, top).begin()
        return None


class _ExperimentPage:
    """The elements of an experiment's page, made once and updated with each answer."""

    def __init__(self, asking: Asking, tenant: str, top: frame.Top) -> None:
        table = asking.service.tenant(tenant)
        self._asking, self._top = asking, top
        self._tags = answers.tag_values(asking.service, tenant)
        self._title, self._notes, self._lead = Fragment(), Fragment(), Fragment(frame.waiting())
        with ui.element("div").classes("body"):
            self._judgement = Fragment()
            self._verdicts = Fragment()
            self._checks = Fragment(classes="part")
            self._over_time = GuardPlots()
            self._controls = Fragment()
            self._visits = Fragment(classes="part")
            self._points = Fragment(classes="part")
            self._breakdowns = Fragment(classes="part")
            self._charts_top = Fragment(classes="part")
            self._charts = ui.element("div").classes("charts")
            self._charts.set_visibility(False)
            with self._charts:
                self._base = Plot("Visits")
                self._plots = {point: Plot(point) for point in table.points}
            self._rule = Fragment(classes="part rule")
            self._links = Fragment(classes="part")

    def show(self, shown: Chosen) -> None:
        """Updates all elements."""
        answer, context, view = shown.content, shown.content.context, shown.content.context.view
        self._notes.show(summary.notes(context, shown.left_out, shown.refused))
        is_known = view.last is not Range.PHASE or (answer.verdicts is not None and answer.verdicts.phase is not None)
        words = "Chosen range" if view.start or view.end else (view.last if is_known else Range.SIX_HOURS).words
        self._top.show(answer.health, self._asking.now())
        self._title.show(summary.title(context))
        self._lead.show(joined(summary.lead(context, answer.state, words), summary.printed(context)))
        self._judgement.show(checks.judgement(answer.verdicts))
        cards = summary.verdicts(context, answer.state, answer.issues, answer.health, answer.verdicts)
        self._verdicts.show(cards)
        self._checks.show(checks.table(answer.verdicts, answer.levels))
        self._over_time.show(answer)
        self._controls.show(controls.controls(context, self._tags, self._asking.service.dcs))
        self._visits.show(joined(element("h2", "Variations"), experiment.table(context)))
        self._points.show(joined(element("h2", "Results"), experiment.points_tables(context)))
        self._charts_top.show(
            joined(
                element("h2", "Over time"),
                controls.chart_controls(context),
                summary.legend(context, answer.base.step, bool(checks.marks(answer.verdicts, None))),
            )
        )
        self._charts.set_visibility(True)
        self._base.show(
            charts.of_visits(answer.base, view.by, context.colours, checks.marks(answer.verdicts, None)),
            f"{context.scope_words} visits".capitalize(),
        )
        for point, plot in self._plots.items():
            marks = checks.marks(answer.verdicts, point)
            option = charts.of_point(answer.visits[point], answer.base, view.by, view.charted, context.colours, marks)
            plot.show(option, f"{point}, {'conversion rate' if view.charted is Charted.RATE else 'visits'}")
            plot.set_visible(point not in context.absent)
        self._breakdowns.show(_breakdowns(answer, self._tags))
        self._rule.show(joined(element("h2", "Qualification"), experiment.rule(context)))
        self._links.show(summary.links(context))


def _breakdowns(of_experiment: OfExperiment, tags: Mapping[str, Sequence[str]]) -> Html:
    context = of_experiment.context
    parts = []
    for tag, answer in of_experiment.breakdowns.items():
        groups = {group.tags[tag]: group.variations for group in answer.groups}
        values = checks.by_evidence(of_experiment.verdicts, context.goal, tag, tags[tag])
        panels = experiment.breakdown_panels(context, tag, values, groups)
        parts.append(element("section", element("h3", f"by {tag}"), panels, class_="breakdown"))
    if not parts:
        return joined()
    head = element("h2", f"Segments: {context.goal}" if context.goal else "Segments")
    return joined(head, parts)


def _add_query(asking: Asking) -> None:
    stale_after_s = asking.service.settings.serve.stale_after_s

    @ui.page("/query/{tenant}/{name}", title=f"Query - {TITLE}")
    async def show_query(request: Request, tenant: str, name: str) -> Response | None:
        parameters = dict(request.query_params)
        with frame.page("/", stale_after_s) as top:
            try:
                asking.service.experiment(tenant, name)
            except ProblemError as error:
                ui.html(frame.not_found(error.problem), sanitize=False)
                return context.client.build_response(request, error.problem.status)
            content = Fragment(frame.waiting())

            def show(answer: tuple[Html, HealthAnswer]) -> None:
                shown, state = answer
                top.show(state, asking.now())
                content.show(shown)

            def ask(query: str) -> tuple[Html, HealthAnswer]:
                return _query(asking, tenant, name, parameters, query), asking.health()

            await _living(asking, request, ask, show, top).begin()
        return None


def _query(asking: Asking, tenant: str, name: str, parameters: Mapping[str, str], query: str) -> Html:
    view, table = View.read(query), asking.service.experiment(tenant, name)
    points = asking.service.tenant(tenant).points
    number = queries.number_of(tenant, name, table.variations, points, view.scope, parameters)
    view, _ = view.known(answers.tag_values(asking.service, tenant), asking.service.dcs, points)
    answer = answers.experiment(
        asking.service, tenant, name, asking.span(view), tags=view.filter(), scope=view.scope, dc=view.dc
    )
    return joined(
        frame.crumbs(tenant, name),
        element("h1", number.title()),
        queries.content(number, answer.basis.served, answer.tags, asking.service.store.url, table),
    )


def _add_health(asking: Asking) -> None:
    stale_after_s = asking.service.settings.serve.stale_after_s

    @ui.page("/health", title=f"Health - {TITLE}")
    async def show_health(request: Request) -> None:
        ranges = health_ranges.ranges(asking.service.settings)
        with frame.page("/health", stale_after_s) as top:
            ui.html(element("h1", "Health"), sanitize=False)
            with ui.element("div").classes("body"):
                content = Fragment(frame.waiting())

            def show(answer: HealthAnswer) -> None:
                top.show(answer, asking.now())
                content.show(_health(answer, ranges))

            await _living(asking, request, lambda _: asking.health(), show, top).begin()


def _add_nowhere(asking: Asking) -> None:
    """Adds a page for addresses without one, with a link to the overview."""
    stale_after_s = asking.service.settings.serve.stale_after_s

    @elements.exception_handler(404)
    async def show_nowhere(request: Request, _: Exception) -> Response:
        with Client(ui.page(""), request=request) as client, frame.page("", stale_after_s):
            all_of_them = element("a", "all experiments", href="/")
            hint = "An experiment is at /experiments/TENANT/EXPERIMENT, with the names of the configuration. See "
            ui.html(element("h1", "There is no page at this address"), sanitize=False)
            ui.html(element("p", f"Nothing is at {request.url.path}. {hint}", all_of_them, "."), sanitize=False)
        return client.build_response(request, 404)


def _health(answer: HealthAnswer, ranges: Mapping[str, HealthRange]) -> Html:
    parts = {
        "Data centers and store": health.data_centers(answer, ranges),
        "Messages, last hour": health.messages(answer),
        "Failovers": health.failovers(answer.failovers),
        "Divergence of the data centers": health.divergences(answer, ranges),
        "Live A/A": health.live_aa(answer),
    }
    sections = [element("section", element("h2", title), part, class_="part") for title, part in parts.items()]
    return joined(health.headline(answer), sections)
