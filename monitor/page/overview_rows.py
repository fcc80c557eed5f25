"""The rows of the overview: an experiment's verdict, goal, traffic and shares. Pure."""

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from monitor.page import address, colours, figures, judgements, plots
from monitor.page.issues import Issue
from monitor.page.markup import Html, element, joined, moment
from monitor.serve.goal_lift import Lift
from monitor.serve.models import ExperimentState, Running
from monitor.serve.verdict_models import VerdictsAnswer

SPARK_HOURS = 2
"""The hours that `qualified_recent` covers."""
NAMES_SHOWN = 4
"""The shares of more variations than these are not written out."""
LIFT_REACH = 0.5
"""The scale of all drawn differences is from -LIFT_REACH to LIFT_REACH; what is beyond is drawn at its end."""
COLUMNS = ("Experiment", "Verdict", "Goal, vs. control", f"Qualified, {SPARK_HOURS} h", "Visits, 24 h", "Share", "Last")


class Judged(NamedTuple):
    """The verdicts of an experiment; its goal, and the clearest difference in it, each if there is one."""

    verdicts: VerdictsAnswer | None = None
    goal: str | None = None
    lift: Lift | None = None


class ExperimentRow(NamedTuple):
    """One experiment, its issues apart from verdicts, those of its tenant, and what is judged of it."""

    tenant: str
    state: ExperimentState
    issues: Sequence[Issue]
    of_tenant: Sequence[Issue] = ()
    judged: Judged = Judged()

    @property
    def needs_attention(self) -> bool:
        """True if a check notes, warns, holds, stops or is withheld, or if there are issues, its tenant's included."""
        verdicts = self.judged.verdicts
        is_judged = bool(judgements.notable(verdicts) or judgements.withheld(verdicts))
        return is_judged or bool(self.issues or self.of_tenant)

    @property
    def rank(self) -> tuple[int, bool]:
        """The worst come first: by verdict, then those with issues."""
        return judgements.rank(self.judged.verdicts), not (self.issues or self.of_tenant)


def row(of: ExperimentRow) -> Html:
    """An experiment as a row of a table with COLUMNS."""
    state = of.state
    link = element("a", state.experiment, href=address.of_experiment(of.tenant, state.experiment), class_="goes")
    age = moment(state.last_assigned, "age") if state.last_assigned else "none in 24 h"
    return element(
        "tr",
        element("th", _light(of), link, chips(of.issues), scope="row"),
        element("td", _verdict(of), data_label=COLUMNS[1], class_="so"),
        element("td", _goal(of.judged), data_label=COLUMNS[2], class_="drawn"),
        element("td", _spark(state), data_label=COLUMNS[3], class_="drawn"),
        element("td", _visits(state), data_label=COLUMNS[4], class_="figure"),
        element("td", _shares(state), data_label=COLUMNS[5], class_="drawn"),
        element("td", age, data_label=COLUMNS[6], class_="figure"),
    )


def chips(issues: Sequence[Issue]) -> Html:
    """Issues as labels."""
    return joined(*(element("span", i.short, class_="tag warning", title=f"{i.text} {i.fix}") for i in issues))


def _verdict(of: ExperimentRow) -> Html:
    """The worst state with what it is about, said aloud when it is new; since when; and what else there is."""
    verdicts = of.judged.verdicts
    if verdicts is None:
        return element("span", "not judged yet", class_="faint")
    found, withheld = judgements.notable(verdicts), judgements.withheld(verdicts)
    if not found:
        return judgements.label(verdicts.state)
    worst = found[0]
    place = judgements.place(worst)
    said = element(
        "span",
        judgements.label(worst.state),
        " ",
        element("span", judgements.short(worst), title=worst.words),
        f", {place}" if place else None,
        data_say=f"{of.tenant}, {of.state.experiment}:",
    )
    more = [f"{len(found) - 1} more"] if len(found) > 1 else []
    more += [f"{figures.plural(withheld, 'check')} withheld"] if withheld else []
    since = joined("since ", moment(worst.since)) if worst.since else None
    rest = joined(since, "; " if since and more else None, ", ".join(more))
    return joined(said, element("small", rest) if rest else None)


def _goal(judged: Judged) -> Html:
    """The clearest relative difference from the control in the phase, with its interval."""
    lift = judged.lift
    if judgements.withheld(judged.verdicts):
        return element("span", "withheld: the split is wrong", class_="faint")
    if judged.goal is None or lift is None or lift.estimate is None:
        return element("span", figures.NONE, class_="faint")
    low, high = (-1.0 if lift.low is None else lift.low), lift.high
    limits = f"{figures.lift(low)} to {figures.lift(high)}"
    drawn = plots.interval(low, lift.estimate, LIFT_REACH if high is None else high, LIFT_REACH, "var(--text)")
    text = f"{judged.goal} in {lift.variation}: {figures.lift(lift.estimate)}"
    return joined(element("span", text), drawn, element("small", limits))


def _spark(state: ExperimentState) -> Html:
    """The qualified visits of the last hours; of an experiment that began within them, those since then."""
    counts, first, last = state.qualified_recent, state.first_assigned, state.last_assigned
    label = f"Qualified visits over {SPARK_HOURS} hours"
    if first is None or last is None or last - first >= timedelta(hours=SPARK_HOURS):
        return plots.spark(counts, label)
    begun = next((i for i, count in enumerate(counts) if count), 0)
    return joined(
        plots.spark(counts[begun:], "Qualified visits since the first one"),
        element("small", "began ", moment(first, "age")),
    )


def _visits(state: ExperimentState) -> Html:
    return joined(
        element("span", figures.count(state.assigned), " ", element("span", "assigned", class_="unseen")),
        element("small", f"{figures.count(state.qualified)} qualified"),
    )


def _light(of: ExperimentRow) -> Html:
    """The traffic of an experiment as a coloured dot, with a word for readers who do not see it."""
    kind, word = {
        Running.RUNNING: ("good", "running"),
        Running.SILENT: ("bad", "no traffic now"),
        Running.NO_DATA: ("none", "no data"),
    }[of.state.state]
    verdicts = of.judged.verdicts
    if kind == "good" and of.needs_attention:
        kind = "bad" if verdicts is not None and judgements.COLOURS.get(verdicts.state) == "bad" else "warning"
    return element("span", element("span", word, class_="unseen"), class_=f"light {kind}", title=word)


def _shares(state: ExperimentState) -> Html:
    weights = sum(state.variations.values())
    visits = sum(state.assigned_by_variation.values())
    if not visits:
        return element("span", figures.NONE, class_="faint")
    palette = colours.of_variations(state.control, state.variations)
    parts = [
        (palette[name], state.assigned_by_variation[name] / visits, weight / weights)
        for name, weight in state.variations.items()
    ]
    text = " / ".join(f"{100 * share:.1f}" for _, share, _ in parts)
    planned = " / ".join(f"{100 * plan:.0f}" for _, _, plan in parts)
    names = ", ".join(f"{n} {figures.percent(share)}" for n, (_, share, _) in zip(state.variations, parts, strict=True))
    short = f"{text}, planned {planned}" if len(parts) <= NAMES_SHOWN else f"{len(parts)} variations"
    return joined(plots.shares(parts, f"{names}; planned {planned}"), element("small", short, aria_hidden="true"))
