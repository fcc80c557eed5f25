"""The tables of an experiment's page. Pure: HTML from answers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from monitor.core import definitions, wording
from monitor.page import address, colours, figures, interval_words, plots
from monitor.page.address import View
from monitor.page.markup import Html, element, joined, moment
from monitor.serve.models import Difference, Estimate, ExperimentAnswer, PointResult, Scope, VariationResult

RATE, MEAN = "Conversion rate", "Mean per visit"
LARGE_SHARE = 0.05
"""Groups below this share of the visits do not widen the scale: their intervals may reach beyond it."""


class ExperimentContext(NamedTuple):
    """An experiment's answer, and all that is needed to show it."""

    answer: ExperimentAnswer
    definition: definitions.Experiment
    points: Mapping[str, definitions.MeasurementPoint]
    view: View
    colours: Mapping[str, str]
    goal: str | None
    """The primary metric."""

    def visits(self, variation: VariationResult) -> int:
        """The visits in scope."""
        return variation.qualified if self.answer.scope is Scope.QUALIFIED else variation.assigned

    @property
    def absent(self) -> frozenset[str]:
        """The points, without the primary metric, that no visit of any variation has: there is nothing to compare."""
        had = {
            result.point
            for variation in self.answer.variations
            for result in variation.points
            if result.total or result.visits or result.sum
        }
        return frozenset(self.points.keys() - had - {self.goal})

    @property
    def scope_words(self) -> str:
        """The word for visits in scope."""
        return "qualified" if self.answer.scope is Scope.QUALIFIED else "assigned"

    def number(self, text: str, variation: str, what: str, point: str | None = None) -> Html:
        """A number with a link to the queries behind it."""
        basis = self.answer.basis
        place = address.of_experiment(self.answer.tenant, self.answer.experiment).replace("/experiments/", "/query/")
        query = address.queried(
            {"variation": variation, "what": what, "point": point, "scope": self.answer.scope},
            basis.start,
            basis.end,
            self.view,
        )
        label = f"{text}, {variation}, {what}{f' of {point}' if point else ''}: the query behind it"
        return element(
            "a", text, href=place + query, class_="number", title="The query behind this number", aria_label=label
        )


def table(context: ExperimentContext) -> Html:
    """The variations: numbers of visits, and their shares."""
    head = element(
        "tr",
        *(
            element("th", text, scope="col")
            for text in ("Variation", "Assigned", "Share", "Qualified", "of assigned", "Crossovers")
        ),
    )
    rows = [_variation_row(context, variation) for variation in context.answer.variations]
    return element(
        "table",
        element("caption", "Visits", class_="unseen"),
        element("thead", head),
        element("tbody", rows),
        class_="cards visits",
        data_rove=True,
    )


def points_tables(context: ExperimentContext) -> Html:
    """The metrics of each variation, the primary one first: conversion rates, then means of those with a value."""
    if not context.points:
        return element("p", "No metrics are configured for this tenant, so there is nothing to compare.", class_="note")
    rates, means = [], []
    absent = context.absent
    shown = ((name, point) for name, point in context.points.items() if name not in absent)
    for name, point in sorted(shown, key=lambda pair: pair[0] != context.goal):
        results = [(v, _of_point(v, name)) for v in context.answer.variations]
        rates.append(_rates(context, name, point, results))
        if point.value is not None:
            means.append(_means(context, name, results))
    return joined(
        element("p", interval_words.NOTES[context.view.intervals], class_="note"),
        _points_table(context, "Visits", RATE, rates),
        _points_table(context, "Sum", MEAN, means) if means else None,
        _absent(context, absent) if absent else None,
    )


def _absent(context: ExperimentContext, absent: frozenset[str]) -> Html:
    """The points that are not in the tables."""
    names = ", ".join(name for name in context.points if name in absent)
    before = (
        " Events before the qualification do not count here: to see them, choose the visits assigned."
        if context.answer.scope is Scope.QUALIFIED
        else ""
    )
    return element(
        "p", f"No {context.scope_words} visit in this range has ", element("strong", names), f".{before}", class_="note"
    )


def _points_table(context: ExperimentContext, counted: str, estimate: str, bodies: Sequence[Html]) -> Html:
    interval = interval_words.NAMES[context.view.intervals]
    titles = ("Variation", counted, estimate, "Difference from control", interval, "Result")
    head = element("tr", *(element("th", text, scope="col") for text in titles))
    caption = element("caption", estimate, class_="unseen")
    return element("table", caption, element("thead", head), bodies, class_="cards points", data_rove=True)


def rule(context: ExperimentContext) -> Html:
    """The qualification rule in words."""
    text = wording.rule(context.definition.qualified_when, context.points)
    return joined(
        element(
            "p",
            "A visit is ",
            element("strong", "assigned"),
            f" by its first event with a variation of {context.answer.experiment}. It is ",
            element("strong", "qualified"),
            " (exposed to the change) from the moment it is assigned and has seen: ",
            element("em", f"{text}."),
        ),
        element("p", "A visit counts once per metric. Its events before that moment are not counted."),
    )


def breakdown_panels(
    context: ExperimentContext, tag: str, values: Sequence[str], groups: Mapping[str, Sequence[VariationResult]]
) -> Html:
    """The primary metric's rate for each value of a tag, all on one scale."""
    goal = context.goal
    present = [value for value in values if any(context.visits(v) for v in groups.get(value, ()))]
    if goal is None or not present:
        return element("p", f"No visits to split by {tag}.", class_="note")
    whole = sum(context.visits(v) for value in present for v in groups[value])
    large = [value for value in present if sum(context.visits(v) for v in groups[value]) >= LARGE_SHARE * whole]
    rates = [rate for value in large for v in groups[value] if (rate := _of_point(v, goal).rate) is not None]
    span = (
        min((e.value if e.low is None else e.low for e in rates), default=0.0),
        max((e.value if e.high is None else e.high for e in rates), default=1.0),
    )
    panels = [_panel(context, tag, value, groups[value], goal, span) for value in present]
    scale = f"All panels: {figures.rate(span[0])} to {figures.rate(span[1])}."
    return joined(element("div", panels, class_="panels"), element("p", scale, class_="scale"))


def _of_point(variation: VariationResult, point: str) -> PointResult:
    return next(result for result in variation.points if result.point == point)


def name_of(context: ExperimentContext, variation: str, is_control: bool) -> Html:
    """A variation with its colour, and a badge if it is the control."""
    badge = element("span", "control", class_="badge") if is_control else None
    return joined(mark(context, variation), " ", element("span", variation, class_="name"), " ", badge)


def mark(context: ExperimentContext, variation: str) -> Html:
    """The colour and shape of a variation."""
    shape = colours.shapes(context.colours)[variation]
    return element("span", class_=f"dot {shape}", style=f"background:{context.colours[variation]}", data_name=variation)


def beside(said: Html | str, more: str) -> Html:
    """A text with a smaller one below or beside it, which are two words for those who hear them."""
    if not more:
        return element("span", said)
    return joined(element("span", said), element("span", ", ", class_="unseen"), element("small", more))


def _cell(label: str, *children: Html | str | None, class_: str | None = None) -> Html:
    """A cell with the name of its column, for phones, where rows are cards."""
    return element("td", *children, data_label=label, class_=class_)


def _variation_row(context: ExperimentContext, variation: VariationResult) -> Html:
    name = variation.variation
    of_assigned = figures.percent(variation.qualified / variation.assigned if variation.assigned else None)
    crossed_share = variation.crossed / variation.assigned if variation.assigned else 0.0
    return element(
        "tr",
        element("th", name_of(context, name, variation.is_control), scope="row"),
        _cell("Assigned", context.number(figures.count(variation.assigned), name, "assigned"), class_="figure"),
        _cell(
            "Share",
            beside(figures.percent(variation.share), f"planned {figures.percent(variation.planned_share)}"),
            class_="figure",
        ),
        _cell("Qualified", context.number(figures.count(variation.qualified), name, "qualified"), class_="figure"),
        _cell("of assigned", of_assigned, class_="figure"),
        _cell(
            "Crossovers",
            beside(
                context.number(figures.count(variation.crossed), name, "crossed"), figures.percent(crossed_share, 2)
            ),
            class_="figure",
        ),
    )


def _rates(
    context: ExperimentContext,
    name: str,
    point: definitions.MeasurementPoint,
    results: Sequence[tuple[VariationResult, PointResult]],
) -> Html:
    title = beside(element("span", name, class_="point"), f"visits with {wording.point(point)}")
    reach = _reach(result.rate_difference for _, result in results)
    rows = [
        _result_row(
            context,
            v,
            context.number(figures.count(r.visits), v.variation, "visits", name),
            r.rate,
            r.rate_difference,
            reach,
            None,
            is_rate=True,
        )
        for v, r in results
    ]
    return _body(title, rows)


def _means(context: ExperimentContext, name: str, results: Sequence[tuple[VariationResult, PointResult]]) -> Html:
    title = beside(element("span", f"{name}, value", class_="point"), f"its sum / all {context.scope_words} visits")
    reach = _reach(result.mean_difference for _, result in results)
    note = next((r.mean.note for _, r in results if r.mean and r.mean.note), None)
    rows = [
        _result_row(
            context,
            v,
            beside(context.number(figures.amount(r.sum or 0.0), v.variation, "sum", name), "sum"),
            r.mean,
            r.mean_difference,
            reach,
            note,
            is_rate=False,
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
    context: ExperimentContext,
    variation: VariationResult,
    counted: Html,
    estimate: Estimate | None,
    difference: Difference | None,
    reach: float,
    note: str | None,
    *,
    is_rate: bool,
) -> Html:
    """The row of a variation; `note`: why there is no interval, if it is not for too few visits."""
    name = variation.variation
    return element(
        "tr",
        element("th", name_of(context, name, variation.is_control), scope="row"),
        _cell("Visits" if is_rate else "Sum", counted, class_="figure"),
        _cell(
            RATE if is_rate else MEAN,
            figures.estimate(estimate, is_rate),
            class_="figure",
        ),
        *_difference_cells(context, variation, difference, reach, note, is_rate),
    )


def _difference_cells(
    context: ExperimentContext,
    variation: VariationResult,
    difference: Difference | None,
    reach: float,
    note: str | None,
    is_rate: bool,
) -> list[Html]:
    baseline = _baseline(context, variation)
    if baseline is not None:
        return [element("td", baseline, colspan=3, class_="faint")]
    if difference is None:
        return [element("td", "too few visits to compare", colspan=3, class_="faint")]
    absolute = difference.absolute
    text = figures.points(absolute) if is_rate else figures.signed(absolute, figures.amount(abs(absolute)))
    first = _cell("Difference", beside(text, figures.relative(difference)), class_="figure")
    if difference.low is None or difference.high is None:
        return [first, element("td", note or "too few visits for an interval", colspan=2, class_="faint")]
    limits = figures.interval(difference.low, difference.high, is_rate)
    drawn = plots.interval(difference.low, absolute, difference.high, reach, context.colours[variation.variation])
    return [
        first,
        _cell(interval_words.NAMES[context.view.intervals], drawn, element("small", limits), class_="drawn"),
        element("td", interval_words.result(context.view.intervals, difference), data_label="Result", class_="so"),
    ]


def _baseline(context: ExperimentContext, variation: VariationResult) -> str | None:
    """What stands in place of the difference of the control from itself."""
    if not variation.is_control:
        return None
    return "baseline of the comparison" if len(context.answer.variations) > 1 else "the only variation"


def _panel(
    context: ExperimentContext,
    tag: str,
    value: str,
    variations: Sequence[VariationResult],
    goal: str,
    span: tuple[float, float],
) -> Html:
    visits = sum(context.visits(v) for v in variations)
    only = context.view.without(tag).toggled(tag, value)
    key = f"{address.TAG}{tag}"
    href = address.of_experiment(context.answer.tenant, context.answer.experiment, only)
    change = {"data-set": f"{key}=", "data-toggle": f"{key}={value}"}
    link = element("a", value, of=change, href=href, data_local=True, title=f"Only {tag} {value}")
    return element(
        "section",
        element("h4", link),
        element("p", figures.plural(visits, f"{context.scope_words} visit"), class_="count"),
        [_panel_row(context, v, _of_point(v, goal), span) for v in variations],
        class_="panel",
    )


def _panel_row(
    context: ExperimentContext, variation: VariationResult, result: PointResult, span: tuple[float, float]
) -> Html:
    colour, rate = context.colours[variation.variation], result.rate
    name = element("div", name_of(context, variation.variation, False), class_="who")
    if rate is None:
        return element("div", name, element("span", "no visits", class_="faint"), class_="estimate")
    low, high = (rate.value if end is None else end for end in (rate.low, rate.high))
    text = f"{interval_words.NAMES[context.view.intervals]} {figures.rate(low)} to {figures.rate(high)}"
    difference = result.rate_difference
    return element(
        "div",
        name,
        element("span", figures.rate(rate.value), class_="figure"),
        plots.estimate(low, rate.value, high, span, colour, text),
        element("small", "" if difference is None else interval_words.short(context.view.intervals, difference)),
        class_="estimate",
    )


def final(context: ExperimentContext) -> Html:
    """The end of the final minutes of the range."""
    basis = context.answer.basis
    if basis.is_final:
        return joined("All of it is final.")
    return joined("Final until ", moment(basis.final_until), "; later minutes are provisional.")
