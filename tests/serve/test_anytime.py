"""Intervals that are valid at every look, in place of the fixed ones."""

import pytest

from monitor.serve import statistics
from monitor.serve.anytime import PointSums, of_point
from monitor.serve.models import PointResult
from monitor.verdicts import sequences

CONTROL, OWN = PointSums(5_000, 520, 500, 60_000, 9_000_000), PointSums(5_100, 640, 620, 80_000, 12_500_000)
SCALE = 100.0


def fixed(own: PointSums, control: PointSums | None) -> PointResult:
    """The result with the intervals for one look."""
    mean = statistics.mean(own.sum, own.squares, own.in_scope, SCALE)
    samples = [None if of is None else statistics.Sample(of.visits, of.in_scope) for of in (own, control)]
    of_means = None
    if control is not None:
        of_control = statistics.mean(control.sum, control.squares, control.in_scope, SCALE)
        of_means = statistics.mean_difference(mean, of_control, own.visits, control.visits)
    assert samples[0] is not None
    return PointResult(
        point="order",
        total=own.total,
        visits=own.visits,
        rate=statistics.rate(*samples[0]),
        rate_difference=None if samples[1] is None else statistics.rate_difference(samples[0], samples[1]),
        sum=own.sum / SCALE,
        mean=mean,
        mean_difference=of_means,
    )


def test_intervals_are_those_of_the_confidence_sequences() -> None:
    """Around the same values, and wider, since they hold at every look."""
    before = fixed(OWN, CONTROL)
    result = of_point(before, OWN, CONTROL, SCALE, 1)
    rates = [sequences.rate(of.visits, of.in_scope) for of in (OWN, CONTROL)]
    means = [sequences.mean(of.sum, of.squares, of.in_scope, SCALE) for of in (OWN, CONTROL)]
    assert result.rate_difference is not None
    assert result.mean_difference is not None
    for found, pair in ((result.rate_difference, rates), (result.mean_difference, means)):
        own, control = pair
        assert own is not None
        assert control is not None
        estimate = sequences.difference(own, control)
        assert found.absolute == pytest.approx(estimate.value)
        assert (found.low, found.high) == pytest.approx(sequences.band(estimate, 0.05, sequences.rho(0.05)))
    for of_one, sequence in ((result.rate, rates[0]), (result.mean, means[0])):
        assert of_one is not None
        assert sequence is not None
        band = sequences.band(sequence, 0.05, sequences.rho(0.05))
        assert (of_one.low, of_one.high) == pytest.approx(band)
    for name in ("rate", "rate_difference", "mean", "mean_difference"):
        narrow, wide = getattr(before, name), getattr(result, name)
        assert wide.low < narrow.low < narrow.high < wide.high, name
    assert result.rate_difference.is_significant


def test_several_variations_share_the_confidence() -> None:
    """Of their differences, not of their rates."""
    alone, shared = (of_point(fixed(OWN, CONTROL), OWN, CONTROL, SCALE, compared) for compared in (1, 4))
    assert alone.rate == shared.rate
    assert alone.rate_difference is not None
    assert shared.rate_difference is not None
    assert alone.rate_difference.low is not None
    assert shared.rate_difference.low is not None
    assert shared.rate_difference.low < alone.rate_difference.low


def test_few_visits_have_no_interval() -> None:
    """Below the floors the method is not valid; the values stay."""
    few, control = PointSums(50, 4, 4, 400, 50_000), PointSums(60, 9, 9, 900, 110_000)
    result = of_point(fixed(few, control), few, control, SCALE, 1)
    for of in (result.rate, result.rate_difference, result.mean, result.mean_difference):
        assert of is not None
        assert (of.low, of.high) == (None, None)
    assert result.rate is not None
    assert result.rate.value == 4 / 50
    assert of_point(fixed(few, None), few, None, None, 1).rate_difference is None


def test_values_that_are_all_equal_say_nothing_of_a_difference() -> None:
    """Each order is of one price: no interval of width 0."""
    equal = PointSums(200, 200, 200, 20_000, 2_000_000)
    result = of_point(fixed(equal, equal), equal, equal, SCALE, 1)
    assert result.mean_difference is not None
    assert (result.mean_difference.low, result.mean_difference.is_significant) == (None, False)
