"""Bytewax's recovery store, looked at from outside: whether a job can go on with it. Read-only but for `prepare`.

A store is a folder of `part-i.sqlite3` files; Bytewax finds state by step and key, and ignores silently what it does
not look for.
"""

import fcntl
import pickle
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from bytewax.recovery import init_db_dir

from monitor.lifecycle import JobError

PARTITIONS = 4
"""How many files a new store gets: it cannot be changed later, and no more processes than files can share a store."""


def prepare(directory: Path, keys: dict[str, set[str]]) -> None:
    """Makes the store if there is none yet, and checks that the job can go on with the one that is there.

    `keys`: step -> the keys that the job has. Raises JobError if the store is incomplete or was made with other keys.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory / ".preparing"):
        files = sorted(directory.glob("part-*.sqlite3"))
        if not files:
            init_db_dir(directory, PARTITIONS)
            return
    wanted = {count for file in files for count in _rows(file, "SELECT part_count FROM parts")}
    if wanted and {len(files)} != {row[0] for row in wanted}:
        msg = (
            f"the recovery directory {directory} holds {len(files)} of {max(row[0] for row in wanted)} partitions: "
            "bring the missing part-*.sqlite3 files back, or start with a new recovery directory"
        )
        raise JobError(msg)
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
    """The first epoch that is not complete: the least that a worker of the latest execution has come to."""
    executions = [row for file in files for row in _rows(file, "SELECT ex_num, resume_epoch FROM exs")]
    if not executions:
        return 0
    latest, resume_epoch = max(executions)
    fronts = [row for file in files for row in _rows(file, "SELECT ex_num, worker_frontier FROM fronts")]
    return int(min((frontier for number, frontier in fronts if number == latest), default=resume_epoch))


def _rows(file: Path, query: str) -> list[tuple[Any, ...]]:
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            return database.execute(query).fetchall()
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
