"""Intervals that are valid at every look, in place of those for one look that was chosen beforehand. Pure.

They are the asymptotic confidence sequences of `verdicts.sequences`, which has the source, and the floors below which
there is none. The guarantee holds for visits since one start: not over ranges whose start moves with the present.
"""

from enum import StrEnum
from typing import NamedTuple

from monitor.serve.models import Difference, Estimate, PointResult
from monitor.verdicts import sequences

ALPHA = 0.05
"""1 less the confidence of an interval; of differences it is that of all variations of an experiment together."""


class Intervals(StrEnum):
    """The kinds of intervals."""

    ANYTIME = "anytime"
    """Valid however often one looks."""
    FIXED = "fixed"
    """Valid for one look at a moment that was chosen beforehand."""


class PointSums(NamedTuple):
    """What the store holds about one point of one variation; `sum` and `squares` in scaled units."""

    in_scope: int
    total: int
    visits: int
    sum: int
    squares: int


def of_point(
    result: PointResult, own: PointSums, control: PointSums | None, scale: float | None, compared: int
) -> PointResult:
    """The result with intervals that are valid at every look.

    `control`: None for the control itself; `scale`: of the point's value, None if it has none; `compared`: how many
    variations are compared with the control, by which ALPHA is divided for their differences (Bonferroni).
    """
    alpha = ALPHA / max(1, compared)
    rates = [None if sums is None else _rate(sums) for sums in (own, control)]
    means = [None if sums is None or scale is None else _mean(sums, scale) for sums in (own, control)]
    return result.model_copy(
        update={
            "rate": _within(_estimate(result.rate, rates[0]), 0.0, 1.0),
            "rate_difference": _difference(result.rate_difference, rates[0], rates[1], alpha, 1.0),
            "mean": _estimate(result.mean, means[0]),
            "mean_difference": _difference(result.mean_difference, means[0], means[1], alpha, None),
        }
    )


def _rate(sums: PointSums) -> sequences.Estimate | None:
    return sequences.rate(sums.visits, sums.in_scope)


def _mean(sums: PointSums, scale: float) -> sequences.Estimate | None:
    return sequences.mean(sums.sum, sums.squares, sums.in_scope, scale)


def _estimate(fixed: Estimate | None, estimate: sequences.Estimate | None) -> Estimate | None:
    if fixed is None or estimate is None:
        return None if fixed is None else fixed.model_copy(update={"low": None, "high": None})
    low, high = sequences.band(estimate, ALPHA, sequences.rho(ALPHA))
    return fixed.model_copy(update={"low": low, "high": high})


def _within(estimate: Estimate | None, least: float, most: float) -> Estimate | None:
    """An interval without what cannot be."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return estimate
    return estimate.model_copy(update={"low": max(least, estimate.low), "high": min(most, estimate.high)})


def _difference(
    fixed: Difference | None,
    own: sequences.Estimate | None,
    control: sequences.Estimate | None,
    alpha: float,
    most: float | None,
) -> Difference | None:
    """`most`: the largest difference that can be, if there is one."""
    if fixed is None:
        return None
    if own is None or control is None or not (own.standard_error or control.standard_error):
        return fixed.model_copy(update={"low": None, "high": None, "is_significant": False})
    low, high = sequences.band(sequences.difference(own, control), alpha, sequences.rho(alpha))
    if most is not None:
        low, high = max(-most, low), min(most, high)
    return fixed.model_copy(update={"low": low, "high": high, "is_significant": not low <= 0 <= high})
