"""The true totals of messages: which of them are accepted, and the sums over their visits.

This module shares no code with the streaming job, which it checks. It takes the configuration as the plain mapping that
`tomllib` gives, already checked, and the messages in order of arrival, as a broker delivers them that stamps arrival
times. In this order a message is late by its own timestamp alone.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple, NoReturn

import msgspec

from monitor.runtime.errors import MonitorError
from monitor.simulate.true_contributions import CountedEvent, contributions

Config = Mapping[str, Any]

LIVE_EVENTS_MAX = 5_000_000
"""Accepted events in memory, those of visits that may still grow; beyond it TruthError is raised."""

_SWEEP_EVERY = 100_000
_TIME_FIRST_MS, _TIME_LAST_MS = 10**11, 10**14 - 1
_DIGITS_READ = 4_000
"""Integers of more digits count as infinite: Python refuses to read them."""
_PLACEHOLDER_IDS = (
    *("undefined", "null", "none", "nan", "nil", "anonymous", "unknown", "(not set)", "[object object]", "0", "-1"),
    "00000000-0000-0000-0000-000000000000",
)


class TruthError(MonitorError):
    """Messages without a computable truth: out of arrival order, or with too many open visits."""


class Truth(NamedTuple):
    """The totals over all minutes and tags.

    `accepted` by tenant, `rejected` by reason, `totals` by metric name (`uswm.visit.fm.red.order.sum`); a metric of 0
    is absent. The tag `experiment` is summed over too: experiments that share a variation's name share its metrics.
    """

    accepted: dict[str, int]
    rejected: dict[str, int]
    totals: dict[str, int]


def truth(messages: Iterable[tuple[int, bytes | None, bytes, int]], config: Config) -> Truth:
    """The true totals of messages (partition, key, value, timestamp in ms) under a configuration.

    Raises TruthError if a partition's timestamps fall, or if more than LIVE_EVENTS_MAX events are in memory.
    """
    ledger = _Ledger(config)
    last_ms: dict[int, int] = {}  # an entry for each partition
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


class _AcceptedEvent(NamedTuple):
    """An accepted event, undecoded, because many are in memory."""

    time_ms: int
    event_id: str
    timestamp_ms: int
    value: bytes


class _Ledger:
    """The sessions that may still grow, and the sums of those that cannot."""

    def __init__(self, config: Config) -> None:
        time, limits = config.get("time", {}), config.get("limits", {})
        self._tenants: Config = config["tenants"]
        self._gap_ms: int = 1000 * time.get("session_gap_s", 1800)
        self._lateness_ms: int = 1000 * time.get("allowed_lateness_s", 600)
        self._tolerance_ms: int = 1000 * time.get("future_tolerance_s", 60)
        self._tardy_ms: int = 1000 * time.get("tardy_s", 60)
        self._message_bytes: int = limits.get("message_bytes", 1_048_576)
        self._events_per_visit: int = limits.get("events_per_visit", 5_000)
        self._placeholders = frozenset(map(_bare, limits.get("placeholder_ids", _PLACEHOLDER_IDS)))
        self._accepted: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._totals: Counter[str] = Counter()
        self._sessions: dict[tuple[str, str], list[_AcceptedEvent]] = {}
        self._live_events = 0

    def take(self, value: bytes, timestamp_ms: int) -> None:
        """Accepts or rejects one message."""
        fields = None if len(value) > self._message_bytes else _json_object(value)
        reason = self._reason(value, fields, timestamp_ms)
        if fields is not None and reason is None:
            events = self._sessions.setdefault((fields["tenant"], fields["sessionId"]), [])
            event = _AcceptedEvent(fields["time"], _event_id(fields, value), timestamp_ms, value)
            reason = self._conflict(event, events)
            if reason is None:
                self._keep(fields["tenant"], event, events)
        if reason is not None:
            self._rejected[reason] += 1

    def close_visits(self, timestamp_ms: int | None) -> None:
        """Adds up and forgets the sessions that no message after this moment can change; all of them if it is None."""
        for owner, events in list(self._sessions.items()):
            last_ms = max(event.time_ms for event in events)
            if timestamp_ms is None or last_ms + self._gap_ms < timestamp_ms - self._lateness_ms:
                for visit in _visits(events, self._gap_ms):
                    definitions = self._tenants[owner[0]]
                    self._totals.update(contributions(owner[0], definitions, owner[1], visit, self._tardy_ms))
                self._live_events -= len(events)
                del self._sessions[owner]

    def result(self) -> Truth:
        """The truth, once there are no more messages."""
        self.close_visits(None)
        return Truth(dict(self._accepted), dict(self._rejected), {name: n for name, n in self._totals.items() if n})

    def _reason(self, value: bytes, fields: Mapping[str, Any] | None, timestamp_ms: int) -> str | None:
        """The reason for rejecting a message by itself, in the order of the checks; None if there is none."""
        if len(value) > self._message_bytes:
            return "oversized"
        if fields is None:
            return "not_json"
        if not _well_typed(fields):
            return "bad_field"
        if fields["tenant"] not in self._tenants:
            return "unknown_tenant"
        if _bare(fields["sessionId"]) in self._placeholders:
            return "placeholder_id"
        if fields["time"] > timestamp_ms + self._tolerance_ms:
            return "future"
        return "late" if timestamp_ms - fields["time"] > self._lateness_ms else None

    def _conflict(self, event: _AcceptedEvent, events: list[_AcceptedEvent]) -> str | None:
        """The reason for rejecting an event because of its visit; None if there is none."""
        is_repeated = any(other.event_id == event.event_id for other in events)
        if not is_repeated and len(events) < self._events_per_visit:
            return None  # the cheap check, which settles nearly every event
        visit = next(visit for visit in _runs([*events, event], self._gap_ms) if event in visit)
        visit.remove(event)
        if any(other.event_id == event.event_id for other in visit):
            return "duplicate"
        return "visit_full" if len(visit) >= self._events_per_visit else None

    def _keep(self, tenant: str, event: _AcceptedEvent, events: list[_AcceptedEvent]) -> None:
        events.append(event)
        self._accepted[tenant] += 1
        self._live_events += 1
        if self._live_events > LIVE_EVENTS_MAX:
            message = f"more than {LIVE_EVENTS_MAX} events in visits that may still grow; take fewer messages"
            raise TruthError(message)


def _json_object(value: bytes) -> dict[str, Any] | None:
    """The object in a message value; None if it is not JSON, or JSON of another kind."""
    try:
        fields = msgspec.json.decode(value)
    except (ValueError, RecursionError):
        fields = _exactly_read(value)
    return fields if isinstance(fields, dict) else None


def _exactly_read(value: bytes) -> object:
    """JSON that the fast reader refuses: with halves of surrogate pairs, or with numbers beyond every double."""
    try:
        return json.loads(value.decode(), parse_int=_integer, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _DIGITS_READ else float(digits)


def _refuse(constant: str) -> NoReturn:
    msg = f"{constant} is not JSON"
    raise ValueError(msg)


def _well_typed(fields: Mapping[str, Any]) -> bool:
    time_ms, event_id = fields.get("time"), fields.get("eventId")
    return (
        all(_is_text(fields.get(name)) for name in ("tenant", "sessionId", "event"))
        and 1 <= len(fields["sessionId"]) <= 256
        and type(time_ms) is int
        and _TIME_FIRST_MS <= time_ms <= _TIME_LAST_MS
        and (event_id is None or _is_text(event_id))
        and isinstance(fields.get("attributes"), dict | None)
        and isinstance(fields.get("assignments"), dict | None)
    )


def _is_text(value: object) -> bool:
    """True for a string without halves of surrogate pairs, which UTF-8 cannot write."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _bare(session_id: str) -> str:
    """A session's id as it is compared with the placeholders."""
    return session_id.strip().casefold()


def _event_id(fields: Mapping[str, Any], value: bytes) -> str:
    return fields.get("eventId") or "~" + blake2b(value, digest_size=8).hexdigest()


def _runs(events: Iterable[_AcceptedEvent], gap_ms: int) -> Iterator[list[_AcceptedEvent]]:
    """The visits of a session, each in order: neighbouring events are at most the gap apart."""
    run: list[_AcceptedEvent] = []
    for event in sorted(events):
        if run and event.time_ms - run[-1].time_ms > gap_ms:
            yield run
            run = []
        run.append(event)
    if run:
        yield run


def _visits(events: Iterable[_AcceptedEvent], gap_ms: int) -> Iterator[list[CountedEvent]]:
    for run in _runs(events, gap_ms):
        yield [_decoded(kept) for kept in run]


def _decoded(kept: _AcceptedEvent) -> CountedEvent:
    fields = _json_object(kept.value) or {}
    scalars = {name: v for name, v in (fields.get("attributes") or {}).items() if isinstance(v, str | float | int)}
    texts = {name: text for name, v in (fields.get("assignments") or {}).items() if (text := _text(v)) is not None}
    return CountedEvent(kept.time_ms, kept.timestamp_ms - kept.time_ms, fields["event"], texts, scalars)


def _text(variation: object) -> str | None:
    """What an assignment says, as text; None if it says nothing, or nothing that is a text, a boolean or a number."""
    if isinstance(variation, bool):
        return "true" if variation else "false"
    if isinstance(variation, float) and variation.is_integer():
        return str(int(variation))
    if isinstance(variation, int) or (isinstance(variation, float) and math.isfinite(variation)):
        return str(variation)
    return variation if isinstance(variation, str) else None
