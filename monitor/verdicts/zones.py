"""Practical significance: evidence that an effect lies outside of a zone that is tolerated. Pure.

An effect is delta, the log rate ratio of the second of two cells to the first, beside their weights (`shares`):

    E(zone) = min over delta in the zone of E(theta(delta)),    logit theta(delta) = logit w + delta

The least is at the estimate if that lies in the zone, and else at the end of the zone that is nearer to it. Guarantee:
E(zone) is nowhere above E(theta) of the theta that is true, so if the true effect lies in the zone, the probability
that E(zone) ever reaches 1 / alpha is at most alpha. "At least 10 % fewer" is then right whatever the sample.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from monitor.verdicts.multinomial import STRENGTHS, Mixture, divergence, ln_evidence, mixture


class Zone(NamedTuple):
    """The effects from low to high that are tolerated, as log rate ratios."""

    low: float
    high: float


class Null(NamedTuple):
    """A null hypothesis of two cells: the shares at the ends of a zone, and the priors around the weights."""

    around: Mixture
    low: tuple[float, float]
    high: tuple[float, float]
    """The shares of both cells at the low and at the high end."""


def fewer(smallest: float = 0.0) -> Zone:
    """What is tolerated where a decrease by the share `smallest` or more is harm: [ln(1 - smallest), infinity)."""
    assert 0 <= smallest < 1, smallest
    return Zone(math.log1p(-smallest), math.inf)


def more(smallest: float = 0.0) -> Zone:
    """What is tolerated where an increase by the share `smallest` or more is harm: (-infinity, ln(1 + smallest)]."""
    assert smallest >= 0, smallest
    return Zone(-math.inf, math.log1p(smallest))


def tolerance(either_way: float) -> Zone:
    """What is tolerated of a split: [-t, t]."""
    assert either_way >= 0, either_way
    return Zone(-either_way, either_way)


def null(weights: Sequence[float], zone: Zone, strengths: Sequence[float] = STRENGTHS) -> Null:
    """The hypothesis that the effect of the second of two cells of weight above 0 lies in the zone."""
    assert len(weights) == 2, weights
    around = mixture(weights, strengths)
    return Null(around, _shares(around.weights, zone.low), _shares(around.weights, zone.high))


def ln_evidence_against(counts: Sequence[float], hypothesis: Null) -> float:
    """ln E(zone) of two counts that are not below 0; at most 0 while the estimate lies in the zone."""
    against_weights = ln_evidence(counts, hypothesis.around) - divergence(counts, hypothesis.around.weights)
    first, second = counts
    if second * hypothesis.low[0] < first * hypothesis.low[1]:
        return against_weights + divergence(counts, hypothesis.low)
    if second * hypothesis.high[0] > first * hypothesis.high[1]:
        return against_weights + divergence(counts, hypothesis.high)
    return against_weights


def _shares(weights: tuple[float, ...], delta: float) -> tuple[float, float]:
    """The shares of both cells at an effect."""
    first, second = weights
    if delta > 0:
        first *= math.exp(-delta)
    else:
        second *= math.exp(delta)
    return first / (first + second), second / (first + second)
