"""Verdicts on the page: their order, colours and short words. Pure."""

from collections.abc import Sequence

from monitor.page.markup import Html, element
from monitor.serve.verdict_models import CheckAnswer, SliceAnswer, VerdictsAnswer
from monitor.verdicts.judge import WORST_FIRST, Kind, State
from monitor.verdicts.traffic import TrafficKind

ALARMING = (State.WARN, State.HOLD, State.STOP)
NOTABLE = (State.NOTE, *ALARMING)
"""The states in which a check asks for attention."""
WORDS = {State.TOO_EARLY: "too early", State.NO_DATA: "no data"}
"""The words for a state, if they are not its name."""
COLOURS = {State.STOP: "bad", State.HOLD: "bad", State.WARN: "warning", State.NOTE: "noted", State.HEALTHY: "good"}
"""The class of a state's label; the others have none."""


def rank(verdicts: VerdictsAnswer | None) -> int:
    """The place of an experiment in a list with the worst first; without verdicts that of one without data."""
    return WORST_FIRST.index(State.NO_DATA if verdicts is None else verdicts.state)


def notable(verdicts: VerdictsAnswer | None) -> Sequence[CheckAnswer]:
    """The checks that note, warn, hold or stop, the worst first."""
    return [check for check in verdicts.checks if check.state in NOTABLE] if verdicts is not None else []


def withheld(verdicts: VerdictsAnswer | None) -> int:
    """How many checks are withheld."""
    return sum(check.state is State.WITHHELD for check in verdicts.checks) if verdicts is not None else 0


def word(state: State) -> str:
    """The word for a state."""
    return WORDS.get(state, state.value)


def label(state: State) -> Html:
    """A state as a coloured label."""
    colour = COLOURS.get(state)
    return element("span", word(state), class_=f"tag state {colour}" if colour else "tag state")


def short(check: CheckAnswer) -> str:
    """A few words for what a check finds."""
    if check.kind is Kind.GUARDRAIL:
        is_fewer = check.effect is None or check.effect.estimate < 0
        return f"{'fewer' if is_fewer else 'more'} {check.point} in {check.variation}"
    if check.kind is Kind.MEAN:
        change = "worse" if check.effect is None else "lower" if check.effect.estimate < 0 else "higher"
        return f"{change} mean of {check.point} in {check.variation}"
    found: dict[Kind | TrafficKind, str] = {
        Kind.SPLIT_OF_ASSIGNED: "sample ratio mismatch",
        Kind.SPLIT_OF_QUALIFIED: "sample ratio mismatch",
        Kind.CROSSED: "many crossovers",
        Kind.LATENESS: f"tardy events in {check.variation}",
        TrafficKind.NO_TRAFFIC: "no traffic now",
        TrafficKind.TRAFFIC_DROPPED: "traffic dropped",
        TrafficKind.VARIATION_WITHOUT_VISITS: f"{check.variation}: no traffic",
    }
    return found.get(check.kind, name(check))


def name(check: CheckAnswer) -> str:
    """The name of a check for readers; the API's, where there is no better one."""
    names: dict[Kind | TrafficKind, str] = {
        Kind.SPLIT_OF_ASSIGNED: "split of the assigned visits",
        Kind.SPLIT_OF_QUALIFIED: "split of the qualified visits",
        Kind.GUARDRAIL: f"{check.point} in {check.variation}",
        Kind.MEAN: f"mean of {check.point} in {check.variation}",
        Kind.CROSSED: "crossovers",
        Kind.LATENESS: "tardy events",
        TrafficKind.NO_TRAFFIC: "traffic",
        TrafficKind.TRAFFIC_DROPPED: "drop of the traffic",
        TrafficKind.VARIATION_WITHOUT_VISITS: f"visits of {check.variation}",
    }
    return names.get(check.kind, check.check.replace("_", " "))


def has_evidence(check: CheckAnswer) -> bool:
    """True if the check is one of evidence; a rule has none, and no threshold."""
    return check.note_from > 0


def place(of: CheckAnswer | SliceAnswer) -> str:
    """The slice that carries an alarm, or any: `device mobile`; empty: everywhere."""
    return " and ".join(f"{tag} {value}" for tag, value in of.place.items())
