"""Asymptotic confidence sequences of rates, means, differences and lift. Pure.

Source: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, Time-uniform central limit theory and asymptotic confidence
sequences, arXiv 2103.06476v7, equations 9, 155 and 161. With N units, an estimate and its standard error SE:

    rho^2      = (-2 ln alpha + ln(-2 ln alpha + 1)) / N*       N*: the number of units at which it is tightest
    half width = SE sqrt(N) sqrt(2 (N rho^2 + 1) / (N rho)^2 ln(sqrt(N rho^2 + 1) / alpha))
    E          = exp(rho^2 s / (2 (N rho^2 + 1))) / sqrt(N rho^2 + 1),    s = N (estimate - null)^2 / SE^2

    one-sided  : rho with 2 alpha, and ln(1 + sqrt(N rho^2 + 1) / (2 alpha)) in place of the logarithm;
                 E = 2 (exp(rho^2 s / (2 (N rho^2 + 1))) - 1) / sqrt(N rho^2 + 1) on the side that is doubted, else 0

Guarantee: as the number of units grows, the probability that the true value ever leaves the band is at most alpha. It
is no exact bound: it rests on the floors below, and on rho, which is fixed for a test and never follows the data.
Variance of a lift by the delta method: v_b / m_a^2 + v_a m_b^2 / m_a^4, v being squares of standard errors.
"""

import math
from typing import NamedTuple

TIGHTEST_AT_UNITS = 5_000
"""N*, fixed for all tests."""
CONVERSIONS_FLOOR = 5
"""The units with a conversion, and those without, from which a rate has a normal distribution well enough."""
UNITS_FLOOR = 100
"""The units from which a mean has."""
CONTROL_ERRORS_FLOOR = 5
"""The standard errors that the mean of the control is from 0, from which a lift has."""
INEXACT_SHARE = 0.01
"""The share of a variance that rounding may change; beyond it there is no estimate."""
POINTS_ADDED = 2_000_000
"""The doubles that a sum may be of: each addition rounds by 2^-53 of the sum at most."""


class Estimate(NamedTuple):
    """A value with its standard error, from so many units: visits of a variation, or of both that are compared."""

    value: float
    standard_error: float
    units: int


def rate(conversions: int, units: int) -> Estimate | None:
    """The share of units with a conversion; None below CONVERSIONS_FLOOR with it or without it."""
    if min(conversions, units - conversions) < CONVERSIONS_FLOOR:
        return None
    share = conversions / units
    return Estimate(share, math.sqrt(share * (1 - share) / units), units)


def mean(total: int, squares: int, units: int, scale: float = 1) -> Estimate | None:
    """The mean of a value per unit, from the sums over units of it and of its square, both in units of 1 / scale.

    The sample variance is (squares - total^2 / units) / (units - 1), subtracted as integers, which loses no digits.
    None below UNITS_FLOOR; where it would be negative, since a part of a unit is missing; and where sums beyond 2^53,
    which are doubles, hide more than INEXACT_SHARE of it.
    """
    if units < UNITS_FLOOR:
        return None
    spread = squares * units - total * total
    error = units * _rounding(squares) + 2 * abs(total) * _rounding(total)
    if spread < 0 or error > spread * INEXACT_SHARE:
        return None
    return Estimate(total / units / scale, math.sqrt(spread / units / (units - 1) / units) / abs(scale), units)


def _rounding(summed: int) -> float:
    """The most by which a sum is wrong; whole numbers up to 2^53 are exact."""
    return 0.0 if abs(summed) <= 2**53 else abs(summed) * (POINTS_ADDED + 1) * 2.0**-53


def difference(variation: Estimate, control: Estimate) -> Estimate:
    """The value of a variation minus that of the control: of independent units, so variances add up."""
    error = math.hypot(variation.standard_error, control.standard_error)
    return Estimate(variation.value - control.value, error, variation.units + control.units)


def lift(variation: Estimate, control: Estimate) -> Estimate | None:
    """The difference as a share of the control's absolute value.

    None where that is nearer to 0 than CONTROL_ERRORS_FLOOR of its standard errors: there only a difference holds.
    """
    size = abs(control.value)
    if not size or size < CONTROL_ERRORS_FLOOR * control.standard_error:
        return None
    error = math.hypot(variation.standard_error / size, control.standard_error * variation.value / size**2)
    return Estimate((variation.value - control.value) / size, error, variation.units + control.units)


def rho(alpha: float, tightest_at: int = TIGHTEST_AT_UNITS) -> float:
    """The parameter of a two-sided test, in 1 / sqrt(units), tightest for this alpha at so many units.

    Of a one-sided test it is rho(2 alpha), so alpha is below 1/2 there. A test keeps it, whatever alphas it is asked
    for: the guarantee holds for any rho that was fixed beforehand.
    """
    assert 0 < alpha < 1, alpha
    return math.sqrt((-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / tightest_at)


def band(estimate: Estimate, alpha: float, rho: float) -> tuple[float, float]:
    """The ends of the two-sided band.

    >>> low, high = band(Estimate(0.0, 1.0, 5_000), 0.05, rho(0.05))
    >>> round(high, 3)
    3.035
    """
    half = _half_width(estimate, rho, math.log(_growth(estimate, rho) / alpha))
    return estimate.value - half, estimate.value + half


def one_sided_half_width(estimate: Estimate, alpha: float, rho: float) -> float:
    """How far below the estimate the lower end of a one-sided band is, or above it the upper end of the other one."""
    return _half_width(estimate, rho, math.log1p(_growth(estimate, rho) / (2 * alpha)))


def _half_width(estimate: Estimate, rho: float, logarithm: float) -> float:
    """The distance from the null hypothesis at which the exponent of E has this value."""
    return estimate.standard_error / rho * _growth(estimate, rho) * math.sqrt(2 * logarithm / estimate.units)


def ln_evidence(estimate: Estimate, null: float, rho: float) -> float:
    """ln E against a value, either way. It is ln 1 / alpha at the ends of the band."""
    return _exponent(estimate, null, rho) - math.log(_growth(estimate, rho))


def ln_evidence_below(estimate: Estimate, null: float, rho: float) -> float:
    """ln E against all values from `null` up: that the true value is below it. Minus infinity if the estimate is not.

    It is ln 1 / alpha where the upper end of the one-sided band is `null`. So harm of a share m or more, where less is
    harm, is evidence about a lift below -m.
    """
    return _one_sided(estimate, null, rho) if estimate.value < null else -math.inf


def ln_evidence_above(estimate: Estimate, null: float, rho: float) -> float:
    """ln E against all values up to `null`: that the true value is above it. Minus infinity if the estimate is not."""
    return _one_sided(estimate, null, rho) if estimate.value > null else -math.inf


def _one_sided(estimate: Estimate, null: float, rho: float) -> float:
    exponent = _exponent(estimate, null, rho)
    if not exponent:
        return -math.inf
    # ln(e^x - 1) = x + ln(1 - e^-x), which does not overflow
    return math.log(2) + exponent + math.log(-math.expm1(-exponent)) - math.log(_growth(estimate, rho))


def _exponent(estimate: Estimate, null: float, rho: float) -> float:
    """The exponent of E; 0, no evidence, where all values are equal: such a standard error of 0 means little."""
    if not estimate.standard_error:
        return 0.0
    distance = (estimate.value - null) / estimate.standard_error
    return estimate.units * (rho * distance) ** 2 / (2 * (estimate.units * rho**2 + 1))


def _growth(estimate: Estimate, rho: float) -> float:
    """sqrt(N rho^2 + 1)."""
    return math.sqrt(estimate.units * rho**2 + 1)
