"""Guardrails on means: evidence of harm to a value per qualified visit, by asymptotic confidence sequences. Pure.

Of a point with a value the store has, by variation, S (the sum over visits of what they summed up to), Q (that of its
square) and n (the qualified visits). Harm by more than the share m is asked of a contrast, which is linear in both
means, so it needs no delta method, nor a mean of the control that is far from 0:

    less is harm:   d = m_v - m_c + m |m_c|     null: d >= 0
    more is harm:   d = m_v - m_c - m |m_c|     null: d <= 0
    SE^2 = SE_v^2 + (1 -+ m)^2 SE_c^2           of variances over n: its own, or that of all visits of both if larger

The variance of all visits is that of each if nothing is wrong. With its own alone a variation of a tenth of the visits
alarms four times as often as promised: while it has few orders by chance, it seems to vary little too.

Evidence is that of `sequences` on the side that is doubted, with rho at ALPHA. It begins anew with each hour, by the
plan of `restarts`, and merges like all other evidence. Of restarts only those on the hour count, from MATURE_MS on:
what visits of before a restart still add is no part of n, which the standard error leaves out; after an hour it is
small. Guarantee: that of `sequences`, asymptotic. With fewer than UNITS_FLOOR visits in one of the two variations, or
where rounding hides how values vary, E is 1.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from monitor.verdicts import sequences
from monitor.verdicts.restarts import HOUR_MS, Plan, PlanEvidence, with_restarts
from monitor.verdicts.sequences import UNITS_FLOOR, Estimate
from monitor.verdicts.shares import Interval

ALPHA = 0.01
"""The level at which the sequences are tightest at 5,000 visits."""
RHO = sequences.rho(2 * ALPHA)
MATURE_MS = HOUR_MS
"""The age from which on a restart counts."""


class Valued(NamedTuple):
    """The value of a point: harm is a decrease by more than the share `smallest`, or an increase where `is_down`.

    `scale`: the units of S in one of the value's.
    """

    point: str
    is_down: bool
    smallest: float
    scale: float


class Pair(NamedTuple):
    """Two of so many variations: places of the control and of the one that is compared with it."""

    control: int
    variation: int
    of: int


def matured(of: Plan, now_ms: int) -> Plan:
    """A plan's start and the restarts that count; the capital of the others is lost."""
    start, *others = of.restarts
    counting = [at for at in others if at.start_ms % HOUR_MS == 0 and now_ms - at.start_ms >= MATURE_MS]
    return of._replace(restarts=(start, *counting))


def guardrail(
    plan: Plan, totals: Sequence[float], before: Mapping[int, Sequence[float]], pair: Pair, value: Valued
) -> PlanEvidence:
    """Evidence of harm to the mean of a variation, by a plan that has `matured`.

    `totals` are S of all variations, then Q, then n, in whole numbers; `before` those up to each restart.
    """

    def of_harm(since: Sequence[float]) -> float:
        contrast = _contrast(since, pair, value)
        if contrast is None:
            return 0.0
        doubted = sequences.ln_evidence_above if value.is_down else sequences.ln_evidence_below
        return doubted(contrast, 0.0, RHO)

    return with_restarts(plan, totals, before, of_harm, _signed_difference)


def lift(totals: Sequence[float], pair: Pair, scale: float, alpha: float) -> Interval | None:
    """ln of how many times the control's mean that of the variation is, with its confidence sequence.

    None where either has no estimate, or the control's is too near to 0. A mean of another sign is minus infinity.
    """
    own, control = _mean(totals, [pair.variation], pair.of, scale), _mean(totals, [pair.control], pair.of, scale)
    if own is None or control is None or (of_lift := sequences.lift(own, control)) is None:
        return None
    low, high = sequences.band(of_lift, alpha, sequences.rho(alpha))
    return Interval(*(math.log1p(end) if end > -1 else -math.inf for end in (of_lift.value, low, high)))


def is_estimated(totals: Sequence[float], pair: Pair) -> bool:
    """True if there are values, and both means have a standard error."""
    has_values = any(totals[pair.of + i] for i in (pair.control, pair.variation))
    return has_values and all(_mean(totals, [i], pair.of, 1) is not None for i in (pair.control, pair.variation))


def are_enough(totals: Sequence[float], pair: Pair) -> bool:
    """True if both variations have visits enough for an estimate."""
    return min(totals[2 * pair.of + i] for i in (pair.control, pair.variation)) >= UNITS_FLOOR


def _contrast(totals: Sequence[float], pair: Pair, value: Valued) -> Estimate | None:
    places = pair.variation, pair.control
    own, control = (_mean(totals, [place], pair.of, value.scale) for place in places)
    both = _mean(totals, places, pair.of, value.scale)
    if own is None or control is None or both is None:
        return None
    error, control_error = (
        max(of.standard_error, both.standard_error * math.sqrt(both.units / of.units)) for of in (own, control)
    )
    tolerated = math.copysign(value.smallest, control.value) * (1 if value.is_down else -1)
    factor = 1 + tolerated
    return Estimate(
        own.value - factor * control.value,
        math.hypot(error, factor * control_error),
        both.units,
    )


def _signed_difference(total: float, earlier: float) -> float:
    """Sums fall where values are below 0."""
    return total - earlier


def _mean(totals: Sequence[float], places: Sequence[int], of: int, scale: float) -> Estimate | None:
    """The mean over the visits of some variations."""
    summed, squares, visits = (sum(round(totals[part * of + place]) for place in places) for part in range(3))
    return sequences.mean(summed, squares, visits, scale)
