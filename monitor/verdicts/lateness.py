"""What a verdict would be if visits that came too late had counted: bounds. Pure.

The visits that were rejected as late are known by variation, but not what they would have changed. So ln E of a phase,
or since a moment of it, is computed twice more: with all late visits added as the weights say, and with all of them on
the weaker side. If the second one still alarms, the verdict holds even if every lost visit was on its side. These
bounds inform; they are no test of their own.
"""

from collections.abc import Sequence
from typing import NamedTuple

from monitor.verdicts.multinomial import evidence


class LatenessBounds(NamedTuple):
    """ln E against the weights as counted, with late visits by the weights, and with them on the weaker side."""

    as_counted: float
    by_weights: float
    on_weaker_side: float


def lateness_bounds(counts: Sequence[float], weights: Sequence[float], late: float) -> LatenessBounds:
    """The bounds of ln E against the weights, of visits or of conversions, for so many late ones."""
    return LatenessBounds(
        evidence(counts, weights),
        evidence(by_weights(counts, weights, late), weights),
        evidence(on_weaker_side(counts, weights, late), weights),
    )


def by_weights(counts: Sequence[float], weights: Sequence[float], late: float) -> list[float]:
    """The counts with late ones added as the weights say."""
    whole = sum(weights)
    return [count + late * weight / whole for count, weight in zip(counts, weights, strict=True)]


def on_weaker_side(counts: Sequence[float], weights: Sequence[float], late: float) -> list[float]:
    """The counts with late ones added to the variation that has the fewest beside its weight, which is above 0.

    It is given no more than bring it to its weight, since more would be evidence of the opposite; what is left is added
    by the weights.

    >>> on_weaker_side([60, 40], [1, 1], 15), on_weaker_side([60, 40], [1, 1], 30)
    ([60, 55], [65.0, 65.0])
    """
    weaker = min((i for i, weight in enumerate(weights) if weight), key=lambda i: counts[i] / weights[i])
    share, total = weights[weaker] / sum(weights), sum(counts)
    missing = (total * share - counts[weaker]) / (1 - share) if share < 1 else 0.0
    given = min(late, missing)
    filled = [count + given * (i == weaker) for i, count in enumerate(counts)]
    return filled if given == late else by_weights(filled, weights, late - given)
