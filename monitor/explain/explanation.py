"""The explanation of a session: its messages, its visits, what these contribute, and which events decided that. Pure.

Reasons, contributions and corrections come from the core (session_messages.py). This module only finds the event
behind each decision.
"""

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from monitor.core.codes import MINUTE_MS
from monitor.core.compiled import CompiledConfig
from monitor.core.definitions import Experiment
from monitor.core.deltas import Deltas, add_deltas
from monitor.core.events import Decoder
from monitor.core.predicates import scalar
from monitor.explain.rules import Clause, Happened, Moment, clause_of
from monitor.explain.session_messages import Gathered, Judged, MessageReport, judged


class Amount(Struct, frozen=True):
    """A contribution, or a change of it."""

    metric: str
    minute_ms: int
    tags: dict[str, str]
    value: int


class Outcome(Struct, frozen=True):
    """The state of a visit in one experiment.

    `assigned`: the event that assigned it; `crossed`: the first event that carries another variation, `crossed_to`;
    `tardy`: the first event from the assignment on that came more than `tardy_s` after it happened; `qualified_ms`:
    from when it is qualified; None where there is no such event or time.
    """

    experiment: str
    variation: str | None
    assigned: Moment | None
    crossed_to: str | None
    crossed: Moment | None
    tardy: Moment | None
    rule: Clause
    qualified_ms: int | None


class ExplainedVisit(Struct, frozen=True):
    """A visit: its events in order, by arrival, and its contributions in their final state."""

    number: int
    first_ms: int
    last_ms: int
    arrivals: list[int]
    experiments: list[Outcome]
    contributions: list[Amount]


class ExplainedCorrection(Struct, frozen=True):
    """The changes by an event that arrived after later events of its visit."""

    arrival: int
    visit: int
    changes: list[Amount]


class Explanation(Struct, frozen=True):
    """All messages and visits of a session: messages by event time, visits by time, corrections by arrival."""

    tenant: str
    session_id: str
    dc: str
    scanned: int
    beyond: int
    events: list[MessageReport]
    visits: list[ExplainedVisit]
    corrections: list[ExplainedCorrection]


def explain(compiled: CompiledConfig, dc: str, tenant: str, session_id: str, gathered: Gathered) -> Explanation:
    """The explanation of a session's messages; the tenant must be one of the configuration."""
    messages = list(judged(compiled, tenant, gathered.arrivals))
    runs = _runs([message for message in messages if message.moment is not None], compiled.limits.session_gap_ms)
    number_of = {message.report.arrival: number for number, run in enumerate(runs, 1) for message in run}
    late = sorted(message.report.arrival for run in runs for message in _out_of_order(run))
    changes = {message.report.arrival: message.deltas for message in messages}
    return Explanation(
        tenant,
        session_id,
        dc,
        gathered.scanned,
        gathered.beyond,
        [
            replace(message.report, visit=number_of.get(message.report.arrival))
            for message in sorted(messages, key=_event_time)
        ],
        [_visit(compiled, dc, tenant, number, run) for number, run in enumerate(runs, 1)],
        [ExplainedCorrection(arrival, number_of[arrival], _amounts(changes[arrival], dc)) for arrival in late],
    )


def _event_time(message: Judged) -> tuple[int, str, int]:
    """Messages without an event sort by their timestamp."""
    report = message.report
    return report.timestamp_ms if report.time_ms is None else report.time_ms, report.event_id or "", report.arrival


def _order(message: Judged) -> Moment:
    assert message.moment is not None, "only accepted events have an order"
    return message.moment


def _runs(accepted: Sequence[Judged], gap_ms: int) -> list[list[Judged]]:
    """The visits in their final state: runs of accepted events whose neighbours are at most the gap apart."""
    runs: list[list[Judged]] = []
    for message in sorted(accepted, key=_order):
        if runs and _order(message).time_ms - _order(runs[-1][-1]).time_ms <= gap_ms:
            runs[-1].append(message)
        else:
            runs.append([message])
    return runs


def _out_of_order(run: Sequence[Judged]) -> Iterator[Judged]:
    """The events that arrived after later events of their visit."""
    latest: Moment | None = None
    for message in sorted(run, key=lambda message: message.report.arrival):
        moment = _order(message)
        if latest is not None and moment < latest:
            yield message
        else:
            latest = moment


def _visit(compiled: CompiledConfig, dc: str, tenant: str, number: int, run: Sequence[Judged]) -> ExplainedVisit:
    """A visit in its final state. Its events have changed no contributions but its own, so their sum is the visit's."""
    total: Deltas = {}
    for message in run:
        add_deltas(total, message.deltas)
    definitions = compiled.tenants[tenant].program.tenant
    points = {point.name: point for point in definitions.points}
    happened = [_happened(message, compiled.decoder) for message in run]
    outcomes = [
        _outcome(experiment, run, clause_of(experiment.qualified_when, points, happened), compiled.limits.tardy_ms)
        for experiment in definitions.experiments
    ]
    first_ms, last_ms = _order(run[0]).time_ms, _order(run[-1]).time_ms
    arrivals = [message.report.arrival for message in run]
    return ExplainedVisit(number, first_ms, last_ms, arrivals, outcomes, _amounts(total, dc))


def _happened(message: Judged, decoder: Decoder) -> Happened:
    event = message.event
    assert event is not None, "an accepted message holds an event"
    return Happened(_order(message), event.event, lambda name: scalar(decoder.attribute(event, name)))


def _outcome(experiment: Experiment, run: Sequence[Judged], rule: Clause, tardy_ms: int) -> Outcome:
    carried = [(_variation(experiment, message.report.assignments), _order(message)) for message in run]
    carriers = [(variation, moment) for variation, moment in carried if variation is not None]
    if not carriers:
        return Outcome(experiment.name, None, None, None, None, None, rule, None)
    variation, assigned = carriers[0]
    others = (carrier for carrier in carriers if carrier[0] != variation)
    crossed_to, crossed = next(others, (None, None))
    tardy = next((_order(m) for m in run if _order(m).time_ms >= assigned.time_ms and _delay_ms(m) > tardy_ms), None)
    qualified_ms = None if rule.met is None else max(assigned.time_ms, rule.met.time_ms)
    return Outcome(experiment.name, variation, assigned, crossed_to, crossed, tardy, rule, qualified_ms)


def _delay_ms(message: Judged) -> int:
    assert message.report.delay_ms is not None, "an accepted message holds an event"
    return message.report.delay_ms


def _variation(experiment: Experiment, assignments: Mapping[str, str]) -> str | None:
    """The variation that an event carries: of the experiment's names, the first whose text is known decides."""
    meanings = {variation: variation for variation, _ in experiment.variations} | dict(experiment.aliases)
    texts = (assignments.get(name) for name in (experiment.name, *experiment.names))
    return next((meanings[text] for text in texts if text in meanings), None)


def _amounts(deltas: Deltas, dc: str) -> list[Amount]:
    """The contributions that are not 0, sorted by metric, minute and tags."""
    amounts = []
    for minute, changes in deltas.items():
        for series, value in changes.items():
            metric, *tags = series.split("|")
            pairs = (tag.split("=", 1) for tag in tags)
            if value:
                amounts.append(
                    Amount(metric, minute * MINUTE_MS, {"dc": dc, **{tag: text for tag, text in pairs}}, value)
                )
    return sorted(amounts, key=lambda amount: (amount.metric, amount.minute_ms, list(amount.tags.items())))
