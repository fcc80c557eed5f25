"""Sessions: accepts events into visits and emits the changes. Pure.

A `SessionGroup` holds the sessions of one key group. Its two rules:

* An event is judged in a fixed order (reference, section 1): its form, its tenant, its time against its own message
  timestamp and against the watermark, then the visit that it would belong to.
* The changes of an accepted event, and the counts of all messages, are tallied per tenant until the next `take`.

One event's way: decode (events.py) -> look up its session, refuse or accept (here) -> classify (classify.py) -> its
place in a visit (visits.py) -> its contributions (attribution.py).

Between two snapshots, sessions that get an event are objects, *decoded*; all others are bytes, *packed* (packing.py),
which snapshots take as they are.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias, final

import xxhash

from monitor.core import visits
from monitor.core.attribution import Program
from monitor.core.classify import Assigned, UnknownName
from monitor.core.codes import MINUTE_MS, QUALIFIED
from monitor.core.compiled import CompiledConfig, CompiledTenant
from monitor.core.events import Event, EventWarning, Rejected, RejectReason, derived_id
from monitor.core.packing import last_ms
from monitor.core.states import Contributions, Entry
from monitor.core.visits import CROWDED, ID_BYTES, LARGE_EVENTS, LATE, Correction, Visit
from monitor.core.watermark import NEVER, Watermark

NO_TENANT: Final = "unknown"
FM: Final = 1
"""The scope `fm`, as its place among the scopes."""
LARGE_BYTES: Final = LARGE_EVENTS * ID_BYTES
UNKNOWN_NAMES_MAX = 1_000
"""Different unknown names that a batch of messages counts, by tenant; further ones are counted without their name."""

Message: TypeAlias = tuple[bytes | None, bytes | None, int]
"""Kafka key, value and message timestamp in ms."""


@final
class Tally:
    """Changes and counts of a batch of messages, for one tenant."""

    __slots__ = (
        "accepted",
        "bad_values",
        "corrections",
        "delay_max_ms",
        "delay_sum_ms",
        "future",
        "largest",
        "late",
        "minus",
        "plus",
        "rejected",
        "unknown",
        "warnings",
    )

    def __init__(self) -> None:
        self.plus = Contributions()
        self.minus = Contributions()
        self.accepted = 0
        self.delay_sum_ms = 0
        self.delay_max_ms = 0
        self.corrections = 0
        self.rejected: dict[RejectReason, int] = {}
        self.warnings: dict[EventWarning, int] = {}
        self.bad_values: dict[int, int] = {}
        """Point -> events that match it without a number."""
        self.late: dict[int, int] = {}
        """Variation -> visits with an event that was rejected as late."""
        self.future: dict[int, int] = {}
        """Tag combination -> events that were rejected since their time is in the future."""
        self.largest: dict[int, int] = {}
        """Metric key of `fm` -> of the largest visit: its events, if LARGE_EVENTS or more, or its sum without sign."""
        self.unknown: dict[UnknownName, int] = {}
        """Names of accepted events that are not configured; at most UNKNOWN_NAMES_MAX of them."""

    def reject(self, reason: RejectReason) -> None:
        """Counts a message that is not accepted."""
        self.rejected[reason] = self.rejected.get(reason, 0) + 1

    def warn(self, warning: EventWarning, times: int = 1) -> None:
        """Counts what is wrong with a message and does not reject it."""
        self.warnings[warning] = self.warnings.get(warning, 0) + times

    def all_warnings(self) -> dict[EventWarning, int]:
        """The warnings by reason, bad values of all points among them."""
        bad_values = sum(self.bad_values.values())
        return self.warnings | ({EventWarning.BAD_VALUE: bad_values} if bad_values else {})

    def measure(self, visit: Visit, entry: Entry, program: Program) -> None:
        """Takes in how large a visit is after one more event."""
        numbering, largest = program.numbering, self.largest
        if len(visit.ids) >= LARGE_BYTES:
            for key, events in visit.large_counts(program).items():
                if events >= LARGE_EVENTS and events > largest.get(key, 0):
                    largest[key] = events
        if entry.values:
            for state in visit.state.experiments:
                if state.code & QUALIFIED:
                    for point in entry.event_class.value_points:
                        key = numbering.sum_key(state.variation, point)
                        value = abs(visit.state.sums.get(numbering.slot(state.experiment, FM, point), 0))
                        if value > largest.get(key, 0):
                            largest[key] = value

    def warn_of(self, assigned: Assigned) -> None:
        """Counts what is wrong with an accepted event's assignments."""
        for warning, times in assigned.warnings:
            self.warn(warning, times)
        for name in assigned.unknown:
            if name in self.unknown or len(self.unknown) < UNKNOWN_NAMES_MAX:
                self.unknown[name] = self.unknown.get(name, 0) + 1


@final
class _TenantSessions:
    """The sessions of one tenant in a key group."""

    __slots__ = ("compact_at", "compiled", "decoded", "forget_at", "sessions", "tally")

    def __init__(self, compiled: CompiledTenant) -> None:
        self.compiled = compiled
        self.sessions: dict[str, Visit | bytes] = {}
        self.decoded: dict[str, Visit] = {}
        """Those of them that are objects; packed at the next snapshot."""
        self.tally: Tally | None = None
        self.compact_at: dict[int, list[str]] = {}
        self.forget_at: dict[int, list[str]] = {}
        """Minute of a session's last event, as it was when it was put here -> sessionIds.

        Each session is in one of the two: until the watermark has passed its last event it waits to be compacted, then
        to be forgotten once the gap is over too.
        """


@final
class SessionGroup:
    """The sessions of one key group."""

    def __init__(self, compiled: CompiledConfig, watermark: Watermark) -> None:
        self.watermark = watermark
        self._tenants = {name: _TenantSessions(tenant) for name, tenant in compiled.tenants.items()}
        self.sessions: Mapping[str, Mapping[str, Visit | bytes]] = {
            name: tenant.sessions for name, tenant in self._tenants.items()
        }
        self.tallies: dict[str, Tally] = {}
        """Changes and counts since the last `take`, by tenant; `unknown` where the tenant is not known."""
        self._compiled = compiled
        self._gap_ms = compiled.limits.session_gap_ms
        self._full_bytes = compiled.limits.events_per_visit * ID_BYTES
        self._crowded_bytes = compiled.limits.crowded_events * ID_BYTES
        self._placeholders = frozenset([text.strip().casefold() for text in compiled.limits.placeholder_ids])

    def take(self) -> dict[str, Tally]:
        """The tallies since the last call."""
        tallies, self.tallies = self.tallies, {}
        for name in tallies.keys() & self._tenants.keys():
            self._tenants[name].tally = None
        return tallies

    def feed(self, messages: Iterable[Message], high_ms: int = NEVER) -> None:
        """Takes in messages in the order of their partition, whose `high` was `high_ms`, if that matters to them.

        It does to a message stamped behind it: the watermark of its own partition judges it, wherever the others are.
        """
        decode, tenants, limits = self._compiled.decoder.decode, self._tenants, self._compiled.limits
        checks_key, lateness_ms, future_ms = self._compiled.key_is_session_id, limits.lateness_ms, -limits.future_ms
        watermark_ms, placeholders = max(self.watermark.value_ms, high_ms - lateness_ms), self._placeholders
        tardy_ms = limits.tardy_ms
        for key, value, timestamp_ms in messages:
            event = decode(value)
            if isinstance(event, Rejected):
                self._tally(event.tenant or NO_TENANT).reject(event.reason)
                continue
            tenant = tenants.get(event.tenant)
            if tenant is None:
                self._tally(NO_TENANT).reject(self._compiled.reason_of_stranger(event))
                continue
            tally = tenant.tally or self._tally(event.tenant)
            text = bytes(event.assignments)
            classifier = tenant.compiled.classifier
            assigned = classifier.remembered.get(text) or classifier.assigned(text)
            if assigned is None:
                tally.reject(RejectReason.BAD_FIELD)
                continue
            if checks_key and key is not None and key != event.sessionId.encode():
                tally.warn(EventWarning.KEY_MISMATCH)
            delay_ms = timestamp_ms - event.time
            if event.sessionId.strip().casefold() in placeholders:
                tally.reject(RejectReason.PLACEHOLDER_ID)
            elif delay_ms < future_ms:
                tally.reject(RejectReason.FUTURE)
                tags = classifier.classified(event).tags
                tally.future[tags] = tally.future.get(tags, 0) + 1
            elif delay_ms > lateness_ms or event.time < watermark_ms:
                tally.reject(RejectReason.LATE)
                self._count_late(tenant, event, assigned, tally)
            elif self._accept(tenant, event, value or b"", assigned, delay_ms > tardy_ms, tally):
                tally.accepted += 1
                tally.delay_sum_ms += delay_ms
                if delay_ms > tally.delay_max_ms:
                    tally.delay_max_ms = delay_ms

    def _accept(
        self,
        tenant: _TenantSessions,
        event: Event,
        value: bytes,
        assigned: Assigned,
        is_tardy: bool,
        tally: Tally,
    ) -> bool:
        """Takes an event into its visit, unless that holds it already or is full."""
        own_id, time_ms = event.eventId or derived_id(value), event.time
        digest = xxhash.xxh3_64_digest(own_id.encode())
        session = tenant.sessions.get(event.sessionId)
        if isinstance(session, bytes):
            session = self._decode(tenant, event.sessionId, session)
        compiled = tenant.compiled
        if session is not None and session.last_ms < time_ms <= session.last_ms + self._gap_ms:
            # the next of the session's latest visit, as nearly always; a substring is a suspicion only (Visit.holds)
            suspicious = digest in session.ids or len(session.ids) >= self._full_bytes
            if suspicious and self._refused((session,), digest, tally):
                return False
            entry = compiled.classifier.entry(event, own_id, assigned, is_tardy, tally.bad_values)
            is_new = assigned.texts and (assigned.has_unknown_text or assigned.variations is not session.variations)
            session.append(compiled.program, entry, digest, self.watermark.value_ms, tally.plus)
            if is_new or len(session.ids) > self._crowded_bytes:
                _warn_if_crowded(session, assigned.texts, self._crowded_bytes, tally)
            if entry.values or len(session.ids) >= LARGE_BYTES:
                tally.measure(session, entry, compiled.program)
            if assigned.warnings:
                tally.warn_of(assigned)
            return True
        touched = visits.touching(session, time_ms, self._gap_ms) if session is not None else []
        if touched and self._refused(touched, digest, tally):
            return False
        entry = compiled.classifier.entry(event, own_id, assigned, is_tardy, tally.bad_values)
        # the visits' own variations may become others of its texts
        texts = *assigned.texts, *[(s.experiment, s.variation) for visit in touched for s in visit.state.experiments]
        visit = self._place(tenant, event.sessionId, session, touched, entry, digest, tally)
        _warn_if_crowded(visit, texts, self._crowded_bytes, tally)
        tally.measure(visit, entry, compiled.program)
        if assigned.warnings:
            tally.warn_of(assigned)
        return True

    def _refused(self, touched: Sequence[Visit], digest: bytes, tally: Tally) -> bool:
        """True if the visits that an event belongs to hold it already, or are full."""
        if any(visit.holds(digest) for visit in touched):
            tally.reject(RejectReason.DUPLICATE)
            return True
        if sum(len(visit.ids) for visit in touched) >= self._full_bytes:
            tally.reject(RejectReason.VISIT_FULL)
            return True
        return False

    def _place(
        self,
        tenant: _TenantSessions,
        session_id: str,
        session: Visit | None,
        touched: Sequence[Visit],
        entry: Entry,
        digest: bytes,
        tally: Tally,
    ) -> Visit:
        """Takes in an event that is not simply the next of the session's latest visit; the visit that it is in."""
        program = tenant.compiled.program
        if session is None:
            started = visits.start(program, entry, digest, None, tally.plus)
            tenant.compact_at.setdefault(entry.time // MINUTE_MS, []).append(session_id)
            tenant.sessions[session_id] = tenant.decoded[session_id] = started
            return started
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
            return visit
        reach_ms = self.watermark.value_ms - self._gap_ms
        others = [v for v in visits.runs(session) if v not in touched and v.last_ms >= reach_ms]
        latest = visits.chained(sorted([visit, *others], key=_first_ms, reverse=True))
        tenant.sessions[session_id] = tenant.decoded[session_id] = latest
        return visit

    def _count_late(self, tenant: _TenantSessions, event: Event, assigned: Assigned, tally: Tally) -> None:
        """Counts, for its variations, a visit with an event that came too late: once while the visit is in state.

        An event of which no visit is in state counts for the variations that it carries itself.
        """
        variations = assigned.variations
        session = tenant.sessions.get(event.sessionId)
        if session is not None:
            decoded = self._decode(tenant, event.sessionId, session) if isinstance(session, bytes) else session
            for visit in visits.touching(decoded, event.time, self._gap_ms)[:1]:
                if visit.marks & LATE:
                    return
                variations = tuple([state.variation for state in visit.state.experiments]) or variations
                if variations:  # else an event that carries one may still come
                    visit.marks |= LATE
        for variation in variations:
            tally.late[variation] = tally.late.get(variation, 0) + 1

    def _decode(self, tenant: _TenantSessions, session_id: str, session: bytes) -> Visit:
        """The session as an object that can be changed."""
        decoded = tenant.compiled.packer.unpack(session)
        tenant.sessions[session_id] = tenant.decoded[session_id] = decoded
        return decoded

    def _tally(self, tenant_name: str) -> Tally:
        """The tally of a tenant, `NO_TENANT` if it is not known."""
        tenant = self._tenants.get(tenant_name)
        if tenant is None:
            return self.tallies.setdefault(NO_TENANT, Tally())
        if tenant.tally is None:
            tenant.tally = self.tallies[tenant_name] = Tally()
        return tenant.tally

    def forget(self) -> None:
        """Forgets what no event can reach any more; to be called when the watermark has risen.

        Those are sessions that ended longer ago than the gap; of the others, the events behind the watermark.
        """
        watermark_ms = self.watermark.value_ms
        reach_ms = watermark_ms - self._gap_ms  # an accepted event can still join a visit that ended at or after this
        for tenant in self._tenants.values():
            for session_id in [*_due(tenant.compact_at, watermark_ms), *_due(tenant.forget_at, reach_ms)]:
                last = _last_ms(tenant.sessions[session_id])
                if last < reach_ms:
                    del tenant.sessions[session_id]
                    tenant.decoded.pop(session_id, None)
                else:
                    self._compact(tenant, session_id)
                    queue = tenant.forget_at if last < watermark_ms else tenant.compact_at
                    queue.setdefault(last // MINUTE_MS, []).append(session_id)

    def _compact(self, tenant: _TenantSessions, session_id: str) -> None:
        """Forgets the session's events behind the watermark."""
        session, packer = tenant.sessions[session_id], tenant.compiled.packer
        visit = packer.unpack(session) if isinstance(session, bytes) else session
        for run in visits.runs(visit):
            run.compact(self.watermark.value_ms, tenant.compiled.program)
        if isinstance(session, bytes):
            tenant.sessions[session_id] = packer.pack(visit)

    def pack(self) -> dict[str, dict[str, bytes]]:
        """All sessions as bytes, by tenant and sessionId; none is decoded afterwards."""
        for tenant in self._tenants.values():
            pack = tenant.compiled.packer.pack
            for session_id, session in tenant.decoded.items():
                assert tenant.sessions[session_id] is session, "a decoded session is the session"
                tenant.sessions[session_id] = pack(session)
            tenant.decoded.clear()
        packed = {name: dict(tenant.sessions) for name, tenant in self._tenants.items() if tenant.sessions}
        return packed  # type: ignore[return-value]  # none is decoded

    def restore(self, tenant_name: str, sessions: dict[str, bytes]) -> None:
        """Takes back what `pack` gave, at the watermark of that moment."""
        tenant = self._tenants[tenant_name]
        assert not tenant.sessions, "a tenant is restored once, before its first event"
        tenant.sessions.update(sessions)
        for session_id, session in sessions.items():
            minute = last_ms(session) // MINUTE_MS
            is_final = (minute + 1) * MINUTE_MS <= self.watermark.value_ms
            (tenant.forget_at if is_final else tenant.compact_at).setdefault(minute, []).append(session_id)


def _warn_if_crowded(visit: Visit, texts: tuple[tuple[int, int], ...], crowded_bytes: int, tally: Tally) -> None:
    """Counts a visit, once, that has too many events or texts to be one visitor's."""
    if visit.marks & CROWDED:
        return
    if len(visit.ids) > crowded_bytes or visit.carries_too_many(texts):
        visit.marks |= CROWDED
        tally.warn(EventWarning.CROWDED_VISIT)


def _due(queue: dict[int, list[str]], until_ms: int) -> list[str]:
    """Takes out the sessions of minutes that end by then."""
    minutes = [minute for minute in queue if (minute + 1) * MINUTE_MS <= until_ms]
    return [session_id for minute in minutes for session_id in queue.pop(minute)]


def _last_ms(session: Visit | bytes) -> int:
    return last_ms(session) if isinstance(session, bytes) else session.last_ms


def _first_ms(visit: Visit) -> int:
    return visit.first_ms
