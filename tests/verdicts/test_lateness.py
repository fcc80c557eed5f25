"""What a verdict would be with the visits that came too late."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.verdicts.lateness import by_weights, lateness_bounds, on_weaker_side
from monitor.verdicts.multinomial import evidence

COUNTS = st.lists(st.integers(1, 10**5), min_size=2, max_size=4)


def test_a_verdict_that_holds_and_one_that_could_turn() -> None:
    """1,300 against 1,000: 20 late visits change little, 250 could explain most of it."""
    few, many = (lateness_bounds([1_300, 1_000], [1, 1], late) for late in (20, 250))
    assert few.as_counted == many.as_counted == evidence([1_300, 1_000], [1, 1])
    assert few.by_weights == pytest.approx(evidence([1_310, 1_010], [1, 1]))
    assert few.on_weaker_side == pytest.approx(evidence([1_300, 1_020], [1, 1]))
    assert few.on_weaker_side > math.log(1_000)
    assert many.by_weights > math.log(1_000)
    assert many.on_weaker_side < 0


@given(COUNTS, st.integers(0, 10**5))
def test_no_visit_is_lost_or_made(counts: list[int], late: int) -> None:
    """All late visits are in both."""
    weights = [1, 2, 3, 4][: len(counts)]
    for added in (by_weights(counts, weights, late), on_weaker_side(counts, weights, late)):
        assert sum(added) == pytest.approx(sum(counts) + late)
        assert all(own >= before for own, before in zip(added, counts, strict=True))


@given(st.integers(1, 5_000), st.integers(1, 5_000), st.integers(0, 2_000), st.floats(0.1, 0.9), st.floats(0, 1))
def test_the_weaker_side_has_the_least_evidence(first: int, second: int, late: int, weight: float, part: float) -> None:
    """No other way to divide the late visits has clearly less evidence; it may be a few tenths less."""
    weights = [weight, 1 - weight]
    least = evidence(on_weaker_side([first, second], weights, late), weights)
    assert evidence([first + part * late, second + (1 - part) * late], weights) >= least - 0.5


def test_more_than_is_missing_goes_by_the_weights() -> None:
    """The weaker side never becomes the stronger one."""
    assert on_weaker_side([90, 40], [3, 1], 0) == [90, 40]
    assert on_weaker_side([100, 20], [3, 1], 10) == [100, 30]
    assert on_weaker_side([90, 20], [3, 1], 50) == [120, 40]
    assert on_weaker_side([90, 20, 0], [3, 1, 0], 50) == [120, 40, 0]
    assert on_weaker_side([90], [1], 7) == [97]
