"""Live A/A: splits of buckets, the gauge and the design effect."""

import random

import pytest

from monitor.verdicts.aa import BUCKETS, SPLITS, alarms, design_effect, effective, gauge, halves
from monitor.verdicts.distributions import beta_below, beta_quantile, chi_squared_quantile, gamma_below


def test_the_splits_are_halves_and_independent() -> None:
    """Eight buckets each; any two have four in common, so that they are not correlated."""
    sides = []
    for split in range(1, SPLITS + 1):
        alone = [[float(i == bucket) for i in range(BUCKETS)] for bucket in range(BUCKETS)]
        sides.append([halves(buckets, split)[1] for buckets in alone])
    for i, side in enumerate(sides):
        assert sum(side) == 8
        for other in sides[:i]:
            assert sum(a * b for a, b in zip(side, other, strict=True)) == 4
    assert sum(halves([3] * BUCKETS, 5)) == 48


@pytest.mark.parametrize(
    ("alarms", "splits", "low", "high"),
    [(0, 10, 0, 0.3085), (10, 10, 0.6915, 1), (7, 20, 0.1539, 0.5922), (81, 263, 0.2527, 0.3676)],
)
def test_the_interval_of_the_gauge(alarms: int, splits: int, low: float, high: float) -> None:
    """Published ones of Clopper and Pearson; the last is Newcombe's, 1998, table I."""
    found = gauge(alarms, splits)
    assert found is not None
    assert found == pytest.approx((alarms / splits, low, high), abs=5e-5)
    assert gauge(0, 0) is None


@pytest.mark.parametrize(
    ("p", "freedom", "quantile"), [(0.95, 1, 3.841459), (0.025, 15, 6.262138), (0.975, 15, 27.488393)]
)
def test_quantiles_of_chi_squared(p: float, freedom: int, quantile: float) -> None:
    """Published ones; for many degrees of freedom that of the normal distribution."""
    assert chi_squared_quantile(p, freedom) == pytest.approx(quantile, abs=1e-6)
    assert chi_squared_quantile(0.5, 10**6) == pytest.approx(10**6 - 2 / 3, abs=1e-3)


def test_distributions_where_they_are_known() -> None:
    """Of a uniform variable, of the largest of five, of a symmetric one; and outside of where a variable is."""
    for x in (0.0, 0.1, 0.5, 0.9, 1.0):
        assert beta_below(x, 1, 1) == pytest.approx(x)
        assert beta_below(x, 5, 1) == pytest.approx(x**5)
        assert beta_below(x, 30, 30) == pytest.approx(1 - beta_below(1 - x, 30, 30))
    assert beta_quantile(beta_below(0.3, 4, 9), 4, 9) == pytest.approx(0.3)
    assert beta_below(-1, 2, 2) == gamma_below(-1, 2) == 0
    assert beta_below(2, 2, 2) == 1


def buckets_of(sessions: int, visits_each: int, seed: int = 7) -> list[int]:
    """The visits by bucket of sessions with as many visits each."""
    draw = random.Random(seed)
    counts = [0] * BUCKETS
    for _ in range(sessions):
        counts[draw.randrange(BUCKETS)] += visits_each
    return counts


def test_the_design_effect_of_independent_visits_is_1() -> None:
    """In its interval, which narrows with the number of experiments; nothing is divided then."""
    found = design_effect([buckets_of(4_000, 1, seed) for seed in range(40)])
    assert found is not None
    assert found.freedom == 600
    assert found.low < 1 < found.high
    assert 0.85 < found.low < found.high < 1.2
    assert not found.is_dependent
    assert effective([10, 20], found) == [10, 20]


def test_the_design_effect_of_sessions_that_return() -> None:
    """Each with three visits: three, and counts are divided by it."""
    found = design_effect([buckets_of(4_000, 3, seed) for seed in range(40)])
    assert found is not None
    assert found.low < 3 < found.high
    assert found.is_dependent
    assert effective([30, 60], found) == pytest.approx([30 / found.value, 60 / found.value])


def test_the_design_effect_by_hand() -> None:
    """Eight buckets of 100 and eight of 120 visits: 16 times 10^2 / 110, over 15, and over the quantiles."""
    found = design_effect([[100] * 8 + [120] * 8, [0] * BUCKETS])
    squares = 16 * 100 / 110
    assert found == pytest.approx((squares / 15, squares / 27.488393, squares / 6.262138, 15), abs=1e-6)
    assert design_effect([]) is design_effect([[0] * BUCKETS]) is None


def test_experiments_of_the_same_visits_add_no_degrees_of_freedom() -> None:
    """The mean of their design effects, with the interval of one."""
    one = buckets_of(4_000, 1)
    alone, together = design_effect([one]), design_effect([one, one, one], freedom=SPLITS)
    assert alone is not None
    assert together == pytest.approx(alone)


def test_a_split_that_alarmed_once_has_alarmed() -> None:
    """Buckets 8 to 15 are one half of split 8: 30 of 40 visits there are evidence above 5, later it is gone."""
    uneven, even = [2] * 8 + [8] * 8, [40] * 16
    assert alarms([uneven]) == alarms([uneven, even]) == 1
    assert alarms([even]) == alarms([]) == 0
    assert alarms([[-5.0] * 8 + [5.0] * 8]) == 1
    assert alarms([[0] * 15 + [40]]) == SPLITS
