"""The beta and the gamma distribution, and their quantiles. Pure.

SciPy would be a dependency of 100 MB for these. The continued fraction and the series are those of Press, Teukolsky,
Vetterling and Flannery, Numerical Recipes, third edition, sections 6.2 and 6.4.
"""

import math
from collections.abc import Callable

_TERMS = 100_000
"""Of a series or a continued fraction; some sqrt(a) are needed, so this is enough up to a of 10^8."""
_PRECISION = 1e-15
_TINY = 1e-300
_HALVINGS = 200
"""Of an interval; a double has no more digits long before."""


def beta_below(x: float, a: float, b: float) -> float:
    """The probability that a beta variable is at most x: the regularized incomplete beta function I_x(a, b)."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _beta_fraction(x, a, b) / a
    return 1 - front * _beta_fraction(1 - x, b, a) / b


def _beta_fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of I_x(a, b), by Lentz's method."""
    c, d = 1.0, 1 / _not_0(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _not_0(1 + term * d)
            c = _not_0(1 + term / c)
            value *= c * d
        if abs(c * d - 1) < _PRECISION:
            break
    return value


def gamma_below(x: float, a: float) -> float:
    """The probability that a gamma variable of shape a and scale 1 is at most x: P(a, x)."""
    if x <= 0:
        return 0.0
    front = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        term = value = 1 / a
        for n in range(1, _TERMS):
            term *= x / (a + n)
            value += term
            if term < value * _PRECISION:
                break
        return front * value
    b = x + 1 - a
    c, d = 1 / _TINY, 1 / b
    value = d
    for n in range(1, _TERMS):
        b += 2
        term = -n * (n - a)
        d = 1 / _not_0(term * d + b)
        c = _not_0(b + term / c)
        value *= c * d
        if abs(c * d - 1) < _PRECISION:
            break
    return 1 - front * value


def beta_quantile(p: float, a: float, b: float) -> float:
    """The x of which `beta_below` is p."""
    return _quantile(lambda x: beta_below(x, a, b), p, 0.0, 1.0)


def chi_squared_quantile(p: float, freedom: float) -> float:
    """The x below which a chi-squared variable is with probability p."""
    high = 2 * freedom + 100
    while gamma_below(high / 2, freedom / 2) < p:
        high *= 2
    return _quantile(lambda x: gamma_below(x / 2, freedom / 2), p, 0.0, high)


def _quantile(below: Callable[[float], float], p: float, low: float, high: float) -> float:
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        if below(middle) < p:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _not_0(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
