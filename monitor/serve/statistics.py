"""Rates, means, differences and the test of the split, with their standard errors. Pure.

The chi-square distribution is a finite sum of ten lines here: SciPy would be a dependency of 100 MB for it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from monitor.serve.models import Difference, Estimate, Split, SplitVerdict

Z_95 = 1.959963984540054
"""The two-sided 95 % quantile of the normal distribution."""
MISMATCH_P = 0.001
"""A p-value below this is a sample ratio mismatch: it is strict, since experiments are checked again and again."""
ADDED_MAX = 2_000_000
"""Data points of a metric that one answer sums; `answers.READ_VALUES_MAX` bounds them."""
INEXACT_SHARE = 0.01
"""The share of a variance that rounding may change; beyond it there is no interval."""
INEXACT = "the values are so large and so near to each other that rounding hides how they vary: no interval"
EXPECTED_VISITS_MIN = 5
"""The expected visits in each variation that the chi-square test needs."""
CONVERSIONS_MIN = 5
"""The visits with a point, and those without it, that each variation needs for the interval of a difference."""


class Sample(NamedTuple):
    """The visits with a point, and all visits in scope."""

    visits: int
    of: int


def rate(visits: int, of: int) -> Estimate | None:
    """A share of visits, with Wilson's interval; None without visits.

    Visits that came into scope before the range can make a rate above 1; such a rate has no interval.
    """
    if of <= 0:
        return None
    p = visits / of
    if not 0 <= p <= 1:
        return Estimate(value=p)
    z2 = Z_95**2
    middle = (p + z2 / (2 * of)) / (1 + z2 / of)
    half = Z_95 / (1 + z2 / of) * math.sqrt(p * (1 - p) / of + z2 / (4 * of * of))
    # both are exactly 0 and 1 where all visits are alike, which rounding would miss
    low, high = max(0.0, middle - half) if visits else 0.0, min(1.0, middle + half) if visits < of else 1.0
    return Estimate(value=p, standard_error=math.sqrt(p * (1 - p) / of), low=low, high=high)


def mean(total: int, squares: int, visits: int, scale: float) -> Estimate | None:
    """The mean of a value per visit, from the sum over visits of its sum and of that squared, in scaled units.

    The standard error is that of the mean of `visits` independent visits, with the sample variance
    (squares - total^2 / visits) / (visits - 1); None below two visits, where a part of a visit is outside of the
    range and makes that negative, and, with a note, where rounding may change it by more than INEXACT_SHARE.
    """
    if visits <= 0:
        return None
    value = total / visits / scale
    # in integers: both terms are large and near to each other
    spread = squares * visits - total * total
    if visits < 2:
        return Estimate(value=value)
    # of squares * visits: an error of the total counts twice in its square
    error_max = visits * _rounding_max(squares) + 2 * abs(total) * _rounding_max(total)
    if error_max > max(0, spread) * INEXACT_SHARE:
        return Estimate(value=value, note=INEXACT)
    if spread < 0:
        return Estimate(value=value)
    error = math.sqrt(spread / visits / (visits - 1) / visits) / abs(scale)
    return Estimate(value=value, standard_error=error, low=value - Z_95 * error, high=value + Z_95 * error)


def _rounding_max(summed: int) -> float:
    """The most by which a sum of doubles is wrong: each data point and each addition rounds by 2^-53 at most.

    Up to 2^53 whole numbers are exact. An answer sums at most ADDED_MAX data points. Where values of both signs cancel
    out, single roundings are larger than the sum shows: refunds of most that was paid.
    """
    return 0.0 if abs(summed) <= 2**53 else abs(summed) * (ADDED_MAX + 1) * 2.0**-53


def rate_difference(variation: Sample, control: Sample) -> Difference | None:
    """The difference of two rates, with Newcombe's hybrid score interval, which is inside of [-1, 1] and never empty.

    There is an interval from CONVERSIONS_MIN visits with and as many without the point in each of the two; None where
    one of them has no visits.
    """
    own, of_control = rate(*variation), rate(*control)
    if own is None or of_control is None:
        return None
    of_rates = _difference(own, of_control)
    if not (_are_enough(variation) and _are_enough(control)):
        return of_rates
    low_1, high_1, low_2, high_2 = (bound or 0.0 for bound in (own.low, own.high, of_control.low, of_control.high))
    return _with_interval(
        of_rates,
        max(-1.0, of_rates.absolute - math.hypot(own.value - low_1, high_2 - of_control.value)),
        min(1.0, of_rates.absolute + math.hypot(high_1 - own.value, of_control.value - low_2)),
    )


def mean_difference(
    variation: Estimate | None, control: Estimate | None, visits: int, control_visits: int
) -> Difference | None:
    """The difference of two means by the normal approximation; None where one of them is None.

    `visits` are those with the point: there is an interval from CONVERSIONS_MIN of them in each of the two.
    """
    if variation is None or control is None:
        return None
    of_means = _difference(variation, control)
    error = of_means.standard_error
    if not error or min(visits, control_visits) < CONVERSIONS_MIN:
        return of_means
    return _with_interval(of_means, of_means.absolute - Z_95 * error, of_means.absolute + Z_95 * error)


def _are_enough(sample: Sample) -> bool:
    return sample.visits >= CONVERSIONS_MIN and sample.of - sample.visits >= CONVERSIONS_MIN


def _difference(variation: Estimate, control: Estimate) -> Difference:
    """The difference without an interval."""
    absolute = variation.value - control.value
    errors = variation.standard_error, control.standard_error
    return Difference(
        absolute=absolute,
        relative=absolute / control.value if control.value else None,
        standard_error=None if errors[0] is None or errors[1] is None else math.hypot(errors[0], errors[1]),
        low=None,
        high=None,
        is_significant=False,
    )


def _with_interval(difference: Difference, low: float, high: float) -> Difference:
    return difference.model_copy(update={"low": low, "high": high, "is_significant": not low <= 0 <= high})


def split(assigned: Sequence[int], weights: Sequence[float]) -> Split:
    """Pearson's chi-square test of the assigned visits against the weights.

    A visit in a variation of weight 0 is a mismatch without a test. Totals below 0, which a store can hold for a
    moment only, count as 0.
    """
    counts = [max(0, count) for count in assigned]
    visits, weight = sum(counts), sum(weights)
    pairs = [(count, visits * w / weight) for count, w in zip(counts, weights, strict=True) if w > 0]
    freedom = len(pairs) - 1
    if any(count for count, w in zip(counts, weights, strict=True) if w == 0):
        return Split(verdict=SplitVerdict.MISMATCH, chi_square=None, degrees_of_freedom=freedom, p_value=None)
    if freedom == 0 or min(expected for _, expected in pairs) < EXPECTED_VISITS_MIN:
        verdict = SplitVerdict.AS_PLANNED if freedom == 0 and visits else SplitVerdict.TOO_FEW
        return Split(verdict=verdict, chi_square=None, degrees_of_freedom=freedom, p_value=None)
    chi_square = sum((count - expected) ** 2 / expected for count, expected in pairs)
    p_value = chi_square_above(chi_square, freedom)
    verdict = SplitVerdict.MISMATCH if p_value < MISMATCH_P else SplitVerdict.AS_PLANNED
    return Split(verdict=verdict, chi_square=chi_square, degrees_of_freedom=freedom, p_value=p_value)


def chi_square_above(x: float, freedom: int) -> float:
    """The probability that a chi-square variable is above x: the finite sums of Abramowitz and Stegun, 26.4.4 and 5."""
    half = x / 2
    if freedom % 2 == 0:
        term = total = math.exp(-half)
        for k in range(1, freedom // 2):
            term *= half / k
            total += term
        return min(1.0, total)
    total = math.erfc(math.sqrt(half))
    term = math.exp(-half) * math.sqrt(half) * 2 / math.sqrt(math.pi)
    for k in range(1, (freedom - 1) // 2 + 1):
        total += term
        term *= half / (k + 0.5)
    return min(1.0, total)
