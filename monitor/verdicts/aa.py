"""Live A/A: whether verdicts are as rarely wrong as they say, and whether visits are independent. Pure.

The visits of an experiment are counted by 16 buckets of their sessions, whatever their variation. The 15 Walsh splits,
rows of the Hadamard matrix of order 16, each cut the buckets into two halves, and any two of them are uncorrelated: 15
experiments without an effect, on real traffic.

    gauge:         the splits that alarm at a level / the splits that are watched, which must be at most the level
    design effect: D = sum over buckets of (n_b - N / 16)^2 / (N / 16) / 15, which must be 1

The gauge has the interval of Clopper and Pearson (1934), exact for independent splits. If no session has two visits,
15 D has a chi-squared distribution with 15 degrees of freedom; experiments that share no visits are pooled by adding
both up. D is by how much the variance of counts is larger than that of independent visits, since the visits of a
session all fall into one bucket. Counts divided by D are evidence again, asymptotically. What this cannot see: sessions
of one user that depend on each other, if variations are assigned by user.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from monitor.verdicts.distributions import beta_quantile, chi_squared_quantile
from monitor.verdicts.multinomial import ln_evidence, mixture

BUCKETS = 16
SPLITS = 15
DEPENDENT_FROM = 1.05
"""The lower end of D from which visits of a session are said to be not independent, and counts are divided by D."""
PROBE_LEVEL = 0.2
"""The level at which the gauge counts alarms."""


class Gauge(NamedTuple):
    """The share of splits that alarm, with its interval."""

    value: float
    low: float
    high: float


class DesignEffect(NamedTuple):
    """D of some experiments together, with its interval and the degrees of freedom."""

    value: float
    low: float
    high: float
    freedom: int

    @property
    def is_dependent(self) -> bool:
        """True if visits of a session are not independent."""
        return self.low > DEPENDENT_FROM


def halves(buckets: Sequence[float], split: int) -> tuple[float, float]:
    """The counts of the two halves of a Walsh split, 1 to 15: buckets by the parity of the bits they share with it.

    >>> halves(range(16), 1)
    (56, 64)
    """
    assert len(buckets) == BUCKETS, len(buckets)
    assert 0 < split <= SPLITS, split
    odd = sum(count for bucket, count in enumerate(buckets) if (bucket & split).bit_count() % 2)
    return sum(buckets) - odd, odd


def alarms(looks: Iterable[Sequence[float]], level: float = PROBE_LEVEL) -> int:
    """How many of the splits reach evidence 1 / level at some look, as splits of the whole phase without restarts.

    `looks`: cumulative counts by bucket, one after the other; counts below 0 count as 0.
    """
    around, limit = mixture((0.5, 0.5)), -math.log(level)
    waiting = set(range(1, SPLITS + 1))
    for buckets in looks:
        sound = [max(0.0, count) for count in buckets]
        waiting -= {split for split in waiting if ln_evidence(halves(sound, split), around) >= limit}
    return SPLITS - len(waiting)


def gauge(alarms: int, splits: int, confidence: float = 0.95) -> Gauge | None:
    """The share of splits that alarm, with the interval of Clopper and Pearson; None without splits."""
    if not splits:
        return None
    tail = (1 - confidence) / 2
    low = beta_quantile(tail, alarms, splits - alarms + 1) if alarms else 0.0
    high = beta_quantile(1 - tail, alarms + 1, splits - alarms) if alarms < splits else 1.0
    return Gauge(alarms / splits, low, high)


def design_effect(
    experiments: Sequence[Sequence[float]], confidence: float = 0.95, freedom: int | None = None
) -> DesignEffect | None:
    """D from the counts of each experiment by bucket; None without counts.

    `freedom`: the degrees of freedom, if there are fewer than 15 for each experiment, since they share visits: of the
    same visits, 15 in all. The interval is for traffic of some hundred visits and more, whose buckets are normally
    distributed.
    """
    squares = [_squares(buckets) for buckets in experiments if sum(buckets) > 0]
    if not squares:
        return None
    value, tail = math.fsum(squares) / (SPLITS * len(squares)), (1 - confidence) / 2
    freedom = freedom or SPLITS * len(squares)
    return DesignEffect(
        value,
        value * freedom / chi_squared_quantile(1 - tail, freedom),
        value * freedom / chi_squared_quantile(tail, freedom),
        freedom,
    )


def _squares(buckets: Sequence[float]) -> float:
    assert len(buckets) == BUCKETS, len(buckets)
    expected = sum(buckets) / BUCKETS
    return math.fsum((count - expected) ** 2 for count in buckets) / expected


def effective(counts: Sequence[float], effect: DesignEffect) -> list[float]:
    """Counts for count tests: divided by D where visits are not independent, else as they are."""
    return [count / effect.value for count in counts] if effect.is_dependent else list(counts)
