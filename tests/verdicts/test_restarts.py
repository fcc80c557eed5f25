"""The plan of restarts: its weights, its mean, what it finds and since when."""

import itertools
import math
import random
from collections.abc import Sequence
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.verdicts.multinomial import evidence, ln_evidence, mixture
from monitor.verdicts.restarts import HOUR_MS, TEN_MINUTES_MS, Plan, PlanEvidence, plan, with_restarts
from monitor.verdicts.zones import fewer, ln_evidence_against, null

MINUTE_MS = 60_000
DAY_MS = 24 * HOUR_MS
EVEN = partial(ln_evidence, around=mixture((0.5, 0.5)))
Minutes = dict[int, tuple[int, int]]
"""Start of a minute in ms -> counts of two variations in it."""


def judged(minutes: Minutes, now_ms: int, start_ms: int = 0, against=EVEN) -> PlanEvidence:  # type: ignore[no-untyped-def]
    """The evidence of minutes, of cumulative counts as a store would have them."""
    of = plan(start_ms, now_ms)
    before = {start: summed(minutes, start) for start in {restart.start_ms for restart in of.restarts}}
    return with_restarts(of, summed(minutes, now_ms), before, against)


def summed(minutes: Minutes, end_ms: int) -> tuple[int, int]:
    """The counts of all minutes before a moment."""
    earlier = [counts for start, counts in minutes.items() if start < end_ms]
    return sum(first for first, _ in earlier), sum(second for _, second in earlier)


def weights_of(of: Plan) -> dict[int, float]:
    """The weights by moment of restart."""
    return {restart.start_ms: math.exp(restart.ln_weight) for restart in of.restarts}


@given(st.integers(0, 10**12), st.integers(0, 1_200 * HOUR_MS))
def test_no_more_than_the_capital_is_staked(start_ms: int, age_ms: int) -> None:
    """At any age; what is staked never comes back, and restarts are on marks of event time."""
    of, later = plan(start_ms, start_ms + age_ms), plan(start_ms, start_ms + age_ms + 5 * TEN_MINUTES_MS)
    assert math.fsum(weights_of(of).values()) + math.exp(of.ln_unstaked) <= 1 + 1e-12
    assert 0 < math.exp(later.ln_unstaked) <= math.exp(of.ln_unstaked)
    assert of.restarts[0].start_ms == start_ms
    assert all(start % TEN_MINUTES_MS == 0 and start > start_ms for start, _ in of.restarts[1:])
    assert len(weights_of(of)) == len(of.restarts)


@pytest.mark.parametrize(
    ("age_ms", "restarts", "staked"),
    [
        (0, 1, 0.4),
        (TEN_MINUTES_MS - 1, 1, 0.4),
        (TEN_MINUTES_MS, 2, 0.4 + 0.2 / 4032),
        (HOUR_MS, 7, 0.4 + 0.3 / 672 + 5 * 0.2 / 4032),
        (7 * DAY_MS, 1 + 168 + 30, 0.4 + 168 * 0.3 / 672 + 840 * 0.2 / 4032),
        (28 * DAY_MS, 1 + 672 + 30, 0.4 + 0.3 + 0.2 * 5 / 6),
        (28 * DAY_MS + 3 * HOUR_MS, 1 + 675 + 15, 0.4 + 0.3 + 0.2 * 5 / 6 + 0.1 * (1 / 2 + 1 / 6 + 1 / 12)),
        (60 * DAY_MS, 1 + 1_440, 0.4 + 0.3 + 0.2 * 5 / 6 + 0.1 * 768 / 769),
    ],
)
def test_the_plan(age_ms: int, restarts: int, staked: float) -> None:
    """Restarts that live, and the capital that was staked, at each side of each boundary."""
    of = plan(0, age_ms)
    assert len(of.restarts) == restarts
    assert 1 - math.exp(of.ln_unstaked) == pytest.approx(staked, abs=1e-12)


def test_the_weights_of_the_plan() -> None:
    """By kind of restart; a ten-minute one lives up to 6 hours."""
    of = weights_of(plan(0, 28 * DAY_MS + 2 * HOUR_MS))
    assert of[0] == pytest.approx(0.4)
    assert of[HOUR_MS] == of[28 * DAY_MS] == pytest.approx(0.3 / 672)
    assert of[28 * DAY_MS + HOUR_MS] == pytest.approx(0.1 / 2)
    assert of[28 * DAY_MS + 2 * HOUR_MS] == pytest.approx(0.1 / 6)
    assert of[28 * DAY_MS - TEN_MINUTES_MS] == pytest.approx(0.2 / 4032)
    assert 28 * DAY_MS + TEN_MINUTES_MS not in of
    assert TEN_MINUTES_MS in weights_of(plan(0, 6 * HOUR_MS + TEN_MINUTES_MS))
    assert TEN_MINUTES_MS not in weights_of(plan(0, 6 * HOUR_MS + TEN_MINUTES_MS + 1))


def test_a_phase_begins_at_any_minute() -> None:
    """Its restarts are on the hour all the same, so that two phases and two machines agree."""
    start_ms = 23 * MINUTE_MS
    assert list(weights_of(plan(start_ms, HOUR_MS))) == [start_ms, *(i * TEN_MINUTES_MS for i in (3, 4, 5, 6))]


@pytest.mark.parametrize("share", [0.5, 0.3])
def test_the_mean_over_all_paths_is_1(share: float) -> None:
    """A visit in each ten minutes, each of the 2^10 ways: the whole mixture is an e-value; beside the weights too."""
    against = partial(ln_evidence, around=mixture((1 - share, share)))
    mean = 0.0
    for path in itertools.product((0, 1), repeat=10):
        minutes = {i * TEN_MINUTES_MS: (1 - arm, arm) for i, arm in enumerate(path)}
        e = math.exp(judged(minutes, 10 * TEN_MINUTES_MS, against=against).ln_e)
        mean += e * share ** sum(path) * (1 - share) ** (10 - sum(path))
    assert mean == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("ratio", [0.9, 1.0, 1.4])
def test_the_mean_of_a_composite_one_is_at_most_1(ratio: float) -> None:
    """The least over the zone is taken in each restart by itself, which may cost evidence but never adds any."""
    against = partial(ln_evidence_against, hypothesis=null((0.5, 0.5), fewer(0.1)))
    share = ratio / (1 + ratio)
    mean = 0.0
    for path in itertools.product((0, 1), repeat=8):
        minutes = {i * TEN_MINUTES_MS: (1 - arm, arm) for i, arm in enumerate(path)}
        e = math.exp(judged(minutes, 8 * TEN_MINUTES_MS, against=against).ln_e)
        mean += e * share ** sum(path) * (1 - share) ** (8 - sum(path))
    assert mean <= 1 + 1e-12


def random_minutes(seed: int, hours: int, share: float = 0.5, broken_from_ms: int = 2**62) -> Minutes:
    """Some ten visits a minute; from a moment on the second variation has 40 % fewer."""
    draw = random.Random(seed)
    minutes = {}
    for start in range(0, hours * HOUR_MS, MINUTE_MS):
        arms = [draw.random() < share for _ in range(draw.randint(5, 15))]
        kept = sum(draw.random() > (0.4 if start >= broken_from_ms else 0) for arm in arms if arm)
        minutes[start] = (len(arms) - sum(arms), kept)
    return minutes


@pytest.mark.parametrize("seed", range(3))
def test_evidence_is_the_sum_of_the_plan(seed: int) -> None:
    """As written down once more, plainly: capital that is not staked, and each restart's weight times its E."""
    minutes, now_ms = random_minutes(seed, 9), 9 * HOUR_MS
    total = summed(minutes, now_ms)
    staked, value = 0.4, 0.4 * math.exp(evidence(total, (1, 1)))
    for mark in range(TEN_MINUTES_MS, now_ms + 1, TEN_MINUTES_MS):
        weight = 0.3 / 672 if mark % HOUR_MS == 0 else 0.2 / 4032
        staked += weight
        if mark % HOUR_MS == 0 or now_ms - mark <= 6 * HOUR_MS:
            earlier = summed(minutes, mark)
            value += weight * math.exp(evidence([n - s for n, s in zip(total, earlier, strict=True)], (1, 1)))
    assert judged(minutes, now_ms).ln_e == pytest.approx(math.log(value + 1 - staked), rel=1e-9, abs=1e-12)


def test_an_incident_after_days_of_health() -> None:
    """It is found though the whole phase has no evidence of it, and dated: at a restart next to its beginning."""
    broken_from_ms = 40 * HOUR_MS + 33 * MINUTE_MS
    minutes = random_minutes(1, 43, broken_from_ms=broken_from_ms)
    found = judged(minutes, 43 * HOUR_MS)
    assert found.ln_e > math.log(1_000)
    assert evidence(summed(minutes, 43 * HOUR_MS), (1, 1)) < found.ln_e - 3
    assert abs(found.since_ms - broken_from_ms) <= HOUR_MS
    total, earlier = summed(minutes, 43 * HOUR_MS), summed(minutes, found.since_ms)
    assert found.counts == tuple(n - s for n, s in zip(total, earlier, strict=True))
    assert found.ln_capital <= found.ln_e


def test_an_incident_from_the_start_is_of_the_whole_phase() -> None:
    """Most capital is where it lasted longest, and most was staked."""
    start_ms = 17 * MINUTE_MS
    assert judged(random_minutes(2, 5, broken_from_ms=0), 5 * HOUR_MS, start_ms).since_ms == start_ms


def test_the_order_of_minutes_does_not_matter() -> None:
    """Between two restarts they may be in any order; a correction that restores the counts restores the evidence."""
    minutes = random_minutes(3, 4)
    expected = judged(minutes, 4 * HOUR_MS)
    shuffled: Minutes = {}
    for first in range(0, 4 * HOUR_MS, TEN_MINUTES_MS):
        starts = list(range(first, first + TEN_MINUTES_MS, MINUTE_MS))
        values = [minutes[start] for start in starts]
        random.Random(first).shuffle(values)
        shuffled.update(zip(starts, values, strict=True))
    assert judged(shuffled, 4 * HOUR_MS) == expected
    wrong = minutes | {HOUR_MS: (900, 0)}
    assert judged(wrong, 4 * HOUR_MS).ln_e > expected.ln_e + 10
    assert judged(wrong | {HOUR_MS: minutes[HOUR_MS]}, 4 * HOUR_MS) == expected


def test_a_restart_without_its_counts_is_worth_nothing() -> None:
    """Its capital is lost, which can only lose evidence; the start of the phase needs no counts."""
    minutes, now_ms = random_minutes(4, 3), 3 * HOUR_MS
    of, total = plan(0, now_ms), summed(minutes, now_ms)
    alone = with_restarts(of, total, {}, EVEN)
    unstaked = math.exp(of.ln_unstaked)
    assert math.exp(alone.ln_e) == pytest.approx(unstaked + 0.4 * math.exp(evidence(total, (1, 1))), rel=1e-12)
    assert alone.since_ms == 0
    assert alone.ln_e < judged(minutes, now_ms).ln_e


def test_counts_that_a_correction_made_fall() -> None:
    """Below those at a restart, or below 0, for a moment: they count as 0."""
    of = plan(0, TEN_MINUTES_MS)
    fallen, none = (with_restarts(of, (30, 20), {TEN_MINUTES_MS: at}, EVEN) for at in ((31, 20), (30, 20)))
    assert fallen == none
    assert with_restarts(of, (-1, 20), {}, EVEN) == with_restarts(of, (0, 20), {}, EVEN)


def test_a_new_phase_has_no_evidence() -> None:
    """E is 1 before anything is counted, at any age."""
    for age_ms in (0, HOUR_MS, 40 * DAY_MS):
        of = plan(5 * MINUTE_MS, 5 * MINUTE_MS + age_ms)
        zeros: dict[int, Sequence[float]] = {restart.start_ms: (0, 0) for restart in of.restarts}
        lost = 1 - math.fsum(weights_of(of).values()) - math.exp(of.ln_unstaked)
        assert math.exp(with_restarts(of, (0, 0), zeros, EVEN).ln_e) == pytest.approx(1 - lost)


def test_health_seldom_alarms() -> None:
    """150 healthy phases of 8 hours, looked at every 10 minutes: at level 0.05 no more than chance allows."""
    alarms = 0
    for seed in range(150):
        draw = random.Random(seed)
        total, before = (0, 0), {0: (0, 0)}
        for now_ms in range(TEN_MINUTES_MS, 8 * HOUR_MS + 1, TEN_MINUTES_MS):
            second = sum(draw.random() < 0.5 for _ in range(40))
            total = (total[0] + 40 - second, total[1] + second)
            before[now_ms] = total
            if with_restarts(plan(0, now_ms), total, before, EVEN).ln_e >= math.log(20):
                alarms += 1
                break
    assert alarms <= 150 * 0.05 + 2 * math.sqrt(150 * 0.05 * 0.95)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=6, max_size=12), st.integers(2, 4))
def test_a_finer_grid_of_looks_never_lowers_the_largest_evidence(counts: list[tuple[int, int]], step: int) -> None:
    """A look more can only add to what was the most: evidence of a moment does not depend on other looks."""
    minutes = {i * TEN_MINUTES_MS: of for i, of in enumerate(counts)}
    looks = [judged(minutes, i * TEN_MINUTES_MS).ln_e for i in range(1, len(counts) + 1)]
    assert max(looks) >= max(judged(minutes, i * TEN_MINUTES_MS).ln_e for i in range(step, len(counts) + 1, step))
