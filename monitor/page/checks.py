"""What the checks of an experiment say: the verdict in words, a table of all checks, and slices. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from monitor.page import figures, judgements, plots
from monitor.page.markup import Html, element, joined, moment
from monitor.serve.levels import LEVELS, Levels
from monitor.serve.verdict_models import CheckAnswer, VerdictsAnswer
from monitor.verdicts.families import Thresholds
from monitor.verdicts.judge import State

COLUMNS = ("Check", "State", "Evidence", "Since", "Where", "Effect, 95 % interval")
QUIET_SHOWN = 4
"""More checks that find nothing are put away; the reader can open them."""
MARKS_MAX = 3
"""Moments that are marked on a chart."""


class Mark(NamedTuple):
    """A moment to mark on a chart, with a few words."""

    at: datetime
    words: str


def judgement(judged: VerdictsAnswer | None) -> Html:
    """The worst verdict of the phase in words, with the moment at which it began, and what it is about."""
    if judged is None:
        return element("p", "The checks have not been computed yet; that takes some seconds.", class_="note")
    found = judgements.notable(judged)
    since = joined(" It began at about ", moment(found[0].since, "day"), ".") if found and found[0].since else None
    more = f" {figures.plural(len(found) - 1, 'more check')} below." if len(found) > 1 else None
    kind = {"bad": " bad", "good": " good", None: " calm"}.get(judgements.COLOURS.get(judged.state), "")
    return element(
        "div",
        element("p", judgements.label(judged.state), " ", judged.words, since, more, data_say="Verdict:"),
        _basis(judged),
        class_=f"notice{kind}",
    )


def _basis(judged: VerdictsAnswer) -> Html | None:
    if judged.phase is None:
        return None
    begun, until = moment(judged.phase.start, "day"), moment(judged.phase.sealed_until)
    return element("small", "About the phase since ", begun, ", with all minutes up to ", until, ", which are final.")


def table(judged: VerdictsAnswer | None, levels: Levels = LEVELS) -> Html:
    """All checks, the worst first, each with its evidence beside its thresholds; the slices of the worst."""
    if judged is None or not judged.checks:
        return joined()
    loud = [check for check in judged.checks if check.state in (*judgements.NOTABLE, State.WITHHELD)]
    quiet = judged.checks[len(loud) :]
    is_short = len(quiet) <= QUIET_SHOWN
    summary = element("summary", f"{figures.plural(len(quiet), 'check')} with nothing to say")
    return joined(
        element("h2", "Checks"),
        element("p", _note(levels.limits), class_="note"),
        _table(judged.checks if is_short else loud, levels) if is_short or loud else None,
        None if is_short else element("details", summary, _table(quiet, levels), data_keep=True),
        _slices(judgements.notable(judged), levels),
    )


def _note(limits: Thresholds) -> str:
    *first, last = (f"{evidence:,.6g}" for evidence in limits)
    return (
        "Evidence E grows where something is wrong; the marks are the thresholds of note, warn, hold and stop. In an "
        "experiment where nothing is wrong, any check ever reaches them with a probability of at most "
        f"1 in {', '.join(first)} and {last}, however long it runs and however often you look."
    )


def _table(of: Sequence[CheckAnswer], levels: Levels) -> Html:
    head = element("tr", *(element("th", text, scope="col") for text in COLUMNS))
    return element(
        "table",
        element("caption", "Checks", class_="unseen"),
        element("thead", head),
        element("tbody", [_row(check, levels) for check in of]),
        class_="cards checks",
    )


def _row(check: CheckAnswer, levels: Levels) -> Html:
    is_notable = check.state in judgements.NOTABLE
    cells = (
        judgements.label(check.state),
        _evidence(check.ln_e, levels.of(check)) if judgements.has_evidence(check) else figures.NONE,
        moment(check.since) if check.since and is_notable else figures.NONE,
        (judgements.place(check) or "everywhere") if is_notable else figures.NONE,
        _effect(check),
    )
    classes = ("so", "drawn", None, None, None)
    return element(
        "tr",
        element("th", judgements.name(check).capitalize(), scope="row", title=check.words),
        *(
            element("td", cell, data_label=label, class_=class_ if cell != figures.NONE else "none")
            for label, cell, class_ in zip(COLUMNS[1:], cells, classes, strict=True)
        ),
    )


def _evidence(ln_e: float, thresholds: Mapping[State, float]) -> Html:
    """A bar with the thresholds, and the next threshold in words."""
    said = f"E {figures.evidence(ln_e)}"
    following = next((f"{state} from {figures.evidence(at)}" for state, at in thresholds.items() if ln_e < at), None)
    worst, highest = list(thresholds.items())[-1]
    top = f"{worst} from {figures.evidence(highest)}"
    drawn = plots.evidence(ln_e, list(thresholds.values()), f"Evidence {figures.evidence(ln_e)}, {following or top}")
    return joined(drawn, element("small", f"{said}, {following or top}", aria_hidden="true"))


def _effect(check: CheckAnswer) -> Html | str:
    effect = check.effect
    if effect is None:
        return figures.NONE
    low = -1.0 if effect.low is None else effect.low
    limits = element("small", f"{figures.lift(low)} to {figures.lift(effect.high)}")
    return joined(element("span", f"{check.variation}: {figures.lift(effect.estimate)}"), limits)


def _slices(found: Sequence[CheckAnswer], levels: Levels) -> Html | None:
    """The slices of the worst check with evidence in some of them, the most evidence first."""
    worst = next((check for check in found if any(of.ln_e > 0 for of in check.slices)), None)
    if worst is None:
        return None
    head = element("tr", *(element("th", text, scope="col") for text in ("Slice", "Evidence")))
    carrying = worst.place
    rows = [
        element(
            "tr",
            element(
                "th",
                judgements.place(of),
                element("span", "carries it", class_="tag bad") if carrying and of.place == carrying else None,
                scope="row",
            ),
            element("td", _slice(of.ln_e, levels.of(worst)), data_label="Evidence", class_="drawn"),
        )
        for of in worst.slices
        if of.ln_e > 0
    ]
    return joined(
        element("h3", f"Where: {judgements.short(worst)}, by slice"),
        element(
            "table",
            element("caption", "Slices", class_="unseen"),
            element("thead", head),
            element("tbody", rows),
            class_="cards slices",
        ),
    )


def _slice(ln_e: float, thresholds: Mapping[State, float]) -> Html:
    drawn = plots.evidence(ln_e, list(thresholds.values()), f"Evidence {figures.evidence(ln_e)}")
    return joined(drawn, element("small", f"E {figures.evidence(ln_e)}", aria_hidden="true"))


def by_evidence(judged: VerdictsAnswer | None, goal: str | None, tag: str, values: Sequence[str]) -> list[str]:
    """The values of a tag, those with the most evidence of an alarm about the goal, or the split, first."""
    about = next((check for check in judgements.notable(judged) if check.point in (goal, None) and check.slices), None)
    ln_e = {of.place[tag]: of.ln_e for of in about.slices if list(of.place) == [tag]} if about else {}
    return sorted(values, key=lambda value: -ln_e.get(value, -float("inf")))


def marks(judged: VerdictsAnswer | None, point: str | None) -> list[Mark]:
    """The moments at which alarms began: the worst of all, and those about a point; None: about the visits."""
    found = judgements.notable(judged)
    about = [check for i, check in enumerate(found) if i == 0 or check.point == point]
    by_time: dict[datetime, Mark] = {}
    for check in about:
        if check.since is not None:
            by_time.setdefault(check.since, Mark(check.since, judgements.short(check)))
    return list(by_time.values())[:MARKS_MAX]
