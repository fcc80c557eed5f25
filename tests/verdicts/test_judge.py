"""All checks of an experiment together: what is found, where, since when, and what is withheld."""

import math
import random
from collections.abc import Iterable, Mapping

import pytest

from monitor.verdicts import checks, slices
from monitor.verdicts.families import Shares
from monitor.verdicts.judge import Counted, Course, Guarded, Kind, Known, Phase, Place, Question, State, Verdict, judged
from monitor.verdicts.means import Valued
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
    listed = list(counts)
    return tuple(map(math.fsum, zip(*listed, strict=True))) if listed else (0.0, 0.0)


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


def phase(
    assigned: By,
    orders: By,
    crossed: By | None = None,
    qualified: By | None = None,
    tardy: By | None = None,
    values: By | None = None,
) -> Phase:
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
        counted(tardy or nothing),
        {"order": counted(values or nothing)},
    )


def of(found: Iterable[Verdict], kind: Kind) -> Verdict:
    (verdict,) = [verdict for verdict in found if verdict.kind is kind]
    return verdict


def test_a_healthy_phase_alarms_nowhere() -> None:
    """Each check is healthy, and says nothing of a moment or a place."""
    found = judged(QUESTION, phase(steady(200), steady(20, seed=2)))
    kinds = set(Kind) - {Kind.MEAN}
    assert {verdict.kind: verdict.state for verdict in found} == dict.fromkeys(kinds, State.HEALTHY)
    assert all((v.since_ms, v.place, v.effect) == (None, (), None) for v in found)
    assert math.fsum(v.share for v in found) == pytest.approx(0.2 + 0.1 + 0.4 + 0.05 + 0.1)


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


def test_a_variation_that_delivers_late() -> None:
    """Twice the tardy visits in one variation on mobile devices: which, where, and how many at least."""
    begins = 20 * HOUR_MS
    late = {
        place: {at: (off, off * (2 if place == MOBILE and at >= begins else 1)) for at, (off, _) in by.items()}
        for place, by in steady(20, seed=3).items()
    }
    found = judged(QUESTION, phase(steady(200), steady(20, seed=2), tardy=late))
    verdict = of(found, Kind.LATENESS)
    assert (verdict.state, verdict.variation, verdict.place) == (State.STOP, "on", MOBILE)
    assert verdict.since_ms is not None
    assert abs(verdict.since_ms - begins) <= HOUR_MS
    assert verdict.effect is not None
    assert 0 < verdict.effect.low <= math.log(2) <= verdict.effect.high
    assert {v.state for v in found if v.kind is not Kind.LATENESS} == {State.HEALTHY}


@pytest.mark.parametrize(("times_tardy", "state"), [(0.0, State.WITHHELD), (3.0, State.STOP)])
def test_tardy_visits_while_the_split_is_wrong(times_tardy: float, state: State) -> None:
    """Fewer in the variation that lacks visits say nothing; more of them explain what it lacks."""
    begins = 20 * HOUR_MS
    late = {
        place: {at: (off, off * (times_tardy if at >= begins else 1)) for at, (off, _) in by.items()}
        for place, by in steady(20, seed=3).items()
    }
    found = judged(QUESTION, phase(steady(200, begins, 0.3), steady(20, seed=2), tardy=late))
    assert of(found, Kind.SPLIT_OF_ASSIGNED).variation == "on"
    assert of(found, Kind.LATENESS).state is state


def values_of(visits: By, amount: float, broken_from_ms: int | None = None, left: float = 1.0) -> By:
    """A fifth of the visits each spend the amount, in `on` on mobile devices only a share of it from a moment on."""
    found: dict[Place, dict[int, tuple[float, ...]]] = {}
    for place, by in visits.items():
        found[place] = {}
        for at, (off, on) in by.items():
            is_broken = place == MOBILE and broken_from_ms is not None and at >= broken_from_ms
            of_on = round(amount * (left if is_broken else 1))
            orders = off // 5, on // 5
            sums, squares = (orders[0] * amount, orders[1] * of_on), (orders[0] * amount**2, orders[1] * of_on**2)
            found[place][at] = (*sums, *squares, off, on)
    return found


SPENDING = QUESTION._replace(values=(Valued("order", False, 0.0, 100),))


def test_harm_to_a_mean_is_found_where_and_since_when() -> None:
    """As many orders as ever, of half the amount; the share is divided among both guardrails of the point."""
    visits, orders = steady(200), steady(20, seed=2)
    found = judged(SPENDING, phase(visits, orders, values=values_of(visits, 5_000, 20 * HOUR_MS, 0.5)))
    harm = of(found, Kind.MEAN)
    assert (harm.state, harm.place, harm.variation, harm.point) == (State.STOP, MOBILE, "on", "order")
    assert harm.since_ms is not None
    assert abs(harm.since_ms - 20 * HOUR_MS) <= HOUR_MS
    assert harm.effect is not None
    assert harm.effect.low <= math.log(0.5) <= harm.effect.high < 0
    assert harm.share == of(found, Kind.GUARDRAIL).share == Shares().guardrails / 2
    assert {v.state for v in found if v.kind is not Kind.MEAN} == {State.HEALTHY}


def test_a_mean_that_is_as_it_was_or_better_is_healthy() -> None:
    """Nor is it harm if it is no lower than what is tolerated."""
    visits, orders = steady(200), steady(20, seed=2)
    for factor in (1.0, 1.5):
        values = values_of(visits, 5_000, 20 * HOUR_MS, factor)
        assert of(judged(SPENDING, phase(visits, orders, values=values)), Kind.MEAN).state is State.HEALTHY
    tolerant = QUESTION._replace(values=(Valued("order", False, 0.6, 100),))
    values = values_of(visits, 5_000, 20 * HOUR_MS, 0.5)
    assert of(judged(tolerant, phase(visits, orders, values=values)), Kind.MEAN).state is State.HEALTHY


def test_a_mean_without_an_estimate() -> None:
    """Too few visits, no value, rounding that hides how values vary; and one that is withheld."""
    visits, orders = steady(200), steady(20, seed=2)
    start = {place: {0: (40.0, 40.0)} for place in (MOBILE, DESKTOP)}
    many = {place: {0: (500.0, 500.0)} for place in (MOBILE, DESKTOP)}
    begins = 20 * HOUR_MS
    near = {place: {0: (10**15, 10**15, 2 * 10**27, 2 * 10**27, 500.0, 500.0)} for place in (MOBILE, DESKTOP)}
    for assigned, values, state in (
        (start, values_of(start, 5_000), State.TOO_EARLY),
        (many, values_of(many, 0), State.NO_DATA),
        (many, near, State.NO_DATA),
        (steady(200, begins, 0.0), values_of(visits, 5_000, begins, 0.1), State.WITHHELD),
    ):
        assert of(judged(SPENDING, phase(assigned, orders, values=values)), Kind.MEAN).state is state


def test_the_worst_that_a_kind_may_say() -> None:
    """Less than it is only where that is milder; a split withholds metrics whatever it may say itself."""
    begins = 20 * HOUR_MS
    harmed, broken = steady(20, begins, 0.0, 2), steady(200, begins, 0.0)
    mild = QUESTION._replace(highest=(("guardrail", "warn"), ("split_of_assigned", "note"), ("crossed", "note")))
    found = judged(mild, phase(steady(200), harmed))
    assert of(found, Kind.GUARDRAIL).state is State.WARN
    assert of(found, Kind.GUARDRAIL).place == MOBILE
    assert of(found, Kind.SPLIT_OF_ASSIGNED).state is of(found, Kind.CROSSED).state is State.HEALTHY
    found = judged(mild, phase(broken, harmed))
    assert of(found, Kind.SPLIT_OF_ASSIGNED).state is State.NOTE
    assert of(found, Kind.SPLIT_OF_QUALIFIED).state is State.STOP
    assert of(found, Kind.GUARDRAIL).state is State.WITHHELD


def test_what_is_too_little_to_say() -> None:
    """A few visits are too early; no order at all is no data; one variation has no split and no guardrail."""
    start = {place: {0: (20.0, 20.0)} for place in (MOBILE, DESKTOP)}
    nothing: By = {MOBILE: {}, DESKTOP: {}}
    found = judged(QUESTION, phase(start, nothing))
    assert of(found, Kind.SPLIT_OF_ASSIGNED).state is State.TOO_EARLY
    assert of(found, Kind.GUARDRAIL).state is State.NO_DATA
    assert of(found, Kind.LATENESS).state is State.TOO_EARLY
    alone = QUESTION._replace(weights=(1.0,), variations=("off",))
    assert judged(alone, phase(nothing, nothing)) == []


def test_visits_in_a_variation_of_weight_0() -> None:
    """That is infinite evidence, at once; there is no guardrail for such a variation."""
    closed = QUESTION._replace(weights=(1.0, 0.0))
    found = judged(closed, phase(steady(200), steady(20, seed=2)))
    split = of(found, Kind.SPLIT_OF_ASSIGNED)
    assert (split.state, split.ln_e, split.variation, split.effect) == (State.STOP, math.inf, "on", None)
    assert [verdict for verdict in found if verdict.kind is Kind.GUARDRAIL] == []


def test_what_did_not_change_is_not_computed_again() -> None:
    """The evidence of the last look is kept by test; another count, plan or question makes another."""
    known: Known = {}
    orders = steady(20, seed=2)
    found = judged(QUESTION, phase(steady(200), orders), known=known)
    assert found == judged(QUESTION, phase(steady(200), orders))
    first = dict(known)
    assert judged(QUESTION, phase(steady(200), orders), known=known) == found
    assert all(known[key] is of for key, of in first.items())
    more = phase(steady(200), steady(20, seed=3))
    assert judged(QUESTION, more, known=known) == judged(QUESTION, more)
    assert {key[0] for key, of in first.items() if known[key] is not of} == {Kind.GUARDRAIL}
    other = QUESTION._replace(tolerance=0.1)
    assert judged(other, more, known=known) == judged(other, more)
    assert len(known) == len(first)
