"""What all checks of an experiment say of the counts of its phase. Pure.

Checks, each with its share of the budget (`families.Shares`): the split of the assigned and of the qualified visits, a
guardrail for each point and variation, another one for the mean of each value, crossed visits, and tardy ones. The
evidence of all but crossed visits is merged from that over all visits and that of the slices (`slices`), so that an
incident in a small slice is found soon; slices that pass their own threshold are named, and the one that carries the
alarm is where it is. While a split alarms, verdicts on metrics are withheld: conversions are compared with the planned
weights (`checks`). So is that on tardy visits, unless it explains the split: the variation that lacks visits is the one
that delivers late.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from monitor.verdicts import checks, means, shares, slices
from monitor.verdicts.families import Shares, Thresholds, level
from monitor.verdicts.means import Pair, Valued
from monitor.verdicts.restarts import Plan, PlanEvidence, plan
from monitor.verdicts.zones import Zone, fewer, more

EARLY_VISITS = 100
"""With fewer visits in a variation a check that finds nothing says "too early"; it hides words, not evidence."""
EFFECT_ALPHA = 0.05
"""1 less the confidence of the interval of an effect."""
SLICES_EVIDENCE = 100.0
"""Slices are named with a probability of a false name of at most their share divided by this, in a phase."""

BUDGET, LIMITS = Shares(), Thresholds()
"""The shares of all checks, and the evidence from which they alarm."""

QUIET_ALPHA = 0.05
"""All outside of a slice is quiet while its evidence is below 1 over this."""

Place = tuple[tuple[str, str], ...]
"""A slice: one or two (tag, value)."""


class State(StrEnum):
    """What a check says, from the mildest to the worst but for the last two, in which it says nothing."""

    TOO_EARLY = "too_early"
    HEALTHY = "healthy"
    NOTE = "note"
    WARN = "warn"
    HOLD = "hold"
    STOP = "stop"
    WITHHELD = "withheld"
    NO_DATA = "no_data"


ALARMS = (State.HEALTHY, State.NOTE, State.WARN, State.HOLD, State.STOP)
"""The states by the number of thresholds that are reached."""
WORST_FIRST = (
    State.STOP,
    State.HOLD,
    State.WARN,
    State.NOTE,
    State.WITHHELD,
    State.HEALTHY,
    State.TOO_EARLY,
    State.NO_DATA,
)
"""The states in the order in which they are shown."""


class Kind(StrEnum):
    """The kinds of checks."""

    SPLIT_OF_ASSIGNED = "split_of_assigned"
    SPLIT_OF_QUALIFIED = "split_of_qualified"
    GUARDRAIL = "guardrail"
    MEAN = "mean"
    CROSSED = "crossed"
    LATENESS = "lateness"


SPLITS = (Kind.SPLIT_OF_ASSIGNED, Kind.SPLIT_OF_QUALIFIED)


class Course(NamedTuple):
    """Counts of a phase by cell, or sums: all of them, and those before each moment at which the plan restarts."""

    counts: tuple[float, ...]
    before: Mapping[int, tuple[float, ...]]

    def less(self, other: "Course") -> "Course":
        """The counts without those of another."""
        before = {at: _less(of, other.before.get(at, (0.0,) * len(of))) for at, of in self.before.items()}
        return Course(_less(self.counts, other.counts), before)


class Counted(NamedTuple):
    """What is counted in one respect: over all visits, and by slice."""

    whole: Course
    slices: Mapping[Place, Course]


UNCOUNTED = Counted(Course((), {}), {})
"""What was not counted has no check."""
NO_VALUES: Mapping[str, Counted] = {}


class Guarded(NamedTuple):
    """The point of a guardrail: harm is a decrease by more than `smallest`, or an increase where `is_down`."""

    point: str
    is_down: bool
    smallest: float


class Question(NamedTuple):
    """An experiment's phase: `weights` by variation, the control's place among them, and what is guarded."""

    weights: tuple[float, ...]
    variations: tuple[str, ...]
    control: int
    points: tuple[Guarded, ...]
    tolerance: float
    crossed_share: float
    values: tuple[Valued, ...] = ()
    highest: tuple[tuple[str, str], ...] = ()
    """Kinds of checks, each with the worst state that it may say; all others may say stop."""


class Phase(NamedTuple):
    """The counts of a phase, each from its own moment on until the last sealed minute, in ms of event time."""

    visits_from_ms: int
    conversions_from_ms: int
    sealed_ms: int
    assigned: Counted
    qualified: Counted
    crossed: Counted
    conversions: Mapping[str, Counted]
    """By point; crossed visits by variation, as all others."""
    tardy: Counted = UNCOUNTED
    """Tardy visits, counted as long as conversions: a visit of the phase before may still become one."""
    values: Mapping[str, Counted] = NO_VALUES
    """By point: of all variations the sums, then those of squares, then the qualified visits."""


class Verdict(NamedTuple):
    """What a check says. `ln_e`: its evidence; `share`: its part of the budget; `since_ms`: when it began, if it did.

    `place`: the slice that carries an alarm, empty for everywhere. `variation`: of a guardrail its own, of a
    split that alarms the one that lacks the most visits, of tardy visits the one with the most. `effect`: its log rate
    ratio to the control, or of a split and of tardy visits to its weight, since then, with its confidence sequence of
    95 %. `counts` are by variation (of crossed visits: those that did not and that did; of means: as `Phase.values`):
    of the phase, and since then. `slices`: of an alarm, ln E of each, the most first.
    """

    kind: Kind
    point: str | None
    variation: str | None
    state: State
    ln_e: float
    share: float
    since_ms: int | None
    place: Place
    effect: shares.Interval | None
    counts: tuple[float, ...]
    counts_since: tuple[float, ...]
    slices: tuple[tuple[Place, float], ...] = ()


class _Check(NamedTuple):
    kind: Kind
    share: float
    counted: Counted
    plan: Plan
    point: str | None = None
    variation: int | None = None
    zone: Zone | None = None
    value: Valued | None = None


class Remembered(NamedTuple):
    """The evidence of a test, and all that it follows from."""

    question: Question
    plan: Plan
    course: Course
    evidence: PlanEvidence


Known = dict[tuple[Kind, str | None, int | None, Place | None], Remembered]
"""By check and slice, the evidence at the last look: one entry for each test. The place None is all visits."""


def judged(
    question: Question, phase: Phase, budget: Shares = BUDGET, limits: Thresholds = LIMITS, known: Known | None = None
) -> list[Verdict]:
    """All verdicts: the splits, guardrails on conversions by point and variation, those on means, then the others.

    `known` is kept by the caller from look to look: a test whose counts and plan are the same is not computed again.
    """
    known = {} if known is None else known
    found = [_verdict(question, check, budget, limits, known) for check in _checks(question, phase, budget)]
    is_early = min(phase.assigned.whole.counts, default=0) < EARLY_VISITS
    lacking = [
        verdict.variation
        for verdict in found
        if verdict.kind in SPLITS and verdict.state in (State.WARN, State.HOLD, State.STOP)
    ]
    return [_bounded(_shown(verdict, is_early, lacking), question) for verdict in found]


def _bounded(verdict: Verdict, question: Question) -> Verdict:
    """An alarm as far as its kind may go: that of a split withholds metrics even if it may only say note."""
    worst = State(dict(question.highest).get(verdict.kind, State.STOP))
    if verdict.state not in ALARMS or ALARMS.index(verdict.state) <= ALARMS.index(worst):
        return verdict
    return verdict._replace(state=worst)


def _shown(verdict: Verdict, is_early: bool, lacking: Sequence[str | None]) -> Verdict:
    """What is said of a check; `lacking`: the variations that lack visits by the splits that alarm."""
    is_metric = verdict.kind in (Kind.GUARDRAIL, Kind.MEAN)
    if lacking and (is_metric or (verdict.kind is Kind.LATENESS and verdict.variation not in lacking)):
        return verdict._replace(state=State.WITHHELD)
    if verdict.state is State.HEALTHY and not sum(verdict.counts) and verdict.kind is not Kind.LATENESS:
        return verdict._replace(state=State.NO_DATA)
    if verdict.state is State.HEALTHY and is_early:
        return verdict._replace(state=State.TOO_EARLY)
    return verdict


def _checks(question: Question, phase: Phase, budget: Shares) -> Iterator[_Check]:
    of_visits = plan(phase.visits_from_ms, max(phase.visits_from_ms, phase.sealed_ms))
    of_conversions = plan(phase.conversions_from_ms, max(phase.conversions_from_ms, phase.sealed_ms))
    weights = question.weights
    if len(weights) > 1:
        yield _Check(Kind.SPLIT_OF_ASSIGNED, budget.split_of_assigned, phase.assigned, of_visits)
        yield _Check(Kind.SPLIT_OF_QUALIFIED, budget.split_of_qualified, phase.qualified, of_visits)
    compared = [
        place
        for place, weight in enumerate(weights)
        if place != question.control and weight > 0 and weights[question.control] > 0
    ]
    share = budget.guardrails / max(1, len(compared) * (len(question.points) + len(question.values)))
    for of in question.points:
        zone = more(of.smallest) if of.is_down else fewer(of.smallest)
        for place in compared:
            yield _Check(Kind.GUARDRAIL, share, phase.conversions[of.point], of_conversions, of.point, place, zone)
    of_means = means.matured(of_conversions, phase.sealed_ms)
    for value in question.values:
        for place in compared:
            yield _Check(Kind.MEAN, share, phase.values[value.point], of_means, value.point, place, value=value)
    if len(weights) > 1:
        yield _Check(Kind.CROSSED, budget.crossed, _crossing(phase), of_visits)
    if len(weights) > 1 and phase.tardy.whole.counts:
        yield _Check(Kind.LATENESS, budget.fairness, phase.tardy, of_conversions)


def _crossing(phase: Phase) -> Counted:
    """Visits that did not cross and that did, over all variations."""

    def cells(assigned: Course, crossed: Course) -> Course:
        def both(of_assigned: Sequence[float], of_crossed: Sequence[float]) -> tuple[float, float]:
            return max(0.0, sum(of_assigned) - sum(of_crossed)), sum(of_crossed)

        before = {at: both(of, crossed.before.get(at, (0.0,))) for at, of in assigned.before.items()}
        return Course(both(assigned.counts, crossed.counts), before)

    return Counted(cells(phase.assigned.whole, phase.crossed.whole), {})


def _verdict(question: Question, check: _Check, budget: Shares, limits: Thresholds, known: Known) -> Verdict:
    whole = _remembered(known, question, check, None, check.counted.whole)
    by_slice = {
        place: _remembered(known, question, check, place, course) for place, course in check.counted.slices.items()
    }
    ln_e = slices.merged(whole.ln_e, [of.ln_e for of in by_slice.values()])
    state = ALARMS[level(ln_e, check.share, limits)]
    verdict = Verdict(
        check.kind,
        check.point,
        None if check.variation is None else question.variations[check.variation],
        state,
        ln_e,
        check.share,
        None,
        (),
        None,
        check.counted.whole.counts,
        (),
    )
    if state is State.HEALTHY:
        return verdict._replace(state=_quiet(question, check))
    place = _place(question, check, by_slice, budget.slices / SLICES_EVIDENCE)
    clearest = by_slice[place] if place else max([whole, *by_slice.values()], key=lambda of: of.ln_capital)
    variation, effect = _effect(question, check, clearest.counts)
    return verdict._replace(
        variation=None if variation is None else question.variations[variation],
        since_ms=clearest.since_ms,
        place=place,
        effect=effect,
        counts_since=clearest.counts,
        slices=tuple(sorted(((at, of.ln_e) for at, of in by_slice.items()), key=lambda pair: -pair[1])),
    )


def _quiet(question: Question, check: _Check) -> State:
    """The state of a check that finds nothing: of a mean without an estimate it is none."""
    counts, pair = check.counted.whole.counts, _pair(question, check)
    if check.kind is not Kind.MEAN or pair is None or means.is_estimated(counts, pair):
        return State.HEALTHY
    return State.NO_DATA if means.are_enough(counts, pair) else State.TOO_EARLY


def _pair(question: Question, check: _Check) -> Pair | None:
    return None if check.variation is None else Pair(question.control, check.variation, len(question.weights))


def _remembered(known: Known, question: Question, check: _Check, place: Place | None, course: Course) -> PlanEvidence:
    key = check.kind, check.point, check.variation, place
    last = known.get(key)
    if last is None or (last.course, last.plan, last.question) != (course, check.plan, question):
        last = known[key] = Remembered(question, check.plan, course, _evidence(question, check, course))
    return last.evidence


def _evidence(question: Question, check: _Check, course: Course) -> PlanEvidence:
    counts, before, weights = course.counts, course.before, question.weights
    pair = _pair(question, check)
    if check.value is not None and pair is not None:
        return means.guardrail(check.plan, counts, before, pair, check.value)
    if check.kind is Kind.CROSSED:
        return checks.crossed(check.plan, counts, before, question.crossed_share)
    if check.variation is None or check.zone is None:
        return checks.split(check.plan, counts, before, weights, question.tolerance)
    return checks.guardrail(check.plan, counts, before, weights, (question.control, check.variation), check.zone)


def _place(question: Question, check: _Check, by_slice: Mapping[Place, PlanEvidence], alpha: float) -> Place:
    """The named slice that carries the alarm; empty: everywhere."""
    places = list(by_slice)
    named = slices.named([by_slice[place].ln_e for place in places], alpha)
    rests = [
        slices.Named(
            i,
            by_slice[places[i]].ln_e,
            _evidence(question, check, check.counted.whole.less(check.counted.slices[places[i]])).ln_e,
        )
        for i in named
    ]
    found = slices.carrying(rests, QUIET_ALPHA)
    return () if found is None else places[found]


def _effect(question: Question, check: _Check, counts: Sequence[float]) -> tuple[int | None, shares.Interval | None]:
    """A variation, and its log rate ratio: to the control, or that of the one furthest from its weight.

    That is the one furthest below, of tardy visits the one furthest above.
    """
    weights, pair = question.weights, _pair(question, check)
    if check.value is not None and pair is not None:
        return check.variation, means.lift(counts, pair, check.value.scale, EFFECT_ALPHA)
    if check.kind is Kind.CROSSED or sum(counts) <= 0:
        return None, None
    if check.variation is not None:
        return check.variation, shares.ratio_of_two(counts, weights, check.variation, question.control, EFFECT_ALPHA)
    if unplanned := [i for i, weight in enumerate(weights) if not weight and counts[i] > 0]:
        return unplanned[0], None
    planned = [i for i, weight in enumerate(weights) if weight > 0]
    if len(planned) < 2:
        return None, None
    expected = math.fsum(counts[i] for i in planned) / math.fsum(weights[i] for i in planned)
    sign = -1 if check.kind is Kind.LATENESS else 1
    furthest = min(planned, key=lambda i: sign * (counts[i] - expected * weights[i]))
    return furthest, shares.ratio_to_weights(counts, weights, furthest, EFFECT_ALPHA)


def _less(counts: Sequence[float], others: Sequence[float]) -> tuple[float, ...]:
    return tuple(count - other for count, other in zip(counts, others, strict=True))
