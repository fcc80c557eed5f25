"""Guardrails on means: the evidence as the sequences give it, both directions, restarts, and healthy phases."""

import math
import random
import statistics as plain
from collections.abc import Callable, Sequence
from itertools import accumulate

import pytest

from monitor.verdicts import sequences
from monitor.verdicts.means import ALPHA, Pair, Valued, guardrail, is_estimated, lift, matured
from monitor.verdicts.restarts import HOUR_MS, PlanEvidence, plan
from monitor.verdicts.sequences import Estimate

PAIR = Pair(0, 1, 2)
VALUE = Valued("order", False, 0.0, 100)
ALONE = plan(0, 0)
"""Only the whole phase, with a capital of 0.4."""


def totals(values: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Sums, squares and visits of the values of each visit, by variation."""
    parts: list[Callable[[Sequence[int]], int]] = [sum, lambda of: sum(x * x for x in of), len]
    return tuple(part(of) for part in parts for of in values)


def ln_e(values: Sequence[Sequence[int]], value: Valued = VALUE) -> float:
    return guardrail(ALONE, totals(values), {}, PAIR, value).ln_e


def expected(contrast: float, error: float, units: int) -> float:
    """ln of 0.6, which is not staked, and 0.4 times the evidence that the contrast is below 0."""
    of_phase = sequences.ln_evidence_below(Estimate(contrast, error, units), 0, sequences.rho(2 * ALPHA))
    return math.log(0.6 + 0.4 * math.exp(of_phase))


def variance(own: Sequence[int], other: Sequence[int]) -> float:
    return max(plain.variance(own), plain.variance([*own, *other]))


def drawn(visits: int, rate: float, chance: random.Random, factor: float = 1) -> list[int]:
    """What visits spend, in cents: most nothing, some a log-normal amount."""
    return [round(factor * chance.lognormvariate(8, 0.8)) if chance.random() < rate else 0 for _ in range(visits)]


def test_the_evidence_is_that_of_the_difference_of_two_means() -> None:
    """As plain statistics compute it from the visits, each variance at least that of all visits."""
    chance = random.Random(5)
    control, variation = drawn(4_000, 0.1, chance), drawn(3_000, 0.1, chance, 0.7)
    contrast = plain.mean(variation) - plain.mean(control)
    error = math.sqrt(variance(variation, control) / 3_000 + variance(control, variation) / 4_000)
    assert ln_e([control, variation]) == pytest.approx(expected(contrast, error, 7_000), rel=1e-9)
    assert ln_e([control, variation]) > 1


@pytest.mark.parametrize(("smallest", "sign"), [(0.2, 1), (0.2, -1), (0.5, 1)])
def test_the_smallest_effect_that_matters(smallest: float, sign: int) -> None:
    """Only what is lost beyond it is evidence, also where a mean is below 0."""
    chance = random.Random(6)
    control, variation = drawn(4_000, 0.3, chance), drawn(4_000, 0.3, chance, 0.65 if sign > 0 else 1.6)
    control, variation = [sign * x for x in control], [sign * x for x in variation]
    factor = 1 - sign * smallest
    contrast = plain.mean(variation) - factor * plain.mean(control)
    error = math.sqrt((variance(variation, control) + factor**2 * variance(control, variation)) / 4_000)
    found = ln_e([control, variation], VALUE._replace(smallest=smallest))
    assert found == pytest.approx(expected(contrast, error, 8_000), rel=1e-9)
    assert (found > 1) == (smallest == 0.2)


@pytest.mark.parametrize(("is_down", "factor", "alarms"), [(False, 0.5, True), (False, 2, False), (True, 2, True)])
@pytest.mark.parametrize("scale", [100, -100])
def test_the_direction_of_harm(is_down: bool, factor: float, alarms: bool, scale: int) -> None:
    """A lower mean, or a higher one of a value that should be low; the sign of the scale is no part of the value."""
    chance = random.Random(7)
    sign = 1 if scale > 0 else -1
    both = [[sign * x for x in drawn(5_000, 0.2, chance, of)] for of in (1, factor)]
    assert (ln_e(both, Valued("order", is_down, 0.0, scale)) > math.log(1_000)) == alarms


def test_no_estimate_is_no_evidence() -> None:
    """Too few visits; no values; and squares beyond 2^53 whose rounding hides how values vary."""
    assert ln_e([[1] * 99, [0] * 5_000]) == pytest.approx(0, abs=1e-12)
    assert not is_estimated(totals([[0] * 500, [0] * 500]), PAIR)
    near = [10**12 + i % 2 for i in range(500)]
    assert not is_estimated(totals([near, [x // 2 for x in near]]), PAIR)
    assert ln_e([near, [x // 2 for x in near]]) == pytest.approx(0, abs=1e-12)
    assert is_estimated(totals([[0, 5] * 500, [0, 4] * 500]), PAIR)


def test_the_lift() -> None:
    """ln of the ratio of the means, around which its band lies; none beside a control of about 0."""
    chance = random.Random(8)
    control, variation = drawn(9_000, 0.5, chance), drawn(9_000, 0.5, chance, 0.8)
    found = lift(totals([control, variation]), PAIR, 100, 0.05)
    assert found is not None
    assert math.exp(found.estimate) == pytest.approx(plain.mean(variation) / plain.mean(control))
    assert found.low < math.log(0.8) < found.high < 0
    assert lift(totals([[1, -1] * 500, variation]), PAIR, 100, 0.05) is None
    refunds = lift(totals([control, [-x for x in control]]), PAIR, 100, 0.05)
    assert refunds is not None
    assert refunds.estimate == refunds.low == -math.inf


def test_only_restarts_on_the_hour_that_are_an_hour_old_count() -> None:
    """The others hold values of visits that qualified before them; they lose their capital and nothing else."""
    whole = plan(17 * 60_000, 5 * HOUR_MS + 30 * 60_000)
    kept = matured(whole, 5 * HOUR_MS + 30 * 60_000)
    assert [at.start_ms for at in kept.restarts] == [17 * 60_000, *(hour * HOUR_MS for hour in (1, 2, 3, 4))]
    assert kept.ln_unstaked == whole.ln_unstaked


def by_plan(by_hour: Sequence[Sequence[int]], value: Valued = VALUE) -> PlanEvidence:
    """The evidence at the end of some hours of a phase."""
    end_ms = len(by_hour) * HOUR_MS
    cumulative = list(accumulate(by_hour, lambda a, b: [x + y for x, y in zip(a, b, strict=True)]))
    before = {(hour + 1) * HOUR_MS: of for hour, of in enumerate(cumulative)}
    return guardrail(matured(plan(0, end_ms), end_ms), cumulative[-1], before, PAIR, value)


def test_a_restart_finds_what_begins_late_and_sums_may_fall() -> None:
    """After hours of health, and in an hour of more refunds than sales, which are as many in both."""
    chance = random.Random(9)
    by_hour = [
        totals([drawn(1_500, 0.2, chance), drawn(1_500, 0.2, chance, 0.3 if hour >= 36 else 1)]) for hour in range(42)
    ]
    assert by_plan(by_hour[:36]).ln_e < 1
    found = by_plan(by_hour)
    assert found.ln_e > math.log(1_000)
    assert abs(found.since_ms - 36 * HOUR_MS) <= HOUR_MS
    returned = [*by_hour[:38], totals([[-5_000] * 1_500, [-5_000] * 1_500]), *by_hour[38:]]
    assert by_plan(returned).ln_e > math.log(20)


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_healthy_phases_hardly_ever_alarm(share: float) -> None:
    """Of 60 phases of two days, looked at each hour, with values of a long tail: at most the level and two errors.

    Also of a variation with a tenth of the visits, which has few orders for long.
    """
    chance, phases, level = random.Random(10), 60, 0.05
    alarms = 0
    for _ in range(phases):
        by_hour = [
            totals([drawn(round(300 * (1 - share)), 0.08, chance), drawn(round(300 * share), 0.08, chance)])
            for _ in range(48)
        ]
        alarms += any(by_plan(by_hour[:hour]).ln_e > -math.log(level) for hour in range(1, 49))
    assert alarms / phases <= level + 2 * math.sqrt(level * (1 - level) / phases)
