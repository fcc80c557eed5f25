"""Confidence sequences of the share of a cell, and of log rate ratios, from counts by cell. Pure.

Source: as in `multinomial`; the set is { theta : ln E(theta) <= ln 1 / alpha }. Seen for one cell, with the other
cells at their best, theta_j = (1 - theta_i) n_j / (N - n_i), it is an interval whose ends are two roots:

    n_i ln(n_i / (N theta_i)) + (N - n_i) ln((N - n_i) / (N (1 - theta_i))) = ln 1 / alpha - ln E(estimate)

Guarantee: the probability that an interval ever misses the true share, in any cell and at any look, is at most alpha.
A log rate ratio is delta = logit theta - logit w: ln of how many times more than planned fall into the cell, beside
the others. 0 is as planned; ln 0.9 is a tenth less.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from monitor.verdicts.multinomial import STRENGTHS, divergence, evidence

_LOGIT_END = 745.0
"""Beyond, a share cannot be told from 0 or 1 in a double."""
_HALVINGS = 70
"""Of an interval of logits: what is left is below 1e-12, and so is the relative error of a share."""


class Interval(NamedTuple):
    """An estimate with the ends of its confidence sequence; without counts the estimate is the plan."""

    estimate: float
    low: float
    high: float


def share(
    counts: Sequence[float], weights: Sequence[float], cell: int, alpha: float, strengths: Sequence[float] = STRENGTHS
) -> Interval:
    """The share of a cell of weight above 0, among the cells of weight above 0; all cells may be asked at once.

    Counts below 0 count as 0. The ends are exact to 1e-9 relative; without a count in the cell the low end is 0.
    """
    ratio = ratio_to_weights(counts, weights, cell, alpha, strengths)
    offset = _logit_of_weight(weights, cell)
    return Interval(*(_logistic(offset + delta) for delta in ratio))


def ratio_to_weights(
    counts: Sequence[float], weights: Sequence[float], cell: int, alpha: float, strengths: Sequence[float] = STRENGTHS
) -> Interval:
    """The log rate ratio of a cell to all others, beside the weights; an end without counts is infinite.

    At least two weights are above 0, that of the cell among them; all cells may be asked at once.
    """
    assert 0 < alpha < 1, alpha
    planned = [(max(0.0, count), weight) for count, weight in zip(counts, weights, strict=True) if weight > 0]
    own, total = max(0.0, counts[cell]), math.fsum(count for count, _ in planned)
    offset = _logit_of_weight(weights, cell)
    if not total:
        return Interval(0.0, -math.inf, math.inf)
    others = total - own
    estimate = math.log(own / others) if own and others else math.inf if own else -math.inf
    at_estimate = evidence(
        [count for count, _ in planned],
        [weight for _, weight in planned],
        [count / total for count, _ in planned],
        strengths,
    )
    limit = -math.log(alpha) - at_estimate
    low = _root(own, others, limit, -_LOGIT_END, min(estimate, _LOGIT_END)) if own else -math.inf
    high = _root(own, others, limit, _LOGIT_END, max(estimate, -_LOGIT_END)) if others else math.inf
    return Interval(estimate - offset, low - offset, high - offset)


def ratio_of_two(
    counts: Sequence[float],
    weights: Sequence[float],
    cell: int,
    control: int,
    alpha: float,
    strengths: Sequence[float] = STRENGTHS,
) -> Interval:
    """The log rate ratio of a cell to a control, beside their weights: of the counts in these two, where the cell is.

    >>> [round(end, 4) for end in ratio_of_two([148, 62], [0.8, 0.2], 1, 0, 0.05, strengths=[100])]
    [0.5162, 0.0046, 0.9945]
    """
    pair = (control, cell)
    return ratio_to_weights([counts[i] for i in pair], [weights[i] for i in pair], 1, alpha, strengths)


def _root(own: float, others: float, limit: float, far: float, near: float) -> float:
    """The logit between the estimate and the far end at which the divergence passes the limit."""
    for _ in range(_HALVINGS):
        middle = (far + near) / 2
        if divergence((own, others), (_logistic(middle), _logistic(-middle))) > limit:
            far = middle
        else:
            near = middle
    return near


def _logit_of_weight(weights: Sequence[float], cell: int) -> float:
    """ln of the weight of a cell beside those of all others."""
    return math.log(weights[cell] / math.fsum(weight for i, weight in enumerate(weights) if i != cell))


def _logistic(logit: float) -> float:
    """The share of a logit; 0 and 1 at the infinities."""
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    odds = math.exp(logit) if logit > -math.inf else 0.0
    return odds / (1 + odds)
