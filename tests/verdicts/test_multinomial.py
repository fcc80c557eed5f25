"""Evidence against weights: published values, other ways to compute it, and what it promises."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.verdicts.multinomial import divergence, evidence, ln_evidence, ln_sum, mixture, p_value
from tests.support.exact_evidence import by_gamma, by_product, ever_reached, mean_over_samples

SMALL_WEIGHTS = st.lists(st.integers(1, 9), min_size=2, max_size=4)


@pytest.mark.parametrize(
    ("batches", "ln_e"),
    [(1, -2.950560785), (2, -3.681900877), (3, -3.860658431), (4, -4.183813982)],
)
def test_evidence_of_batches(batches: int, ln_e: float) -> None:
    """As the test suite of ssrm-test has it: a flat prior, which is not around the null hypothesis."""
    minutes = [[20, 17, 9], [18, 21, 8], [4, 6, 4], [18, 19, 11]]
    counts = [sum(cell) for cell in zip(*minutes[:batches], strict=True)]
    assert evidence(counts, [1, 1, 1], [0.4, 0.4, 0.2], strengths=[3]) == pytest.approx(ln_e, abs=1e-9)


def test_a_small_sample_of_ssrm_test() -> None:
    """Its regression test: 10 visits, of k = 10,000; E / (1 + E) is the posterior that it prints."""
    e = math.exp(evidence([2, 1, 7], [0.1, 0.5, 0.4], strengths=[10_000]))
    assert e == pytest.approx(1.0017496120, abs=1e-10)
    assert e / (1 + e) == pytest.approx(0.5004370207, abs=1e-10)


def test_the_moment_of_an_alarm() -> None:
    """The example of savvi: shares 0.1, 0.3, 0.6 instead of 0.1, 0.4, 0.5 are found at the 402nd visit, not before."""
    weights = [0.1, 0.4, 0.5]
    assert p_value(evidence([40, 129, 233], weights, strengths=[100])) == pytest.approx(0.04845591105969517, rel=1e-9)
    assert evidence([40, 129, 232], weights, strengths=[100]) < math.log(20)
    assert p_value(evidence([148, 62], [0.8, 0.2], strengths=[100])) == pytest.approx(0.045579631759249686, rel=1e-9)


@given(SMALL_WEIGHTS, SMALL_WEIGHTS, st.data())
def test_evidence_is_a_product_of_predictions(weights: list[int], null: list[int], data: st.DataObject) -> None:
    """Computed with fractions, thing by thing; against the weights, and against other probabilities."""
    size = min(len(weights), len(null))
    weights, null = weights[:size], null[:size]
    counts = data.draw(st.lists(st.integers(0, 25), min_size=size, max_size=size))
    planned, other = ([Fraction(share, sum(of)) for share in of] for of in (weights, null))
    expected = math.log(by_product(counts, planned, planned))
    assert evidence(counts, weights) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    expected = math.log(by_product(counts, planned, other))
    assert evidence(counts, weights, null) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(st.sampled_from([10**4, 10**6, 10**7, 10**9]), SMALL_WEIGHTS, st.floats(-6, 6), st.floats(-0.05, 0.05))
def test_evidence_of_many_visits_keeps_its_digits(size: int, weights: list[int], errors: float, effect: float) -> None:
    """Within 1e-10 of its definition with 50 digits, from equal to some standard errors and to large effects."""
    shares = [weight / sum(weights) for weight in weights]
    counts = [round(size * share) for share in shares]
    moved = round(errors * math.sqrt(counts[0]) + effect * counts[0])
    counts[0], counts[1] = counts[0] + moved, max(0, counts[1] - moved)
    assert evidence(counts, weights) == pytest.approx(by_gamma(counts, weights), rel=1e-10, abs=1e-9)


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01])
@pytest.mark.parametrize("size", [1, 2, 7, 40])
def test_the_mean_over_all_samples_is_1(size: int, share: float) -> None:
    """So it is an e-value: of the mixture, and against a null hypothesis beside the weights too."""
    weights = (1 - share, share)
    assert mean_over_samples(size, share, lambda counts: evidence(counts, weights)) == pytest.approx(1, abs=1e-9)
    beside = mean_over_samples(size, share, lambda counts: evidence(counts, (0.7, 0.3), weights))
    assert beside == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("level", "at_least"), [(0.05, 0.008), (0.01, 0.001)])
def test_the_level_holds_at_every_look(level: float, at_least: float) -> None:
    """The exact probability of an alarm at any of 300 looks, one after each visit, is below the level."""
    around = mixture((0.5, 0.5))
    ever = ever_reached(300, 0.5, -math.log(level), lambda counts: ln_evidence(counts, around))
    assert at_least < ever <= level


def test_a_visit_where_none_may_be() -> None:
    """In a variation of weight 0, or of probability 0, evidence is infinite; without it such a variation is no cell."""
    assert evidence([10, 12, 1], [1, 1, 0]) == math.inf
    assert evidence([10, 12, 0], [1, 1, 0]) == evidence([10, 12], [1, 1])
    assert evidence([10, 12], [1, 1], [1, 0]) == math.inf
    assert evidence([10, 0], [1, 1], [1, 0]) == pytest.approx(evidence([10, 0], [1, 1]) - 10 * math.log(2))
    assert p_value(math.inf) == 0


def test_nothing_counted_is_no_evidence() -> None:
    """Nor is one variation alone; counts below 0 count as 0."""
    assert evidence([0, 0], [1, 3]) == 0
    assert evidence([0, 0], [1, 3], [1, 1]) == 0
    assert evidence([500], [1]) == pytest.approx(0, abs=1e-12)
    assert evidence([-3, 40], [1, 1]) == evidence([0, 40], [1, 1])
    assert p_value(-1) == 1


@given(SMALL_WEIGHTS, st.data())
def test_names_and_units_of_weights_do_not_matter(weights: list[int], data: st.DataObject) -> None:
    """Cells in any order, weights of any sum."""
    counts = data.draw(st.lists(st.integers(0, 10**6), min_size=len(weights), max_size=len(weights)))
    expected = pytest.approx(evidence(counts, weights), rel=1e-9, abs=1e-9)
    assert evidence(counts, [weight * 0.37 for weight in weights]) == expected
    assert evidence(counts[::-1], weights[::-1]) == expected


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=5).filter(any))
def test_the_estimate_is_the_likeliest(counts: list[int]) -> None:
    """The divergence from it is 0, from others above 0; evidence against it is below 1."""
    shares = [count / sum(counts) for count in counts]
    assert divergence(counts, shares) == pytest.approx(0, abs=1e-9)
    assert evidence(counts, [1] * len(counts), shares) <= 1e-9
    others = [(share + 0.1) / (1 + 0.1 * len(shares)) for share in shares]
    assert divergence(counts, others) >= 0


def test_a_sum_of_logarithms() -> None:
    """Without overflow, and with infinities."""
    assert ln_sum([1_000, 1_000]) == pytest.approx(1_000 + math.log(2))
    assert ln_sum([]) == ln_sum([-math.inf, -math.inf]) == -math.inf
    assert ln_sum([-math.inf, 3]) == 3
    assert ln_sum([math.inf, 3]) == math.inf
