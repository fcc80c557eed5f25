"""How much more or less often than the control variations reach the goal, from the counts of an answer. Pure."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from monitor.serve.verdict_models import VerdictsAnswer
from monitor.verdicts.judge import Kind
from monitor.verdicts.shares import ratio_of_two

ALPHA = 0.05
"""1 less the confidence of all intervals of an experiment together."""


class Lift(NamedTuple):
    """The relative difference of a variation from the control, -0.2 for a fifth less, with its ends; None: no bound."""

    variation: str
    estimate: float | None
    low: float | None
    high: float | None


def lifts(answer: VerdictsAnswer, goal: str, control: str) -> Sequence[Lift]:
    """Those of all variations with a weight, in unique conversions of the goal per assigned visit, over the phase.

    Each has the exact confidence sequence of `verdicts.shares`, valid at every look; of several variations they
    hold together, with ALPHA divided by their number (Bonferroni). Counts are divided by the design effect, as those
    of verdicts are. Empty without a guardrail on the goal.
    """
    guardrail = next((check for check in answer.checks if check.kind is Kind.GUARDRAIL and check.point == goal), None)
    if answer.phase is None or guardrail is None:
        return []
    names = [name for name in guardrail.counts if answer.phase.weights.get(name, 0) > 0]
    others = [name for name in names if name != control]
    if control not in names or not others:
        return []
    counts = [guardrail.counts[name] / answer.design_effect for name in names]
    weights = [answer.phase.weights[name] for name in names]
    found = []
    for name in others:
        ratio = ratio_of_two(counts, weights, names.index(name), names.index(control), ALPHA / len(others))
        estimate, low, high = (None if math.isinf(end) and end > 0 else math.expm1(end) for end in ratio)
        found.append(Lift(name, estimate if counts[names.index(control)] else None, low, high))
    return found


def clearest(of: Sequence[Lift]) -> Lift | None:
    """The one whose interval says the most about the side of 0 on which it is; None if there is none."""
    return max(of, key=_clearness, default=None)


def _clearness(lift: Lift) -> float:
    """The distance from 0 in widths of the interval, as logarithms."""
    if lift.estimate is None or lift.low is None or lift.high is None or lift.low <= -1:
        return -1.0
    low, high = math.log1p(lift.low), math.log1p(lift.high)
    return abs(math.log1p(lift.estimate)) / (high - low) if lift.estimate > -1 and high > low else 0.0
