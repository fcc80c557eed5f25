"""All checks of an experiment together: what is found, where, since when, and what is withheld."""

import math
import random
from collections.abc import Iterable, Mapping

import pytest

from monitor.verdicts import checks, slices
from monitor.verdicts.families import Shares
from monitor.verdicts.judge import Counted, Course, Guarded, Kind, Phase, Place, Question, State, Verdict, judged
from monitor.verdicts.restarts import HOUR_MS, TEN_MINUTES_MS, plan
from monitor.verdicts.zones import fewer

QUESTION = Question((1.0, 1.0), ("off", "on"), 0, (Guarded("order", False, 0.0),), 0.005, 0.02)
MOBILE: Place = (("device", "mobile"),)
DESKTOP: Place = (("device", "desktop"),)
HOURS = 30
By = Mapping[Place, Mapping[int, tuple[float, ...]]]
"""Counts by device and start of ten minutes."""


def counted(by: By) -> Counted:
    """All visits, and those by device."""
    whole: dict[int, tuple[float, ...]] = {}
    for of in by.values():
        for at, counts in of.items():
            before = whole.get(at, (0.0,) * len(counts))
            whole[at] = tuple(a + b for a, b in zip(before, counts, strict=True))
    return Counted(course(whole), {place: course(of) for place, of in by.items()})


def course(of: Mapping[int, tuple[float, ...]]) -> Course:
    """The cumulative counts, and those before each restart of a phase from 0 on."""
    marks = [restart.start_ms for restart in plan(0, HOURS * HOUR_MS).restarts[1:]]
    return Course(summed(of.values()), {mark: summed(c for at, c in of.items() if at < mark) for mark in marks})


def summed(counts: Iterable[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(map(math.fsum, zip(*[(0.0, 0.0), *counts], strict=True)))


def steady(visits: float, broken_from_ms: int | None = None, left: float = 0.0, seed: int = 1) -> By:
    """Counts by device with chance; in variation `on` on mobile devices only the share `left` from a moment on."""
    chance = random.Random(seed)
    found: dict[Place, dict[int, tuple[float, ...]]] = {MOBILE: {}, DESKTOP: {}}
    for at in range(0, HOURS * HOUR_MS, TEN_MINUTES_MS):
        for place, of in found.items():
            is_broken = place == MOBILE and broken_from_ms is not None and at >= broken_from_ms
            mean = visits / 2
            off, on = (round(max(0.0, chance.gauss(mean, math.sqrt(mean)))) for _ in range(2))
            of[at] = (float(off), float(round(on * left) if is_broken else on))
    return found


def phase(assigned: By, orders: By, crossed: By | None = None, qualified: By | None = None) -> Phase:
    nothing: By = {MOBILE: {}, DESKTOP: {}}
    visits = counted(assigned)
    return Phase(
        0,
        0,
        HOURS * HOUR_MS,
        visits,
        counted(qualified or assigned),
        counted(crossed or nothing),
        {"order": counted(orders)},
    )


def of(found: Iterable[Verdict], kind: Kind) -> Verdict:
    (verdict,) = [verdict for verdict in found if verdict.kind is kind]
    return verdict


def test_a_healthy_phase_alarms_nowhere() -> None:
    """Each check is healthy, and says nothing of a moment or a place."""
    found = judged(QUESTION, phase(steady(200), steady(20, seed=2)))
    assert {verdict.kind: verdict.state for verdict in found} == dict.fromkeys(Kind, State.HEALTHY)
    assert all((v.since_ms, v.place, v.effect) == (None, (), None) for v in found)
    assert math.fsum(v.share for v in found) == pytest.approx(0.2 + 0.1 + 0.4 + 0.05)


@pytest.mark.parametrize(("begins", "left"), [(20 * HOUR_MS, 0.3), (25 * HOUR_MS + 3 * TEN_MINUTES_MS, 0.0)])
def test_harm_is_found_where_and_since_when(begins: int, left: float) -> None:
    """Orders of one variation on mobile devices: the slice, the moment to ten minutes or the hour, and how much."""
    found = judged(QUESTION, phase(steady(200), steady(20, begins, left, 2)))
    harm = of(found, Kind.GUARDRAIL)
    assert (harm.state, harm.place, harm.variation) == (State.STOP, MOBILE, "on")
    assert harm.since_ms is not None
    assert abs(harm.since_ms - begins) <= HOUR_MS
    (first, most), (second, less) = harm.slices
    assert (first, second) == (MOBILE, DESKTOP)
    assert most > 7 > less
    assert harm.effect is not None
    assert harm.effect.low <= math.log(left or 1e-9) <= harm.effect.high < 0 or left == 0
    assert of(found, Kind.SPLIT_OF_ASSIGNED).state is State.HEALTHY


def test_the_direction_of_harm() -> None:
    """More orders are none; of a point whose decrease is good they are."""
    orders = {place: {at: (a, 1.6 * a) for at, (a, _) in by.items()} for place, by in steady(20, seed=2).items()}
    assert of(judged(QUESTION, phase(steady(200), orders)), Kind.GUARDRAIL).state is State.HEALTHY
    errors = QUESTION._replace(points=(Guarded("order", True, 0.0),))
    assert of(judged(errors, phase(steady(200), orders)), Kind.GUARDRAIL).state is State.STOP
    tolerated = QUESTION._replace(points=(Guarded("order", True, 0.7),))
    assert of(judged(tolerated, phase(steady(200), orders)), Kind.GUARDRAIL).state is State.HEALTHY


def test_verdicts_on_metrics_are_withheld_while_the_split_is_wrong() -> None:
    """Whatever they would say; the split names the variation that lacks visits."""
    begins = 20 * HOUR_MS
    found = judged(QUESTION, phase(steady(200, begins, 0.0), steady(20, begins, 0.0, 2)))
    split = of(found, Kind.SPLIT_OF_ASSIGNED)
    assert (split.state, split.variation, split.place) == (State.STOP, "on", MOBILE)
    assert of(found, Kind.GUARDRAIL).state is State.WITHHELD


def test_the_evidence_is_merged_from_all_visits_and_slices() -> None:
    """As the parts say it: half of all visits, half of the mean over the slices."""
    orders = steady(20, 24 * HOUR_MS, 0.6, 2)
    of_all, weights, arms = plan(0, HOURS * HOUR_MS), (1.0, 1.0), (0, 1)
    parts = [
        checks.guardrail(of_all, c.counts, c.before, weights, arms, fewer()).ln_e
        for c in (counted(orders).whole, *counted(orders).slices.values())
    ]
    verdict = of(judged(QUESTION, phase(steady(200), orders)), Kind.GUARDRAIL)
    assert verdict.ln_e == pytest.approx(slices.merged(parts[0], parts[1:]))
    assert verdict.share == Shares().guardrails


def test_crossed_visits() -> None:
    """More than 2 % of the assigned ones."""
    assigned = steady(200)
    few = {place: {at: (1.0, 1.0) for at in by} for place, by in assigned.items()}
    many = {place: {at: (4.0, 4.0) for at in by} for place, by in assigned.items()}
    orders = steady(20, seed=2)
    assert of(judged(QUESTION, phase(assigned, orders, few)), Kind.CROSSED).state is State.HEALTHY
    assert of(judged(QUESTION, phase(assigned, orders, many)), Kind.CROSSED).state is State.STOP


def test_what_is_too_little_to_say() -> None:
    """A few visits are too early; no order at all is no data; one variation has no split and no guardrail."""
    start = {place: {0: (20.0, 20.0)} for place in (MOBILE, DESKTOP)}
    nothing: By = {MOBILE: {}, DESKTOP: {}}
    found = judged(QUESTION, phase(start, nothing))
    assert of(found, Kind.SPLIT_OF_ASSIGNED).state is State.TOO_EARLY
    assert of(found, Kind.GUARDRAIL).state is State.NO_DATA
    alone = QUESTION._replace(weights=(1.0,), variations=("off",))
    assert judged(alone, phase(nothing, nothing)) == []


def test_visits_in_a_variation_of_weight_0() -> None:
    """That is infinite evidence, at once; there is no guardrail for such a variation."""
    closed = QUESTION._replace(weights=(1.0, 0.0))
    found = judged(closed, phase(steady(200), steady(20, seed=2)))
    split = of(found, Kind.SPLIT_OF_ASSIGNED)
    assert (split.state, split.ln_e, split.variation, split.effect) == (State.STOP, math.inf, "on", None)
    assert [verdict for verdict in found if verdict.kind is Kind.GUARDRAIL] == []
