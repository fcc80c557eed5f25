"""Merging the evidence of slices, and naming the one that carries an alarm."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.verdicts.multinomial import evidence
from monitor.verdicts.slices import Named, carrying, merged, named
from tests.support.exact_evidence import mean_over_samples

LN_E = st.lists(st.floats(-20, 20), min_size=1, max_size=12)


@given(st.floats(-20, 20), LN_E)
def test_half_of_the_evidence_is_that_over_all(overall: float, slices: list[float]) -> None:
    """The other half is the mean of the slices."""
    expected = 0.5 * math.exp(overall) + 0.5 * sum(map(math.exp, slices)) / len(slices)
    assert math.exp(merged(overall, slices)) == pytest.approx(expected)


def test_merging_has_no_overflow() -> None:
    """Of one slice that is all there is, and of none."""
    assert merged(0, [5_000, 0]) == pytest.approx(5_000 - math.log(4))
    assert merged(3, []) == 3
    assert merged(-math.inf, [2]) == pytest.approx(2 - math.log(2))
    assert merged(1, [math.inf, 0]) == math.inf


def test_merged_evidence_is_evidence() -> None:
    """Its mean is 1, though slices overlap: here each is the whole."""

    def of(counts: tuple[int, int]) -> float:
        return merged(evidence(counts, (1, 1)), [evidence(counts, (1, 1), strengths=[k]) for k in (1, 50)])

    assert mean_over_samples(30, 0.5, of) == pytest.approx(1)


@given(LN_E, st.sampled_from([0.2, 0.01]))
def test_names_are_those_of_holm(slices: list[float], alpha: float) -> None:
    """As defined: p-values in order, each against alpha over the number left; none after the first that fails."""
    p_values = sorted((min(1, math.exp(-value)), i) for i, value in enumerate(slices))
    expected = []
    for place, (p, i) in enumerate(p_values):
        if p > alpha / (len(slices) - place):
            break
        expected.append(i)
    assert sorted(named(slices, alpha)) == sorted(expected)


def test_the_first_name_needs_evidence_times_the_number_of_slices() -> None:
    """Both sides of the boundary, and the lower one of the second."""
    s_over_alpha, second = math.log(4 / 0.01), math.log(3 / 0.01)
    assert named([0, s_over_alpha - 1e-9, 0, 0], 0.01) == []
    assert named([0, s_over_alpha + 1e-9, 0, 0], 0.01) == [1]
    assert named([0, s_over_alpha + 1e-9, second + 1e-9, 0], 0.01) == [1, 2]
    assert named([0, s_over_alpha + 1e-9, second - 1e-9, 0], 0.01) == [1]
    assert named([], 0.01) == []


def test_the_slice_that_carries_the_alarm() -> None:
    """All outside of it is quiet, and it has the most evidence; if no rest is quiet, all may be parts of everything."""
    part = Named(place=4, ln_e=30.0, ln_e_of_rest=9.0)
    mobile = Named(place=1, ln_e=20.0, ln_e_of_rest=0.3)
    large = Named(place=2, ln_e=15.0, ln_e_of_rest=-1.0)
    assert carrying([large, part, mobile], 0.01) == 1
    assert carrying([part], 0.01) is None
    assert carrying([], 0.01) is None
    loud = -math.log(0.01)
    assert carrying([mobile._replace(ln_e_of_rest=loud - 1e-9)], 0.01) == 1
    assert carrying([mobile._replace(ln_e_of_rest=loud)], 0.01) is None
    assert carrying([mobile, mobile._replace(place=7)], 0.01) == 1
