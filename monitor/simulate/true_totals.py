"""What messages must add up to: which are accepted, and the sums over their visits.

Shares no code with the streaming job, which it is there to check. It takes the configuration as the plain mapping that
`tomllib` gives (a checked one: no faults are looked for here) and the messages in order of arrival, as a broker that
stamps arrival times hands them out; then a message is late by its own timestamp alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from monitor.runtime.errors import MonitorError
from monitor.simulate.reckoning import CountedEvent, contributions

Config = Mapping[str, Any]

LIVE_EVENTS_MAX = 5_000_000
"""Accepted events held at once, those of visits that may still grow; beyond it the pass gives up (TruthError)."""

_SWEEP_EVERY = 100_000
_TIME_END = 2**53


class TruthError(MonitorError):
    """Messages whose truth cannot be told: out of arrival order, or too many visits open at once."""


class Truth(NamedTuple):
    """The totals over all minutes and tags.

    `accepted` by tenant, `rejected` by reason, `totals` by metric name (`uswm.visit.fm.red.order.sum`); a metric that
    comes to 0 is absent.
    """

    accepted: dict[str, int]
    rejected: dict[str, int]
    totals: dict[str, int]


def truth(messages: Iterable[tuple[int, bytes | None, bytes, int]], config: Config) -> Truth:
    """The true totals of messages (partition, key, value, timestamp in ms) under a configuration.

    Raises TruthError if a partition's timestamps fall, or if more than LIVE_EVENTS_MAX events are held at once.
    """
    ledger = _Ledger(config)
    last_ms: dict[int, int] = {}
    for n, (partition, _, value, timestamp_ms) in enumerate(messages, start=1):
        before_ms = last_ms.get(partition, timestamp_ms)
        if timestamp_ms < before_ms:
            message = f"timestamps must not fall; partition {partition} goes from {before_ms} to {timestamp_ms}"
            raise TruthError(message)
        last_ms[partition] = timestamp_ms
        ledger.take(value, timestamp_ms)
        if n % _SWEEP_EVERY == 0:
            ledger.close_visits(min(last_ms.values()))
    return ledger.result()


class _Kept(NamedTuple):
    """An accepted event, undecoded: many are held at once."""

    time_ms: int
    event_id: str
    value: bytes


class _Ledger:
    """The sessions that may still grow, and the sums of those that cannot."""

    def __init__(self, config: Config) -> None:
        time, limits = config.get("time", {}), config.get("limits", {})
        self._tenants: Config = config["tenants"]
        self._gap_ms: int = 1000 * time.get("session_gap_s", 1800)
        self._lateness_ms: int = 1000 * time.get("allowed_lateness_s", 600)
        self._tolerance_ms: int = 1000 * time.get("future_tolerance_s", 60)
        self._message_bytes: int = limits.get("message_bytes", 1_048_576)
        self._events_per_visit: int = limits.get("events_per_visit", 5_000)
        self._accepted: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._totals: Counter[str] = Counter()
        self._sessions: dict[tuple[str, str], list[_Kept]] = {}
        self._live_events = 0

    def take(self, value: bytes, timestamp_ms: int) -> None:
        """Accepts or rejects one message."""
        fields = None if len(value) > self._message_bytes else _json_object(value)
        reason = self._fault(value, fields, timestamp_ms)
        if fields is not None and reason is None:
            events = self._sessions.setdefault((fields["tenant"], fields["sessionId"]), [])
            event = _Kept(fields["time"], _event_id(fields, value), value)
            reason = self._conflict(event, events)
            if reason is None:
                self._keep(fields["tenant"], event, events)
        if reason is not None:
            self._rejected[reason] += 1

    def close_visits(self, timestamp_ms: int | None) -> None:
        """Adds up the sessions that nothing after this moment can change (all of them, if there is none)."""
        for owner, events in list(self._sessions.items()):
            last_ms = max(event.time_ms for event in events)
            if timestamp_ms is None or last_ms + self._gap_ms < timestamp_ms - self._lateness_ms:
                for visit in _visits(events, self._gap_ms):
                    self._totals.update(contributions(owner[0], self._tenants[owner[0]], visit))
                self._live_events -= len(events)
                del self._sessions[owner]

    def result(self) -> Truth:
        """The truth, once there are no more messages."""
        self.close_visits(None)
        return Truth(dict(self._accepted), dict(self._rejected), {name: n for name, n in self._totals.items() if n})

    def _fault(self, value: bytes, fields: Mapping[str, Any] | None, timestamp_ms: int) -> str | None:
        """Why a message is rejected whatever came before it, in the order of the checks."""
        if len(value) > self._message_bytes:
            return "oversized"
        if fields is None:
            return "not_json"
        if not _well_typed(fields):
            return "bad_field"
        if fields["tenant"] not in self._tenants:
            return "unknown_tenant"
        if fields["time"] > timestamp_ms + self._tolerance_ms:
            return "future"
        return "late" if timestamp_ms - fields["time"] > self._lateness_ms else None

    def _conflict(self, event: _Kept, events: list[_Kept]) -> str | None:
        """Why the visit that an event belongs to does not take it."""
        known = any(other.event_id == event.event_id for other in events)
        if not known and len(events) < self._events_per_visit:
            return None  # the cheap answer to nearly every event
        visit = next(visit for visit in _runs([*events, event], self._gap_ms) if event in visit)
        visit.remove(event)
        if any(other.event_id == event.event_id for other in visit):
            return "duplicate"
        return "visit_full" if len(visit) >= self._events_per_visit else None

    def _keep(self, tenant: str, event: _Kept, events: list[_Kept]) -> None:
        events.append(event)
        self._accepted[tenant] += 1
        self._live_events += 1
        if self._live_events > LIVE_EVENTS_MAX:
            message = f"more than {LIVE_EVENTS_MAX} events in visits that may still grow; take fewer messages"
            raise TruthError(message)


def _json_object(value: bytes) -> dict[str, Any] | None:
    try:
        fields = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def _well_typed(fields: Mapping[str, Any]) -> bool:
    time_ms, session_id, assignments = fields.get("time"), fields.get("sessionId"), fields.get("assignments")
    return (
        all(isinstance(fields.get(name), str) for name in ("tenant", "sessionId", "event"))
        and isinstance(session_id, str)
        and 1 <= len(session_id) <= 256
        and type(time_ms) is int
        and 0 < time_ms < _TIME_END
        and isinstance(fields.get("eventId"), str | None)
        and isinstance(fields.get("attributes"), dict | None)
        and isinstance(assignments, dict | None)
        and all(isinstance(variation, str) for variation in (assignments or {}).values())
    )


def _event_id(fields: Mapping[str, Any], value: bytes) -> str:
    return fields.get("eventId") or "~" + blake2b(value, digest_size=8).hexdigest()


def _runs(events: Iterable[_Kept], gap_ms: int) -> Iterator[list[_Kept]]:
    """The events of a session in visits: neighbours are at most the gap apart. Each visit is in its order."""
    run: list[_Kept] = []
    for event in sorted(events):
        if run and event.time_ms - run[-1].time_ms > gap_ms:
            yield run
            run = []
        run.append(event)
    if run:
        yield run


def _visits(events: Iterable[_Kept], gap_ms: int) -> Iterator[list[CountedEvent]]:
    for run in _runs(events, gap_ms):
        yield [_decoded(kept) for kept in run]


def _decoded(kept: _Kept) -> CountedEvent:
    fields = msgspec.json.decode(kept.value)
    scalars = {name: v for name, v in (fields.get("attributes") or {}).items() if isinstance(v, str | float | int)}
    return CountedEvent(kept.time_ms, fields["event"], fields.get("assignments") or {}, scalars)
