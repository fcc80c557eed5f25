"""Asymptotic confidence sequences, against published values, plain statistics and what they promise."""

import math
import random
import statistics as plain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.verdicts.sequences import (
    Estimate,
    band,
    difference,
    lift,
    ln_evidence,
    ln_evidence_above,
    ln_evidence_below,
    mean,
    one_sided_half_width,
    rate,
    rho,
)

ESTIMATES = st.builds(Estimate, st.floats(-100, 100), st.floats(0.01, 10), st.integers(1, 10**8))
ALPHAS = st.sampled_from([0.2, 0.05, 0.01, 1e-5])


def test_the_lift_of_two_means_of_the_literature() -> None:
    """GrowthBook's test of its sequential intervals, tightest at 1,000 units: the same sums, in hundredths here."""
    control, variation = mean(139_687, 523_779_767, 3_000, 100), mean(242_270, 1_346_982_900, 3_461, 100)
    assert control is not None
    assert variation is not None
    of = lift(variation, control)
    assert of is not None
    assert of.value == pytest.approx(0.50336, abs=5e-6)
    assert of.standard_error == pytest.approx(0.33341, abs=5e-6)
    assert band(of, 0.05, rho(0.05, 1_000)) == pytest.approx((-0.55844, 1.56516), abs=5e-6)
    assert ln_evidence(of, 0, rho(0.05, 1_000)) < 0


def test_the_lift_of_two_rates_of_the_literature() -> None:
    """GrowthBook's other one, tightest at 5,000 units."""
    control, variation = rate(1_396, 3_000), rate(2_422, 3_461)
    assert control is not None
    assert variation is not None
    of = lift(variation, control)
    assert of is not None
    assert of.value == pytest.approx(0.50386, abs=5e-6)
    assert of.standard_error == pytest.approx(0.03386, abs=5e-6)
    assert band(of, 0.05, rho(0.05)) == pytest.approx((0.40098, 0.60675), abs=5e-6)
    assert ln_evidence(of, 0, rho(0.05)) > 90


def test_rho_and_the_widths_that_follow() -> None:
    """In standard errors, at alpha 0.05: tightest at 5,000 units, and never much wider."""
    assert rho(0.05) == pytest.approx(0.0398400668, abs=5e-11)
    assert rho(0.05, 1_000) == pytest.approx(0.0890850975, abs=5e-11)
    widths = {500: 3.855, 1_000: 3.364, 5_000: 3.035, 20_000: 3.127, 100_000: 3.337, 1_000_000: 3.657}
    for units, width in widths.items():
        assert band(Estimate(0, 1, units), 0.05, rho(0.05)) == pytest.approx((-width, width), abs=5e-4)


@given(ESTIMATES, ALPHAS, ALPHAS)
def test_at_the_ends_of_a_band_evidence_is_1_over_alpha(estimate: Estimate, alpha: float, tuned_for: float) -> None:
    """Either end, whatever alpha the test is tuned for; outside there is more, inside less."""
    own = rho(tuned_for)
    low, high = band(estimate, alpha, own)
    for end in (low, high):
        assert ln_evidence(estimate, end, own) == pytest.approx(-math.log(alpha), rel=1e-6)
    assert ln_evidence(estimate, high + 1, own) > -math.log(alpha) > ln_evidence(estimate, estimate.value, own)


@given(ESTIMATES, ALPHAS, ALPHAS)
def test_at_the_end_of_a_one_sided_band_too(estimate: Estimate, alpha: float, tuned_for: float) -> None:
    """Above and below; and it is nearer than that of the two-sided band of the same parameter."""
    own = rho(2 * tuned_for)
    half = one_sided_half_width(estimate, alpha, own)
    for against, end in ((ln_evidence_below, estimate.value + half), (ln_evidence_above, estimate.value - half)):
        assert against(estimate, end, own) == pytest.approx(-math.log(alpha), rel=1e-6)
    if alpha < 0.1:
        assert half < band(estimate, alpha, own)[1] - estimate.value


def test_a_one_sided_width() -> None:
    """As its formula gives it, at alpha 0.05 and 5,000 units: rho^2 is that of 0.1 on both sides."""
    squared = (-2 * math.log(0.1) + math.log(-2 * math.log(0.1) + 1)) / 5_000
    growth = 5_000 * squared + 1
    expected = math.sqrt(5_000) * math.sqrt(
        2 * growth / (5_000**2 * squared) * math.log(1 + math.sqrt(growth) / (2 * 0.05))
    )
    assert one_sided_half_width(Estimate(0, 1, 5_000), 0.05, rho(0.1)) == pytest.approx(expected, rel=1e-12)


def test_evidence_of_harm_has_a_direction() -> None:
    """A lift of -20 % is evidence of a loss of 10 % and more, and none of a gain."""
    of = Estimate(-0.2, 0.02, 20_000)
    assert ln_evidence_below(of, -0.1, rho(0.02)) > math.log(100)
    assert ln_evidence_below(of, -0.3, rho(0.02)) == -math.inf
    assert ln_evidence_above(of, 0, rho(0.02)) == ln_evidence_above(of, -0.2, rho(0.02)) == -math.inf
    assert ln_evidence_above(of, -0.3, rho(0.02)) > 0


@given(st.lists(st.integers(-10_000, 10_000), min_size=100, max_size=140), st.sampled_from((1, 100, 0.5, -2.5)))
def test_a_mean_is_that_of_the_visits(values: list[int], scale: float) -> None:
    """From sum, sum of squares and number: what the sample itself gives."""
    of = mean(sum(values), sum(value**2 for value in values), len(values), scale)
    own = [value / scale for value in values]
    assert of is not None
    assert of.value == pytest.approx(plain.mean(own), abs=1e-9)
    assert of.standard_error == pytest.approx(plain.stdev(own) / math.sqrt(len(own)), rel=1e-9, abs=1e-9)
    assert of.units == len(values)


@pytest.mark.parametrize(
    ("conversions", "units", "holds"), [(4, 100, False), (5, 100, True), (95, 100, True), (96, 100, False)]
)
def test_a_rate_needs_conversions_and_others(conversions: int, units: int, holds: bool) -> None:
    """Five of each."""
    of = rate(conversions, units)
    assert (of is not None) is holds
    if of is not None:
        assert of.standard_error == pytest.approx(math.sqrt(of.value * (1 - of.value) / 100))


def test_a_mean_needs_visits_and_a_variance() -> None:
    """100 visits; sums that no visits can have, and those that rounding hides, have no mean."""
    assert mean(99, 99, 99) is None
    assert mean(100, 100, 100) == Estimate(1, 0, 100)
    assert mean(200, 100, 100) is None
    large = 2**40
    assert mean(1_000 * large, 1_000 * large**2 + 10, 1_000) is None
    assert mean(1_000 * large, 2_000 * large**2, 1_000) is not None


def test_values_that_are_all_equal_prove_nothing() -> None:
    """Their standard error is 0, whatever the truth is; beside a variation that varies there is one."""
    of = Estimate(1, 0, 100)
    assert ln_evidence(of, 0, rho(0.05)) < 0
    assert ln_evidence_above(of, 0, rho(0.05)) == -math.inf
    assert difference(of, Estimate(3, 2, 50)) == Estimate(-2, 2, 150)


@pytest.mark.parametrize(("value", "holds"), [(0.0, False), (0.49, False), (0.5, True), (-0.5, True), (-0.49, False)])
def test_a_lift_needs_a_control_away_from_0(value: float, holds: bool) -> None:
    """Five standard errors, on either side."""
    of = lift(Estimate(0.7, 0.1, 400), Estimate(value, 0.1, 500))
    assert (of is not None) is holds
    assert of is None or of.units == 900


def test_a_lift_is_of_the_size_of_the_control() -> None:
    """So of losses too: from -2 to -1 is half of it more. The variance is that of the delta method."""
    of = lift(Estimate(-1, 0.1, 400), Estimate(-2, 0.2, 400))
    assert of is not None
    assert of.value == 0.5
    assert of.standard_error**2 == pytest.approx(0.1**2 / 2**2 + 0.2**2 * 1**2 / 2**4)


def test_health_seldom_leaves_the_band() -> None:
    """200 healthy phases of 4,000 visits, a tenth of which convert, looked at every 100: at 0.05 as chance allows."""
    alarms = 0
    for seed in range(200):
        draw = random.Random(seed)
        conversions = [0, 0]
        for units in range(50, 2_001, 50):
            for arm in (0, 1):
                conversions[arm] += sum(draw.random() < 0.1 for _ in range(50))
            arms = [rate(count, units) for count in conversions]
            if arms[0] and arms[1] and ln_evidence(difference(arms[1], arms[0]), 0, rho(0.05)) >= math.log(20):
                alarms += 1
                break
    assert alarms <= 200 * 0.05 + 2 * math.sqrt(200 * 0.05 * 0.95)
