"""Evidence from counts by cell, mostly by variation, against planned weights. Pure.

Source: Lindon and Malek, Anytime-Valid Inference for Multinomial Count Data, NeurIPS 2022, arXiv 2011.03567. The
counts are n, their sum N, the weights w, and theta is the null hypothesis: the probabilities of the cells.

    ln M(n)     = ln mean over k of { lnG(k) - lnG(k + N) + sum of [lnG(k w_i + n_i) - lnG(k w_i)] }   G: gamma function
    ln E(theta) = ln M(n) - sum of n_i ln theta_i

M is the probability of the counts when theta is drawn from a mixture of Dirichlet distributions around the weights.
Guarantee: if each thing that is counted falls into cell i with probability theta_i, whatever came before, then the
probability that E(theta) ever reaches 1 / alpha is at most alpha, however often it is looked at. E depends on
cumulative counts only: the order of minutes does not matter, and a correction that restores the counts restores E.

The terms of the definition are of the size of N ln N and nearly cancel out. So they are summed in another order here.
With h(x) = x ln x - x + ln(2 pi) / 2 - lnG(x), the error of Stirling's formula, a_i = k w_i + n_i and A = k + N:

    ln M_k(n) - sum of n_i ln w_i = sum of [a_i ln(a_i / (A w_i)) - (a_i - A w_i)]
                                    + h(A) - sum of h(a_i) - h(k) + sum of h(k w_i)

Each term of the first sum is at least 0, and small where the counts are as planned: no digits are lost in it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

STRENGTHS = (10.0, 100.0, 1_000.0, 10_000.0)
"""The k of the mixture, of equal shares: the prior is as sure of the weights as if k things had been counted.

A small k sees large effects soon, a large one small effects.
"""
_SERIES_FROM = 16.0
"""From here on four terms of Stirling's series are exact to 1e-14."""
_HALF_LN_TWO_PI = 0.9189385332046727


class Prior(NamedTuple):
    """A Dirichlet distribution around the weights, with what its evidence needs of it alone."""

    strength: float
    pseudo_counts: tuple[float, ...]
    constant: float
    """h(strength) minus the sum of h over the pseudo-counts."""


class Mixture(NamedTuple):
    """The planned weights of the cells, all above 0 and of sum 1, and the priors around them."""

    weights: tuple[float, ...]
    priors: tuple[Prior, ...]


def mixture(weights: Sequence[float], strengths: Sequence[float] = STRENGTHS) -> Mixture:
    """The priors around weights above 0, of any sum."""
    assert min(weights) > 0, weights
    whole = math.fsum(weights)
    shares = tuple(weight / whole for weight in weights)
    return Mixture(shares, tuple(_prior(shares, strength) for strength in strengths))


def _prior(shares: tuple[float, ...], strength: float) -> Prior:
    pseudo_counts = tuple(strength * share for share in shares)
    return Prior(strength, pseudo_counts, _stirling_error(strength) - math.fsum(map(_stirling_error, pseudo_counts)))


def evidence(
    counts: Sequence[float],
    weights: Sequence[float],
    null: Sequence[float] | None = None,
    strengths: Sequence[float] = STRENGTHS,
) -> float:
    """ln E against the weights, or against other probabilities `null`, with the prior at the weights all the same.

    Infinite if there is a count in a cell of weight 0, or of probability 0. Counts below 0, which a store can hold for
    a moment only, count as 0; they need not be whole, since counts are divided by the design effect.

    >>> round(evidence([60, 40], [0.5, 0.5], strengths=[100]), 4)
    0.6589
    """
    pairs = [(max(0.0, count), i) for i, count in enumerate(counts)]
    if any(count for count, i in pairs if weights[i] == 0 or (null is not None and null[i] == 0)):
        return math.inf
    planned = [(count, i) for count, i in pairs if weights[i] > 0]
    own = [count for count, _ in planned]
    around = mixture([weights[i] for _, i in planned], strengths)
    against_weights = ln_evidence(own, around)
    if null is None:
        return against_weights
    whole = math.fsum(null)
    shares = [null[i] / whole for _, i in planned]
    return against_weights + divergence(own, shares) - divergence(own, around.weights)


def ln_evidence(counts: Sequence[float], around: Mixture) -> float:
    """ln E against the weights of the mixture, of counts that are not below 0."""
    total = sum(counts)
    if not total:
        return 0.0
    if len(counts) == 2:
        return _ln_evidence_of_two(counts[0], counts[1], around)
    log, log1p = math.log, math.log1p
    cells = [(count, count - total * weight, weight) for count, weight in zip(counts, around.weights, strict=True)]
    values = []
    for strength, pseudo_counts, constant in around.priors:
        size = strength + total
        value = _stirling_error(size) - constant
        for (count, beside, weight), pseudo_count in zip(cells, pseudo_counts, strict=True):
            own = count + pseudo_count
            value += own * log1p(beside / (size * weight)) - beside
            if own < _SERIES_FROM:
                value -= _stirling_error(own)
            else:
                # as _stirling_error: this runs a million times a minute, and a call costs as much as the series
                inverse = 1 / own
                square = inverse * inverse
                value -= 0.5 * log(own) - inverse * (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square / 1680)))
        values.append(value)
    largest = max(values)
    return largest + log(sum([math.exp(value - largest) for value in values]) / len(values))


def _ln_evidence_of_two(first: float, second: float, around: Mixture) -> float:
    """ln E of two cells: the same sums with fewer steps. This runs a million times a minute."""
    total = first + second
    (weight, other_weight), log, log1p, values = around.weights, math.log, math.log1p, []
    beside, other_beside = first - total * weight, second - total * other_weight
    for strength, (pseudo_count, other_pseudo_count), constant in around.priors:
        size, own, other = strength + total, first + pseudo_count, second + other_pseudo_count
        value = own * log1p(beside / (size * weight)) + other * log1p(other_beside / (size * other_weight)) - constant
        if own < _SERIES_FROM or other < _SERIES_FROM:
            value += _stirling_error(size) - _stirling_error(own) - _stirling_error(other)
        else:
            # the three errors as one logarithm and three series; the size is no smaller than a cell
            a, b, c = 1 / own, 1 / other, 1 / size
            aa, bb, cc = a * a, b * b, c * c
            value += (
                0.5 * log(size * a * b)
                + a * (1 / 12 - aa * (1 / 360 - aa * (1 / 1260 - aa / 1680)))
                + b * (1 / 12 - bb * (1 / 360 - bb * (1 / 1260 - bb / 1680)))
                - c * (1 / 12 - cc * (1 / 360 - cc * (1 / 1260 - cc / 1680)))
            )
        values.append(value - beside - other_beside)
    largest = max(values)
    return largest + log(sum([math.exp(value - largest) for value in values]) / len(values))


def divergence(counts: Sequence[float], shares: Sequence[float]) -> float:
    """The sum of n_i ln(n_i / (N theta_i)): by how much the estimate is likelier than the shares, as a logarithm.

    At least 0; infinite if there is a count where the share is 0.
    """
    total = sum(counts)
    value = 0.0
    for count, share in zip(counts, shares, strict=True):
        expected = total * share
        beside = count - expected
        if not count:
            value -= beside
        elif not expected:
            return math.inf
        else:
            value += count * math.log1p(beside / expected) - beside
    return value


def p_value(ln_e: float) -> float:
    """min(1, 1 / E). Of the largest E so far it is the anytime-valid p-value: P(it is ever below alpha) <= alpha."""
    return 1.0 if ln_e <= 0 else math.exp(-ln_e)


def ln_sum(values: Sequence[float]) -> float:
    """The logarithm of a sum from the logarithms of its terms; minus infinity of none."""
    largest = max(values, default=-math.inf)
    if math.isinf(largest):
        return largest
    return largest + math.log(math.fsum(math.exp(value - largest) for value in values))


def _stirling_error(x: float) -> float:
    """h(x) = x ln x - x + ln(2 pi) / 2 - lnG(x), for x above 0: about half of ln x."""
    if x < _SERIES_FROM:
        return x * math.log(x) - x + _HALF_LN_TWO_PI - math.lgamma(x)
    inverse = 1 / x
    square = inverse * inverse
    series = inverse * (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square / 1680)))
    return 0.5 * math.log(x) - series
