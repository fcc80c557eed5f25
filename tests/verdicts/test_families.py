"""One budget over many tests."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.verdicts.families import Shares, Thresholds, e_bh, level, ln_threshold

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
