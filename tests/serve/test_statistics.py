"""Rates, means, differences and the test of the split, against plain computations and published quantiles."""

import math
import statistics as plain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.serve.models import Estimate, SplitVerdict
from monitor.serve.statistics import Z_95, Sample, chi_square_above, mean, mean_difference, rate, rate_difference, split


@given(st.lists(st.integers(-10_000, 10_000), min_size=2, max_size=60), st.sampled_from((1, 100, 0.5, -2.5)))
def test_a_mean_is_that_of_the_visits(values: list[int], scale: float) -> None:
    """From sum, sum of squares and number: what the sample itself gives."""
    estimate = mean(sum(values), sum(value**2 for value in values), len(values), scale)
    own = [value / scale for value in values]
    assert estimate is not None
    assert estimate.value == pytest.approx(plain.mean(own), abs=1e-9)
    assert estimate.standard_error == pytest.approx(plain.stdev(own) / math.sqrt(len(own)), rel=1e-9, abs=1e-9)
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low <= estimate.value <= estimate.high


def test_a_mean_of_very_large_values_keeps_its_digits() -> None:
    """Sum and squares are subtracted as integers, which they are exactly up to 2^53."""
    values = [10**7, 10**7 + 1, 10**7 + 2]
    estimate = mean(sum(values), sum(value**2 for value in values), 3, 1)
    assert estimate is not None
    assert estimate.standard_error == pytest.approx(1 / math.sqrt(3))


@pytest.mark.parametrize(("visits", "spread_of", "has_interval"), [(2_000, 1.0, True), (2_000, 1e-6, False)])
def test_without_an_interval_where_rounding_hides_the_variance(
    visits: int, spread_of: float, has_interval: bool
) -> None:
    """Orders of 31,000,000 in cents: that they vary is seen; that they vary by a millionth is not, and that is said."""
    large = 3_100_000_000
    values = [round(large * (1 + spread_of * (-1) ** visit / 2)) for visit in range(visits)]
    squares = int(sum(float(value**2) for value in values))
    estimate = mean(sum(values), squares, visits, 100)
    assert estimate is not None
    assert estimate.value == pytest.approx(31_000_000)
    assert (estimate.standard_error is not None) == has_interval
    assert (estimate.note is None) == has_interval
    if has_interval:
        own = plain.stdev(value / 100 for value in values) / math.sqrt(visits)
        assert estimate.standard_error == pytest.approx(own, rel=0.01)


def test_where_there_is_no_mean_or_error() -> None:
    """No visits, one visit, and a range that has parts of visits."""
    assert mean(0, 0, 0, 1) is None
    assert mean(5, 25, 1, 1) == Estimate(value=5)
    assert mean(10, 1, 2, 1) == Estimate(value=5)


@given(st.integers(1, 10**6), st.data())
def test_a_rate_lies_in_its_interval(of: int, data: st.DataObject) -> None:
    """And the interval between 0 and 1."""
    estimate = rate(data.draw(st.integers(0, of)), of)
    assert estimate is not None
    assert estimate.low is not None
    assert estimate.high is not None
    assert 0 <= estimate.low <= estimate.value + 1e-12
    assert estimate.value - 1e-12 <= estimate.high <= 1


def test_the_interval_of_a_rate_is_wilsons() -> None:
    """The worked example of the literature: 81 of 263 (Newcombe 1998, table I)."""
    estimate = rate(81, 263)
    assert estimate is not None
    assert estimate.low == pytest.approx(0.2553, abs=5e-5)
    assert estimate.high == pytest.approx(0.3662, abs=5e-5)
    none, every = rate(0, 7), rate(7, 7)
    assert none is not None
    assert every is not None
    assert (none.low, every.high) == (0.0, 1.0)
    assert rate(0, 0) is None
    assert rate(3, 2) == Estimate(value=1.5)


@given(st.integers(0, 400), st.integers(0, 400), st.integers(1, 400), st.integers(1, 400))
def test_the_interval_of_a_difference_of_rates_is_possible(one: int, other: int, of_one: int, of_other: int) -> None:
    """Within [-1, 1], around the difference, never empty; none below 5 visits with and 5 without in each."""
    estimate = rate_difference(Sample(min(one, of_one), of_one), Sample(min(other, of_other), of_other))
    assert estimate is not None
    counts = [n for visits, of in ((one, of_one), (other, of_other)) for n in (min(visits, of), of - min(visits, of))]
    if min(counts) < 5:
        assert (estimate.low, estimate.high, estimate.is_significant) == (None, None, False)
        return
    assert estimate.low is not None
    assert estimate.high is not None
    assert -1 <= estimate.low < estimate.absolute < estimate.high <= 1
    assert estimate.is_significant is not (estimate.low <= 0 <= estimate.high)


def test_the_interval_of_a_difference_of_rates_is_newcombes() -> None:
    """The worked example of the literature: 56 of 70 against 48 of 80 (Newcombe 1998, table II, method 10)."""
    estimate = rate_difference(Sample(56, 70), Sample(48, 80))
    assert estimate is not None
    assert estimate.absolute == pytest.approx(0.2)
    assert estimate.low == pytest.approx(0.0524, abs=5e-5)
    assert estimate.high == pytest.approx(0.3339, abs=5e-5)
    assert estimate.is_significant


@pytest.mark.parametrize(("one", "other"), [((1, 4), (3, 4)), ((2, 5), (1, 2)), ((0, 900), (900, 900))])
def test_a_handful_of_visits_proves_nothing(one: tuple[int, int], other: tuple[int, int]) -> None:
    """3 of 4 against 1 of 4 was "clear", and 5 against 2 visits had an interval to 108 percentage points."""
    estimate = rate_difference(Sample(*one), Sample(*other))
    assert estimate is not None
    assert (estimate.low, estimate.is_significant) == (None, False)


def test_where_there_is_no_difference_of_rates() -> None:
    """A variation without visits; visits that came into scope before the range have no interval."""
    assert rate_difference(Sample(0, 0), Sample(5, 10)) is None
    beyond = rate_difference(Sample(30, 20), Sample(10, 20))
    assert beyond is not None
    assert (beyond.standard_error, beyond.low) == (None, None)


def test_a_difference_of_means_is_significant_when_its_interval_excludes_0() -> None:
    """Of independent samples: variances add up."""
    control, better, noisy = (
        Estimate(value=0.1, standard_error=0.003),
        Estimate(value=0.12, standard_error=0.004),
        Estimate(value=0.12, standard_error=0.1),
    )
    estimate = mean_difference(better, control, 50, 50)
    assert estimate is not None
    assert estimate.absolute == pytest.approx(0.02)
    assert estimate.relative == pytest.approx(0.2)
    assert estimate.high == pytest.approx(0.02 + Z_95 * 0.005)
    assert estimate.is_significant
    unclear = mean_difference(noisy, control, 50, 50)
    assert unclear is not None
    assert not unclear.is_significant
    assert mean_difference(None, control, 50, 50) is None
    exact = Estimate(value=0.1, standard_error=0.0)
    for of, visits in ((Estimate(value=1), 50), (better, 4), (exact, 50)):
        without = mean_difference(of, exact, visits, 50) if of is exact else mean_difference(of, control, visits, 50)
        assert without is not None
        assert (without.low, without.high, without.is_significant) == (None, None, False)


@pytest.mark.parametrize(("quantile", "freedom"), [(3.841459, 1), (5.991465, 2), (7.814728, 3), (9.487729, 4)])
def test_the_chi_square_distribution(quantile: float, freedom: int) -> None:
    """Its published 95 % quantiles."""
    assert chi_square_above(quantile, freedom) == pytest.approx(0.05, abs=1e-6)
    assert chi_square_above(0, freedom) == 1


@pytest.mark.parametrize(
    ("assigned", "weights", "verdict"),
    [
        ([5_000, 5_100], [50, 50], SplitVerdict.AS_PLANNED),
        ([5_000, 5_400], [50, 50], SplitVerdict.MISMATCH),
        ([5_000, 5_400], [50, 54], SplitVerdict.AS_PLANNED),
        ([2, 3], [1, 1], SplitVerdict.TOO_FEW),
        ([0, 0], [1, 1], SplitVerdict.TOO_FEW),
        ([100, 100, 1], [1, 1, 0], SplitVerdict.MISMATCH),
        ([100, 100, 0], [1, 1, 0], SplitVerdict.AS_PLANNED),
        ([100], [1], SplitVerdict.AS_PLANNED),
        ([0], [1], SplitVerdict.TOO_FEW),
        ([100, 0], [1, 1], SplitVerdict.MISMATCH),
    ],
)
def test_the_split_is_judged_by_the_weights(assigned: list[int], weights: list[float], verdict: SplitVerdict) -> None:
    """Wrong from a p-value of 0.001 on, and wherever a variation of weight 0 got visits."""
    assert split(assigned, weights).verdict is verdict
