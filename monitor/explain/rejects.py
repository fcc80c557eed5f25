"""What is wrong with rejected messages, by name: counted by reason, tenant, and the field or name at fault. Pure.

Reasons and warnings are the core's own: all messages go through a `SessionGroup` one by one, as in the job. Only what
it refuses or warns about is looked at again, to find the name.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from monitor.core.classify import measure
from monitor.core.compiled import CompiledConfig, CompiledTenant
from monitor.core.diagnosis import faults, json_fault, members, shortened
from monitor.core.events import Event, EventWarning, Rejected, RejectReason
from monitor.core.sessions import SessionGroup
from monitor.core.watermark import Progress, Stamps, Watermark
from monitor.explain.session_messages import seconds
from monitor.topics.recorded import Record

FINDINGS_MAX = 1_000
"""Different faults that are kept; further ones of a reason and tenant are counted together."""
EXAMPLE_CHARACTERS_MAX = 200
"""Of a message that is an example, more is not kept."""
OTHERS = "others"
"""Stands for the faults beyond FINDINGS_MAX."""
_BYTES_LOOKED_AT: Final = 4 * EXAMPLE_CHARACTERS_MAX


class Finding(Struct):
    """A fault: how many messages have it, and the last of them, shortened; `why` has its numbers or value."""

    reason: str
    tenant: str
    fault: str
    messages: int
    last_ms: int
    why: str
    example: str


class Rejects(Struct, frozen=True):
    """All that was found.

    `counts`: messages by reason and tenant; warnings too, once for each that the job counts. `findings`: their faults,
    the most frequent first; a message with several faults is in several.
    """

    scanned: int
    since_ms: int
    counts: list[tuple[str, str, int]]
    findings: list[Finding]


def rejects(
    compiled: CompiledConfig,
    records: Iterable[tuple[str, Record]],
    partitions: Sequence[str],
    since_ms: int,
    reason: str | None = None,
) -> Rejects:
    """The faults of the messages from `since_ms` on, of all reasons or of one.

    `partitions`: those that the watermark waits for; others join them with their first message.
    """
    scan = _Scan(compiled)
    known, scanned = tuple(partitions), 0
    group = SessionGroup(compiled, Watermark(compiled.limits.lateness_ms))
    stamps: dict[str, Stamps] = {}  # an entry for each partition
    for partition, record in records:
        scanned += 1
        of_partition = stamps.setdefault(partition, Stamps())
        group.feed([(record.key, record.value, record.timestamp_ms)], of_partition.high_ms)
        of_partition.add([record.timestamp_ms])
        for tenant, tally in group.take().items():
            if record.timestamp_ms >= since_ms:
                found: list[tuple[RejectReason | EventWarning, int]] = [
                    *tally.rejected.items(),
                    *tally.all_warnings().items(),
                ]
                for slug, count in found:
                    if reason is None or slug == reason:
                        scan.add(slug, tenant, count, record)
        if partition not in known:
            known = (*known, partition)
        if group.watermark.advance(Progress(known, partition, of_partition.high_ms, idle=False)):
            group.forget()
    return scan.result(scanned, since_ms)


class _Scan:
    """The faults so far."""

    def __init__(self, compiled: CompiledConfig) -> None:
        self._compiled = compiled
        # Tenants and reasons are those of the configuration and of the core.
        self._counts: Counter[tuple[str, str]] = Counter()
        self._findings: dict[tuple[str, str, str], Finding] = {}

    def add(self, reason: RejectReason | EventWarning, tenant: str, count: int, record: Record) -> None:
        self._counts[str(reason), tenant] += count
        for fault, why in dict(self._faults(reason, record)).items():
            name = shortened(fault)
            if len(self._findings) >= FINDINGS_MAX and (str(reason), tenant, name) not in self._findings:
                name = OTHERS
            finding = self._findings.setdefault(
                (str(reason), tenant, name), Finding(str(reason), tenant, name, 0, 0, "", "")
            )
            finding.messages += 1
            finding.last_ms, finding.why, finding.example = record.timestamp_ms, why, _example(record.value)

    def result(self, scanned: int, since_ms: int) -> Rejects:
        counts = [(*pair, count) for pair, count in self._counts.most_common()]
        findings = sorted(self._findings.values(), key=lambda finding: -finding.messages)
        return Rejects(scanned, since_ms, counts, findings)

    def _faults(self, reason: RejectReason | EventWarning, record: Record) -> Iterator[tuple[str, str]]:
        """The names at fault, each with what it holds."""
        value, limits = record.value, self._compiled.limits
        match reason:
            case RejectReason.OVERSIZED:
                bytes_ = f"{len(value or b''):,} bytes, allowed {limits.message_bytes:,}"
                yield "longer than limits.message_bytes", bytes_
                return
            case RejectReason.NOT_JSON:
                yield json_fault(value), ""
                return
            case RejectReason.BAD_FIELD:
                yield from ((fault.kind(), fault.words()) for fault in faults(value or b""))
                return
        event = self._compiled.decoder.decode(value)
        assert not isinstance(event, Rejected), "what is wrong with it is not its form"
        yield from self._faults_of_event(reason, event, record)

    def _faults_of_event(
        self, reason: RejectReason | EventWarning, event: Event, record: Record
    ) -> Iterator[tuple[str, str]]:
        tenant = self._compiled.tenants.get(event.tenant)
        if tenant is None:
            yield f"tenant {event.tenant}", ""
            return
        delay_ms = record.timestamp_ms - event.time
        match reason:
            case RejectReason.FUTURE:
                yield _tags(tenant, event), f"happened {seconds(-delay_ms)} after it arrived"
            case RejectReason.LATE:
                yield _tags(tenant, event), f"arrived {seconds(delay_ms)} after it happened"
            case RejectReason.DUPLICATE:
                yield "eventId" if event.eventId else "no eventId, and equal bytes", ""
            case EventWarning.KEY_MISMATCH:
                yield "message key", f"key {_example(record.key)}, sessionId {event.sessionId}"
            case EventWarning.BAD_VALUE:
                yield from _bad_values(self._compiled, tenant, event)
            case _:
                named = list(_bad_assignments(tenant, event, reason))
                yield from named or [(f"sessionId {event.sessionId}", "")]


def _tags(tenant: CompiledTenant, event: Event) -> str:
    """The tags of an event: they tell whose clock or delay it is."""
    texts = tenant.classifier.tag_sets.texts(tenant.classifier.classified(event).tags)
    return "time, of " + (" ".join(f"{tag}={text}" for tag, text in texts.items()) or "all")


def _bad_values(compiled: CompiledConfig, tenant: CompiledTenant, event: Event) -> Iterator[tuple[str, str]]:
    """The points whose value the event does not have."""
    points = tenant.program.tenant.points
    for number in tenant.classifier.classified(event).event_class.value_points:
        point = points[number]
        if point.value is not None:
            held = compiled.decoder.attribute(event, point.value.attribute)
            if measure(point, held) is None:
                yield f"{point.value.attribute} of point {point.name}", f"is {_json(held)}"


def _bad_assignments(
    tenant: CompiledTenant, event: Event, reason: RejectReason | EventWarning
) -> Iterator[tuple[str, str]]:
    """The assignments that make the warning, each judged alone."""
    text = bytes(event.assignments).decode()
    for experiment, variation in members(text) if text.startswith("{") else ():
        assigned = tenant.classifier.assigned(f"{{{json.dumps(experiment)}: {variation}}}".encode())
        if assigned is not None and reason in dict(assigned.warnings):
            is_name = reason is EventWarning.UNKNOWN_EXPERIMENT
            yield _writable(experiment if is_name else f"{experiment}={_plain(variation)}"), ""


def _plain(variation: str) -> str:
    """A variation's JSON text, without quotation marks if it is text."""
    found = json.loads(variation) if variation.startswith('"') else variation
    return str(found)


def _writable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()  # JSON can hold halves of characters


def _json(value: object) -> str:
    """An attribute's value for people."""
    if value is None:
        return "missing"
    if isinstance(value, float) and not math.isfinite(value):
        return "beyond any number that can be summed"
    try:
        return shortened(msgspec.json.encode(value).decode())
    except (ValueError, OverflowError):  # half a character, or an integer beyond 64 bits
        return shortened(repr(value))


def _example(value: bytes | None) -> str:
    """The beginning of a message's value."""
    text = (value or b"")[:_BYTES_LOOKED_AT].decode(errors="backslashreplace")
    return text if len(text) <= EXAMPLE_CHARACTERS_MAX else text[: EXAMPLE_CHARACTERS_MAX - 3] + "..."
