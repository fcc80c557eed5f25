"""The reader of Bytewax's recovery store: used before a job starts and by `monitor state`. Writes nothing.

A store is a folder of `part-i.sqlite3` files with a row for each snapshot: step, key, epoch and pickled state. Each
file is read within one transaction, so that what a running job writes meanwhile is not seen. The files are checked to
be of one moment, and read again if a running job has just moved on. Where no job has a file open, it is read as one
that cannot change, without the auxiliary files that SQLite creates otherwise.
"""

import io
import pickle
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from monitor.runtime.errors import JobError

ATTEMPTS = 20
ATTEMPT_PAUSE_S = 0.05
"""How often, and after what pause, files that a running job has just written are read again."""
BUSY_S = 5.0
"""How long one file may be locked by the job."""
UNREADABLE = (TypeError, ValueError, LookupError, AttributeError, EOFError, pickle.UnpicklingError)
"""The errors of reading a state that this version did not write."""

T = TypeVar("T")


class State(NamedTuple):
    """The state of one key of one step, and its size when pickled."""

    step_id: str
    key: str
    value: Any
    size_bytes: int

    @property
    def step(self) -> str:
        """The step's name in the dataflow."""
        return step_name(self.step_id)


class PartFile(NamedTuple):
    """A file of the store: its size including what SQLite has not moved into it yet, and the snapshots in it."""

    name: str
    size_bytes: int
    snapshots: int


class RecoveryStore:
    """A store as of the epoch that a job resumes from; valid while its transactions are open.

    `execution`, `workers`: number and workers of the latest run; None if no job has run on it.
    """

    def __init__(self, directory: Path, files: Sequence[Path], databases: Sequence[sqlite3.Connection]) -> None:
        assert len(files) == len(databases), "each file has its connection"
        self.directory = directory
        self._files, self._databases = files, databases
        executions = self._rows("SELECT ex_num, resume_epoch, worker_count FROM exs")
        self._executions = sorted(row[0] for row in executions)
        """The number of each run; a row a start."""
        self.execution, began, self.workers = max(executions, default=(None, 0, None))
        self._frontiers = self._rows("SELECT ex_num, worker_frontier FROM fronts")
        reached = [at for number, at in self._frontiers if number == self.execution]
        self.resume_epoch: int = min(reached) if reached and len(reached) == self.workers else began
        """The lowest epoch that a worker of the latest execution had reached; 0 in a new store."""
        self._newest: dict[tuple[str, str], tuple[int, int]] = self._index()
        """An entry for each key of each step: the key groups and the source partitions."""

    def is_of_one_moment(self) -> bool:
        """False if a file has committed the resume epoch already: others are older, or are just being written."""
        committed = max((row[0] for row in self._rows("SELECT commit_epoch FROM commits")), default=-1)
        return not 0 < self.resume_epoch <= committed

    def check_complete(self) -> None:
        """Raises JobError unless all partitions are there, and none of another store, and all rows of each run."""
        self._check_files()
        latest = max(self._executions, default=None)
        all_there = self._executions == list(range(len(self._executions)))
        if latest is None:
            all_there = not any(
                self._rows(f"SELECT 1 FROM {table} LIMIT 1") for table in ("snaps", "commits", "fronts")
            )
        elif any(number > latest for number, _ in self._frontiers):
            all_there = False
        if not all_there:
            msg = (
                f"the recovery directory {self.directory} holds a part of a store only: the rows of a run are missing. "
                "Its files are from different stores, or the processes of the job had a directory each; "
                "bring back a whole copy, or start with a new recovery directory that all processes share"
            )
            raise JobError(msg)

    def _check_files(self) -> None:
        """Raises JobError unless the files say that they are all."""
        counts = {row[0] for row in self._rows("SELECT part_count FROM parts")}
        if counts != {len(self._files)}:
            msg = (
                f"the recovery directory {self.directory} holds {len(self._files)} of {max(counts, default=0)} "
                "partitions: bring the missing part-*.sqlite3 files back, or start with a new recovery directory"
            )
            raise JobError(msg)

    def files(self) -> list[PartFile]:
        """The store's files in the order of their names."""
        parts = []
        for file, database in zip(self._files, self._databases, strict=True):
            size = sum(f.stat().st_size for f in (file, _log_of(file)) if f.exists())
            parts.append(PartFile(file.name, size, database.execute("SELECT COUNT(*) FROM snaps").fetchone()[0]))
        return parts

    def places(self) -> list[tuple[str, str]]:
        """(step id, key) of each key that has state, in order."""
        return sorted(self._newest)

    def states(self, *steps: str) -> Iterator[State]:
        """The state of each key, of these steps or of all, read one after the other; raises JobError if unreadable."""
        for step_id, key in self.places():
            if not steps or step_name(step_id) in steps:
                yield self._state(step_id, key)

    def samples(self, *steps: str) -> Iterator[State]:
        """One state of each of these steps from each file: enough to tell which version wrote the store."""
        first = {(step_name(step_id), number): (step_id, key) for (step_id, key), (_, number) in self._newest.items()}
        for (step, _), (step_id, key) in first.items():
            if step in steps:
                yield self._state(step_id, key)

    def _index(self) -> dict[tuple[str, str], tuple[int, int]]:
        """(step id, key) -> (epoch, number of the file) of its newest snapshot, keys that were discarded left out."""
        # SQLite takes the other columns from the row of the maximum. A discarded key keeps a row without state.
        query = (
            "SELECT step_id, state_key, MAX(snap_epoch), ser_change IS NOT NULL FROM snaps WHERE snap_epoch < ? "
            "GROUP BY step_id, state_key"
        )
        newest: dict[tuple[str, str], tuple[int, int, bool]] = {}
        for number, database in enumerate(self._databases):
            for step_id, key, epoch, has_state in database.execute(query, (self.resume_epoch,)):
                newest[step_id, key] = max(newest.get((step_id, key), (-1, 0, False)), (epoch, number, bool(has_state)))
        return {place: (epoch, number) for place, (epoch, number, has_state) in newest.items() if has_state}

    def _state(self, step_id: str, key: str) -> State:
        epoch, number = self._newest[step_id, key]
        assert epoch < self.resume_epoch, "snapshots of an unfinished epoch are never read"
        query = "SELECT ser_change FROM snaps WHERE step_id = ? AND state_key = ? AND snap_epoch = ?"
        (data,) = self._databases[number].execute(query, (step_id, key, epoch)).fetchone()
        try:
            return State(step_id, key, _Unpickler(io.BytesIO(data)).load(), len(data))
        except UNREADABLE as error:
            raise unreadable(self.directory, step_id, key, error) from error

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        return [row for database in self._databases for row in database.execute(query)]


def read(directory: Path, take: Callable[[RecoveryStore], T]) -> T:
    """The answer of `take`, which is called with the store, again if the files have changed meanwhile.

    Raises JobError if there is no store, if it cannot be read, is incomplete or not of one moment.
    """
    files = _part_files(directory)
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(ATTEMPT_PAUSE_S)
        before = [_is_open(file) for file in files]
        with readable(directory), _opened(files, before) as databases:
            store = RecoveryStore(directory, files, databases)
            store.check_complete()
            if not store.is_of_one_moment():
                continue
            answer = take(store)
        if before == [_is_open(file) for file in files]:
            return answer
    msg = (
        f"the files of the recovery directory {directory} are not of one moment: "
        "they were copied one after the other, or two jobs have written to them; "
        "bring back a whole copy, or start with a new recovery directory"
    )
    raise JobError(msg)


def source_states(directory: Path) -> dict[str, Any]:
    """The states that the source partitions resume with, by partition key. Raises JobError as `read` does."""
    return read(directory, lambda store: {state.key: state.value for state in store.states("source")})


def step_name(step_id: str) -> str:
    """The step's name in the dataflow: an id is `flow.step` or `flow.step.inner.step`."""
    return step_id.split(".")[1]


def unreadable(directory: Path, step_id: str, key: str, error: object) -> JobError:
    """The error for a state that this version did not write."""
    return JobError(
        f"{directory} holds state that this version cannot read (step {step_id}, key {key}): {error}; "
        "start the version that wrote it, or start with a new recovery directory"
    )


def part_files(directory: Path) -> list[Path]:
    """The files of the store in a directory; none if there is no store."""
    return sorted(directory.glob("part-*.sqlite3"))


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns SQLite's errors into a JobError that names the file or directory."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        msg = (
            f"the recovery store {path} cannot be read: {error}; "
            "bring back a whole copy, or start with a new recovery directory"
        )
        raise JobError(msg) from error


def _part_files(directory: Path) -> list[Path]:
    files = part_files(directory)
    if not files:
        reason = "is no directory" if not directory.is_dir() else "holds no recovery store: no part-*.sqlite3 is in it"
        msg = f"{directory} {reason}; give the directory that the job was started with (-r)"
        raise JobError(msg)
    return files


def _log_of(file: Path) -> Path:
    """SQLite's write-ahead log of a file; there while a job has it open, or after a crash."""
    return file.with_name(f"{file.name}-wal")


def _is_open(file: Path) -> bool:
    return _log_of(file).exists()


@contextmanager
def _opened(files: Iterable[Path], are_open: Iterable[bool]) -> Iterator[list[sqlite3.Connection]]:
    """The files, read-only, each within a transaction."""
    with ExitStack() as stack:
        databases = []
        for file, is_open in zip(files, are_open, strict=True):
            with readable(file):
                uri = file.absolute().as_uri() + ("?mode=ro" if is_open else "?mode=ro&immutable=1")
                database = stack.enter_context(closing(sqlite3.connect(uri, BUSY_S, isolation_level=None, uri=True)))
                database.execute("BEGIN")
                database.execute("SELECT COUNT(*) FROM parts").fetchone()  # a transaction begins with its first read
                databases.append(database)
        yield databases


class _Unpickler(pickle.Unpickler):
    """Reads states, which need only the engine's window classes: the store of anyone else cannot run code here."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("bytewax.operators.windowing", "datetime") or (module, name) == ("builtins", "tuple"):
            return super().find_class(module, name)
        msg = f"it needs {module}.{name}"
        raise pickle.UnpicklingError(msg)
