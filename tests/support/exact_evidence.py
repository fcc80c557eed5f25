"""Evidence by other ways than the product's: as a product of fractions, and by gamma functions of 50 digits."""

import math
from collections.abc import Callable, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction

STRENGTHS = (10, 100, 1_000, 10_000)
BERNOULLI = ((1, 6), (-1, 30), (1, 42), (-1, 30), (5, 66), (-691, 2730), (7, 6), (-3617, 510), (43867, 798))
"""B_2, B_4, ... of Stirling's series, as fractions."""
TWO_PI = Decimal("6.28318530717958647692528676655900576839433879875021164194988918")


def by_product(
    counts: Sequence[int], weights: Sequence[Fraction], null: Sequence[Fraction], strengths: Sequence[int] = STRENGTHS
) -> Fraction:
    """E, thing by thing: the probability of each, as predicted from those before, over that of the null hypothesis."""
    total = Fraction(0)
    for strength in strengths:
        value, seen = Fraction(1), 0
        for count, weight, share in zip(counts, weights, null, strict=True):
            for before in range(count):
                value *= (strength * weight + before) / (strength + seen) / share
                seen += 1
        total += value
    return total / len(strengths)


def by_gamma(counts: Sequence[int], weights: Sequence[int], strengths: Sequence[int] = STRENGTHS) -> float:
    """ln E against the weights by its definition, with 50 digits."""
    with localcontext() as context:
        context.prec, context.Emax, context.Emin = 50, 10**12, -(10**12)
        shares = [Decimal(weight) / sum(weights) for weight in weights]
        likelihood = sum((count * share.ln() for count, share in zip(counts, shares, strict=True)), Decimal())
        terms = []
        for strength in map(Decimal, strengths):
            term = ln_gamma(strength) - ln_gamma(strength + sum(counts)) - likelihood
            for count, share in zip(counts, shares, strict=True):
                term += ln_gamma(strength * share + count) - ln_gamma(strength * share)
            terms.append(term.exp())
        return float((sum(terms, Decimal()) / len(terms)).ln())


def ln_gamma(x: Decimal) -> Decimal:
    """The logarithm of the gamma function, to some 30 digits: Stirling's series from 40 on, and x G(x) = G(x + 1)."""
    below = Decimal(1)
    while x < 40:
        below *= x
        x += 1
    value = (x - Decimal("0.5")) * x.ln() - x + TWO_PI.ln() / 2 - below.ln()
    for i, (numerator, denominator) in enumerate(BERNOULLI, start=1):
        value += Decimal(numerator) / denominator / (2 * i * (2 * i - 1)) / x ** (2 * i - 1)
    return value


def mean_over_samples(size: int, share: float, ln_evidence: Callable[[tuple[int, int]], float]) -> float:
    """The mean of E over all samples of a size from two cells, the second of this share."""
    return math.fsum(
        math.comb(size, second)
        * share**second
        * (1 - share) ** (size - second)
        * math.exp(ln_evidence((size - second, second)))
        for second in range(size + 1)
    )


def ever_reached(size: int, share: float, ln_e: float, ln_evidence: Callable[[tuple[int, int]], float]) -> float:
    """The probability that evidence is ever so high, at a look after each of so many things counted in two cells."""
    quiet, alarmed = {0: 1.0}, 0.0
    for seen in range(1, size + 1):
        following: dict[int, float] = {}
        for second, probability in quiet.items():
            following[second] = following.get(second, 0.0) + probability * (1 - share)
            following[second + 1] = following.get(second + 1, 0.0) + probability * share
        loud = [second for second in following if ln_evidence((seen - second, second)) >= ln_e]
        alarmed += math.fsum(following.pop(second) for second in loud)
        quiet = following
    return alarmed
