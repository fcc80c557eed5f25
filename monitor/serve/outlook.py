"""How long an experiment must still run until the smallest effect that matters would be seen. Pure."""

import math
from typing import NamedTuple

from monitor.serve.goal_lift import ALPHA
from monitor.serve.spans import DAY_MS, HOUR_MS
from monitor.serve.verdict_models import VerdictsAnswer
from monitor.verdicts.judge import Kind
from monitor.verdicts.multinomial import evidence

USUAL_EFFECT = 0.05
"""The effect where the configuration names none: a change by a twentieth."""
HORIZON_DAYS = 90
"""An effect that needs longer cannot be seen with this traffic."""
_HALVINGS = 40
TRAFFIC_MS = HOUR_MS
"""A shorter phase says too little of the traffic."""


class Outlook(NamedTuple):
    """For a loss of `effect` in the goal: the days until it would be seen; None: not within HORIZON_DAYS."""

    effect: float
    days: float | None


def outlook(answer: VerdictsAnswer, goal: str, control: str, smallest_effect: float | None) -> Outlook | None:
    """From the conversions of the phase so far, at the same pace; None: too early, or nobody guards the goal.

    An effect is seen when 0 is outside of the confidence sequence of the lift: ln E of the counts that are expected
    with it, in one variation beside the control, reaches ln 1 / alpha. Half of such effects are seen sooner.
    """
    guardrail = next((check for check in answer.checks if check.kind is Kind.GUARDRAIL and check.point == goal), None)
    if answer.phase is None or guardrail is None:
        return None
    effect = smallest_effect or USUAL_EFFECT
    weights = {name: of for name, of in answer.phase.weights.items() if of > 0}
    others = [name for name in weights if name != control]
    length_ms = (answer.phase.sealed_until - answer.phase.conversions_from).total_seconds() * 1_000
    counted = sum(guardrail.counts.get(name, 0) for name in weights) / answer.design_effect
    if control not in weights or not others or length_ms < TRAFFIC_MS or counted <= 0:
        return None
    of_two = weights[control] + min(weights[name] for name in others)
    per_day = counted / length_ms * DAY_MS * of_two / sum(weights.values())
    shares = weights[control] / of_two, 1 - weights[control] / of_two
    limit = math.log(len(others) / ALPHA)

    def is_seen(days: float) -> bool:
        expected = per_day * days * shares[0], per_day * days * shares[1] * (1 - effect)
        return evidence(expected, shares) >= limit

    passed = length_ms / DAY_MS
    if not is_seen(passed + HORIZON_DAYS):
        return Outlook(effect, None)
    low, high = 0.0, passed + HORIZON_DAYS
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if is_seen(middle) else (middle, high)
    return Outlook(effect, max(0.0, high - passed))
