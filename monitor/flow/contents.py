"""A summary of a recovery store, as of the epoch that a job would resume from: the content of `monitor state`."""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from monitor.core.codes import MINUTE_MS
from monitor.core.compiled import CompiledConfig
from monitor.core.definitions import Limits, Tenant
from monitor.core.packing import last_ms
from monitor.core.watermark import NEVER
from monitor.flow import recovery_store
from monitor.flow.changes import Changes
from monitor.flow.keys import SESSION_GROUPS
from monitor.flow.recovery_store import RecoveryStore, State
from monitor.flow.simulated_source import PARTITION as SIMULATED
from monitor.flow.snapshots import packed_definitions, restored_group, restored_ledger
from monitor.flow.source_state import position_of


class FileSummary(Struct, frozen=True):
    """A file of the store: its size including what SQLite has not moved into it yet (bytes), and its snapshots."""

    name: str
    size_bytes: int
    snapshots: int


class StepSummary(Struct, frozen=True):
    """The state of one step of the dataflow: the keys that have any, and its size."""

    step: str
    keys: int
    state_bytes: int


class Partition(Struct, frozen=True):
    """How far a source partition was read.

    `position`: the next offset, or the next second of simulated traffic; `timestamp_ms`: the largest message
    timestamp or confirmed bound, None if nothing was read.
    """

    partition: str
    position: int
    timestamp_ms: int | None


class Watermarks(Struct, frozen=True):
    """The watermarks of the session key groups that have state; None where no group has one yet."""

    smallest_ms: int | None
    largest_ms: int | None
    groups: int
    groups_in_all: int


class TenantSummary(Struct, frozen=True):
    """The state of one tenant.

    `live_sessions`: sessions that an event can still reach, `session_bytes` their packed size; `last_event_ms`: the
    earliest and the latest of their last events; `totals`: (series, minute) that can still change, in `minutes`
    minutes; `waiting`: changes in open flush windows. `differences`: how the definitions that the sessions were
    written with differ from the configuration's; None if there was nothing to compare.
    """

    tenant: str
    live_sessions: int
    session_bytes: int
    last_event_ms: tuple[int, int] | None
    totals: int
    minutes: int
    waiting: int
    differences: list[str] | None


class Windows(Struct, frozen=True):
    """Open flush windows: how many, the changes of totals in them, and when the first one opened and closes."""

    open: int
    changes: int
    opened_ms: int | None
    closes_ms: int | None


class Contents(Struct, frozen=True):
    """All that `monitor state` shows.

    `execution`, `workers`: number and workers of the job's latest run, None in a new store; `minutes_ms`: the first
    and the last minute that has totals.
    """

    directory: str
    size_bytes: int
    resume_epoch: int
    execution: int | None
    workers: int | None
    files: list[FileSummary]
    steps: list[StepSummary]
    partitions: list[Partition]
    watermarks: Watermarks
    minutes_ms: tuple[int, int] | None
    windows: Windows
    tenants: list[TenantSummary]


def inspect(directory: Path, configured: Sequence[Tenant] | None = None) -> Contents:
    """The summary of a store, also while a job writes it; `configured`: definitions to compare the store's with.

    Raises JobError if there is no store, if it cannot be read, or if another version of the monitor wrote it.
    """
    return recovery_store.read(directory, lambda store: _contents(store, configured))


class _Summary:
    """Sums over the states, which are read one after the other. Bounded by the keys and tenants in the store."""

    def __init__(self) -> None:
        self.steps: dict[str, tuple[int, int]] = {}
        self.partitions: list[Partition] = []
        self.watermarks: list[int] = []
        self.windows: list[tuple[int, int]] = []
        self.waiting: dict[str, int] = {}
        self.totals: dict[str, int] = {}
        self.minutes: dict[str, set[int]] = {}
        self.sessions: dict[str, int] = {}
        self.session_bytes: dict[str, int] = {}
        self.last_ms: dict[str, tuple[int, int]] = {}
        self.definitions: dict[str, set[bytes]] = {}

    def add(self, state: State) -> None:
        """Adds the state of one key of one step."""
        keys, size = self.steps.get(state.step, (0, 0))
        self.steps[state.step] = keys + 1, size + state.size_bytes
        match state.step:
            case "source":
                self.partitions.append(_partition(state.key, state.value))
            case "sessions":
                self._add_sessions(state.value)
            case "flush":
                self._add_windows(state.value)
            case "totals":
                self._add_totals(restored_ledger(state.value).totals)

    def _add_sessions(self, state: Mapping[str, Any]) -> None:
        self.watermarks.append(restored_group(dict(state), _WITHOUT_TENANTS).watermark.value_ms)
        for tenant, (definitions, sessions) in state["tenants"].items():
            self.definitions.setdefault(tenant, set()).add(definitions)
            self.sessions[tenant] = self.sessions.get(tenant, 0) + len(sessions)
            self.session_bytes[tenant] = self.session_bytes.get(tenant, 0) + sum(map(len, sessions.values()))
            times_ms = [*self.last_ms.get(tenant, ()), *map(last_ms, sessions.values())]
            self.last_ms[tenant] = min(times_ms), max(times_ms)

    def _add_windows(self, state: Any) -> None:
        for number, window in state.windower_state.opened.items():
            self.windows.append((_milliseconds(window.open_time), _milliseconds(window.close_time)))
            accumulated = state.logic_states[number]
            if accumulated is not None:
                for of_minute in Changes(*accumulated).deltas.values():
                    for series in of_minute:
                        _count(self.waiting, series)

    def _add_totals(self, totals: Mapping[int, Mapping[str, int]]) -> None:
        for minute, of_minute in totals.items():
            for series in of_minute:
                self.minutes.setdefault(_count(self.totals, series), set()).add(minute)


_WITHOUT_TENANTS = CompiledConfig([], Limits())


def _count(counts: dict[str, int], series: str) -> str:
    """Counts a series for its tenant, with whose name it begins."""
    tenant = series.partition(".")[0]
    counts[tenant] = counts.get(tenant, 0) + 1
    return tenant


def _contents(store: RecoveryStore, configured: Sequence[Tenant] | None) -> Contents:
    summary = _Summary()
    for state in store.states():
        try:
            summary.add(state)
        except recovery_store.UNREADABLE as error:
            raise recovery_store.unreadable(store.directory, state.step_id, state.key, error) from error
    files = [FileSummary(*file) for file in store.files()]
    minutes = {minute for of_tenant in summary.minutes.values() for minute in of_tenant}
    return Contents(
        directory=str(store.directory),
        size_bytes=sum(file.size_bytes for file in files),
        resume_epoch=store.resume_epoch,
        execution=store.execution,
        workers=store.workers,
        files=files,
        steps=[StepSummary(step, keys, size) for step, (keys, size) in sorted(summary.steps.items())],
        partitions=sorted(summary.partitions, key=_topic_and_number),
        watermarks=_watermarks(summary.watermarks),
        minutes_ms=(min(minutes) * MINUTE_MS, max(minutes) * MINUTE_MS) if minutes else None,
        windows=Windows(
            len(summary.windows),
            sum(summary.waiting.values()),
            min((opened for opened, _ in summary.windows), default=None),
            min((closes for _, closes in summary.windows), default=None),
        ),
        tenants=_tenants(summary, configured),
    )


def _watermarks(watermarks: Sequence[int]) -> Watermarks:
    risen = [value for value in watermarks if value > NEVER]
    smallest_ms = min(risen) if risen and len(risen) == len(watermarks) else None
    return Watermarks(smallest_ms, max(risen, default=None), len(watermarks), SESSION_GROUPS)


def _tenants(summary: _Summary, configured: Sequence[Tenant] | None) -> list[TenantSummary]:
    """The configured tenants in their order, then those that are in the store only."""
    definitions = {tenant.name: tenant for tenant in configured or ()}
    names = dict.fromkeys([*definitions, *sorted({*summary.sessions, *summary.totals, *summary.waiting})])
    states = []
    for name in names:
        differences = None
        if configured is not None:
            differences = sorted(_differences(summary.definitions.get(name, ()), definitions.get(name)))
        states.append(
            TenantSummary(
                name,
                summary.sessions.get(name, 0),
                summary.session_bytes.get(name, 0),
                summary.last_ms.get(name),
                summary.totals.get(name, 0),
                len(summary.minutes.get(name, ())),
                summary.waiting.get(name, 0),
                differences,
            )
        )
    return states


def _differences(stored: Iterable[bytes], configured: Tenant | None) -> set[str]:
    """How the stored definitions differ from the configured ones, in words; sessions are translated at the start."""
    if configured is None:
        return {"the tenant is not configured"}
    differences: set[str] = set()
    for definitions in stored:
        if definitions != packed_definitions(configured):
            old = msgspec.json.decode(zlib.decompress(definitions), type=Tenant)
            for part in ("tags", "points", "experiments"):
                before, after = ({item.name: item for item in getattr(tenant, part)} for tenant in (old, configured))
                kind = part.removesuffix("s")
                differences |= {f"{kind} {name} is new" for name in after.keys() - before.keys()}
                differences |= {f"{kind} {name} is gone" for name in before.keys() - after.keys()}
                changed = {name for name in before.keys() & after.keys() if before[name] != after[name]}
                differences |= {f"{kind} {name} has changed" for name in changed}
            differences = differences or {"the order has changed"}
    return differences


def _partition(key: str, state: Sequence[Any]) -> Partition:
    """A source partition from its state: of Kafka, or of simulated traffic (version, start in ms, next second)."""
    # no partition of Kafka has a timestamp below its offset, which tells a topic of that name
    if key == SIMULATED and len(state) == 3 and 0 <= state[2] < state[1]:
        _, first, second = state
        return Partition(key, second, first + second * 1_000)
    position = position_of(state)
    return Partition(key, position.offset, position.high_ms if position.high_ms > NEVER else None)


def _topic_and_number(partition: Partition) -> tuple[str, int]:
    topic, _, number = partition.partition.rpartition("/")
    return topic, int(number)


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000)
