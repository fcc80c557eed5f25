"""The steps of the dataflow: keys, state and time around calls into the core.

With source.py and sink.py, this is all that knows Bytewax.

Keys are key groups, never sessions or series: a fixed number of them, named with that number, `007/128`.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeAlias
from zlib import crc32

from bytewax.operators import StatefulBatchLogic
from bytewax.operators.windowing import Clock, ClockLogic, TumblingWindower

from monitor.config.settings import Settings
from monitor.core.compiled import CompiledConfig
from monitor.core.deltas import Deltas, SeriesTable, add_deltas, counts_of, deltas_of
from monitor.core.events import Event
from monitor.core.ledger import Ledger
from monitor.core.metrics import DataPoint, Series, health_series
from monitor.core.sessions import Message, Tally
from monitor.core.watermark import NEVER, Progress
from monitor.flow import snapshots
from monitor.flow.source import Chunk
from monitor.flow.telemetry import TELEMETRY
from monitor.runtime.clock import CLOCK
from monitor.runtime.lifecycle import give_memory_back, reported

SESSION_GROUPS = 128
METRIC_GROUPS = 16
HEALTH_GROUP = METRIC_GROUPS
"""The metric key group that writes health metrics and nothing else."""
REPORT_S = 1.0
"""How often a process sends its telemetry into the flow."""
MEMORY_S = 60.0
"""How often a process gives back memory that it does not use."""

Routed: TypeAlias = tuple[int, list[Message] | Progress]
"""A session key group's number, and messages for it or the progress of a partition."""


class Tallied(NamedTuple):
    """What one session key group has to tell: changes and counts by tenant, and its watermark."""

    group: int
    tallies: dict[str, Tally]
    watermark_ms: int


class Changes(NamedTuple):
    """What goes to one metric key group, and what accumulates there between two flushes."""

    group: int
    deltas: Deltas
    watermarks: dict[int, int]
    counts: dict[Series, int]
    maxima: dict[Series, int]
    gauges: dict[tuple[Series, str], int]

    def __deepcopy__(self, memo: object) -> "Changes":
        """A copy for a snapshot; the general way takes microseconds for each number."""
        deltas = {minute: dict(changes) for minute, changes in self.deltas.items()}
        counts, maxima, gauges = dict(self.counts), dict(self.maxima), dict(self.gauges)
        return Changes(self.group, deltas, dict(self.watermarks), counts, maxima, gauges)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as a plain tuple: a class path must not become part of the state format."""
        return tuple, (tuple(self),)


def session_group_key(group: int) -> str:
    """The Bytewax key of a session key group."""
    return f"{group:03d}/{SESSION_GROUPS}"


def metric_group_key(group: int) -> str:
    """The Bytewax key of a metric key group."""
    return f"{group:02d}/{METRIC_GROUPS}"


def keys() -> dict[str, set[str]]:
    """The keys that each stateful step can have in a recovery store, by the last part of its step id."""
    totals = {metric_group_key(group) for group in range(METRIC_GROUPS + 1)}
    return {"sessions": set(_SESSION_KEYS), "flush": totals, "totals": totals}


def measures(settings: Settings) -> CompiledConfig:
    """The configuration, compiled; shared by the steps of a process."""
    tenants, limits = settings.compiled_tenants(), settings.compiled_limits()
    return CompiledConfig(tenants, limits, key_is_session_id=settings.kafka.key_is_session_id)


_SESSION_KEYS = [session_group_key(group) for group in range(SESSION_GROUPS)]


_SESSION_ID = b'"sessionId"'


def route(compiled: CompiledConfig) -> Callable[[list[Chunk]], list[tuple[str, Routed]]]:
    """Messages to the key group of their session, in the order of their partition.

    Then, when due, progress to all groups.
    """
    by_key, bytes_max = compiled.key_is_session_id, compiled.limits.message_bytes

    def session_of(message: Message) -> bytes:
        """The session id, decoded: for messages whose key is not it."""
        value = message[1]
        if value is None or len(value) > bytes_max:
            return b""
        event = compiled.decoder.decode(value)
        return event.sessionId.encode() if isinstance(event, Event) else b""

    def step(chunks: list[Chunk]) -> list[tuple[str, Routed]]:
        with reported:
            return routed(chunks)

    def routed(chunks: list[Chunk]) -> list[tuple[str, Routed]]:
        out: list[tuple[str, Routed]] = []
        for chunk in chunks:
            groups: dict[int, list[Message]] = {}
            for message in chunk.messages:
                key, value, _ = message
                if not (by_key and key and value and _names(key, value)):
                    key = session_of(message)
                groups.setdefault(crc32(key) % SESSION_GROUPS, []).append(message)
            out += [(_SESSION_KEYS[group], (group, messages)) for group, messages in groups.items()]
            if chunk.announce:
                out += [(key, (group, chunk.progress)) for group, key in enumerate(_SESSION_KEYS)]
        return out

    return step


def _names(key: bytes, value: bytes) -> bool:
    """Whether a glance at the text shows that the key is the sessionId; False where only decoding can tell."""
    if b"\\" in value or b'"' in key or value.count(_SESSION_ID) != 1:
        return False
    return b'%b:"%b"' % (_SESSION_ID, key) in value or b'%b: "%b"' % (_SESSION_ID, key) in value


class SessionsStep(StatefulBatchLogic[Routed, Tallied, snapshots.Plain]):
    """The sessions of a key group."""

    def __init__(
        self, compiled: CompiledConfig, definitions: dict[str, bytes], resume_state: snapshots.Plain | None
    ) -> None:
        with reported:
            self._group = snapshots.restored_group(resume_state, compiled)
        self._definitions = definitions

    def on_batch(self, values: list[Routed]) -> tuple[Iterable[Tallied], bool]:
        """Feeds messages and progress in their order; emits what they changed."""
        with reported:
            return self._feed(values)

    def _feed(self, values: list[Routed]) -> tuple[Iterable[Tallied], bool]:
        group, moved = self._group, False
        for number, item in values:
            if isinstance(item, Progress):
                moved = group.watermark.advance(item) or moved
                TELEMETRY.gauge("visits", sum(map(len, group.sessions.values())), part=session_group_key(number))
            else:
                group.feed(item)
        if moved:
            group.forget()
        return [Tallied(number, group.take(), group.watermark.value_ms)], False

    def snapshot(self) -> snapshots.Plain:
        """The group's state, plain."""
        with reported, TELEMETRY.timed("snapshot_ms"):
            return snapshots.group_state(self._group, self._definitions)


def sessions(compiled: CompiledConfig) -> Callable[[snapshots.Plain | None], SessionsStep]:
    """Builds a key group of sessions, new or from a snapshot."""
    definitions = {
        name: snapshots.packed_definitions(tenant.program.tenant) for name, tenant in compiled.tenants.items()
    }
    return lambda resume_state: SessionsStep(compiled, definitions, resume_state)


def regroup(compiled: CompiledConfig) -> Callable[[list[tuple[str, Tallied]]], list[tuple[str, Changes]]]:
    """Sums what the session groups of this process have changed, by metric key group.

    Adds what the process knows of itself.
    """
    tables = {name: SeriesTable(tenant, METRIC_GROUPS) for name, tenant in compiled.tenants.items()}
    reported_s, given_back_s = 0.0, time.monotonic()
    told: dict[int, int] = {}

    def step(items: list[tuple[str, Tallied]]) -> list[tuple[str, Changes]]:
        with reported:
            return regrouped(items)

    def regrouped(items: list[tuple[str, Tallied]]) -> list[tuple[str, Changes]]:
        nonlocal reported_s, given_back_s
        changes = [Changes(group, {}, {}, {}, {}, {}) for group in range(METRIC_GROUPS + 1)]
        by_tenant: dict[str, list[Tally]] = {}
        risen: dict[int, int] = {}
        for _, (group, tallies, watermark_ms) in items:
            for tenant, tally in tallies.items():
                by_tenant.setdefault(tenant, []).append(tally)
            if told.get(group, NEVER) < watermark_ms:
                risen[group] = told[group] = watermark_ms
        for tenant, of_tenant in by_tenant.items():
            if tenant in tables:
                for group, deltas in deltas_of(of_tenant, tables[tenant]).items():
                    add_deltas(changes[group].deltas, deltas)
            _count(changes[HEALTH_GROUP], tenant, of_tenant)
        if risen:
            for change in changes:
                change.watermarks.update(risen)
        now_s = time.monotonic()
        if now_s - reported_s >= REPORT_S:
            reported_s = now_s
            TELEMETRY.report_process()
            counts, gauges = TELEMETRY.take()
            _sum(changes[HEALTH_GROUP].counts, counts)
            changes[HEALTH_GROUP].gauges.update(gauges)
        if now_s - given_back_s >= MEMORY_S:
            given_back_s = now_s
            give_memory_back()
        return [(metric_group_key(change.group), change) for change in changes if any(change[1:])]

    return step


def _count(change: Changes, tenant: str, tallies: list[Tally]) -> None:
    _sum(change.counts, counts_of(tenant, tallies))
    if any(tally.accepted for tally in tallies):
        change.maxima[health_series("delay_ms.max", tenant=tenant)] = max(tally.delay_max_ms for tally in tallies)


def _sum(into: dict[Series, int], counts: dict[Series, int]) -> None:
    for series, count in counts.items():
        into[series] = into.get(series, 0) + count


def nothing() -> Changes | None:
    """What has accumulated right after a flush."""
    return None


def accumulate(into: Changes | None, more: Changes | None) -> Changes | None:
    """Adds changes to those since the last flush, in place."""
    if more is None:
        return into
    more = Changes._make(more)  # a plain tuple, if it comes from another process
    into = Changes(more.group, {}, {}, {}, {}, {}) if into is None else Changes._make(into)
    add_deltas(into.deltas, more.deltas)
    for group, watermark_ms in more.watermarks.items():
        into.watermarks[group] = max(into.watermarks.get(group, NEVER), watermark_ms)
    _sum(into.counts, more.counts)
    for series, value in more.maxima.items():
        into.maxima[series] = max(into.maxima.get(series, value), value)
    into.gauges.update(more.gauges)
    return into


@dataclass
class _FlushClockLogic(ClockLogic[Any, datetime]):
    """The steady clock, which after a restart does not fall behind where it was: windows that are open must close."""

    _lead: timedelta
    _now: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.before_batch()

    def before_batch(self) -> None:
        self._now = _utc(CLOCK.now_ms()) + self._lead

    def on_item(self, value: Any) -> tuple[datetime, datetime]:
        return self._now, self._now

    def on_notify(self) -> datetime:
        self.before_batch()
        return self._now

    def on_eof(self) -> datetime:
        return datetime.max.replace(tzinfo=UTC)

    def to_system_utc(self, timestamp: datetime) -> datetime | None:
        self.before_batch()
        return datetime.now(UTC) + (timestamp - self._now)

    def snapshot(self) -> datetime:
        return self._now


class FlushClock(Clock[Any, datetime]):
    """Time by which changes are flushed.

    SystemClock, but steady. (Bytewax's stops the job when the machine's clock is set back.)
    """

    def build(self, resume_state: datetime | None) -> _FlushClockLogic:
        """A key's clock, new or from a snapshot."""
        behind = resume_state - _utc(CLOCK.now_ms()) if resume_state is not None else timedelta(0)
        return _FlushClockLogic(max(behind, timedelta(0)))


def flush_windows(flush_s: float) -> TumblingWindower:
    """A window per flush."""
    return TumblingWindower(length=timedelta(seconds=flush_s), align_to=datetime(2020, 1, 1, tzinfo=UTC))


class TotalsStep(StatefulBatchLogic[tuple[int, Changes | None], list[DataPoint], snapshots.Plain]):
    """The totals of a metric key group; for the health group, what becomes health metrics."""

    def __init__(self, resume_state: snapshots.Plain | None) -> None:
        with reported:
            self._ledger: Ledger = snapshots.restored_ledger(resume_state)
        self._gauges: dict[Series, dict[str, int]] = {}
        self._stamp_ms = 0

    def on_batch(self, values: list[tuple[int, Changes | None]]) -> tuple[Iterable[list[DataPoint]], bool]:
        """Applies what was flushed; emits the new totals, and health metrics at the time of the flush."""
        with reported:
            return self._apply(values)

    def _apply(self, values: list[tuple[int, Changes | None]]) -> tuple[Iterable[list[DataPoint]], bool]:
        points: list[DataPoint] = []
        for _, flushed in values:
            assert flushed is not None, "a window opens with its first changes"
            changes = Changes._make(flushed)
            points += self._ledger.apply(changes.deltas)
            passed_ms = self._ledger.seal(changes.watermarks, SESSION_GROUPS)
            if changes.gauges or changes.counts:
                points += self._health(changes, passed_ms)
        TELEMETRY.gauge("totals", self._ledger.size(), part=metric_group_key(changes.group))
        return [points] if points else [], False

    def _health(self, changes: Changes, passed_ms: int) -> Iterator[DataPoint]:
        self._stamp_ms = max(
            self._stamp_ms + 1, CLOCK.now_ms()
        )  # two flushes at once must not overwrite each other's counters
        for (series, part), value in changes.gauges.items():
            self._gauges.setdefault(series, {})[part] = value
        gauges = {series: sum(parts.values()) for series, parts in self._gauges.items()}
        if passed_ms > NEVER:
            gauges[health_series("watermark_s")] = passed_ms // 1_000
        for series, value in (changes.counts | changes.maxima | gauges).items():
            yield DataPoint(series, self._stamp_ms, value)

    def snapshot(self) -> snapshots.Plain:
        """The ledger's state, plain."""
        with reported, TELEMETRY.timed("snapshot_ms"):
            return snapshots.ledger_state(self._ledger)


def _utc(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1_000, UTC)
