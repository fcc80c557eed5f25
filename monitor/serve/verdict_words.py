"""A verdict in words. Pure: never "significant", and never without how often chance alone would do so."""

import math

from monitor.verdicts.families import Thresholds
from monitor.verdicts.judge import ALARMS, Kind, State, Verdict


def promise(state: State, limits: Thresholds) -> str:
    """How often chance alone would do so: each threshold is divided by the share, so it holds over all checks."""
    evidence = limits[ALARMS.index(state) - 1]
    return f"If nothing were wrong, at most 1 of {evidence:,.6g} experiments would ever show this."


def words(verdict: Verdict, control: str, limits: Thresholds) -> str:
    """What a check says, in a sentence or two."""
    if verdict.state not in ALARMS[1:]:
        return _quiet(verdict)
    where = " and ".join(f"{tag} {value}" for tag, value in verdict.place)
    place = f", with {where}" if where else ""
    said = _alarm(verdict, control)
    first = said[0].upper() if verdict.kind in (Kind.GUARDRAIL, Kind.MEAN) else said[0]
    return f"{first}{said[1:]}{place}. {promise(verdict.state, limits)}"


def _quiet(verdict: Verdict) -> str:
    about = {
        Kind.SPLIT_OF_ASSIGNED: "The split of the assigned visits",
        Kind.SPLIT_OF_QUALIFIED: "The split of the qualified visits",
        Kind.GUARDRAIL: f"{verdict.point} in {verdict.variation}",
        Kind.MEAN: f"The mean of {verdict.point} in {verdict.variation}",
        Kind.CROSSED: "The number of crossovers",
        Kind.LATENESS: "The share of tardy visits by variation",
    }[verdict.kind]
    return {
        State.HEALTHY: f"{about} is as expected.",
        State.TOO_EARLY: f"{about}: too few visits to say more than that nothing is wrong yet.",
        State.WITHHELD: f"{about}: withheld, since the split is wrong.",
        State.NO_DATA: f"{about}: {'no values, or too large ones' if verdict.kind is Kind.MEAN else 'no data'}.",
    }[verdict.state]


def _alarm(verdict: Verdict, control: str) -> str:
    match verdict.kind:
        case Kind.SPLIT_OF_ASSIGNED | Kind.SPLIT_OF_QUALIFIED:
            visits = "assigned" if verdict.kind is Kind.SPLIT_OF_ASSIGNED else "qualified"
            if verdict.effect is None:
                return f"{verdict.variation} gets {visits} visits, although its weight is 0"
            return f"{verdict.variation} gets {_change(verdict)} {visits} visits than planned"
        case Kind.GUARDRAIL:
            return f"{_change(verdict)} visits with {verdict.point} in {verdict.variation} than in {control}"
        case Kind.MEAN if verdict.effect is None:
            return f"a worse mean of {verdict.point} in {verdict.variation} than in {control}"
        case Kind.MEAN:
            change = _change(verdict, "lower", "higher")
            return f"{change} mean of {verdict.point} in {verdict.variation} than in {control}"
        case Kind.CROSSED:
            return "Too many visits are given another variation later"
        case Kind.LATENESS if verdict.effect is None:
            return f"{verdict.variation} has tardy visits, although its weight is 0"
        case Kind.LATENESS:
            return f"{verdict.variation} has {_change(verdict)} tardy visits than its weight implies"


def _change(verdict: Verdict, fewer: str = "fewer", more: str = "more") -> str:
    """By how much at least, as far as the confidence sequence says."""
    if verdict.effect is None:
        return "other"
    _, low, high = verdict.effect
    if high < 0:
        return f"at least {-math.expm1(high):.0%} {fewer}".replace("%", " %")
    if low > 0:
        return f"at least {math.expm1(low):.0%} {more}".replace("%", " %")
    return fewer if verdict.effect.estimate < 0 else more
