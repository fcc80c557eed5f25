"""Confidence sequences of shares and of log rate ratios."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.verdicts.multinomial import evidence
from monitor.verdicts.shares import Interval, ratio_of_two, ratio_to_weights, share


def at_best(counts: list[int], weights: list[int], cell: int, ratio: float) -> list[float]:
    """The shares of all cells that make the counts likeliest, given the log rate ratio of one; of any sum."""
    others = sum(counts) - counts[cell]
    odds = weights[cell] / (sum(weights) - weights[cell]) * math.exp(ratio)
    return [odds if i == cell else count / others for i, count in enumerate(counts)]


def test_the_interval_of_the_literature() -> None:
    """The example of savvi: rates differ by 0.5, found at the 210th conversion; the low end is just above 0."""
    interval = ratio_of_two([148, 62], [0.8, 0.2], 1, 0, 0.05, strengths=[100])
    assert interval.estimate == pytest.approx(0.5162, abs=5e-5)
    assert interval.low == pytest.approx(0.00464625, abs=5e-9)
    assert ratio_to_weights([148, 62], [0.8, 0.2], 1, 0.05, strengths=[100]) == interval


@given(
    st.lists(st.integers(1, 10**6), min_size=2, max_size=4),
    st.lists(st.integers(1, 9), min_size=4, max_size=4),
    st.sampled_from([0.05, 0.01, 1e-4]),
)
def test_at_the_ends_evidence_is_1_over_alpha(counts: list[int], weights: list[int], alpha: float) -> None:
    """With the other cells at their best, whichever they are; the estimate lies between."""
    weights = weights[: len(counts)]
    for cell in range(len(counts)):
        interval = ratio_to_weights(counts, weights, cell, alpha)
        assert interval.low < interval.estimate < interval.high
        assert share(counts, weights, cell, alpha).estimate == pytest.approx(counts[cell] / sum(counts), rel=1e-9)
        for end in interval[1:]:
            ln_e = evidence(counts, weights, at_best(counts, weights, cell, end))
            assert ln_e == pytest.approx(-math.log(alpha), rel=1e-6)


def test_other_cells_at_their_best_are_at_their_best() -> None:
    """Any other shares of theirs have more evidence against them."""
    counts, weights = [300, 120, 80], [5, 3, 2]
    end = ratio_to_weights(counts, weights, 0, 0.01).high
    best = evidence(counts, weights, at_best(counts, weights, 0, end))
    for moved in (-0.02, -0.001, 0.001, 0.02):
        first, second, third = at_best(counts, weights, 0, end)
        assert evidence(counts, weights, [first, second + moved, third - moved]) > best


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.floats(0.01, 0.99))
def test_a_ratio_is_that_of_the_shares(control: int, variation: int, weight: float) -> None:
    """logit of the share less logit of the weight, at each end; exact at 10^9 counts too."""
    counts, weights = [control, variation], [1 - weight, weight]
    for of_share, of_ratio in zip(
        share(counts, weights, 1, 0.01), ratio_of_two(counts, weights, 1, 0, 0.01), strict=True
    ):
        if 1e-6 < of_share < 1 - 1e-6:
            delta = math.log(of_share / (1 - of_share)) - math.log(weight / (1 - weight))
            assert of_ratio == pytest.approx(delta, rel=1e-9, abs=1e-9)


def test_two_ends_of_one_interval() -> None:
    """The ratio of a variation to the control is that of the control to the variation, with the other sign."""
    one, other = (ratio_of_two([70, 40, 1_000], [2, 1, 9], *pair, 0.05) for pair in ((0, 1), (1, 0)))
    assert (one.estimate, one.low, one.high) == pytest.approx((-other.estimate, -other.high, -other.low))


def test_cells_without_counts() -> None:
    """Nothing is known without any; a cell without any may have a share of 0, not one of 1."""
    assert share([0, 0], [3, 1], 1, 0.05) == Interval(0.25, 0, 1)
    assert ratio_to_weights([0, 0], [3, 1], 1, 0.05) == Interval(0, -math.inf, math.inf)
    empty, full = (share([50, 0], [1, 1], cell, 0.05) for cell in (1, 0))
    assert (empty.estimate, empty.low) == (0, 0)
    assert (full.estimate, full.high) == (1, 1)
    assert empty.high == pytest.approx(1 - full.low)
    assert evidence([50, 0], [1, 1], [full.low, empty.high]) == pytest.approx(math.log(20))


def test_cells_of_weight_0_are_none() -> None:
    """Nor do their counts move the others; counts below 0 count as 0."""
    assert share([30, 50, 9], [1, 1, 0], 1, 0.05) == share([30, 50], [1, 1], 1, 0.05)
    assert share([-5, 50], [1, 1], 1, 0.05) == share([0, 50], [1, 1], 1, 0.05)


def test_more_counts_narrow_the_interval() -> None:
    """And a smaller alpha widens it."""
    widths = [share([size, size], [1, 1], 0, 0.05).high for size in (10, 100, 10**4, 10**8)]
    assert widths == sorted(widths, reverse=True)
    assert share([100, 100], [1, 1], 0, 0.001).high > widths[1]
