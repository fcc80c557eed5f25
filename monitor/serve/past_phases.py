"""A phase judged up to a moment that is over, and where its counts come from."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from monitor.config.stored_names import by_configured_name
from monitor.core.codes import MINUTE_MS
from monitor.serve.answers import tag_values
from monitor.serve.evidence import serving
from monitor.serve.failover import Stretch
from monitor.serve.phases import RunningPhase
from monitor.serve.plans import clipped
from monitor.serve.service import Service
from monitor.serve.spans import Span
from monitor.serve.sums import Job, Sums, sums
from monitor.serve.verdict_inputs import Judged
from monitor.serve.verdicts import found_in, of_phase, reads


class Provenance(NamedTuple):
    """The data center of each minute of a phase, and the last watermark of each that has reported one."""

    served: Sequence[Stretch]
    watermarks_ms: Mapping[str, int]


def judged_until(
    service: Service, tenant: str, experiment: str, phase: RunningPhase, sealed_ms: int, dc: str | None = None
) -> Judged:
    """What all checks say of a phase up to a moment, by what the store holds now. Raises ProblemError."""
    read = sums_of_phase(service, tenant, experiment, phase, sealed_ms, dc=dc)
    return judged_by(service, tenant, experiment, phase, sealed_ms, read)


def judged_by(
    service: Service, tenant: str, experiment: str, phase: RunningPhase, sealed_ms: int, read: Sequence[Sums]
) -> Judged:
    """The same, by sums that were read before."""
    tags = tag_values(service, tenant)
    found = found_in(service, tenant, experiment, phase, sealed_ms, tags, read)
    return of_phase(service, tenant, experiment, phase, sealed_ms, tags, found)


def sums_of_phase(
    service: Service,
    tenant: str,
    experiment: str,
    phase: RunningPhase,
    sealed_ms: int,
    first_ms: int | None = None,
    dc: str | None = None,
) -> list[Sums]:
    """The sums by which a phase is judged up to a moment, or with `first_ms` at each moment from then on.

    Raises ProblemError.
    """
    evidence, served = serving(service, tenant, [experiment], _span(phase, sealed_ms), dc)
    found = reads(service, tenant, experiment, phase, sealed_ms, tag_values(service, tenant), first_ms)
    jobs = [Job(read.query, clipped(served[experiment], read.span)) for read in found]
    summed = sums(service.store, service.cache, evidence, jobs)
    return [by_configured_name(of, read.stored) for of, read in zip(summed, found, strict=True)]


def provenance(service: Service, tenant: str, experiment: str, visits_from_ms: int, sealed_ms: int) -> Provenance:
    """Where the counts of a phase up to a moment come from. Raises ProblemError."""
    span = Span(visits_from_ms, max(visits_from_ms + MINUTE_MS, sealed_ms))
    evidence, served = serving(service, tenant, [experiment], span, None)
    reports = {dc: evidence.last(dc) for dc in service.dcs}
    watermarks_ms = {dc: report.watermark_ms for dc, report in reports.items() if report is not None}
    return Provenance(clipped(served[experiment], span), watermarks_ms)


def _span(phase: RunningPhase, sealed_ms: int) -> Span:
    return Span(phase.visits_from_ms, max(phase.visits_from_ms + MINUTE_MS, sealed_ms))
