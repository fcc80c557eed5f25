"""One budget over many tests."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.verdicts.families import Shares, Thresholds, e_bh, holm, level, ln_threshold

TESTS = st.lists(st.tuples(st.floats(-3, 14), st.integers(1, 9)), min_size=1, max_size=10)


def test_the_default_budget_is_the_whole() -> None:
    """And no more."""
    assert sum(Shares()) == pytest.approx(1)
    assert list(Thresholds()) == sorted(Thresholds()) == [20, 50, 100, 1_000]


@pytest.mark.parametrize(("e", "expected"), [(99, 0), (101, 1), (249, 1), (251, 2), (501, 3), (4_999, 3), (5_001, 4)])
def test_thresholds_are_divided_by_the_share(e: float, expected: int) -> None:
    """A fifth of the budget needs five times the evidence."""
    assert level(math.log(e), 0.2, Thresholds()) == expected
    assert ln_threshold(100, 0.2) == pytest.approx(math.log(500))
    assert level(math.inf, 1e-9, Thresholds()) == 4


@given(TESTS, st.sampled_from([0.2, 0.05, 0.001]))
def test_holm_rejects_what_all_its_intersections_reject(tests: list[tuple[float, int]], alpha: float) -> None:
    """Holm is the closed test: a check alarms if each set with it has a member above 1 / alpha times its part of it."""
    ln_e = [value for value, _ in tests]
    shares = [weight / sum(weight for _, weight in tests) for _, weight in tests]
    closed = []
    for i in range(len(tests)):
        sets = (s for s in range(2 ** len(tests)) if s >> i & 1)
        if all(_is_rejected(ln_e, shares, subset, alpha) for subset in sets):
            closed.append(i)
    assert sorted(holm(ln_e, shares, alpha)) == closed


def _is_rejected(ln_e: list[float], shares: list[float], subset: int, alpha: float) -> bool:
    members = [i for i in range(len(ln_e)) if subset >> i & 1]
    whole = sum(shares[i] for i in members)
    return any(ln_e[i] >= math.log(whole / (alpha * shares[i])) + 1e-12 for i in members)


@given(TESTS, st.sampled_from([0.2, 0.05]), st.integers(0, 9), st.floats(0, 9))
def test_holm_is_latched(tests: list[tuple[float, int]], alpha: float, grown: int, by: float) -> None:
    """More evidence in one check takes no alarm of another away; what Bonferroni says, Holm says."""
    ln_e = [value for value, _ in tests]
    shares = [weight / 100 for _, weight in tests]
    alarms = set(holm(ln_e, shares, alpha))
    ln_e[grown % len(tests)] += by
    assert alarms <= set(holm(ln_e, shares, alpha))
    assert {i for i, value in enumerate(ln_e) if value >= ln_threshold(1 / alpha, shares[i]) + 1e-9} <= set(
        holm(ln_e, shares, alpha)
    )


def test_holm_hands_on_the_share_of_an_alarm() -> None:
    """Of two checks with half of the budget each the second needs half of the evidence once the first has alarmed."""
    first, second = math.log(2 / 0.01) + 1e-9, math.log(1 / 0.01) + 1e-9
    assert holm([second, first], [0.5, 0.5], 0.01) == [1, 0]
    assert holm([second, 0], [0.5, 0.5], 0.01) == []
    assert holm([math.inf, second], [0.5, 0.5], 0.01) == [0, 1]
    assert holm([], [], 0.01) == []


def test_a_budget_that_is_not_spent_is_kept_for_checks_to_come() -> None:
    """So a check that joins later takes no alarm away."""
    assert holm([math.log(1 / 0.01) + 1], [0.1], 0.01) == []
    assert holm([math.log(10 / 0.01) + 1e-9], [0.1], 0.01) == [0]


@given(TESTS, st.sampled_from([0.3, 0.1]))
def test_the_list_is_that_of_e_bh(tests: list[tuple[float, int]], q: float) -> None:
    """As defined: the largest k for which k tests have evidence of 1 / (k q w)."""
    ln_e = [value for value, _ in tests]
    weights = [weight / sum(weight for _, weight in tests) for _, weight in tests]
    expected: list[int] = []
    for k in range(1, len(tests) + 1):
        strong = [i for i, value in enumerate(ln_e) if math.exp(value) * (1 + 1e-12) >= 1 / (k * q * weights[i])]
        expected = strong if len(strong) >= k else expected
    found = e_bh(ln_e, [weight for _, weight in tests], q)
    assert sorted(found) == expected
    assert [ln_e[i] + math.log(weights[i]) for i in found] == sorted(
        (ln_e[i] + math.log(weights[i]) for i in found), reverse=True
    )


def test_the_list_of_equal_tests() -> None:
    """The one needs E of K / q, K of them 1 / q each."""
    assert e_bh([math.log(40) + 1e-9, 0, 0, 0], [1, 1, 1, 1]) == [0]
    assert e_bh([math.log(40) - 1e-9, 0, 0, 0], [1, 1, 1, 1]) == []
    assert e_bh([math.log(10) + 1e-9] * 4, [1, 1, 1, 1]) == [0, 1, 2, 3]
    assert e_bh([math.log(10) - 1e-9] * 4, [1, 1, 1, 1]) == []
    assert e_bh([], []) == []
