"""Evidence that an effect lies outside of a zone that is tolerated."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.verdicts.multinomial import evidence, ln_evidence, mixture
from monitor.verdicts.zones import Zone, fewer, ln_evidence_against, more, null, tolerance
from tests.support.exact_evidence import ever_reached, mean_over_samples

ZONES = [fewer(), fewer(0.1), more(), more(0.05), tolerance(0.005), tolerance(0.3)]
COUNTS = st.tuples(st.integers(0, 10**6), st.integers(0, 10**6))


def at(weights: tuple[float, float], delta: float) -> tuple[float, float]:
    """The shares of two cells at an effect."""
    odds = weights[1] / weights[0] * math.exp(delta)
    return 1 / (1 + odds), odds / (1 + odds)


@given(COUNTS, st.floats(0.05, 0.95), st.sampled_from(ZONES), st.floats(0, 1))
def test_evidence_is_the_least_in_the_zone(counts: tuple[int, int], weight: float, zone: Zone, place: float) -> None:
    """At no effect of the zone is it less; at an end or at the estimate it is the same."""
    weights = (1 - weight, weight)
    found = ln_evidence_against(counts, null(weights, zone))
    low, high = max(zone.low, -5), min(zone.high, 5)
    inside = low + place * (high - low)
    assert found <= evidence(counts, weights, at(weights, inside)) + 1e-6
    candidates = [evidence(counts, weights, at(weights, end)) for end in (zone.low, zone.high) if abs(end) < 5]
    if all(counts) and zone.low <= math.log(counts[1] / counts[0] * weights[0] / weights[1]) <= zone.high:
        candidates.append(evidence(counts, weights, counts))
    assert not all(counts) or min(abs(found - candidate) for candidate in candidates) < 1e-6


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.9, 0.1)])
def test_the_mean_is_at_most_1_everywhere_in_the_zone(zone: Zone, weights: tuple[float, float]) -> None:
    """So it is an e-value, whichever effect of the zone is true."""
    hypothesis = null(weights, zone)
    for delta in (-2.0, -0.3, -0.105, -0.005, 0.0, 0.005, 0.04, 0.3, 2.0):
        if zone.low <= delta <= zone.high:
            share = at(weights, delta)[1]
            mean = mean_over_samples(40, share, lambda counts: ln_evidence_against(counts, hypothesis))
            assert mean <= 1 + 1e-9


def test_the_level_holds_at_the_end_of_the_zone() -> None:
    """A variation exactly a tenth worse alarms with a probability below the level, over 300 looks."""
    hypothesis = null((0.5, 0.5), fewer(0.1))
    share = at((0.5, 0.5), math.log(0.9))[1]
    ever = ever_reached(300, share, math.log(20), lambda counts: ln_evidence_against(counts, hypothesis))
    assert 0.002 < ever <= 0.05


def test_only_harm_is_harm() -> None:
    """Fewer where more is better, more where fewer are; the other way evidence is below 1."""
    a_tenth = fewer(0.1)
    assert a_tenth == pytest.approx((math.log(0.9), math.inf))
    assert ln_evidence_against((1_000, 500), null((1, 1), a_tenth)) > 20
    assert ln_evidence_against((500, 1_000), null((1, 1), a_tenth)) < 0
    assert ln_evidence_against((1_000, 500), null((1, 1), more())) < 0
    assert ln_evidence_against((500, 1_000), null((1, 1), more())) > 20
    assert more(0.1).high == pytest.approx(math.log(1.1))


@pytest.mark.parametrize(("second", "is_outside"), [(994, False), (996, False), (1_004, False), (1_012, True)])
def test_a_tolerated_split(second: int, is_outside: bool) -> None:
    """At 4,000,000 visits any deviation is clear; only one beyond half a percent has evidence of that."""
    counts = (2_000_000, 2_000 * second)
    assert (ln_evidence_against(counts, null((1, 1), tolerance(0.005))) > 5) is is_outside


@given(COUNTS, st.floats(0.05, 0.95))
def test_a_zone_of_one_point_is_that_point(counts: tuple[int, int], weight: float) -> None:
    """Without a tolerance evidence is that against the weights."""
    weights = (1 - weight, weight)
    expected = pytest.approx(ln_evidence(counts, mixture(weights)), rel=1e-9, abs=1e-6)
    assert ln_evidence_against(counts, null(weights, tolerance(0))) == expected


def test_nothing_counted_is_no_evidence_of_harm() -> None:
    """Nor of the opposite."""
    assert ln_evidence_against((0, 0), null((1, 1), fewer())) == 0
