"""Many tests and one budget of false alarms: thresholds of a phase, e-BH for a list. Pure.

A phase of an experiment may act wrongly with a probability of at most alpha. Each check has a share of this budget and
acts when E >= 1 / (alpha share): Bonferroni with weights, valid at every look and under any dependence, since Ville's
inequality holds for each test by itself. Holm's procedure would hand shares of checks that alarm to the others; it is
not used, since the state of a check is to follow from its own counts (docs/statistics.md).

e-BH (Wang and Ramdas, False discovery rate control with e-values, 2022) only sorts a list of what looks wrong now. At
each fixed look the false share of its list is at most q in the mean. It must be asked afresh at each look, with E as
it is now: latched or with the largest so far it does not keep its promise.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

Q = 0.1
"""The false share of the list, in the mean."""


class Shares(NamedTuple):
    """The shares of a phase's budget; a group's share is divided equally among its checks."""

    split_of_assigned: float = 0.2
    split_of_qualified: float = 0.1
    guardrails: float = 0.4
    """Over points and variations."""
    slices: float = 0.15
    crossed: float = 0.05
    fairness: float = 0.1


class Thresholds(NamedTuple):
    """The evidence E from which a check of share 1 says note, warn, hold and stop."""

    note: float = 20
    warn: float = 50
    hold: float = 100
    stop: float = 1_000


def ln_threshold(evidence: float, share: float) -> float:
    """ln E from which a check of this share passes a threshold.

    >>> round(math.exp(ln_threshold(100, 0.2)))
    500
    """
    return math.log(evidence / share)


def level(ln_e: float, share: float, thresholds: Thresholds) -> int:
    """How many thresholds are reached: 0 none, 1 note, 2 warn, 3 hold, 4 stop. They all follow one path of E.

    So they share one budget: P(hold is ever reached by a healthy check) <= share / thresholds.hold, and so on.
    """
    return sum(ln_e >= ln_threshold(evidence, share) for evidence in thresholds)


def e_bh(ln_e: Sequence[float], shares: Sequence[float], q: float = Q) -> list[int]:
    """The indices of the tests that a list of what looks wrong now has, the clearest first: weighted e-BH.

    The largest k such that k tests have E >= 1 / (k q w), their weights w being the shares divided by their sum.

    >>> e_bh([3.0, 5.0, 0.0, 4.0], [1, 1, 1, 1])
    [1, 3, 0]
    """
    assert min(shares, default=1) > 0, shares
    whole = math.fsum(shares)
    worth = [value + math.log(q * share / whole) for value, share in zip(ln_e, shares, strict=True)]
    order = sorted(range(len(worth)), key=lambda i: -worth[i])
    for k in range(len(order), 0, -1):
        if worth[order[k - 1]] >= -math.log(k):
            return order[:k]
    return []
