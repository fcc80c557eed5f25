"""Answers about one experiment that are computed together: of one moment, from shared requests to the store."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from monitor.config.stored_names import by_configured_name, stored_metrics
from monitor.serve.evidence import refuse_long, serving
from monitor.serve.failover import Evidence, Stretch
from monitor.serve.service import Service
from monitor.serve.spans import Span, last
from monitor.serve.sums import Job, SumQuery, Sums, sums

T = TypeVar("T")


class Plan(NamedTuple, Generic[T]):
    """What an answer about one experiment reads, and how it is made of that."""

    span: Span
    reads: Sequence[tuple[SumQuery, Span]]
    answer: Callable[[Evidence, Sequence[Stretch], Sequence[Sums]], T]
    """From the evidence, the data centers of the span's minutes, and the sums of each query."""


def together(
    service: Service,
    tenant: str,
    experiment: str,
    plans: Sequence[Plan[Any]],
    dc: str | None = None,
    evidence: Evidence | None = None,
) -> list[Any]:
    """The answers of plans about one experiment: of one moment, and with as few requests to the store as can be.

    `evidence`, if given, must reach back to the earliest start. Raises ProblemError.
    """
    spans = [plan.span for plan in plans]
    for span in spans:
        refuse_long(service, span)
    whole = Span(min(span.start_ms for span in spans), max(span.end_ms for span in spans))
    evidence, served = serving(service, tenant, [experiment], whole, dc, evidence)
    # Steps may reach beyond the present; all reads that end with it share a request.
    end_ms = max(last(evidence.now_ms).end_ms, min(span.end_ms for span in spans))
    jobs = [
        Job(query, clipped(served[experiment], span._replace(end_ms=min(span.end_ms, end_ms))))
        for plan in plans
        for query, span in plan.reads
    ]
    table = service.experiment(tenant, experiment)
    summed = iter(sums(service.store, service.cache, evidence, jobs))
    answers = []
    for plan in plans:
        of_plan = [by_configured_name(next(summed), stored_metrics(query.names, table)) for query, _ in plan.reads]
        answers.append(plan.answer(evidence, clipped(served[experiment], plan.span), of_plan))
    return answers


def clipped(served: Sequence[Stretch], span: Span) -> list[Stretch]:
    """The part of the stretches that lies within a range."""
    return [
        stretch._replace(start_ms=max(span.start_ms, stretch.start_ms), end_ms=min(span.end_ms, stretch.end_ms))
        for stretch in served
        if stretch.start_ms < span.end_ms and span.start_ms < stretch.end_ms
    ]
