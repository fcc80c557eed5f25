"""Preparing the recovery store before a job starts: making it, locking it, checking it, dropping unfinished epochs."""

import fcntl
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bytewax.recovery import init_db_dir

from monitor.flow import recovery_store
from monitor.flow.recovery_meeting import MEETING_S, Seat
from monitor.flow.recovery_store import RecoveryStore
from monitor.flow.snapshots import check_version
from monitor.runtime.errors import JobError

PARTITIONS = 4
"""Files of a new store: fixed for its life, and the most processes that can share it."""


class Prepared(NamedTuple):
    """A store that the job can resume from, and the place in it that this process has taken.

    `source_states`: the states that the source partitions resume with, by partition key.
    """

    directory: Path
    seat: Seat
    source_states: dict[str, Any]


def prepare(directory: Path, keys: Mapping[str, set[str]], worker: str = "0") -> Prepared:
    """Makes the store if there is none, and checks that the job can resume from it; `begin` comes before it does.

    `keys`: step -> the keys that the job has; `worker`: the number of this process in its cluster. Raises JobError if
    another process with this number uses the store, if it is incomplete, or if it was made with other keys or by
    another version.
    """
    with _usable(directory):
        directory.mkdir(parents=True, exist_ok=True)
        seat = Seat(directory, worker)
        with _locked(directory / ".preparing"):
            _make(directory)
            return Prepared(directory, seat, recovery_store.read(directory, lambda store: _checked(store, keys)))


def begin(prepared: Prepared, processes: int = 1, patience_s: float = MEETING_S) -> bool:
    """Deletes what an unfinished epoch has left, when all processes of the job are here and none of an earlier start.

    False if the job was asked to stop meanwhile. Raises JobError if they are not here after `patience_s`.
    """
    directory = prepared.directory
    with _usable(directory):
        if not prepared.seat.meet(processes, patience_s):
            return False
        with _locked(directory / ".preparing"):
            _delete_unfinished(directory, recovery_store.read(directory, lambda store: store.resume_epoch))
    return True


def _checked(store: RecoveryStore, keys: Mapping[str, set[str]]) -> dict[str, Any]:
    """The states of the source partitions."""
    _check_keys(store, keys)
    for state in store.samples("sessions", "totals"):
        check_version(state.value.get("version") if isinstance(state.value, dict) else None)
    return {state.key: state.value for state in store.states("source")}


def _check_keys(store: RecoveryStore, keys: Mapping[str, set[str]]) -> None:
    """Refuses keys that the job does not have: the engine would silently ignore their state."""
    for step_id, key in store.places():
        expected = keys.get(recovery_store.step_name(step_id))
        if expected is not None and key not in expected:
            msg = (
                f"the recovery directory {store.directory} was written with other key groups "
                f"(step {step_id}, key {key}): "
                "start the version of the monitor that wrote it, or start with a new recovery directory"
            )
            raise JobError(msg)


def _make(directory: Path) -> None:
    """Makes the store, unless there is one; the next start completes or repeats what a crash has interrupted."""
    making, made = directory / ".making", directory / ".made"
    if making.exists():
        shutil.rmtree(making)
    if not made.exists() and not recovery_store.part_files(directory):
        making.mkdir()
        init_db_dir(making, PARTITIONS)
        making.rename(made)
    if made.exists():
        for file in made.iterdir():
            file.rename(directory / file.name)
        made.rmdir()


def _delete_unfinished(directory: Path, epoch: int) -> None:
    """Deletes the snapshots of the epoch to resume from, and of later ones.

    Bytewax neither reads nor deletes them. Once the next run has finished an epoch of that number, a key that was not
    touched in it would be resumed with the crashed run's snapshot, which belongs to other offsets.
    """
    assert epoch >= 0, "epochs are numbered from 0"
    for file in recovery_store.part_files(directory):
        uri = f"{file.absolute().as_uri()}?mode=rw"
        with recovery_store.readable(file), closing(sqlite3.connect(uri, uri=True)) as database, database:
            database.execute("DELETE FROM snaps WHERE snap_epoch >= ?", (epoch,))


@contextmanager
def _usable(directory: Path) -> Iterator[None]:
    """Turns errors of the operating system into a JobError that names the directory."""
    try:
        yield
    except OSError as error:
        msg = f"the recovery directory {directory} cannot be used: {error.strerror}; choose another, or fix its rights"
        raise JobError(msg) from None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lets one process of a cluster at a time prepare the store, since all start together."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
