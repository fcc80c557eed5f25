"""The top of an experiment's page: what it says in words, the four questions, and what can be chosen. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from monitor.page import address, figures
from monitor.page.address import By, Charted, Range, View
from monitor.page.experiment import Told, sealed
from monitor.page.health import REASONS
from monitor.page.issues import Issue
from monitor.page.markup import Html, element, joined, moment
from monitor.serve.models import (
    ExperimentState,
    HealthAnswer,
    Running,
    Scope,
    ServingReason,
    SplitVerdict,
    Status,
    Step,
    VariationResult,
)

STEPS = {
    Step.MINUTE: "a minute",
    Step.FIVE_MINUTES: "5 minutes",
    Step.QUARTER: "15 minutes",
    Step.HOUR: "an hour",
    Step.DAY: "a day",
}


class Card(NamedTuple):
    """The answer to one question: good, odd, bad or none, in a word or two, and what it rests on."""

    question: str
    kind: str
    word: str
    reason: Html


def title(told: Told) -> Html:
    """Tenant and name."""
    answer = told.answer
    return joined(
        element(
            "nav", element("a", "Experiments", href="/"), " / ", answer.tenant, class_="crumbs", aria_label="Where"
        ),
        element("h1", answer.experiment),
    )


def lead(told: Told, state: ExperimentState, range_words: str) -> Html:
    """The header in words."""
    answer, basis = told.answer, told.answer.basis
    assigned, qualified = (sum(getattr(v, what) for v in answer.variations) for what in ("assigned", "qualified"))
    share = f" ({figures.percent(qualified / assigned)})" if assigned else ""
    return element(
        "p",
        _running(state),
        f" In {range_words}, ",
        element("strong", figures.plural(assigned, "visit")),
        " were assigned and ",
        element("strong", figures.count(qualified)),
        f" qualified{share}",
        _filtered(told),
        ". ",
        sealed(told),
        " Served by ",
        element("strong", basis.serving_dc),
        _served_words(told),
        ".",
        class_="lead",
    )


def verdicts(told: Told, state: ExperimentState, oddities: Sequence[Issue], health: HealthAnswer) -> Html:
    """The four questions of an experimenter, each with its answer."""
    found = (
        _is_running(state),
        _is_split_right(told),
        _which_is_better(told),
        _is_trusted(told, oddities, health),
    )
    cards = [
        element(
            "section",
            element("h2", of.question),
            element("p", of.word, class_="word"),
            element("p", of.reason, class_="reason"),
            class_=f"verdict {of.kind}",
        )
        for of in found
    ]
    return element("div", cards, class_="verdicts")


def controls(told: Told, tags: Mapping[str, Sequence[str]], dcs: Sequence[str]) -> Html:
    """What is shown: range, scope, tags, data center; as links, so that they work by keyboard and can be shared."""
    view = told.view
    ranges = [(r.value, view._replace(last=r, start=None, end=None), r is view.last and not view.start) for r in Range]
    scopes = [(scope.value, view._replace(scope=scope), scope is view.scope) for scope in Scope]
    goals = [(name, view._replace(goal=name), name == told.goal) for name in told.points]
    groups = [
        _choices(told, "Range", ("last", "from", "to"), ranges),
        _range_form(told),
        _choices(told, "Visits", ("scope",), scopes),
    ]
    groups += [_choices(told, "Judged by", ("goal",), goals)] if goals else []
    groups += [_tag_choices(told, tag, values) for tag, values in tags.items()]
    if len(dcs) > 1:
        named = [("automatic", None), *((dc, dc) for dc in dcs)]
        choices = [(text, view._replace(dc=dc), view.dc == dc) for text, dc in named]
        groups.append(_choices(told, "Data center", ("dc",), choices))
    return element("div", groups, class_="controls")


def chart_controls(told: Told) -> Html:
    """How the charts are drawn."""
    view = told.view
    by = {By.MINUTE: "by minute", By.HOUR: "by hour", By.CUMULATIVE: "cumulative"}
    shown = {Charted.RATE: "rate", Charted.VISITS: "visits"}
    return element(
        "div",
        _choices(told, "Over time", ("by",), [(text, view._replace(by=of), of is view.by) for of, text in by.items()]),
        _choices(
            told, "Show", ("show",), [(text, view._replace(shown=of), of is view.shown) for of, text in shown.items()]
        ),
        class_="controls",
    )


def legend(told: Told, step: Step) -> Html:
    """The colours of the variations, what dashed means, how long a step is, and what a rate is there."""
    is_of_steps = told.view.shown is Charted.RATE and told.view.by is not By.CUMULATIVE
    rate = f"visits of a step per visit {told.scope_words} in it: may exceed 100 %" if is_of_steps else None
    names = [
        element("li", element("span", class_="dot", style=f"background:{told.colours[v.variation]}"), " ", v.variation)
        for v in told.answer.variations
    ]
    return element(
        "ul",
        names,
        element("li", element("span", class_="dash"), " still open"),
        element("li", f"steps of {STEPS[step]}"),
        element("li", rate, class_="faint") if rate else None,
        class_="legend",
    )


def links(told: Told) -> Html:
    """Where the same numbers are as JSON."""
    answer, view = told.answer, told.view
    path = f"tenants/{answer.tenant}/experiments/{answer.experiment}"
    parameters = {
        "from": f"{answer.basis.start:%Y-%m-%dT%H:%MZ}",
        "to": f"{answer.basis.end:%Y-%m-%dT%H:%MZ}",
        "scope": str(answer.scope),
        "tag": [f"{tag}:{value}" for tag, value in view.tags],
        "dc": view.dc,
    }
    return element(
        "p",
        "Every number above links to the KairosDB query behind it. The same as JSON: ",
        element("a", "this experiment", href=address.api(path, parameters)),
        ", ",
        element("a", "all of the API", href="/docs"),
        ".",
        class_="note",
    )


def _running(state: ExperimentState) -> Html:
    first = state.first_assigned
    begun = joined(" since ", moment(first, "day")) if first else joined()
    match state.state:
        case Running.RUNNING:
            return joined("Running", begun, ".")
        case Running.SILENT:
            return joined("Silent: it has run", begun, ", but the last visit was assigned ", moment_of(state), ".")
        case Running.NO_DATA:
            return joined("No visit was assigned within 24 hours.")


def moment_of(state: ExperimentState) -> Html:
    """When a visit was assigned last."""
    return moment(state.last_assigned, "age") if state.last_assigned else joined("never")


def _filtered(told: Told) -> str:
    if not told.answer.tags:
        return ""
    return ", only with " + " and ".join(f"{tag} {' or '.join(values)}" for tag, values in told.answer.tags.items())


def _served_words(told: Told) -> Html:
    """Who has served, if that is more than one, or not the preferred one."""
    served = told.answer.basis.served
    if len(served) == 1:
        reason = served[0].reason
        return joined() if reason is ServingReason.PREFERRED else joined(f", because {REASONS[reason]}")
    names = dict.fromkeys(stretch.dc for stretch in served)
    if len(names) == 1:
        return joined()
    return joined(f"; within the range {' and '.join(names)} took turns, one for each minute")


def _is_running(state: ExperimentState) -> Card:
    question = "Is it running?"
    match state.state:
        case Running.RUNNING:
            kind, word = "good", "Yes"
        case Running.SILENT:
            kind, word = "bad", "Not now"
        case Running.NO_DATA:
            return Card(question, "none", "No", joined("No visit was assigned within 24 hours."))
    visits = figures.plural(sum(map(sum, state.assigned_recent.values())), "visit")
    minutes = max(map(len, state.assigned_recent.values()))
    said = f"{visits} assigned in {minutes} minutes, the last one "
    return Card(question, kind, word, joined(said, moment_of(state), "."))


def _is_split_right(told: Told) -> Card:
    question, split = "Is the split right?", told.answer.split
    variations = told.answer.variations
    shares = ", ".join(f"{v.variation} {figures.percent(v.share)}" for v in variations)
    planned = " / ".join(figures.percent(v.planned_share, 0) for v in variations)
    numbers = f"{shares}; planned {planned}."
    match split.verdict:
        case SplitVerdict.RIGHT:
            p = "" if split.p_value is None else f" Chance alone explains that (p = {split.p_value:.2g})."
            return Card(question, "good", "Yes", joined(numbers + p))
        case SplitVerdict.WRONG:
            return Card(question, "bad", "No", joined(f"{numbers} Chance alone hardly explains that (p < 0.001)."))
        case SplitVerdict.TOO_FEW:
            return Card(question, "none", "Too early", joined("Too few visits to tell."))


def _which_is_better(told: Told) -> Card:
    goal = told.goal
    question = f"Which is better, by {goal}?" if goal else "Which is better?"
    compared = [
        (v, result.rate_difference)
        for v in told.answer.variations
        for result in v.points
        if result.point == goal and result.rate_difference is not None
    ]
    if not compared:
        return Card(question, "none", "Too early", joined("Too few visits to compare."))
    clear = [(v, d) for v, d in compared if d.is_clear]
    best = max(clear or compared, key=lambda pair: abs(pair[1].absolute) if not clear else pair[1].absolute)
    variation, difference = best
    amount = f"{figures.points(difference.absolute)} {_in_brackets(figures.relative(difference))}".strip()
    within = figures.interval(difference.low, difference.high, True)
    reason = joined(
        f"{variation.variation} against {told.answer.control}: {amount}, 95 % interval {within}, for one look only."
    )
    if told.answer.split.verdict is SplitVerdict.WRONG:
        return Card(
            question, "odd", "Cannot be said", joined("The split is wrong, which may be all the difference. ", reason)
        )
    if not clear:
        return Card(question, "none", "Not clear yet", reason)
    if difference.absolute > 0:
        return Card(question, "good", f"{variation.variation} is ahead", reason)
    return Card(question, "odd", _behind(told, clear), reason)


def _behind(told: Told, clear: Iterable[tuple[VariationResult, object]]) -> str:
    return f"{told.answer.control} is ahead of {' and '.join(v.variation for v, _ in clear)}"


def _in_brackets(text: str) -> str:
    return f"({text})" if text else ""


def _is_trusted(told: Told, oddities: Sequence[Issue], health: HealthAnswer) -> Card:
    question, basis = "Can I trust it?", told.answer.basis
    age = figures.duration(basis.newest_age_s)
    if not basis.is_fresh:
        return Card(question, "bad", "It is old", _and_link(f"{basis.serving_dc} reported last {age} ago."))
    fresh = f"Data is {age} old. "
    if oddities:
        said = " ".join([*(oddity.text for oddity in oddities), oddities[0].fix])
        return Card(question, "odd", "With care", joined(fresh, said))
    look = joined(" ", _and_link("Operators have something to look at:")) if health.status is not Status.OK else None
    said = joined(fresh, sealed(told), " Late events are counted where they belong.", look)
    return Card(question, "good", "Yes", said)


def _and_link(text: str) -> Html:
    return joined(text, " ", element("a", "Health", href="/health"))


def _choices(told: Told, label: str, keys: Sequence[str], choices: Iterable[tuple[str, View, bool]]) -> Html:
    """Links of which one is chosen, by what these keys of the address are."""
    return _group(
        label,
        [_link(told, text, view, is_chosen, {"data-set": view.setting(*keys)}) for text, view, is_chosen in choices],
    )


def _tag_choices(told: Told, tag: str, values: Sequence[str]) -> Html:
    """Links of which any are chosen."""
    view, chosen = told.view, told.view.filter().get(tag, [])
    links = [_link(told, "all", view.without(tag), not chosen, {"data-set": f"{address.TAG}{tag}="})]
    links += [
        _link(told, value, view.toggled(tag, value), value in chosen, {"data-toggle": f"{address.TAG}{tag}={value}"})
        for value in values
    ]
    return _group(tag, links)


def _group(label: str, links: Sequence[Html]) -> Html:
    nav = element("nav", links, class_="choices", aria_label=label)
    return element("div", element("span", label, class_="label"), nav, class_="group")


def _link(told: Told, text: str, view: View, is_chosen: bool, change: Mapping[str, str]) -> Html:
    href = address.of_experiment(told.answer.tenant, told.answer.experiment, view)
    return element("a", text, of=change, href=href, data_local=True, aria_current="true" if is_chosen else None)


def _range_form(told: Told) -> Html:
    basis, view = told.answer.basis, told.view
    inputs = [
        element(
            "label",
            label,
            " ",
            element("input", of={"name": name}, type="datetime-local", data_utc=f"{at:%Y-%m-%dT%H:%MZ}", required=True),
        )
        for name, label, at in (("from", "from", basis.start), ("to", "to", basis.end))
    ]
    return element(
        "details",
        element("summary", "from … to …"),
        element("form", inputs, element("button", "Show", type="submit"), data_params=True),
        open=bool(view.start),
        class_="range",
        data_keep=True,
    )
