"""Sessions: accepts events into visits and emits what that changes. Pure.

`Measures` is the configuration compiled, one per process. A `SessionGroup` holds the sessions of one key group: it
decodes messages, accepts or rejects them, and tallies contributions, corrections and counts. What a visit is and
contributes: visits.py, visits.py.

A session that is not being touched is kept as bytes (packing.py), which snapshots take as they are.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias, final

import xxhash

from monitor.core import visits
from monitor.core.attribution import Contributions, Entry, EventClass, Program, measure
from monitor.core.classify import Matcher, mentioned
from monitor.core.definitions import Limits, Tenant
from monitor.core.events import Decoder, Event, EventWarning, Rejected, RejectReason, derived_id
from monitor.core.packing import Packer, last_ms
from monitor.core.visits import ID_BYTES, Correction, Visit
from monitor.core.watermark import Watermark

ASSIGNMENTS_MAX = 65_536
"""Remembered `assignments` texts per tenant; at the bound all are forgotten."""
NO_TENANT = "unknown"

Message: TypeAlias = tuple[bytes | None, bytes | None, int]
"""Kafka key, value and message timestamp in ms."""
KnownVariations: TypeAlias = tuple[tuple[int, ...], Mapping[EventWarning, int]]
"""The known variations that an event carries, and what is to be noted of the others."""


@final
class Tally:
    """What a batch of messages changed and counted for one tenant."""

    __slots__ = ("accepted", "corrections", "delay_max_ms", "delay_sum_ms", "minus", "noted", "plus", "rejected")

    def __init__(self) -> None:
        self.plus = Contributions()
        self.minus = Contributions()
        self.accepted = 0
        self.delay_sum_ms = 0
        self.delay_max_ms = 0
        self.corrections = 0
        self.rejected: dict[RejectReason, int] = {}
        self.noted: dict[EventWarning, int] = {}

    def reject(self, reason: RejectReason) -> None:
        """Counts a message that is not accepted."""
        self.rejected[reason] = self.rejected.get(reason, 0) + 1

    def note(self, note: EventWarning, times: int = 1) -> None:
        """Counts what is odd about a message."""
        self.noted[note] = self.noted.get(note, 0) + times


@final
class Measured:
    """One tenant's definitions, compiled, with what is remembered of its messages."""

    def __init__(self, tenant: Tenant, decoder: Decoder) -> None:
        self.name = tenant.name
        self.program = Program(tenant)
        self.matcher = Matcher(self.program, decoder)
        self.packer = Packer(self.program)
        self._decoder = decoder
        self._points = tenant.points
        self._experiments = {experiment.name for experiment in tenant.experiments}
        self.known_variations: dict[bytes, KnownVariations] = {}
        """What `arms` has found so far."""

    def variations(self, text: bytes) -> KnownVariations | None:
        """What the JSON text of an event's assignments says; None if it is a bad field."""
        variations = self._read(text)
        if variations is not None:
            if len(self.known_variations) >= ASSIGNMENTS_MAX:
                self.known_variations.clear()
            self.known_variations[text] = variations
        return variations

    def _read(self, text: bytes) -> KnownVariations | None:
        assignments = self._decoder.assignments(text)
        if assignments is None:
            return None
        notes: Counter[EventWarning] = Counter()
        variations = []
        for experiment, name in assignments.items():
            variation = self.program.variation_numbers.get((experiment, name))
            if variation is not None:
                variations.append(variation)
            else:
                notes[
                    EventWarning.UNKNOWN_VARIATION
                    if experiment in self._experiments
                    else EventWarning.UNKNOWN_EXPERIMENT
                ] += 1
        return tuple(variations), notes

    def values(self, event: Event, kind: EventClass) -> list[int | None]:
        """x of each value point that the event matches; None where its attribute is no finite number."""
        points = [self._points[p] for p in kind.value_points]
        return [measure(p, self._decoder.attribute(event, p.value.attribute)) for p in points if p.value is not None]


@final
class Measures:
    """The whole configuration, compiled; what all key groups of a process share."""

    def __init__(self, tenants: Sequence[Tenant], limits: Limits, *, key_is_session_id: bool = True) -> None:
        programs = [Program(tenant) for tenant in tenants]
        names = [name for p in programs for name in mentioned(p.tenant.tags, p.clauses.predicates)]
        names += [point.value.attribute for tenant in tenants for point in tenant.points if point.value is not None]
        self.decoder = Decoder(names, limits.message_bytes)
        self.limits = limits
        self.key_is_session_id = key_is_session_id
        self.tenants = {tenant.name: Measured(tenant, self.decoder) for tenant in tenants}

    def strangers_fault(self, event: Event) -> RejectReason:
        """Why an event of an unknown tenant is rejected."""
        well_formed = self.decoder.assignments(bytes(event.assignments)) is not None
        return RejectReason.UNKNOWN_TENANT if well_formed else RejectReason.BAD_FIELD


@final
class _Held:
    """What a key group holds of one tenant."""

    __slots__ = ("awake", "forgetting", "sessions", "settling", "tally", "tenant")

    def __init__(self, tenant: Measured) -> None:
        self.tenant = tenant
        self.sessions: dict[str, Visit | bytes] = {}
        self.awake: dict[str, Visit] = {}
        """Those of them that are no bytes."""
        self.tally: Tally | None = None
        self.settling: dict[int, list[str]] = {}
        self.forgetting: dict[int, list[str]] = {}
        """Minute of a session's last event, as it was when noted -> sessionIds; each session is in one of the two.

        Where to look for what the watermark has passed: to settle it; and once the gap is over too, to forget it.
        """


@final
class SessionGroup:
    """The sessions of one key group."""

    def __init__(self, measures: Measures, watermark: Watermark) -> None:
        self.watermark = watermark
        self._held = {name: _Held(tenant) for name, tenant in measures.tenants.items()}
        self.sessions: Mapping[str, Mapping[str, Visit | bytes]] = {
            name: held.sessions for name, held in self._held.items()
        }
        self.tallies: dict[str, Tally] = {}
        """What was changed and counted since the last `take`, by tenant; `unknown` where the tenant is not known."""
        self._measures = measures
        self._gap_ms = measures.limits.session_gap_ms
        self._full_bytes = measures.limits.events_per_visit * ID_BYTES

    def take(self) -> dict[str, Tally]:
        """The tallies since the last call."""
        tallies, self.tallies = self.tallies, {}
        for name in tallies.keys() & self._held.keys():
            self._held[name].tally = None
        return tallies

    def feed(self, messages: Iterable[Message]) -> None:
        """Takes in messages in the order of their partition."""
        decode, all_held, limits = self._measures.decoder.decode, self._held, self._measures.limits
        checks_key, lateness_ms, future_ms = self._measures.key_is_session_id, limits.lateness_ms, -limits.future_ms
        settled_ms = self.watermark.value_ms
        for key, value, timestamp_ms in messages:
            event = decode(value)
            if isinstance(event, Rejected):
                self._tally(event.tenant or NO_TENANT).reject(event.reason)
                continue
            held = all_held.get(event.tenant)
            if held is None:
                self._tally(NO_TENANT).reject(self._measures.strangers_fault(event))
                continue
            tally = held.tally or self._tally(event.tenant)
            text = bytes(event.assignments)
            variations = held.tenant.known_variations.get(text) or held.tenant.variations(text)
            if variations is None:
                tally.reject(RejectReason.BAD_FIELD)
                continue
            if checks_key and key is not None and key != event.sessionId.encode():
                tally.note(EventWarning.KEY_MISMATCH)
            delay_ms = timestamp_ms - event.time
            if delay_ms < future_ms:
                tally.reject(RejectReason.FUTURE)
            elif delay_ms > lateness_ms or event.time < settled_ms:
                tally.reject(RejectReason.LATE)
            elif self._accept(held, event, value or b"", variations, tally):
                tally.accepted += 1
                tally.delay_sum_ms += delay_ms
                if delay_ms > tally.delay_max_ms:
                    tally.delay_max_ms = delay_ms

    def _accept(self, held: _Held, event: Event, value: bytes, variations: KnownVariations, tally: Tally) -> bool:
        """Takes an event into its visit, unless that holds it already or is full."""
        own_id, time_ms = event.eventId or derived_id(value), event.time
        digest = xxhash.xxh3_64_digest(own_id.encode())
        session = held.sessions.get(event.sessionId)
        if isinstance(session, bytes):
            session = self._wake(held, event.sessionId, session)
        if session is not None and session.last_ms < time_ms <= session.last_ms + self._gap_ms:
            suspicious = digest in session.ids or len(session.ids) >= self._full_bytes
            if suspicious and self._refused((session,), digest, tally):
                return False
            entry = self._entry(held.tenant, event, own_id, variations, tally)
            session.append(held.tenant.program, entry, digest, self.watermark.value_ms, tally.plus)
            return True
        touched = visits.touching(session, time_ms, self._gap_ms) if session is not None else []
        if touched and self._refused(touched, digest, tally):
            return False
        entry = self._entry(held.tenant, event, own_id, variations, tally)
        self._place(held, event.sessionId, session, touched, entry, digest, tally)
        return True

    def _refused(self, visits: Sequence[Visit], digest: bytes, tally: Tally) -> bool:
        """Whether the visits that an event belongs to hold it already, or are full."""
        if any(visit.holds(digest) for visit in visits):
            tally.reject(RejectReason.DUPLICATE)
            return True
        if sum(len(visit.ids) for visit in visits) >= self._full_bytes:
            tally.reject(RejectReason.VISIT_FULL)
            return True
        return False

    def _entry(self, tenant: Measured, event: Event, own_id: str, variations: KnownVariations, tally: Tally) -> Entry:
        """An accepted event as its visit keeps it; notes what is odd about it."""
        symbol = tenant.matcher.symbol(event)
        kind = symbol.kind
        values: tuple[int, ...] = ()
        if kind.value_points:
            measured = tenant.values(event, kind)
            values = tuple([x or 0 for x in measured])
            if None in measured:
                tally.note(EventWarning.BAD_VALUE, measured.count(None))
        if variations[1]:
            for note, times in variations[1].items():
                tally.note(note, times)
        return Entry(event.time, own_id, kind, symbol.tags, variations[0], values)

    def _place(
        self,
        held: _Held,
        session_id: str,
        session: Visit | None,
        touched: Sequence[Visit],
        entry: Entry,
        digest: bytes,
        tally: Tally,
    ) -> None:
        """Takes in an event that is not simply the next of the session's latest visit."""
        program, settled_ms = held.tenant.program, self.watermark.value_ms
        if session is None:
            started = visits.start(program, entry, digest, None, tally.plus)
            held.settling.setdefault(entry.time // 60_000, []).append(session_id)
            held.sessions[session_id] = held.awake[session_id] = started
            return
        correction = Correction()
        match touched:
            case []:
                visit = visits.start(program, entry, digest, None, correction.new)
            case [visit]:
                visits.insert(program, visit, entry, digest, correction)
            case [later, visit]:
                visits.join(program, visit, later, entry, digest, correction)
        tally.corrections += correction.apply(tally.plus, tally.minus)
        if visit is session and visit.earlier is None:
            return
        others = [v for v in visits.runs(session) if v not in touched and v.last_ms + self._gap_ms >= settled_ms]
        latest = visits.chained(sorted([visit, *others], key=_first_ms, reverse=True))
        held.sessions[session_id] = held.awake[session_id] = latest

    def _wake(self, held: _Held, session_id: str, session: bytes) -> Visit:
        """The session as an object that can be changed."""
        woken = held.tenant.packer.unpack(session)
        held.sessions[session_id] = held.awake[session_id] = woken
        return woken

    def _tally(self, tenant: str) -> Tally:
        """The tally of a tenant, `NO_TENANT` if it is not known."""
        held = self._held.get(tenant)
        if held is None:
            return self.tallies.setdefault(NO_TENANT, Tally())
        if held.tally is None:
            held.tally = self.tallies[tenant] = Tally()
        return held.tally

    def forget(self) -> None:
        """Forgets what no event can reach any more; to be called when the watermark has risen.

        Sessions that ended longer ago than the gap; of the others, the events behind the watermark.
        """
        watermark_ms, settled_ms = self.watermark.value_ms, self.watermark.value_ms - self._gap_ms
        for held in self._held.values():
            for session_id in [*_due(held.settling, watermark_ms), *_due(held.forgetting, settled_ms)]:
                last = _last_ms(held.sessions[session_id])
                if last < settled_ms:
                    del held.sessions[session_id]
                    held.awake.pop(session_id, None)
                else:
                    self._settle(held, session_id)
                    queue = held.forgetting if last < watermark_ms else held.settling
                    queue.setdefault(last // 60_000, []).append(session_id)

    def _settle(self, held: _Held, session_id: str) -> None:
        """Forgets the session's events behind the watermark."""
        session, packer = held.sessions[session_id], held.tenant.packer
        visit = packer.unpack(session) if isinstance(session, bytes) else session
        for one in visits.runs(visit):
            one.settle(self.watermark.value_ms, held.tenant.program)
        if isinstance(session, bytes):
            held.sessions[session_id] = packer.pack(visit)

    def pack(self) -> dict[str, dict[str, bytes]]:
        """All sessions as bytes, by tenant and sessionId; those that were awake go to rest."""
        for held in self._held.values():
            pack = held.tenant.packer.pack
            for session_id, session in held.awake.items():
                held.sessions[session_id] = pack(session)
            held.awake.clear()
        return {name: dict(held.sessions) for name, held in self._held.items() if held.sessions}  # type: ignore[arg-type]

    def restore(self, tenant: str, sessions: dict[str, bytes]) -> None:
        """Takes back what `pack` gave, at the watermark of that moment."""
        held = self._held[tenant]
        held.sessions.update(sessions)
        for session_id, session in sessions.items():
            minute = last_ms(session) // 60_000
            queue = held.forgetting if (minute + 1) * 60_000 <= self.watermark.value_ms else held.settling
            queue.setdefault(minute, []).append(session_id)


def _due(queue: dict[int, list[str]], until_ms: int) -> list[str]:
    """Takes out what was noted for minutes that end by then."""
    minutes = [minute for minute in queue if (minute + 1) * 60_000 <= until_ms]
    return [session_id for minute in minutes for session_id in queue.pop(minute)]


def _last_ms(session: Visit | bytes) -> int:
    return last_ms(session) if isinstance(session, bytes) else session.last_ms


def _first_ms(visit: Visit) -> int:
    return visit.first_ms
