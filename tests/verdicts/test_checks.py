"""The checks of an experiment that are made of counts."""

import itertools
import math

import pytest

from monitor.verdicts.checks import CROSSED_SHARE, crossed, guardrail, split
from monitor.verdicts.multinomial import evidence
from monitor.verdicts.restarts import HOUR_MS, TEN_MINUTES_MS, plan
from monitor.verdicts.zones import fewer, ln_evidence_against, more, null, tolerance

AT_START = plan(0, 0)
"""The whole phase has 0.4 of the capital, and nothing else is staked."""


def whole(e_of_phase: float) -> float:
    """ln E of a phase that has had no restart."""
    return math.log(0.6 + 0.4 * math.exp(e_of_phase))


def test_a_split_is_tested_against_the_weights() -> None:
    """Of all variations together, with variations of weight 0 left out while they have no visits."""
    found = split(AT_START, [130, 90, 0], {}, [1, 1, 0])
    assert found.ln_e == pytest.approx(whole(evidence([130, 90], [1, 1])))
    assert split(AT_START, [90, 60, 50], {}, [2, 1, 1]).ln_e == pytest.approx(whole(evidence([90, 60, 50], [2, 1, 1])))
    assert split(AT_START, [90], {}, [1]).ln_e == pytest.approx(0, abs=1e-12)


def test_a_visit_in_a_variation_of_weight_0() -> None:
    """It cannot be by chance."""
    assert split(AT_START, [500, 500, 1], {}, [1, 1, 0]).ln_e == math.inf
    assert split(AT_START, [500, 500, 1], {}, [1, 1, 0], tolerated=0.005).ln_e == math.inf
    assert split(AT_START, [500, 500, -1], {}, [1, 1, 0]).ln_e < 0


def test_a_tolerated_split_of_two() -> None:
    """One test, for the one deviates as the other does."""
    found = split(AT_START, [2_000_000, 1_960_000], {}, [1, 1], tolerated=0.005)
    zone = null((1, 1), tolerance(0.005))
    assert found.ln_e == pytest.approx(whole(ln_evidence_against((2_000_000, 1_960_000), zone)))
    assert found.ln_e == pytest.approx(split(AT_START, [1_960_000, 2_000_000], {}, [1, 1], tolerated=0.005).ln_e)
    assert split(AT_START, [2_000_000, 1_996_000], {}, [1, 1]).ln_e > -1
    assert split(AT_START, [2_000_000, 1_996_000], {}, [1, 1], tolerated=0.005).ln_e < 0


def test_a_tolerated_split_of_three() -> None:
    """Each variation against the rest, the strongest divided by three."""
    counts, weights = [300_000, 300_000, 280_000], [1, 1, 1]
    found = split(AT_START, counts, {}, weights, tolerated=0.005)
    third = whole(ln_evidence_against((600_000, 280_000), null((2, 1), tolerance(0.005))))
    assert found.ln_e == pytest.approx(third - math.log(3))


def test_the_mean_of_a_tolerated_split_is_at_most_1() -> None:
    """Over all ways of 8 visits into three variations, of shares within the tolerance."""
    tolerated, shares = 0.3, (0.37, 0.33, 0.30)
    mean = 0.0
    for path in itertools.product(range(3), repeat=8):
        counts = [path.count(arm) for arm in range(3)]
        mean += math.prod(shares[arm] for arm in path) * math.exp(
            split(AT_START, counts, {}, [1, 1, 1], tolerated).ln_e
        )
    assert mean <= 1


def test_a_guardrail_looks_at_its_two_variations() -> None:
    """Whatever a third one does, and in the direction that harms."""
    counts, weights = [400, 5_000, 250], [1, 5, 1]
    harm = guardrail(AT_START, counts, {}, weights, (0, 2), fewer(0.1))
    assert harm.ln_e == pytest.approx(whole(ln_evidence_against((400, 250), null((1, 1), fewer(0.1)))))
    assert harm.ln_e > math.log(20)
    assert guardrail(AT_START, counts, {}, weights, (2, 0), fewer(0.1)).ln_e < 0
    assert guardrail(AT_START, counts, {}, weights, (2, 0), more(0.1)).ln_e > math.log(20)


def test_a_guardrail_takes_restarts() -> None:
    """An hour without conversions of a variation, after a day as planned."""
    now_ms = 25 * HOUR_MS
    before = {mark: (mark // TEN_MINUTES_MS * 20,) * 2 for mark in range(0, 24 * HOUR_MS + 1, TEN_MINUTES_MS)}
    before |= {mark: (mark // TEN_MINUTES_MS * 20, 2_880) for mark in range(24 * HOUR_MS, now_ms + 1, TEN_MINUTES_MS)}
    found = guardrail(plan(0, now_ms), before[now_ms], before, [1, 1], (0, 1), fewer())
    assert found.since_ms == 24 * HOUR_MS
    assert found.ln_e > math.log(10**6)


@pytest.mark.parametrize(("visits", "alarms"), [(100, False), (200, False), (320, True)])
def test_crossed_visits(visits: int, alarms: bool) -> None:
    """Of 10,000: only clearly more than 2 % are told, not fewer."""
    found = crossed(AT_START, (10_000 - visits, visits), {})
    hypothesis = null((1 - CROSSED_SHARE, CROSSED_SHARE), more())
    assert CROSSED_SHARE == 0.02
    assert found.ln_e == pytest.approx(whole(ln_evidence_against((10_000 - visits, visits), hypothesis)))
    assert (found.ln_e > math.log(1_000)) is alarms
    assert alarms or found.ln_e < 0
