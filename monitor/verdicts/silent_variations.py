"""Whether a variation gets no visits any more, everywhere or in a slice, beside what its weight promises. Pure."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from monitor.verdicts.judge import Place

EXPECTED_MIN = 20.0
"""A variation is without visits when so many were expected since its last one: their chance is at most e^-20."""


class Unseen(NamedTuple):
    """A slice, since when a variation had no visit in it, and the visits of all variations in it since then."""

    place: Place
    since_ms: int
    counts: tuple[int, ...]

    def expected(self, share: float) -> float:
        """The visits of a variation with this share of the weights."""
        return share * sum(self.counts)


def ln_chance(visits: float, share: float) -> float:
    """ln P(none of so many visits is of a variation with this share), each assigned by itself: n·ln(1 - share).

    >>> round(ln_chance(40, 0.5), 2)
    -27.73
    """
    return visits * math.log1p(-share) if share < 1 else (-math.inf if visits else 0.0)


def silent(share: float, everywhere: Unseen, slices: Sequence[Unseen]) -> Unseen | None:
    """Where a variation with this share of the weights gets no visits: everywhere, else the slice with the most."""
    if everywhere.expected(share) >= EXPECTED_MIN:
        return everywhere
    found = [of for of in slices if of.expected(share) >= EXPECTED_MIN]
    return max(found, key=lambda of: sum(of.counts), default=None)
