"""What a recovery store holds, as of the moment that a job would go on from: read-only, also while a job writes it.

Each file is read within one transaction, so that what a running job writes meanwhile is not seen; that the files are
of one moment is checked, and they are read again if they are not. Nothing is written: where no job has a file open it
is read as one that cannot change, without the auxiliary files that SQLite makes otherwise.
"""

import io
import pickle
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from monitor.core.codes import MINUTE_MS
from monitor.core.compiled import CompiledConfig
from monitor.core.definitions import Limits, Tenant
from monitor.core.packing import last_ms
from monitor.core.watermark import NEVER
from monitor.flow.recovery_store import resume_epoch
from monitor.flow.simulated_source import PARTITION as SIMULATED
from monitor.flow.snapshots import packed_definitions, restored_group, restored_ledger
from monitor.flow.source import STATE_VERSION
from monitor.flow.steps import SESSION_GROUPS, Changes
from monitor.runtime.lifecycle import JobError

ATTEMPTS = 20
ATTEMPT_PAUSE_S = 0.05
"""How often, and after what pause, files that a running job has just moved on are read again."""
BUSY_S = 5.0
"""How long one file may be locked by the job."""


class PartFile(Struct, frozen=True):
    """A file of the store: its size with what was not yet moved into it (bytes), and the snapshots in it."""

    name: str
    size_bytes: int
    snapshots: int


class StepState(Struct, frozen=True):
    """What one step of the dataflow keeps: keys that have state, and its size."""

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
    """The watermarks of the session key groups that have state; None where none knows of any."""

    smallest_ms: int | None
    largest_ms: int | None
    groups: int
    groups_in_all: int


class TenantState(Struct, frozen=True):
    """What is held of a tenant.

    `live_visits`: sessions that an event can still reach, `visit_bytes` their size at rest; `last_event_ms`: the
    earliest and the latest of their last events; `totals`: (series, minute) that can still change, in `minutes`
    minutes; `waiting`: changes that open flush windows hold. `differences`: where the definitions that the visits were
    written with are others than the configuration's; None if there was nothing to compare.
    """

    tenant: str
    live_visits: int
    visit_bytes: int
    last_event_ms: tuple[int, int] | None
    totals: int
    minutes: int
    waiting: int
    differences: list[str] | None


class Windows(Struct, frozen=True):
    """Flush windows that are open: how many, the changes of totals in them, and when the first opened and closes."""

    open: int
    changes: int
    opened_ms: int | None
    closes_ms: int | None


class Contents(Struct, frozen=True):
    """All that `monitor state` shows. `execution`, `workers`: the latest run of the job; None in a new store."""

    directory: str
    size_bytes: int
    resume_epoch: int
    execution: int | None
    workers: int | None
    files: list[PartFile]
    steps: list[StepState]
    partitions: list[Partition]
    watermarks: Watermarks
    minutes_ms: tuple[int, int] | None
    """The first and the last minute of which totals are held."""
    windows: Windows
    tenants: list[TenantState]


def inspect(directory: Path, configured: Sequence[Tenant] | None = None) -> Contents:
    """What a recovery store holds; `configured`: the definitions to compare those in the store with.

    Raises JobError if there is no store, if it cannot be read, or if another version of the monitor wrote it.
    """
    files = _part_files(directory)
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(ATTEMPT_PAUSE_S)
        before = [_is_open(file) for file in files]
        with _opened(directory, files, before) as databases:
            moment = _moment(directory, databases)
            contents = _contents(directory, files, moment, configured) if moment is not None else None
        if contents is not None and before == [_is_open(file) for file in files]:
            return contents
    msg = (
        f"the files of the recovery directory {directory} are not of one moment: "
        "they were copied one after the other, or two jobs have written to them; bring back a whole copy"
    )
    raise JobError(msg)


class _Moment(NamedTuple):
    """The store as of one epoch, within open transactions."""

    databases: list[sqlite3.Connection]
    epoch: int
    execution: int | None
    workers: int | None


class _Found:
    """What is summed up while the states are read one after the other."""

    def __init__(self) -> None:
        self.steps: dict[str, tuple[int, int]] = {}
        self.partitions: list[Partition] = []
        self.watermarks: list[int] = []
        self.windows: list[tuple[int, int]] = []
        self.waiting: dict[str, int] = {}
        self.totals: dict[str, int] = {}
        self.minutes: dict[str, set[int]] = {}
        self.visits: dict[str, int] = {}
        self.visit_bytes: dict[str, int] = {}
        self.last_ms: dict[str, tuple[int, int]] = {}
        self.definitions: dict[str, set[bytes]] = {}

    def take(self, step_id: str, key: str, state: Any, size: int) -> None:
        """Adds the state of one key of one step."""
        step = step_id.split(".")[1]
        keys, held = self.steps.get(step, (0, 0))
        self.steps[step] = keys + 1, held + size
        match step:
            case "source":
                self.partitions.append(_partition(key, state))
            case "sessions":
                self._sessions(state)
            case "flush":
                self._windows(state)
            case "totals":
                self._totals(restored_ledger(state).totals)

    def _sessions(self, state: Mapping[str, Any]) -> None:
        self.watermarks.append(restored_group(dict(state), _WITHOUT_TENANTS).watermark.value_ms)
        for tenant, (definitions, sessions) in state["tenants"].items():
            self.definitions.setdefault(tenant, set()).add(definitions)
            self.visits[tenant] = self.visits.get(tenant, 0) + len(sessions)
            self.visit_bytes[tenant] = self.visit_bytes.get(tenant, 0) + sum(map(len, sessions.values()))
            times_ms = [*self.last_ms.get(tenant, ()), *map(last_ms, sessions.values())]
            self.last_ms[tenant] = min(times_ms), max(times_ms)

    def _windows(self, state: Any) -> None:
        for number, window in state.windower_state.opened.items():
            self.windows.append((_milliseconds(window.open_time), _milliseconds(window.close_time)))
            held = state.logic_states[number]
            for series in (series for of in Changes._make(held).deltas.values() for series in of) if held else ():
                _count(self.waiting, series)

    def _totals(self, totals: Mapping[int, Mapping[str, int]]) -> None:
        for minute, of_minute in totals.items():
            for series in of_minute:
                self.minutes.setdefault(_count(self.totals, series), set()).add(minute)


_WITHOUT_TENANTS = CompiledConfig([], Limits())


def _count(counts: dict[str, int], series: str) -> str:
    """Counts a series for its tenant, with whose name it begins."""
    tenant = series.partition(".")[0]
    counts[tenant] = counts.get(tenant, 0) + 1
    return tenant


def _contents(directory: Path, files: Sequence[Path], moment: _Moment, configured: Sequence[Tenant] | None) -> Contents:
    found = _Found()
    for step_id, key, data in _states(moment):
        try:
            found.take(step_id, key, _Unpickler(io.BytesIO(data)).load(), len(data))
        except (TypeError, ValueError, LookupError, AttributeError, pickle.UnpicklingError) as error:
            msg = f"{directory} holds state that this version does not know (step {step_id}, key {key}): {error}"
            raise JobError(msg) from error
    sizes = [sum(f.stat().st_size for f in (file, _beside(file)) if f.exists()) for file in files]
    rows = [database.execute("SELECT COUNT(*) FROM snaps").fetchone()[0] for database in moment.databases]
    known = [value for value in found.watermarks if value > NEVER]
    minutes = {minute for of_tenant in found.minutes.values() for minute in of_tenant}
    return Contents(
        directory=str(directory),
        size_bytes=sum(sizes),
        resume_epoch=moment.epoch,
        execution=moment.execution,
        workers=moment.workers,
        files=[PartFile(file.name, size, n) for file, size, n in zip(files, sizes, rows, strict=True)],
        steps=[StepState(step, keys, size) for step, (keys, size) in sorted(found.steps.items())],
        partitions=sorted(found.partitions, key=_in_order),
        watermarks=Watermarks(
            min(found.watermarks, default=NEVER) if len(known) == len(found.watermarks) and known else None,
            max(known, default=None),
            len(found.watermarks),
            SESSION_GROUPS,
        ),
        minutes_ms=(min(minutes) * MINUTE_MS, max(minutes) * MINUTE_MS) if minutes else None,
        windows=Windows(
            len(found.windows),
            sum(found.waiting.values()),
            min((opened for opened, _ in found.windows), default=None),
            min((closes for _, closes in found.windows), default=None),
        ),
        tenants=_tenants(found, configured),
    )


def _tenants(found: _Found, configured: Sequence[Tenant] | None) -> list[TenantState]:
    wanted = {tenant.name: tenant for tenant in configured or ()}
    names = dict.fromkeys([*wanted, *sorted({*found.visits, *found.totals, *found.waiting})])
    states = []
    for name in names:
        states.append(
            TenantState(
                name,
                found.visits.get(name, 0),
                found.visit_bytes.get(name, 0),
                found.last_ms.get(name),
                found.totals.get(name, 0),
                len(found.minutes.get(name, ())),
                found.waiting.get(name, 0),
                None if configured is None else sorted(_differences(found.definitions.get(name, ()), wanted.get(name))),
            )
        )
    return states


def _differences(stored: Iterable[bytes], wanted: Tenant | None) -> set[str]:
    """What is defined otherwise in the store than it is wanted, in words; visits are translated when they resume."""
    if wanted is None:
        return {"the tenant is not configured"}
    found: set[str] = set()
    for definitions in stored:
        if definitions != packed_definitions(wanted):
            old = msgspec.json.decode(zlib.decompress(definitions), type=Tenant)
            for part in ("tags", "points", "experiments"):
                before, after = ({item.name: item for item in getattr(tenant, part)} for tenant in (old, wanted))
                kind = part.removesuffix("s")
                found |= {f"{kind} {name} is new" for name in after.keys() - before.keys()}
                found |= {f"{kind} {name} is gone" for name in before.keys() - after.keys()}
                found |= {f"{kind} {n} has changed" for n in before.keys() & after.keys() if before[n] != after[n]}
            found = found or {"the order has changed"}
    return found


def _partition(key: str, state: Sequence[int]) -> Partition:
    """A source partition from its state: of Kafka (version, offset, timestamp), or of simulated traffic."""
    version, first, second = state
    if version != STATE_VERSION:
        msg = f"the position is of format {version}, not {STATE_VERSION}"
        raise ValueError(msg)
    if (
        key == SIMULATED and 0 <= second < first
    ):  # (version, start in ms, next second): no timestamp is below its offset
        return Partition(key, second, first + second * 1_000)
    return Partition(key, first, second if second > NEVER else None)


def _in_order(partition: Partition) -> tuple[str, int]:
    topic, _, number = partition.partition.rpartition("/")
    return topic, int(number)


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000)


def _states(moment: _Moment) -> Iterator[tuple[str, str, bytes]]:
    """(step id, key, state) of every key that has state as of the epoch, one after the other."""
    newest: dict[tuple[str, str], tuple[int, int]] = {}
    query = "SELECT step_id, state_key, MAX(snap_epoch) FROM snaps WHERE snap_epoch < ? GROUP BY step_id, state_key"
    for number, database in enumerate(moment.databases):
        for step_id, key, epoch in database.execute(query, (moment.epoch,)):
            newest[step_id, key] = max(newest.get((step_id, key), (-1, 0)), (epoch, number))
    state = "SELECT ser_change FROM snaps WHERE step_id = ? AND state_key = ? AND snap_epoch = ?"
    for (step_id, key), (epoch, number) in sorted(newest.items()):
        (data,) = moment.databases[number].execute(state, (step_id, key, epoch)).fetchone()
        if data is not None:
            yield step_id, key, data


def _moment(directory: Path, databases: list[sqlite3.Connection]) -> _Moment | None:
    """Which epoch the files are of; None if they are not of one moment."""
    counts = {row[0] for database in databases for row in database.execute("SELECT part_count FROM parts")}
    if counts != {len(databases)}:
        msg = (
            f"the recovery directory {directory} holds {len(databases)} of {max(counts, default=0)} partitions: "
            "bring the missing part-*.sqlite3 files back"
        )
        raise JobError(msg)
    executions = [r for d in databases for r in d.execute("SELECT ex_num, resume_epoch, worker_count FROM exs")]
    fronts = [row for database in databases for row in database.execute("SELECT ex_num, worker_frontier FROM fronts")]
    commits = [row[0] for database in databases for row in database.execute("SELECT commit_epoch FROM commits")]
    epoch = resume_epoch([row[:2] for row in executions], fronts)
    if 0 < epoch <= max(commits, default=-1):
        return None
    latest, _, workers = max(executions, default=(None, None, None))
    return _Moment(databases, epoch, latest, workers)


def _part_files(directory: Path) -> list[Path]:
    files = sorted(directory.glob("part-*.sqlite3"))
    if not files:
        what = "is no directory" if not directory.is_dir() else "holds no recovery store: no part-*.sqlite3 is in it"
        msg = f"{directory} {what}; give the directory that the job was started with (-r)"
        raise JobError(msg)
    return files


def _beside(file: Path) -> Path:
    """What SQLite has not yet moved into the file; there while a job has it open, or after a crash."""
    return file.with_name(f"{file.name}-wal")


def _is_open(file: Path) -> bool:
    return _beside(file).exists()


@contextmanager
def _opened(directory: Path, files: Sequence[Path], are_open: Sequence[bool]) -> Iterator[list[sqlite3.Connection]]:
    """The files, read-only, each within a transaction."""
    try:
        with ExitStack() as stack:
            databases = []
            for file, is_open in zip(files, are_open, strict=True):
                uri = file.absolute().as_uri() + ("?mode=ro" if is_open else "?mode=ro&immutable=1")
                database = stack.enter_context(closing(sqlite3.connect(uri, BUSY_S, isolation_level=None, uri=True)))
                database.execute("BEGIN")
                database.execute("SELECT COUNT(*) FROM parts").fetchone()  # a transaction begins with its first read
                databases.append(database)
            yield databases
    except sqlite3.DatabaseError as error:
        msg = f"the recovery directory {directory} cannot be read: {error}; bring back a whole copy"
        raise JobError(msg) from error


class _Unpickler(pickle.Unpickler):
    """Reads states, which need no classes but those of the engine's windows; a store of anyone else's runs no code."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("bytewax.operators.windowing", "datetime") or (module, name) == ("builtins", "tuple"):
            return super().find_class(module, name)
        msg = f"it needs {module}.{name}"
        raise pickle.UnpicklingError(msg)
