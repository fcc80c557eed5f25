"""Bytewax's recovery store, looked at from outside: whether a job can go on with it. Read-only but for `prepare`.

A store is a folder of `part-i.sqlite3` files; Bytewax finds state by step and key, and ignores silently what it does
not look for.
"""

import fcntl
import os
import pickle
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from bytewax.recovery import init_db_dir

from monitor.flow.snapshots import check_version
from monitor.runtime.lifecycle import JobError

PARTITIONS = 4
"""How many files a new store gets: it cannot be changed later, and no more processes than files can share a store."""


def prepare(directory: Path, keys: dict[str, set[str]], worker: str = "0") -> None:
    """Makes the store if there is none yet, and checks that the job can go on with the one that is there.

    `keys`: step -> the keys that the job has; `worker`: the number of this process in its cluster. Raises JobError if
    another process with this number uses the store, if it is incomplete, or if it was made with other keys.

    What a crashed run has left of an epoch that it did not finish is deleted.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _take(directory / f".worker-{worker}")
        with _locked(directory / ".preparing"):
            _make(directory)
            files = sorted(directory.glob("part-*.sqlite3"))
            _check_whole(directory, files)
            _forget_unfinished(files)
    except OSError as error:
        msg = f"the recovery directory {directory} cannot be used: {error.strerror}; choose another, or mend its rights"
        raise JobError(msg) from None
    _check_keys(directory, files, keys)
    _check_versions(files)


def _check_versions(files: list[Path]) -> None:
    """A state of each step in each file tells the format, without reading them all."""
    for file in files:
        for step in ("sessions", "totals"):
            query = f"SELECT ser_change FROM snaps WHERE step_id LIKE '%.{step}' AND ser_change IS NOT NULL LIMIT 1"
            for (data,) in _rows(file, query):
                check_version(pickle.loads(data)["version"])


def _make(directory: Path) -> None:
    """Makes the store, unless it is there; what a crash in between leaves, the next start completes or makes anew."""
    making, made = directory / ".making", directory / ".made"
    if making.exists():
        shutil.rmtree(making)
    if not made.exists() and not any(directory.glob("part-*.sqlite3")):
        making.mkdir()
        init_db_dir(making, PARTITIONS)
        making.rename(made)
    if made.exists():
        for file in made.iterdir():
            file.rename(directory / file.name)
        made.rmdir()


def _take(path: Path) -> None:
    """Locks the store until this process ends, which frees it: two jobs on one store would spoil it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        msg = (
            f"another job uses the recovery directory {path.parent}: stop that one first; "
            "the processes of one cluster need different -i"
        )
        raise JobError(msg) from None


def _check_whole(directory: Path, files: list[Path]) -> None:
    wanted = {count for file in files for count in _rows(file, "SELECT part_count FROM parts")}
    if wanted and {len(files)} != {row[0] for row in wanted}:
        msg = (
            f"the recovery directory {directory} holds {len(files)} of {max(row[0] for row in wanted)} partitions: "
            "bring the missing part-*.sqlite3 files back, or start with a new recovery directory"
        )
        raise JobError(msg)
    committed = max((row[0] for file in files for row in _rows(file, "SELECT commit_epoch FROM commits")), default=-1)
    if 0 < _resume_epoch(files) <= committed:
        msg = (
            f"the files of the recovery directory {directory} are not of one moment: "
            "they were copied one after the other, or two jobs have written to them; "
            "bring back a whole copy, or start with a new recovery directory"
        )
        raise JobError(msg)


def _forget_unfinished(files: list[Path]) -> None:
    """Deletes the snapshots of the epoch to resume from, and of later ones.

    Bytewax neither reads nor deletes them. Once the next run has finished an epoch of that number, a key that was not
    touched in it would be resumed with the crashed run's snapshot, which belongs to other offsets.
    """
    epoch = _resume_epoch(files)
    for file in files:
        _execute(file, "rw", "DELETE FROM snaps WHERE snap_epoch >= ?", epoch)


def _check_keys(directory: Path, files: list[Path], keys: dict[str, set[str]]) -> None:
    for file in files:
        for step, key in _rows(file, "SELECT DISTINCT step_id, state_key FROM snaps WHERE ser_change IS NOT NULL"):
            known = keys.get(step.split(".")[1])
            if known is not None and key not in known:
                msg = (
                    f"the recovery directory {directory} was written with other key groups (step {step}, key {key}): "
                    "start the version of the monitor that wrote it, or start with a new recovery directory"
                )
                raise JobError(msg)


def source_states(directory: Path) -> dict[str, Any]:
    """What the source partitions will be resumed with.

    partition key -> state, as of the epoch that a job would resume from.
    """
    files = sorted(directory.glob("part-*.sqlite3"))
    epoch = _resume_epoch(files)
    newest: dict[str, tuple[int, bytes]] = {}
    query = (
        "SELECT state_key, snap_epoch, ser_change FROM snaps WHERE step_id LIKE '%.source' AND ser_change IS NOT NULL"
    )
    for file in files:
        for key, at, data in _rows(file, query):
            if at < epoch and at >= newest.get(key, (-1, b""))[0]:
                newest[key] = at, data
    return {key: pickle.loads(data) for key, (_, data) in newest.items()}


def _resume_epoch(files: list[Path]) -> int:
    executions = [row for file in files for row in _rows(file, "SELECT ex_num, resume_epoch FROM exs")]
    fronts = [row for file in files for row in _rows(file, "SELECT ex_num, worker_frontier FROM fronts")]
    return resume_epoch(((number, began) for number, began in executions), ((number, at) for number, at in fronts))


def resume_epoch(executions: Iterable[tuple[int, int]], fronts: Iterable[tuple[int, int]]) -> int:
    """The epoch that a job would go on with: the least that a worker of the latest execution has come to.

    0 in a new store. `executions`: (number, the epoch it began with); `fronts`: (number of the execution, the epoch of
    a worker).
    """
    latest, began = max(executions, default=(0, 0))
    return min((front for number, front in fronts if number == latest), default=began)


def _rows(file: Path, query: str) -> list[tuple[Any, ...]]:
    return _execute(file, "ro", query)


def _execute(file: Path, mode: str, statement: str, *values: int) -> list[tuple[Any, ...]]:
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode={mode}", uri=True)) as database, database:
            return database.execute(statement, values).fetchall()
    except sqlite3.DatabaseError as error:
        msg = (
            f"the recovery file {file} cannot be read: {error}; "
            "bring back a whole copy, or start with a new recovery directory"
        )
        raise JobError(msg) from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keeps the processes of a cluster that start together from making the store twice."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
