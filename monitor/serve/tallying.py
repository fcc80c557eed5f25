"""Phases of experiments counted in the store: each look reads only what has become final, or final anew.

Each part is read from the data centers that serve its minutes. It is read again when the minutes before its end have
become final anew in any data center: a job has then lost its state and writes them again. And every six hours a phase
is read as a whole, should the store say something else for whatever reason.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import structlog

from monitor.config.settings import milliseconds
from monitor.config.stored_names import by_configured_name, stored_experiments, stored_metrics
from monitor.core.codes import MINUTE_MS
from monitor.serve.count_file import NotWrittenError
from monitor.serve.evidence import SETTLED_MS, current_evidence, serving
from monitor.serve.failover import Evidence, Stretch, final_until_ms
from monitor.serve.phase_counts import Reading
from monitor.serve.phases import RunningPhase
from monitor.serve.plans import clipped
from monitor.serve.service import Service
from monitor.serve.spans import HOUR_MS, Span, last
from monitor.serve.sums import Job, SumCache, SumQuery, Sums, sums
from monitor.serve.tally import Finality, Part, Series, Tally, moments

log = structlog.get_logger(__name__)

RECOUNT_MS = 6 * HOUR_MS
"""So long after a phase was counted as a whole it is counted again, one experiment at a look."""
NOTHING_CACHED = SumCache(0)
"""The tallies keep what was read, so it is kept nowhere else."""


class Counting(NamedTuple):
    """A phase to be counted: what of it, and the counts so far."""

    readings: Sequence[Reading]
    tally: Tally


class _Look(NamedTuple):
    """A look at the phases of a tenant's experiments: the evidence, and the data centers of the minutes."""

    evidence: Evidence
    served: Mapping[str, Sequence[Stretch]]
    from_ms: Mapping[str, int]
    end_ms: int


def tally_of(service: Service, tenant: str, experiment: str, phase: RunningPhase, held_ms: int) -> Tally | None:
    """The counts of a phase so far; None if some of before `held_ms` are nowhere. Raises CountFileError."""
    weights = " ".join(f"{name}={weight:g}" for name, weight in sorted(phase.weights.items()))
    identity = f"{phase.visits_from_ms} {phase.conversions_from_ms} {weights}"
    tally = service.tallies.get(tenant, experiment, identity)
    is_new = tally is None
    if tally is None:
        tally = Tally(identity, phase.visits_from_ms, tuple(service.tenant(tenant).tags))
    if phase.visits_from_ms < held_ms:
        if service.counts is None:
            return None
        if is_new:
            service.counts.restore(tenant, experiment, tally)
        if not tally.is_whole(held_ms):
            return None
    if is_new:
        service.tallies.put(tenant, experiment, tally)
    return tally


def brought_up(service: Service, tenant: str, phases: Mapping[str, Counting], held_ms: int) -> dict[str, int]:
    """Counts the phases of a tenant's experiments up to the end of their final minutes, which are returned.

    `held_ms`: an hour's start; the counts of before are not read again. Raises ProblemError.
    """
    evidence, held_ms = _evidence(service, phases, held_ms)
    from_ms = {name: of.tally.settled_ms(_finality(evidence, of.tally.marks()), held_ms) for name, of in phases.items()}
    look = _look(service, tenant, evidence, from_ms)
    sealed = _sealed(look)
    earliest = {name: min(from_ms[name], _earliest(evidence, of, sealed[name], held_ms)) for name, of in phases.items()}
    if earliest != from_ms:
        look = _look(service, tenant, evidence, earliest)
    _count(service, tenant, phases, look, sealed, held_ms)
    if service.counts is not None and service.counts.is_writer:
        try:
            service.counts.keep(tenant, {name: of.tally for name, of in phases.items()}, sealed)
        except NotWrittenError as error:  # it is written with what comes next
            log.warning("counts_not_written", tenant=tenant, reason=str(error))
    return sealed


def _evidence(service: Service, phases: Mapping[str, Counting], held_ms: int) -> tuple[Evidence, int]:
    """The evidence about the data centers, and from which hour on minutes may have to be counted again.

    That of the last hours will do, if all before was final in all data centers at a look since then, and no watermark
    has fallen below it.
    """
    now_ms, lateness_ms = service.now_ms(), milliseconds(service.settings.time.allowed_lateness_s)
    recent_ms = max(held_ms, (now_ms - SETTLED_MS - lateness_ms) // HOUR_MS * HOUR_MS - HOUR_MS)
    tallies = [of.tally for of in phases.values()]
    oldest = min(tallies, key=lambda of: of.counted_ms)
    if now_ms - oldest.counted_ms > RECOUNT_MS:
        oldest.recount()
    if all(of.is_settled(recent_ms) and of.looked_ms >= now_ms - SETTLED_MS for of in tallies):
        evidence = current_evidence(service, recent_ms)
        if evidence.lowest_ms(now_ms - SETTLED_MS) >= recent_ms:
            return evidence, recent_ms
    return current_evidence(service, min(max(of.start_ms, held_ms) for of in tallies)), held_ms


def _look(service: Service, tenant: str, evidence: Evidence, from_ms: Mapping[str, int]) -> _Look:
    first_ms = min(from_ms.values())
    whole = Span(first_ms, max(first_ms + MINUTE_MS, last(evidence.now_ms).end_ms))
    served = serving(service, tenant, list(from_ms), whole, None, evidence).served
    return _Look(evidence, served, from_ms, whole.end_ms)


def _sealed(look: _Look) -> dict[str, int]:
    """By experiment, the end of the final minutes; not before the moment from which on it was looked at."""
    return {
        name: max(from_ms, final_until_ms(look.evidence, clipped(look.served[name], Span(from_ms, look.end_ms))))
        for name, from_ms in look.from_ms.items()
    }


def _earliest(evidence: Evidence, of: Counting, sealed_ms: int, held_ms: int) -> int:
    """The start of the first part to be counted."""
    parts = of.tally.lacking(sealed_ms, _finality(evidence, moments(of.tally.start_ms, sealed_ms)), held_ms)
    return min((part.start_ms for part in parts), default=sealed_ms)


def _count(
    service: Service,
    tenant: str,
    phases: Mapping[str, Counting],
    look: _Look,
    sealed: Mapping[str, int],
    held_ms: int,
) -> None:
    wanted: dict[str, list[Span]] = {}
    reads: list[tuple[str, Mapping[str, str], Job]] = []
    for name, of in phases.items():
        marks = moments(of.tally.start_ms, sealed[name])
        finality = _finality(look.evidence, marks)
        rest = Span(marks[-1] if marks else of.tally.start_ms, sealed[name])
        wanted[name] = [*of.tally.lacking(sealed[name], finality, held_ms), rest]
        for reading in of.readings:
            reads += _reads(service, tenant, name, of, reading, wanted[name], look.served[name])
    found: defaultdict[str, dict[Span, dict[Series, float]]] = defaultdict(dict)
    summed = sums(service.store, NOTHING_CACHED, look.evidence, [job for _, _, job in reads])
    for (name, stored, _), of_read in zip(reads, summed, strict=True):
        _add(found[name], wanted[name], by_configured_name(of_read, stored))
    for name, of in phases.items():
        *parts, rest = wanted[name]
        counted: dict[Span, Part] = {part: found[name].get(part, {}) for part in parts}
        finality = _finality(look.evidence, [part.end_ms for part in parts])
        of.tally.take(sealed[name], counted, finality, found[name].get(rest, {}))
        of.tally.looked_ms = look.evidence.now_ms
        of.tally.counted_ms = of.tally.counted_ms or look.evidence.now_ms


def _reads(
    service: Service,
    tenant: str,
    name: str,
    of: Counting,
    reading: Reading,
    parts: Sequence[Span],
    served: Sequence[Stretch],
) -> Iterator[tuple[str, Mapping[str, str], Job]]:
    """What is read of these parts: whole hours as such, the rest by minute."""
    table = service.experiment(tenant, name)
    stored = stored_metrics(reading.metrics, table)
    tags = (("experiment", stored_experiments(name, table)),)
    clipped_parts = [(part, Span(max(part.start_ms, reading.from_ms), part.end_ms)) for part in parts]
    for sampling_ms in (HOUR_MS, MINUTE_MS):
        stretches = [
            stretch
            for part, span in clipped_parts
            if (_is_hour(part) == (sampling_ms == HOUR_MS)) and span.start_ms < span.end_ms
            for stretch in clipped(served, span)
        ]
        if reading.metrics and stretches:
            yield name, stored, Job(SumQuery(tuple(stored), tags, of.tally.tags, sampling_ms), stretches)


def _is_hour(part: Span) -> bool:
    return part.end_ms - part.start_ms == HOUR_MS


def _add(into: dict[Span, dict[Series, float]], parts: Sequence[Span], read: Sums) -> None:
    """Adds what was read to the parts that it belongs to."""
    ordered = sorted(parts)
    starts = [part.start_ms for part in ordered]
    for (metric, group, at_ms), count in read.items():
        part = ordered[bisect_right(starts, at_ms) - 1]
        counts = into.setdefault(part, {})
        counts[metric, group] = counts.get((metric, group), 0) + count


def _finality(evidence: Evidence, marks: Sequence[int]) -> dict[int, Finality]:
    return {mark: tuple(evidence.final_since_ms(dc, mark) for dc in evidence.order) for mark in marks}
