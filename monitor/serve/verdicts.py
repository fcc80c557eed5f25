"""The verdicts of an experiment's checks, from the final minutes of its present phase.

A verdict is a function of the store and the configuration: another service, or one after a restart, says the same.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from monitor.config.settings import ExperimentTable
from monitor.config.stored_names import by_configured_name, stored_experiments, stored_metrics
from monitor.core.codes import MINUTE_MS
from monitor.serve import budgets
from monitor.serve.answers import tag_values
from monitor.serve.beginnings import LOST, begun, held_from_ms
from monitor.serve.count_file import CountFileError
from monitor.serve.effective_counts import judged_effective
from monitor.serve.evidence import serving
from monitor.serve.failover import final_until_ms
from monitor.serve.late_bounds import with_late_visits
from monitor.serve.live_aa import divisor
from monitor.serve.phase_counts import Courses, counted_phase, courses_of, queries, readings
from monitor.serve.phases import RunningPhase
from monitor.serve.plans import clipped
from monitor.serve.problems import counts_problem
from monitor.serve.recent_visits import visits_of
from monitor.serve.results import Metrics
from monitor.serve.service import Service
from monitor.serve.spans import Span, last, moment
from monitor.serve.states import Tables, first_visits_ms
from monitor.serve.sums import Job, SumQuery, Sums, sums
from monitor.serve.tallying import Counting, brought_up, tally_of
from monitor.serve.traffic_checks import traffic_checks
from monitor.serve.verdict_inputs import Inputs, Judged
from monitor.serve.verdict_models import (
    CheckAnswer,
    EffectAnswer,
    PhaseAnswer,
    SliceAnswer,
    TenantVerdictsAnswer,
    VerdictsAnswer,
)
from monitor.serve.verdict_words import words
from monitor.verdicts.families import Thresholds, ln_threshold
from monitor.verdicts.judge import ALARMS, SPLITS, WORST_FIRST, Guarded, Kind, Known, Question, State, Verdict
from monitor.verdicts.means import Valued

LN_E_MAX = 700.0
"""The logarithm of the evidence that is told for anything larger, infinite evidence included: e^700 fits a double."""
SLICES_TOLD = 10
"""The slices of an alarm that are told, those with the most evidence."""

Tags = Mapping[str, Sequence[str]]
"""A tag to its values."""


class Read(NamedTuple):
    """A part of what is read for an experiment: the query, its range, and the stored names of its metrics."""

    query: SumQuery
    span: Span
    stored: Mapping[str, str]


class Found(NamedTuple):
    """What is found of a phase: its cumulative counts, what the checks of its traffic say, and earlier evidence.

    `known`: as `judged` keeps it from look to look.
    """

    courses: Courses
    traffic: Sequence[CheckAnswer]
    known: Known | None = None


def found_in(
    service: Service,
    tenant: str,
    experiment: str,
    phase: RunningPhase,
    sealed_ms: int,
    tags: Tags,
    read: Sequence[Sums],
) -> Found:
    """What the sums of `reads` have of a phase up to a moment."""
    metrics, table = Metrics(tenant, experiment), service.experiment(tenant, experiment)
    return Found(courses_of(read, list(tags)), traffic_checks(metrics, table, tags, phase, sealed_ms, read))


def verdicts(service: Service, tenant: str, experiment: str, dc: str | None = None) -> VerdictsAnswer:
    """What all checks of an experiment say of its present phase. Raises ProblemError."""
    answers = [of.answer for of in _judged(service, tenant, {experiment: service.experiment(tenant, experiment)}, dc)]
    return with_late_visits(service, tenant, answers)[0]


def verdicts_of_tenant(service: Service, tenant: str) -> list[VerdictsAnswer]:
    """Those of all experiments of a tenant, in their order, with shared requests to the store. Raises ProblemError."""
    return [of.answer for of in judged_of_tenant(service, tenant)]


def tenant_verdicts(service: Service, tenant: str, dc: str | None = None) -> TenantVerdictsAnswer:
    """Those of all experiments of a tenant, the worst first. Raises ProblemError."""
    answers = [of.answer for of in judged_of_tenant(service, tenant, dc)]
    return TenantVerdictsAnswer(tenant=tenant, experiments=sorted(answers, key=rank))


def rank(answer: VerdictsAnswer) -> tuple[int, float]:
    """Sorts experiments by their verdicts: the worst first, of equals the one with the most evidence."""
    return WORST_FIRST.index(answer.state), -max(
        (check.ln_e - check.note_from for check in answer.checks), default=-math.inf
    )


def judged_of_tenant(service: Service, tenant: str, dc: str | None = None) -> list[Judged]:
    """The verdicts of all experiments, each with what it was computed from. Raises ProblemError."""
    found = _judged(service, tenant, service.tenant(tenant).experiments, dc)
    answers = with_late_visits(service, tenant, [of.answer for of in found])
    return [of._replace(answer=answer) for of, answer in zip(found, answers, strict=True)]


def _judged(service: Service, tenant: str, tables: Tables, dc: str | None) -> list[Judged]:
    now_ms = service.now_ms()
    held_ms = held_from_ms(service, now_ms)
    first_ms = first_visits_ms(service, tenant, tables, now_ms)
    tags = tag_values(service, tenant)
    try:
        with service.tallies.lock:
            phases = {name: begun(service, tenant, name, first_ms.get(name), now_ms) for name in tables}
            running = {name: phase for name, phase in phases.items() if isinstance(phase, RunningPhase)}
            if dc is None:
                answers = _tallied(service, tenant, running, tags, held_ms)
            else:
                answers = _read(service, tenant, running, tags, held_ms, dc)
    except CountFileError as error:
        raise counts_problem(str(error)) from error
    why = {name: phase if isinstance(phase, str) else LOST for name, phase in phases.items()}
    return [answers.get(name) or Judged(_nothing(tenant, name, why[name]), None) for name in tables]


def _tallied(
    service: Service, tenant: str, running: Mapping[str, RunningPhase], tags: Tags, held_ms: int
) -> dict[str, Judged]:
    """The verdicts of phases whose counts are kept from look to look, and perhaps in a file."""
    counting: dict[str, Counting] = {}
    points, valued = _guarded(service, tenant), _valued(service, tenant)
    for name, phase in running.items():
        if (tally := tally_of(service, tenant, name, phase, held_ms)) is not None:
            metrics, table = Metrics(tenant, name), service.experiment(tenant, name)
            counting[name] = Counting(readings(metrics, table, points, valued, phase), tally)
    if not counting:
        return {}
    sealed, effect = brought_up(service, tenant, counting, held_ms), divisor(service, tenant)
    tallies = {name: of.tally for name, of in counting.items()}
    unasked = {name: tally for name, tally in tallies.items() if tally.traffic is None}
    for name, visits in visits_of(service, tenant, unasked, sealed).items():
        metrics, table = Metrics(tenant, name), service.experiment(tenant, name)
        tallies[name].traffic = traffic_checks(metrics, table, tags, running[name], sealed[name], visits)
    answers = {}
    for name, tally in tallies.items():
        found = Found(tally.course, tally.traffic or (), tally.known)
        answers[name] = of_phase(service, tenant, name, running[name], sealed[name], tags, found, effect)
    return answers


def _read(
    service: Service, tenant: str, phases: Mapping[str, RunningPhase], tags: Tags, held_ms: int, dc: str
) -> dict[str, Judged]:
    """The verdicts of phases whose counts are read from a forced data center, as far as the store holds them."""
    running = {name: phase for name, phase in phases.items() if phase.visits_from_ms >= held_ms}
    if not running:
        return {}
    first = min(phase.visits_from_ms for phase in running.values())
    whole = Span(first, max(first + MINUTE_MS, last(service.now_ms()).end_ms))
    evidence, served = serving(service, tenant, list(running), whole, dc)
    sealed = {
        name: max(
            phase.visits_from_ms,
            final_until_ms(evidence, clipped(served[name], whole._replace(start_ms=phase.visits_from_ms))),
        )
        for name, phase in running.items()
    }
    read_of = {name: reads(service, tenant, name, phase, sealed[name], tags) for name, phase in running.items()}
    jobs = [Job(read.query, clipped(served[name], read.span)) for name, of in read_of.items() for read in of]
    summed = iter(sums(service.store, service.cache, evidence, jobs))
    effect = divisor(service, tenant)
    answers = {}
    for name, phase in running.items():
        own = [by_configured_name(next(summed), read.stored) for read in read_of[name]]
        found = found_in(service, tenant, name, phase, sealed[name], tags, own)
        answers[name] = of_phase(service, tenant, name, phase, sealed[name], tags, found, effect)
    return answers


def reads(
    service: Service,
    tenant: str,
    experiment: str,
    phase: RunningPhase,
    sealed_ms: int,
    tags: Collection[str],
    first_ms: int | None = None,
) -> list[Read]:
    """What is read of a phase up to a moment; with `first_ms` it is enough for each moment from then on."""
    table, points, valued = service.experiment(tenant, experiment), _guarded(service, tenant), _valued(service, tenant)
    found = []
    for reading in readings(Metrics(tenant, experiment), table, points, valued, phase):
        stored = stored_metrics(reading.metrics, table)
        asked = reading._replace(metrics=tuple(stored))
        for query, span in queries(asked, stored_experiments(experiment, table), list(tags), sealed_ms, first_ms):
            found.append(Read(query, span, stored))
    return found


def _guarded(service: Service, tenant: str) -> list[str]:
    """The points of a tenant that have a good direction."""
    return [name for name, point in service.tenant(tenant).points.items() if point.better != "none"]


def _valued(service: Service, tenant: str) -> list[str]:
    """Those of them that have a value."""
    points = service.tenant(tenant).points
    return [name for name in _guarded(service, tenant) if points[name].value is not None]


def of_phase(
    service: Service,
    tenant: str,
    experiment: str,
    phase: RunningPhase,
    sealed_ms: int,
    tags: Tags,
    found: Found,
    design_effect: float = 1.0,
) -> Judged:
    """What all checks say of a phase up to a moment, from what was found of it, and what that was computed from."""
    table, points = service.experiment(tenant, experiment), _guarded(service, tenant)
    metrics, valued, guard = Metrics(tenant, experiment), _valued(service, tenant), service.settings.guard
    counted = counted_phase(metrics, table, points, valued, tags, phase, sealed_ms, found.courses)
    question, limits = _question(service, tenant, experiment, phase, points), budgets.thresholds(guard)
    inputs = Inputs(question, counted, budgets.shares(guard), limits, design_effect)
    all_said = judged_effective(*inputs, known=found.known)
    said = [_check(verdict, table, limits) for verdict in all_said if phase.is_split_judged or not _is_split(verdict)]
    said += found.traffic
    said.sort(key=lambda check: (WORST_FIRST.index(check.state), -check.ln_e))
    answer = VerdictsAnswer(
        tenant=tenant,
        experiment=experiment,
        state=said[0].state if said else State.NO_DATA,
        words=_of_all(said),
        phase=PhaseAnswer(
            start=moment(phase.start_ms),
            weights=phase.weights,
            visits_from=moment(phase.visits_from_ms),
            conversions_from=moment(phase.conversions_from_ms),
            sealed_until=moment(sealed_ms),
        ),
        checks=said,
        design_effect=inputs.design_effect,
    )
    return Judged(answer, inputs)


def _question(service: Service, tenant: str, experiment: str, phase: RunningPhase, points: Sequence[str]) -> Question:
    table, of_points = service.experiment(tenant, experiment), service.tenant(tenant).points
    variations, guard = tuple(table.variations), service.settings.guard
    smallest = budgets.smallest_effect(guard, table)
    return Question(
        tuple(phase.weights[variation] for variation in variations),
        variations,
        variations.index(table.control),
        tuple(Guarded(point, of_points[point].better == "down", smallest) for point in points),
        -math.log1p(-guard.split_tolerance),
        guard.crossed_share,
        tuple(
            Valued(name, point.better == "down", smallest, point.value.scale)
            for name, point in of_points.items()
            if name in points and point.value is not None
        ),
        budgets.highest(guard, table),
    )


def _check(verdict: Verdict, table: ExperimentTable, limits: Thresholds) -> CheckAnswer:
    is_guardrail = verdict.kind in (Kind.GUARDRAIL, Kind.MEAN)
    return CheckAnswer(
        check=" ".join([verdict.kind, *([verdict.point or "", verdict.variation or ""] if is_guardrail else [])]),
        kind=verdict.kind,
        point=verdict.point,
        variation=verdict.variation,
        state=verdict.state,
        ln_e=_bounded(verdict.ln_e),
        note_from=ln_threshold(limits.note, verdict.share),
        since=None if verdict.since_ms is None else moment(verdict.since_ms),
        place=dict(verdict.place),
        effect=_effect(verdict),
        counts=_named(verdict.kind, verdict.counts, table),
        counts_since=_named(verdict.kind, verdict.counts_since, table),
        words=words(verdict, table.control, limits),
        slices=[SliceAnswer(place=dict(at), ln_e=_bounded(ln_e)) for at, ln_e in verdict.slices[:SLICES_TOLD]],
    )


def _bounded(ln_e: float) -> float:
    return max(-LN_E_MAX, min(LN_E_MAX, ln_e))


def _effect(verdict: Verdict) -> EffectAnswer | None:
    if verdict.effect is None:
        return None
    estimate, low, high = (math.expm1(end) if end < LN_E_MAX else None for end in verdict.effect)
    return None if estimate is None else EffectAnswer(estimate=estimate, low=low, high=high)


def _named(kind: Kind, counts: Sequence[float], table: ExperimentTable) -> dict[str, int]:
    names = list(table.variations)
    if kind is Kind.CROSSED:
        names = ["stayed", "crossed"]
    elif kind is Kind.MEAN:
        names = [f"{variation}.{part}" for part in ("sum", "sumsq", "beta") for variation in names]
    return {name: round(count) for name, count in zip(names, counts, strict=False)}


def _is_split(verdict: Verdict) -> bool:
    return verdict.kind in SPLITS


def _of_all(said: Sequence[CheckAnswer]) -> str:
    """The worst verdict; if it is none, that all is well, or why there is nothing to say."""
    worst = said[0].state if said else State.NO_DATA
    if worst in ALARMS[1:]:
        return said[0].words
    return {
        State.HEALTHY: "No check finds anything wrong.",
        State.TOO_EARLY: "Too few visits in a variation to say more than that nothing is wrong yet.",
    }.get(worst, "There is nothing to judge yet.")


def _nothing(tenant: str, experiment: str, why: str) -> VerdictsAnswer:
    return VerdictsAnswer(tenant=tenant, experiment=experiment, state=State.NO_DATA, words=why, phase=None, checks=[])
