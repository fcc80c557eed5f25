"""Sessions: accepts events into visits and emits what that changes. Pure.

`Measures` is the configuration compiled, one per process. A `SessionGroup` holds the sessions of one key group: it
decodes messages, accepts or rejects them, and tallies contributions, corrections and counts. What a visit is and
contributes: timeline.py, visits.py.

A session that is not being touched is kept as bytes (packing.py), which snapshots take as they are.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import xxhash

from monitor import timeline
from monitor.definitions import Limits, Tenant
from monitor.events import Decoder, Event, Note, Reason, Rejected, event_id
from monitor.matching import Matcher, mentioned
from monitor.packing import Packer, last_ms
from monitor.timeline import ID_BYTES, Correction, Visit
from monitor.visits import Contributions, Entry, Kind, Program, measure
from monitor.watermark import Watermark

ASSIGNMENTS_MAX = 65_536
"""Remembered `assignments` texts per tenant; at the bound all are forgotten."""
NO_TENANT = "unknown"

Message: TypeAlias = tuple[bytes | None, bytes | None, int]
"""Kafka key, value and message timestamp in ms."""
Arms: TypeAlias = tuple[tuple[int, ...], Mapping[Note, int]]
"""The known variations that an event carries, and what is to be noted of the others."""


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
        self.rejected: Counter[Reason] = Counter()
        self.noted: Counter[Note] = Counter()


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
        self._arms: dict[bytes, Arms | None] = {}

    def arms(self, text: bytes) -> Arms | None:
        """What the JSON text of an event's assignments says; None if it is a bad field."""
        try:
            return self._arms[text]
        except KeyError:
            if len(self._arms) >= ASSIGNMENTS_MAX:
                self._arms.clear()
            known = self._arms[text] = self._read(text)
            return known

    def _read(self, text: bytes) -> Arms | None:
        assignments = self._decoder.assignments(text)
        if assignments is None:
            return None
        notes: Counter[Note] = Counter()
        arms = []
        for experiment, variation in assignments.items():
            arm = self.program.arm_numbers.get((experiment, variation))
            if arm is not None:
                arms.append(arm)
            else:
                notes[Note.UNKNOWN_VARIATION if experiment in self._experiments else Note.UNKNOWN_EXPERIMENT] += 1
        return tuple(arms), notes

    def values(self, event: Event, kind: Kind) -> list[int | None]:
        """x of each value point that the event matches; None where its attribute is no finite number."""
        points = [self._points[p] for p in kind.value_points]
        return [measure(p, self._decoder.attribute(event, p.value.attribute)) for p in points if p.value is not None]


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

    def strangers_fault(self, event: Event) -> Reason:
        """Why an event of an unknown tenant is rejected."""
        well_formed = self.decoder.assignments(bytes(event.assignments)) is not None
        return Reason.UNKNOWN_TENANT if well_formed else Reason.BAD_FIELD


class SessionGroup:
    """The sessions of one key group."""

    def __init__(self, measures: Measures, watermark: Watermark) -> None:
        self.watermark = watermark
        self.sessions: dict[str, dict[str, Visit | bytes]] = {name: {} for name in measures.tenants}
        self.tallies: dict[str, Tally] = {}
        """What was changed and counted since the last `take`, by tenant; `unknown` where the tenant is not known."""
        self._awake: dict[str, dict[str, Visit]] = {name: {} for name in measures.tenants}
        self._due: dict[int, list[tuple[str, str]]] = {}
        """Minute of a session's last event, as it was when noted -> (tenant, sessionId).

        Where to look for sessions that can be forgotten.
        """
        self._measures = measures
        self._gap_ms = measures.limits.session_gap_ms
        self._full_bytes = measures.limits.events_per_visit * ID_BYTES

    def take(self) -> dict[str, Tally]:
        """The tallies since the last call."""
        tallies, self.tallies = self.tallies, {}
        return tallies

    def feed(self, messages: Iterable[Message]) -> None:
        """Takes in messages in the order of their partition."""
        decode, tenants, limits = self._measures.decoder.decode, self._measures.tenants, self._measures.limits
        checks_key, lateness_ms, future_ms = self._measures.key_is_session_id, limits.lateness_ms, -limits.future_ms
        settled_ms = self.watermark.value_ms
        for key, value, timestamp_ms in messages:
            event = decode(value)
            if isinstance(event, Rejected):
                self._tally(event.tenant or NO_TENANT).rejected[event.reason] += 1
                continue
            tally = self._tally(event.tenant)
            tenant = tenants.get(event.tenant)
            if tenant is None:
                tally.rejected[self._measures.strangers_fault(event)] += 1
                continue
            arms = tenant.arms(bytes(event.assignments))
            if arms is None:
                tally.rejected[Reason.BAD_FIELD] += 1
                continue
            if checks_key and key is not None and key != event.sessionId.encode():
                tally.noted[Note.KEY_MISMATCH] += 1
            delay_ms = timestamp_ms - event.time
            if delay_ms < future_ms:
                tally.rejected[Reason.FUTURE] += 1
            elif delay_ms > lateness_ms or event.time < settled_ms:
                tally.rejected[Reason.LATE] += 1
            elif self._accept(tenant, event, value or b"", arms, tally):
                tally.accepted += 1
                tally.delay_sum_ms += delay_ms
                if delay_ms > tally.delay_max_ms:
                    tally.delay_max_ms = delay_ms

    def _accept(self, tenant: Measured, event: Event, value: bytes, arms: Arms, tally: Tally) -> bool:
        """Takes an event into its visit, unless that holds it already or is full."""
        own_id = event_id(event, value)
        digest = xxhash.xxh3_64_digest(own_id.encode())
        session, time_ms = self._wake(tenant, event.sessionId), event.time
        if session is not None and session.last_ms < time_ms <= session.last_ms + self._gap_ms:
            if self._refused((session,), digest, tally):
                return False
            entry = self._entry(tenant, event, own_id, arms, tally)
            session.append(tenant.program, entry, digest, self.watermark.value_ms, tally.plus)
            return True
        visits = timeline.touching(session, time_ms, self._gap_ms)
        if self._refused(visits, digest, tally):
            return False
        entry = self._entry(tenant, event, own_id, arms, tally)
        self._place(tenant, event.sessionId, session, visits, entry, digest, tally)
        return True

    def _refused(self, visits: Sequence[Visit], digest: bytes, tally: Tally) -> bool:
        """Whether the visits that an event belongs to hold it already, or are full."""
        held = 0
        for visit in visits:
            held += len(visit.ids)
            if digest in visit.ids and visit.holds(digest):
                tally.rejected[Reason.DUPLICATE] += 1
                return True
        if held >= self._full_bytes:
            tally.rejected[Reason.VISIT_FULL] += 1
            return True
        return False

    def _entry(self, tenant: Measured, event: Event, own_id: str, arms: Arms, tally: Tally) -> Entry:
        """An accepted event as its visit keeps it; notes what is odd about it."""
        symbol = tenant.matcher.symbol(event)
        kind = symbol.kind
        values: tuple[int, ...] = ()
        if kind.value_points:
            measured = tenant.values(event, kind)
            values = tuple([x or 0 for x in measured])
            if None in measured:
                tally.noted[Note.BAD_VALUE] += measured.count(None)
        if arms[1]:
            tally.noted.update(arms[1])
        return Entry(event.time, own_id, kind, symbol.tags, arms[0], values)

    def _place(
        self,
        tenant: Measured,
        session_id: str,
        session: Visit | None,
        visits: Sequence[Visit],
        entry: Entry,
        digest: bytes,
        tally: Tally,
    ) -> None:
        """Takes in an event that is not simply the next of the session's latest visit."""
        program, settled_ms = tenant.program, self.watermark.value_ms
        if session is None:
            started = timeline.start(program, entry, digest, None, tally.plus)
            self._due.setdefault(entry.time // 60_000, []).append((tenant.name, session_id))
            self.sessions[tenant.name][session_id] = self._awake[tenant.name][session_id] = started
            return
        others = [v for v in timeline.runs(session) if v not in visits and v.last_ms + self._gap_ms >= settled_ms]
        if visits:
            visit, joined = visits[-1], visits[0] if len(visits) == 2 else None
            correction = Correction()
            timeline.insert(program, visit, joined, entry, digest, correction)
            tally.corrections += correction.apply(tally.plus, tally.minus)
        else:
            visit = timeline.start(program, entry, digest, None, tally.plus)
        latest = timeline.chained(sorted([visit, *others], key=_first_ms, reverse=True))
        self.sessions[tenant.name][session_id] = self._awake[tenant.name][session_id] = latest

    def _wake(self, tenant: Measured, session_id: str) -> Visit | None:
        """The session as an object that can be changed; None if there is none."""
        session = self.sessions[tenant.name].get(session_id)
        if isinstance(session, bytes):
            session = tenant.packer.unpack(session)
            self.sessions[tenant.name][session_id] = self._awake[tenant.name][session_id] = session
        return session

    def _tally(self, tenant: str) -> Tally:
        tally = self.tallies.get(tenant)
        if tally is None:
            known = tenant if tenant in self._measures.tenants else NO_TENANT
            tally = self.tallies.setdefault(known, Tally())
        return tally

    def forget(self) -> None:
        """Forgets the sessions that no event can reach any more; to be called when the watermark has risen."""
        settled_ms = self.watermark.value_ms - self._gap_ms
        for minute in [minute for minute in self._due if (minute + 1) * 60_000 <= settled_ms]:
            for name, session_id in self._due.pop(minute):
                session = self.sessions[name][session_id]
                last = last_ms(session) if isinstance(session, bytes) else session.last_ms
                if last < settled_ms:
                    del self.sessions[name][session_id]
                    self._awake[name].pop(session_id, None)
                else:
                    self._due.setdefault(last // 60_000, []).append((name, session_id))

    def pack(self) -> dict[str, dict[str, bytes]]:
        """All sessions as bytes, by tenant and sessionId; those that were awake go to rest."""
        settled_ms = self.watermark.value_ms
        for name, awake in self._awake.items():
            tenant = self._measures.tenants[name]
            for session_id, session in awake.items():
                for visit in timeline.runs(session):
                    visit.settle(settled_ms, tenant.program)
                self.sessions[name][session_id] = tenant.packer.pack(session)
            awake.clear()
        return {name: dict(sessions) for name, sessions in self.sessions.items() if sessions}  # type: ignore[arg-type]

    def restore(self, tenant: str, sessions: dict[str, bytes]) -> None:
        """Takes back what `pack` gave."""
        self.sessions[tenant].update(sessions)
        for session_id, session in sessions.items():
            self._due.setdefault(last_ms(session) // 60_000, []).append((tenant, session_id))


def _first_ms(visit: Visit) -> int:
    return visit.first_ms
