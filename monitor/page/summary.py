"""The top of an experiment's page: the summary and the four questions; the legend and the links below. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from monitor.page import address, figures, interval_words, judgements
from monitor.page.about import about
from monitor.page.address import By, Charted
from monitor.page.experiment import ExperimentContext, final, mark
from monitor.page.health import REASONS
from monitor.page.issues import Issue
from monitor.page.markup import Html, element, joined, moment
from monitor.serve.health_models import HealthAnswer, Status
from monitor.serve.models import ExperimentState, Running, ServingReason, Step, VariationResult
from monitor.serve.problems import Problem
from monitor.serve.verdict_models import VerdictsAnswer
from monitor.verdicts.judge import SPLITS, State

STEPS = {
    Step.MINUTE: "a minute",
    Step.FIVE_MINUTES: "5 minutes",
    Step.QUARTER: "15 minutes",
    Step.HOUR: "an hour",
    Step.DAY: "a day",
}


NAMES_SHOWN = 3
"""More variations than these are counted in a sentence, not named."""


class Card(NamedTuple):
    """The answer to one question. `kind`: good, warning, bad or none; `word`: the answer; `reason`: its basis."""

    question: str
    kind: str
    word: str
    reason: Html


def title(context: ExperimentContext) -> Html:
    """The tenant and the name of the experiment, and what the configuration says of it."""
    answer = context.answer
    return joined(
        element(
            "nav", element("a", "Experiments", href="/"), " / ", answer.tenant, class_="crumbs", aria_label="Where"
        ),
        element("h1", answer.experiment),
        about(answer.about),
    )


def notes(context: ExperimentContext, left_out: Sequence[str], refused: Problem | None) -> Html:
    """What the address asks for and the page cannot show, and what it shows instead."""
    said = []
    if refused is not None:
        instead = f"Below: {context.view.last.words.lower()}."
        said.append(f"The range in the address cannot be shown. {refused.detail}. {refused.fix} {instead}")
    if left_out:
        said.append(f"The address asks for what is not configured, and it is left out: {', '.join(left_out)}.")
    return joined(*(element("p", text, class_="notice", role="alert") for text in said))


def printed(context: ExperimentContext) -> Html:
    """The range with its days, for paper."""
    basis = context.answer.basis
    return element("p", "From ", moment(basis.start, "date"), " to ", moment(basis.end, "date"), class_="printed")


def lead(context: ExperimentContext, state: ExperimentState, range_words: str) -> Html:
    """The summary of the range, in a few sentences."""
    answer = context.answer
    assigned, qualified = (sum(getattr(v, what) for v in answer.variations) for what in ("assigned", "qualified"))
    share = f" ({figures.percent(qualified / assigned)})" if assigned else ""
    return element(
        "p",
        _running(state),
        f" {range_words}: ",
        element("strong", figures.plural(assigned, "visit")),
        " assigned, ",
        element("strong", figures.count(qualified)),
        f" qualified{share}",
        _filtered(context),
        ". ",
        final(context),
        _data_center(context),
        class_="lead",
    )


def verdicts(
    context: ExperimentContext,
    state: ExperimentState,
    issues: Sequence[Issue],
    health: HealthAnswer,
    judged: VerdictsAnswer | None,
) -> Html:
    """The four questions of an experimenter, each with its answer."""
    answers = (
        _is_running(state, health.at),
        _is_split_right(context, judged),
        _which_is_better(context, judged),
        _is_trusted(context, issues, health),
    )
    cards = [
        element(
            "section",
            element("h2", of.question),
            element("p", of.word, class_="word", data_say=of.question),
            element("p", of.reason, class_="reason"),
            class_=f"verdict {of.kind}",
        )
        for of in answers
    ]
    return element("div", cards, class_="verdicts")


def legend(context: ExperimentContext, step: Step, began: bool) -> Html:
    """The colours of the variations, the meaning of lines and of rates, and the length of a step.

    `began`: the charts have marks at the moments at which alarms began.
    """
    is_of_steps = context.view.charted is Charted.RATE and context.view.by is not By.CUMULATIVE
    rate = (
        f"visits with the metric in a step / visits {context.scope_words} in it: may exceed 100 %"
        if is_of_steps
        else None
    )
    names = [element("li", mark(context, v.variation), " ", v.variation) for v in context.answer.variations]
    line = joined(element("span", class_="began"), " when it began, as far as the evidence says")
    return element(
        "ul",
        names,
        element("li", element("span", class_="dash"), " provisional"),
        element("li", f"steps of {STEPS[step]}"),
        element("li", line) if began else None,
        element("li", rate, class_="faint") if is_of_steps else None,
        class_="legend",
    )


def links(context: ExperimentContext) -> Html:
    """Links to the same numbers as JSON."""
    answer, view = context.answer, context.view
    path = f"tenants/{answer.tenant}/experiments/{answer.experiment}"
    parameters = {
        "from": f"{answer.basis.start:%Y-%m-%dT%H:%MZ}",
        "to": f"{answer.basis.end:%Y-%m-%dT%H:%MZ}",
        "scope": str(answer.scope),
        "tag": [f"{tag}:{value}" for tag, value in view.tags],
        "dc": view.dc,
        "intervals": str(view.intervals),
    }
    return element(
        "p",
        "Every number above links to the KairosDB query behind it. As JSON: ",
        element("a", "this experiment", href=address.api(path, parameters)),
        ", ",
        element("a", "the API", href="/docs"),
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
            return joined(
                "No traffic now. It has run", begun, "; the last visit was assigned ", last_assigned(state), "."
            )
        case Running.NO_DATA:
            return joined("No visit was assigned within 24 hours.")


def last_assigned(state: ExperimentState) -> Html:
    """The time of the last assigned visit."""
    return moment(state.last_assigned, "age") if state.last_assigned else joined("never")


def _filtered(context: ExperimentContext) -> str:
    if not context.answer.tags:
        return ""
    return ", only with " + " and ".join(f"{tag} {' or '.join(values)}" for tag, values in context.answer.tags.items())


def _data_center(context: ExperimentContext) -> Html:
    """The data center of the numbers, if it is not the preferred one throughout."""
    served = context.answer.basis.served
    if len(served) == 1:
        reason = served[0].reason
        if reason is ServingReason.PREFERRED:
            return joined()
        return joined(" Data center: ", element("strong", served[0].dc), f", because {REASONS[reason]}.")
    names = dict.fromkeys(stretch.dc for stretch in served)
    if len(names) == 1:
        return joined()
    return joined(f" Data centers: {' and '.join(names)}, one for each minute.")


def _is_running(state: ExperimentState, at: datetime) -> Card:
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
    if state.first_assigned is not None:
        minutes = max(1, min(minutes, int((at - state.first_assigned).total_seconds() // 60) + 1))
    counted = f"{visits} assigned in {figures.plural(minutes, 'minute')}, the last one "
    return Card(question, kind, word, joined(counted, last_assigned(state), "."))


def _is_split_right(context: ExperimentContext, judged: VerdictsAnswer | None) -> Card:
    """By the checks of the phase: a range that a reader chooses proves nothing however often it is looked at."""
    question = "Is the split right?"
    if len(context.answer.variations) == 1:
        return Card(question, "none", "Nothing to split", joined("The experiment has one variation."))
    numbers = _shares(context.answer.variations)
    checks = [check for check in judged.checks if check.kind in SPLITS] if judged is not None else []
    if judged is None or not checks:
        return Card(question, "none", "Not judged yet", joined(numbers if judged is None else judged.words))
    worst = checks[0]
    match worst.state:
        case State.WARN | State.HOLD | State.STOP:
            why = f"{worst.words} Find the cause before reading any result. {numbers}"
            return Card(question, "bad", "No", joined(why))
        case State.TOO_EARLY | State.NO_DATA:
            return Card(question, "none", "Too early", joined(f"{worst.words} {numbers}"))
        case State.NOTE:
            return Card(question, "warning", "Perhaps not", joined(f"{worst.words} {numbers}"))
    return Card(question, "good", "Yes", joined(f"{numbers} No sign of a mismatch since the phase began."))


def _shares(variations: Sequence[VariationResult]) -> str:
    """The shares and the planned ones; of many variations only the one that is furthest from its plan."""
    if len(variations) > NAMES_SHOWN:
        v = max(variations, key=lambda v: abs((v.share or 0.0) - v.planned_share))
        share, planned = figures.percent(v.share), figures.percent(v.planned_share)
        return f"{len(variations)} variations; furthest from its plan: {v.variation} {share}, planned {planned}."
    shares = ", ".join(f"{v.variation} {figures.percent(v.share)}" for v in variations)
    return f"{shares}; planned {' / '.join(figures.percent(v.planned_share, 0) for v in variations)}."


def _nothing_to_compare(context: ExperimentContext) -> str | None:
    """Why no waiting will bring a comparison; None: one is possible."""
    if context.goal is None:
        return "No metrics are configured for this tenant."
    if len(context.answer.variations) == 1:
        return "The experiment has one variation."
    planned = [v.variation for v in context.answer.variations if v.planned_share > 0]
    return f"By the weights, all visits are {planned[0]}'s." if len(planned) == 1 else None


def _which_is_better(context: ExperimentContext, judged: VerdictsAnswer | None) -> Card:
    goal = context.goal
    question = f"Which is better, by {goal}?" if goal else "Which is better?"
    compared = [
        (v, result.rate_difference)
        for v in context.answer.variations
        for result in v.points
        if result.point == goal and result.rate_difference is not None and result.rate_difference.low is not None
    ]
    if why_not := _nothing_to_compare(context):
        return Card(question, "none", "Nothing to compare", joined(why_not))
    if not compared:
        return Card(question, "none", "Too early", joined("Too few visits with and without it to compare."))
    significant = [(v, d) for v, d in compared if d.is_significant]
    best = max(significant or compared, key=lambda pair: pair[1].absolute if significant else abs(pair[1].absolute))
    variation, difference = best
    amount = f"{figures.points(difference.absolute)} {_in_brackets(figures.relative(difference))}".strip()
    within = figures.interval(difference.low, difference.high, True)
    kind = context.view.intervals
    compared_to = f"{variation.variation} vs. {context.answer.control}"
    reason = joined(
        f"{compared_to}: {amount}, {_lower(interval_words.NAMES[kind])} {within}, {interval_words.PROMISES[kind]}."
    )
    if any(check.kind in SPLITS and check.state in judgements.ALARMING for check in (judged.checks if judged else ())):
        return Card(question, "warning", "Unknown", joined("A sample ratio mismatch may explain all of it. ", reason))
    if not significant:
        return Card(question, "none", "Inconclusive", reason)
    if difference.absolute > 0:
        return Card(question, "good", f"{variation.variation} is ahead", reason)
    return Card(question, "warning", _behind(context, significant), reason)


def _lower(words: str) -> str:
    return words[0].lower() + words[1:]


def _behind(context: ExperimentContext, significant: Sequence[tuple[VariationResult, object]]) -> str:
    names = [v.variation for v, _ in significant]
    of = " and ".join(names) if len(names) <= NAMES_SHOWN else f"{len(names)} variations"
    return f"{context.answer.control} is ahead of {of}"


def _in_brackets(text: str) -> str:
    return f"({text})" if text else ""


def _is_trusted(context: ExperimentContext, issues: Sequence[Issue], health: HealthAnswer) -> Card:
    question, basis = "Can I trust it?", context.answer.basis
    age = figures.duration(basis.newest_age_s)
    if not basis.is_fresh:
        return Card(question, "bad", "Data is old", _and_link(f"The last heartbeat was {age} ago."))
    fresh = f"Data is {age} old. "
    if issues:
        words = " ".join([*(issue.text for issue in issues), issues[0].fix])
        return Card(question, "warning", "With care", joined(fresh, words))
    look = (
        joined(" ", _and_link("Something needs an operator's attention:")) if health.status is not Status.OK else None
    )
    return Card(question, "good", "Yes", joined(fresh, final(context), " Late events are included.", look))


def _and_link(text: str) -> Html:
    return joined(text, " ", element("a", "Health", href="/health"))
