"""The messages of one session: gathered from all messages, and judged one by one. Pure.

Reasons, warnings and deltas are the core's own: the messages go through a `SessionGroup` one by one, as in the job.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from monitor.core import visits
from monitor.core.compiled import CompiledConfig
from monitor.core.definitions import Limits
from monitor.core.deltas import Deltas, SeriesTable, add_deltas, deltas_of
from monitor.core.diagnosis import fault_of, faults
from monitor.core.events import Decoder, Event, Rejected, RejectReason, assigned_text, derived_id
from monitor.core.predicates import scalar
from monitor.core.sessions import SessionGroup
from monitor.core.sixteenths import SixteenthTable, sixteenth_deltas, sixteenth_of
from monitor.core.watermark import Stamps, Watermark
from monitor.explain.rules import Moment
from monitor.topics.recorded import Record

KEPT_BYTES_MAX = 256 * 1024 * 1024
"""Bytes of a session's messages that are explained, each with its overhead; later messages are only counted."""
MESSAGE_OVERHEAD_BYTES = 1_024
IDS_MAX = 200_000
"""Other session ids that are kept, to suggest similar ones; further ids are ignored."""

_INTEGER_END = 2**63


class Arrival(NamedTuple):
    """A message of the session; `high_ms`: how far its partition's timestamps had come before it."""

    partition: str
    record: Record
    high_ms: int


class Gathered(NamedTuple):
    """A session's messages in the order of reading, and the number of messages scanned.

    `beyond`: messages of the session that did not fit in KEPT_BYTES_MAX. `others`: ids of other sessions of the tenant,
    if this one has no message.
    """

    arrivals: list[Arrival]
    scanned: int
    beyond: int
    others: set[str]


class MessageReport(Struct, frozen=True):
    """A message of the session and what happened to it; without a valid event, the event's fields are None or empty.

    `arrival`: 1 for the first message of the session; `reason`: why it is rejected, None if it was accepted; `why`: the
    same with the numbers; `fields`: those at fault, of a bad_field; `warnings`: its warnings; `delay_ms`: message
    timestamp less event time; `attributes`: those that the configuration mentions; `visit`: the one that it finally
    belongs to, if accepted.
    """

    arrival: int
    partition: str
    offset: int
    timestamp_ms: int
    reason: str | None
    why: str
    warnings: dict[str, int]
    fields: list[str] = []
    time_ms: int | None = None
    delay_ms: int | None = None
    event: str | None = None
    event_id: str | None = None
    assignments: dict[str, str] = {}
    attributes: dict[str, Any] = {}
    visit: int | None = None


class Judged(NamedTuple):
    """A message with the core's verdict; `moment` and `event` are set if it was accepted."""

    report: MessageReport
    event: Event | None
    moment: Moment | None
    deltas: Deltas


def gather(compiled: CompiledConfig, tenant: str, session_id: str, records: Iterable[tuple[str, Record]]) -> Gathered:
    """The messages of one session among all (partition, record) of a topic, in the order of arrival.

    A message without a valid event belongs to the session if its key is the session's id.
    """
    kept: list[Arrival] = []
    stamps: dict[str, Stamps] = {}  # an entry for each partition
    others: set[str] = set()
    scanned = beyond = kept_bytes = 0
    for partition, record in records:
        scanned += 1
        of_partition = stamps.setdefault(partition, Stamps())
        high_ms = of_partition.high_ms
        of_partition.add([record.timestamp_ms])
        decoded = compiled.decoder.decode(record.value)
        if not _concerns(compiled, tenant, session_id, decoded, record.key):
            if isinstance(decoded, Event) and decoded.tenant == tenant and not kept and len(others) < IDS_MAX:
                others.add(decoded.sessionId)
        else:
            kept_bytes += len(record.value or b"") + MESSAGE_OVERHEAD_BYTES
            if beyond or (kept_bytes > KEPT_BYTES_MAX and kept):
                beyond += 1
            else:
                kept.append(Arrival(partition, record, high_ms))
                others.clear()
    return Gathered(kept, scanned, beyond, others)


def _concerns(
    compiled: CompiledConfig, tenant: str, session_id: str, decoded: Event | Rejected, key: bytes | None
) -> bool:
    named = isinstance(decoded, Event) and decoded.sessionId == session_id and decoded.tenant == tenant
    keyed = compiled.key_is_session_id and key == session_id.encode() and decoded.tenant in (None, tenant)
    if not (named or keyed):
        return False
    valid = isinstance(decoded, Event) and compiled.decoder.assignments(bytes(decoded.assignments)) is not None
    return named if valid else keyed


def judged(compiled: CompiledConfig, tenant: str, arrivals: Sequence[Arrival]) -> Iterator[Judged]:
    """Each message with the core's verdict; the messages are fed to it one by one."""
    group = SessionGroup(compiled, Watermark(compiled.limits.lateness_ms))
    table = SeriesTable(compiled.tenants[tenant], groups=1)
    sixteenths = SixteenthTable(compiled.tenants[tenant], groups=1)
    accepted: dict[str, list[Moment]] = {}
    for number, (partition, record, high_ms) in enumerate(arrivals, 1):
        group.feed([(record.key, record.value, record.timestamp_ms)], high_ms)
        (tally,) = group.take().values()
        reason = next(iter(tally.rejected), None)
        warnings = {str(warning): count for warning, count in tally.all_warnings().items()}
        slug = None if reason is None else str(reason)
        report = MessageReport(number, partition, record.offset, record.timestamp_ms, slug, "", warnings)
        event = compiled.decoder.decode(record.value)
        if isinstance(event, Rejected):
            yield Judged(_of_no_event(report, event.reason, record.value, compiled.limits), None, None, {})
            continue
        own_id = event.eventId or derived_id(record.value or b"")
        why = _why(reason, event, own_id, arrivals[number - 1], group, accepted.get(own_id, []), compiled.limits)
        report = replace(report, why=why, fields=_fields_at_fault(reason, record.value))
        report = _with_event(report, event, own_id, compiled.decoder)
        if reason is not None:
            yield Judged(report, None, None, {})
            continue
        moment = Moment(event.time, own_id, number)
        accepted.setdefault(own_id, []).append(moment)
        deltas = deltas_of([tally], table).get(0, {})
        add_deltas(deltas, sixteenth_deltas({sixteenth_of(event.sessionId): [tally]}, sixteenths).get(0, {}))
        yield Judged(report, event, moment, deltas)


def _with_event(report: MessageReport, event: Event, own_id: str, decoder: Decoder) -> MessageReport:
    return replace(
        report,
        time_ms=event.time,
        delay_ms=report.timestamp_ms - event.time,
        event=event.event,
        event_id=own_id,
        assignments=_said(decoder.assignments(bytes(event.assignments)) or {}),
        attributes=_attributes(event, decoder),
    )


def _said(assignments: Mapping[str, Any]) -> dict[str, str]:
    """The assignments as the texts that name variations, without those that say nothing or cannot be read."""
    texts = {name: assigned_text(name, value) for name, value in assignments.items() if value is not None}
    return {name: text for name, text in texts.items() if text is not None}


def _attributes(event: Event, decoder: Decoder) -> dict[str, Any]:
    """The attributes that are present and mentioned, as JSON and UTF-8 can write them."""
    values = {name: scalar(decoder.attribute(event, name)) for name in decoder.fields}
    return {name: _writable(value) for name, value in values.items() if value is not None}


def _writable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()  # JSON can hold halves of characters
    huge = type(value) is int and not -_INTEGER_END <= value < _INTEGER_END
    return str(value) if huge or value in (math.inf, -math.inf) else value


def _of_no_event(report: MessageReport, reason: RejectReason, value: bytes | None, limits: Limits) -> MessageReport:
    why = fault_of(value, reason, limits.message_bytes)
    return replace(report, why=why, fields=_fields_at_fault(reason, value))


def _fields_at_fault(reason: RejectReason | None, value: bytes | None) -> list[str]:
    return [fault.field for fault in faults(value or b"")] if reason is RejectReason.BAD_FIELD else []


def _why(
    reason: RejectReason | None,
    event: Event,
    own_id: str,
    arrival: Arrival,
    group: SessionGroup,
    same: Sequence[Moment],
    limits: Limits,
) -> str:
    """The numbers behind a decision on an event; `same`: accepted events with its identity."""
    delay_ms = arrival.record.timestamp_ms - event.time
    ahead, arrived = f"happened {seconds(-delay_ms)} after it arrived", f"arrived {seconds(delay_ms)} after it happened"
    match reason:
        case RejectReason.BAD_FIELD:
            return fault_of(arrival.record.value, reason, limits.message_bytes)
        case RejectReason.FUTURE:
            return f"{ahead}, allowed {seconds(limits.future_ms)}"
        case RejectReason.LATE if delay_ms > limits.lateness_ms:
            return f"{arrived}, allowed {seconds(limits.lateness_ms)}"
        case RejectReason.LATE:
            behind_ms = arrival.high_ms - limits.lateness_ms - event.time
            return f"{arrived}, {seconds(behind_ms)} behind the watermark of its partition"
        case RejectReason.DUPLICATE:
            touched = _touched(group, event, limits)
            earlier = (m for m in same if any(v.first_ms <= m.time_ms <= v.last_ms for v in touched))
            return f"its visit already holds eventId {own_id}, of arrival {next(earlier).arrival}"
        case RejectReason.VISIT_FULL:
            count = sum(len(visit.ids) for visit in _touched(group, event, limits)) // visits.ID_BYTES
            return f"its visit already holds {count:,} events, allowed {limits.events_per_visit:,}"
        case RejectReason.PLACEHOLDER_ID:
            return "its sessionId stands for no session: it is one of limits.placeholder_ids"
        case _:
            return arrived if delay_ms >= 0 else ahead


def _touched(group: SessionGroup, event: Event, limits: Limits) -> list[visits.Visit]:
    """The visits that an event falls into; they exist if the event was refused because of them."""
    session = group.sessions[event.tenant][event.sessionId]
    assert not isinstance(session, bytes), "only the packing of snapshots turns sessions into bytes"
    return visits.touching(session, event.time, limits.session_gap_ms)


def seconds(duration_ms: int) -> str:
    """A duration in words, exactly: `612 s`, `0.25 s`."""
    whole, part = divmod(duration_ms, 1_000)
    return f"{whole}.{part:03d}".rstrip("0").rstrip(".") + " s" if part else f"{whole} s"
