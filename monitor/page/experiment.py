"""One experiment: what it says at the top, and its tables. Pure: answers in, HTML out."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from monitor.core import definitions
from monitor.page import address, figures, plots, rule_words
from monitor.page.address import View
from monitor.page.markup import Html, element, joined, moment
from monitor.serve.models import Difference, Estimate, ExperimentAnswer, PointResult, Scope, VariationResult

INTERVAL_NOTE = (
    "95 % intervals by the normal approximation. Each holds for one look at a moment that was fixed beforehand, not "
    "under repeated looks: a difference that turns clear while you watch may turn back. "
    "A sequential interval, which may be watched, comes later."
)


LARGE_SHARE = 0.05
"""Smaller groups do not stretch the scale of the others: their intervals may reach beyond it."""


class Told(NamedTuple):
    """An experiment's answer, and what is needed to show it."""

    answer: ExperimentAnswer
    definition: definitions.Experiment
    points: Mapping[str, definitions.MeasurementPoint]
    view: View
    colours: Mapping[str, str]

    @property
    def goal(self) -> str | None:
        """The point that the experiment is judged by: the reader's, or `order`, or the last one."""
        if self.view.goal in self.points:
            return self.view.goal
        return "order" if "order" in self.points else next(reversed(list(self.points)), None)

    def visits(self, variation: VariationResult) -> int:
        """The visits in scope."""
        return variation.qualified if self.answer.scope is Scope.QUALIFIED else variation.assigned

    @property
    def scope_words(self) -> str:
        """What visits in scope are called."""
        return "qualified" if self.answer.scope is Scope.QUALIFIED else "assigned"

    def number(self, text: str, variation: str, what: str, point: str | None = None) -> Html:
        """A number with a link to the queries that it comes from."""
        basis = self.answer.basis
        place = address.of_experiment(self.answer.tenant, self.answer.experiment).replace("/experiments/", "/query/")
        query = address.queried(
            {"variation": variation, "what": what, "point": point, "scope": self.answer.scope},
            basis.start,
            basis.end,
            self.view,
        )
        said = f"{text}, {variation}, {what}{f' of {point}' if point else ''}: the query behind it"
        return element(
            "a", text, href=place + query, class_="number", title="The query behind this number", aria_label=said
        )


def table(told: Told) -> Html:
    """The variations: how many visits, and their share."""
    head = element(
        "tr",
        *(
            element("th", text, scope="col")
            for text in ("Variation", "Assigned", "Share", "Qualified", "of assigned", "Crossed")
        ),
    )
    rows = [_variation_row(told, variation) for variation in told.answer.variations]
    return element(
        "table",
        element("caption", "Visits", class_="unseen"),
        element("thead", head),
        element("tbody", rows),
        class_="cards visits",
    )


def points_tables(told: Told) -> Html:
    """For every point, the goal first: each variation's rate and value per visit, against the control's."""
    if not told.points:
        return element(
            "p", "No points are configured for this tenant, so there are no rates to compare.", class_="note"
        )
    bodies = []
    for name, point in sorted(told.points.items(), key=lambda pair: pair[0] != told.goal):
        results = [(v, _of_point(v, name)) for v in told.answer.variations]
        bodies.append(_rates(told, name, point, results))
        if point.value is not None:
            bodies.append(_means(told, name, results))
    titles = ("Variation", "Visits", "Per visit", "Difference to control", "95 % interval", "")
    head = element("tr", *(element("th", text, scope="col") for text in titles))
    return joined(
        element("p", INTERVAL_NOTE, class_="note"),
        element(
            "table",
            element("caption", "Points", class_="unseen"),
            element("thead", head),
            bodies,
            class_="cards points",
        ),
    )


def rule(told: Told) -> Html:
    """The qualification rule in words."""
    text = rule_words.rule(told.definition.qualified_when, told.points)
    return joined(
        element(
            "p",
            "A visit is ",
            element("strong", "assigned"),
            f" with its first event that carries a variation of {told.answer.experiment}. It is ",
            element("strong", "qualified"),
            " from the moment it is assigned and there is: ",
            element("em", f"{text}."),
        ),
        element("p", "A visit counts once, whatever it does; what it does before that moment is not counted for it."),
    )


def breakdown_panels(
    told: Told, tag: str, values: Sequence[str], groups: Mapping[str, Sequence[VariationResult]]
) -> Html:
    """The goal's rate among the visits with each value of a tag, all on one scale."""
    goal = told.goal
    shown = [value for value in values if any(told.visits(v) for v in groups.get(value, ()))]
    if goal is None or not shown:
        return element("p", f"No visits to split by {tag}.", class_="note")
    whole = sum(told.visits(v) for value in shown for v in groups[value])
    large = [value for value in shown if sum(told.visits(v) for v in groups[value]) >= LARGE_SHARE * whole]
    estimates = [_of_point(v, goal).rate for value in large for v in groups[value]]
    known = [e for e in estimates if e is not None]
    span = (
        min((e.value if e.low is None else e.low for e in known), default=0.0),
        max((e.value if e.high is None else e.high for e in known), default=1.0),
    )
    panels = [_panel(told, tag, value, groups[value], goal, span) for value in shown]
    scale = f"All panels: {figures.rate(span[0])} to {figures.rate(span[1])}."
    return joined(element("div", panels, class_="panels"), element("p", scale, class_="scale"))


def _of_point(variation: VariationResult, point: str) -> PointResult:
    return next(result for result in variation.points if result.point == point)


def name_of(told: Told, variation: str, is_control: bool) -> Html:
    """A variation with its colour, and whether it is the control."""
    dot = element("span", class_="dot", style=f"background:{told.colours[variation]}")
    badge = element("span", "control", class_="badge") if is_control else None
    return joined(dot, " ", element("span", variation, class_="name"), " ", badge)


def _cell(label: str, *children: Html | str | None, class_: str | None = None) -> Html:
    """A cell that tells on a phone, where rows are cards, which column it is of."""
    return element("td", *children, data_label=label, class_=class_)


def _variation_row(told: Told, variation: VariationResult) -> Html:
    name = variation.variation
    of_assigned = figures.percent(variation.qualified / variation.assigned if variation.assigned else None)
    crossed_share = variation.crossed / variation.assigned if variation.assigned else 0.0
    return element(
        "tr",
        element("th", name_of(told, name, variation.is_control), scope="row"),
        _cell("Assigned", told.number(figures.count(variation.assigned), name, "assigned"), class_="figure"),
        _cell(
            "Share",
            element("span", figures.percent(variation.share)),
            element("small", f"planned {figures.percent(variation.planned_share)}"),
            class_="figure",
        ),
        _cell("Qualified", told.number(figures.count(variation.qualified), name, "qualified"), class_="figure"),
        _cell("of assigned", of_assigned, class_="figure"),
        _cell(
            "Crossed",
            told.number(figures.count(variation.crossed), name, "crossed"),
            element("small", figures.percent(crossed_share, 2)),
            class_="figure",
        ),
    )


def _rates(
    told: Told, name: str, point: definitions.MeasurementPoint, results: Sequence[tuple[VariationResult, PointResult]]
) -> Html:
    title = joined(
        element("span", name, class_="point"),
        element("small", f"visits with {rule_words.point(point)}", class_="definition"),
    )
    reach = _reach(result.rate_difference for _, result in results)
    rows = [
        _result_row(
            told,
            v,
            told.number(figures.count(r.visits), v.variation, "visits", name),
            r.rate,
            r.rate_difference,
            reach,
            True,
        )
        for v, r in results
    ]
    return _body(title, rows)


def _means(told: Told, name: str, results: Sequence[tuple[VariationResult, PointResult]]) -> Html:
    title = joined(
        element("span", f"{name}, value", class_="point"),
        element("small", f"its sum divided by all {told.scope_words} visits", class_="definition"),
    )
    reach = _reach(result.mean_difference for _, result in results)
    rows = [
        _result_row(
            told,
            v,
            joined(told.number(figures.amount(r.sum or 0.0), v.variation, "sum", name), element("small", "sum")),
            r.mean,
            r.mean_difference,
            reach,
            False,
        )
        for v, r in results
    ]
    return _body(title, rows)


def _body(title: Html, rows: list[Html]) -> Html:
    return element("tbody", element("tr", element("th", title, colspan=6, scope="rowgroup"), class_="of-point"), rows)


def _reach(differences: Iterable[Difference | None]) -> float:
    ends = [abs(end) for d in differences if d is not None for end in (d.low, d.high) if end is not None]
    return max(ends, default=0.0)


def _result_row(
    told: Told,
    variation: VariationResult,
    counted: Html,
    estimate: Estimate | None,
    difference: Difference | None,
    reach: float,
    is_rate: bool,
) -> Html:
    name = variation.variation
    return element(
        "tr",
        element("th", name_of(told, name, variation.is_control), scope="row"),
        _cell("Visits" if is_rate else "Sum", counted, class_="figure"),
        _cell("Per visit", figures.NONE if estimate is None else figures.estimate(estimate, is_rate), class_="figure"),
        *_difference_cells(difference, told.colours[name], reach, is_rate, variation.is_control),
    )


def _difference_cells(
    difference: Difference | None, colour: str, reach: float, is_rate: bool, is_control: bool
) -> list[Html]:
    if is_control:
        return [element("td", "what the others are compared with", colspan=3, class_="faint")]
    if difference is None:
        return [element("td", "too few visits to compare", colspan=3, class_="faint")]
    absolute = difference.absolute
    shown = figures.points(absolute) if is_rate else figures.signed(absolute, figures.amount(abs(absolute)))
    first = _cell("Difference", element("span", shown), element("small", figures.relative(difference)), class_="figure")
    if difference.low is None or difference.high is None:
        return [first, element("td", "too few visits for an interval", colspan=2, class_="faint")]
    text = figures.interval(difference.low, difference.high, is_rate)
    drawn = plots.interval(difference.low, absolute, difference.high, reach, colour, text)
    return [
        first,
        _cell("95 % interval", drawn, element("small", text), class_="drawn"),
        element("td", _verdict(difference), data_label="So", class_="so"),
    ]


def _verdict(difference: Difference) -> Html:
    if not difference.is_clear:
        return element("span", "not clear", class_="tag")
    return element("span", "higher" if difference.absolute > 0 else "lower", class_="tag clear")


def _panel(
    told: Told, tag: str, value: str, variations: Sequence[VariationResult], goal: str, span: tuple[float, float]
) -> Html:
    visits = sum(told.visits(v) for v in variations)
    only = told.view.without(tag).toggled(tag, value)
    key = f"{address.TAG}{tag}"
    href = address.of_experiment(told.answer.tenant, told.answer.experiment, only)
    change = {"data-set": f"{key}=", "data-toggle": f"{key}={value}"}
    link = element("a", value, of=change, href=href, data_local=True, title=f"Only {tag} {value}")
    return element(
        "section",
        element("h4", link),
        element("p", figures.plural(visits, f"{told.scope_words} visit"), class_="count"),
        [_panel_row(told, v, _of_point(v, goal), span) for v in variations],
        class_="panel",
    )


def _panel_row(told: Told, variation: VariationResult, result: PointResult, span: tuple[float, float]) -> Html:
    colour, rate = told.colours[variation.variation], result.rate
    name = element("div", name_of(told, variation.variation, False), class_="who")
    if rate is None:
        return element("div", name, element("span", "no visits", class_="faint"), class_="estimate")
    low, high = (rate.value if end is None else end for end in (rate.low, rate.high))
    text = f"{figures.rate(rate.value)}, {figures.rate(low)} to {figures.rate(high)}"
    difference = result.rate_difference
    return element(
        "div",
        name,
        element("span", figures.rate(rate.value), class_="figure"),
        plots.estimate(low, rate.value, high, span, colour, text),
        element("small", "" if difference is None else _short(difference)),
        class_="estimate",
    )


def _short(difference: Difference) -> str:
    return f"{figures.points(difference.absolute)}{', clear' if difference.is_clear else ''}"


def sealed(told: Told) -> Html:
    """Up to when nothing can change any more."""
    basis = told.answer.basis
    if basis.is_sealed:
        return joined("All of it is sealed: nothing can change it any more.")
    return joined("Sealed up to ", moment(basis.sealed_until), "; later minutes can still change.")
