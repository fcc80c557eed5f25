"""Parts of a recovery store that pass for a whole one: each is refused, nothing of it is deleted."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from bytewax.recovery import InconsistentPartitionsError, MissingPartitionsError, NoPartitionsError, init_db_dir
from bytewax.testing import TestingSource

from monitor.flow.recovery_errors import explained
from monitor.flow.recovery_prepare import PARTITIONS
from monitor.flow.recovery_store import source_states
from monitor.runtime.errors import JobError
from tests.flow.test_recovery_store import parts, prepare, run

ROOT = Path(__file__).parents[2]
EXIT_TIMEOUT_S = 60
ITEMS = [1, 2, TestingSource.EOF(), 3, 4, TestingSource.EOF(), 5]
FLOW = """
import sys
import bytewax.operators as op
from pathlib import Path
from typing import Any
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource
from monitor.flow import recovery_errors
from monitor.runtime import reporting

reporting.install(lambda error: recovery_errors.explained(error, Path("store")))
flow = Dataflow("flow")
op.output("out", op.input("in", flow, TestingSource([])), TestingSink([]))
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store on which a job has run three times."""
    directory = tmp_path / "whole"
    for _ in range(3):
        prepare(directory)
        run(directory, ITEMS)
    return directory


def test_a_whole_store_is_none(store: Path) -> None:
    """It has a row of each run."""
    prepare(store)
    assert len(rows(store, "exs")) == 3


@pytest.mark.parametrize("left", ["snaps", "commits"])
def test_rows_without_a_run_are_a_part(store: Path, left: str) -> None:
    """Not a new store at epoch 0, whose snapshots would all be deleted."""
    for table in {"snaps", "commits", "fronts", "exs"} - {left}:
        change(store, f"DELETE FROM {table}")
    assert_refused(store)


def test_a_run_that_is_missing_is_a_part(store: Path) -> None:
    """The latest, one between, or the first: the rows of one run lie in different files."""
    for number in range(3):
        copy = store.with_name(f"without-{number}")
        shutil.copytree(store, copy)
        change(copy, f"DELETE FROM exs WHERE ex_num = {number}")
        assert_refused(copy)


def test_files_of_two_directories_are_a_part(store: Path, tmp_path: Path) -> None:
    """What two processes with a directory each leave: whole files, of which each has written some."""
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    init_db_dir(mixed, PARTITIONS)
    for name in parts(store)[::2]:
        shutil.copy(store / name, mixed / name)
    assert_refused(mixed)


def test_a_worker_without_a_frontier_is_where_its_run_began(store: Path) -> None:
    """As the engine sees it: after a crash in the first epoch one worker may have told its frontier, another not."""
    epochs = dict(rows(store, "exs", "ex_num, resume_epoch"))
    change(store, "UPDATE exs SET worker_count = 2 WHERE ex_num = 2")
    change(store, "DELETE FROM commits")
    change(store, "DELETE FROM snaps WHERE step_id LIKE '%.sum.%'")
    before = source_states(store)
    change(store, "DELETE FROM fronts WHERE ex_num = 2")
    assert source_states(store) == before
    change(store, f"INSERT INTO fronts (ex_num, worker_index, worker_frontier) VALUES (2, 1, {epochs[2] + 1000})", 1)
    assert source_states(store) == before


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NoPartitionsError("none"), "no recovery store"),
        (MissingPartitionsError("2 of 4"), "is incomplete (2 of 4)"),
        (InconsistentPartitionsError("too old"), "different moments (too old)"),
    ],
)
def test_the_engines_errors_have_messages(error: Exception, words: str) -> None:
    """With the directory and what to do; other errors have none."""
    message = explained(error, Path("/state/ab"))
    assert message is not None
    assert words in message
    assert "recovery directory /state/ab" in message
    assert "whole copy" in message
    assert explained(ValueError("other"), Path("x")) is None


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("fault", ["none", "missing", "inconsistent"])
def test_an_error_of_the_engine_is_one_message(tmp_path: Path, fault: str, workers: int) -> None:
    """No traceback: the last line says what it is."""
    directory = tmp_path / "store"
    directory.mkdir()
    if fault != "none":
        init_db_dir(directory, 2)
    if fault == "missing":
        (directory / "part-1.sqlite3").unlink()
    if fault == "inconsistent":
        change(directory, "INSERT INTO commits (part_index, commit_epoch) VALUES (0, 9)", 1)
    (tmp_path / "flowing.py").write_text(FLOW)
    command = [sys.executable, "-m", "bytewax.run", "flowing", "-r", str(directory), "-s", "1", "-b", "0"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BYTEWAX_")}
    ended = subprocess.run(
        [*command, "-w", str(workers)],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=EXIT_TIMEOUT_S,
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("monitor: the recovery directory store ")
    assert "Traceback" not in ended.stderr


def assert_refused(directory: Path) -> None:
    """Fails unless a start and a reader refuse it, and all snapshots stay."""
    before = rows(directory, "snaps", "step_id, state_key, snap_epoch")
    with pytest.raises(JobError, match="holds a part of a store only"):
        source_states(directory)
    with pytest.raises(JobError, match="holds a part of a store only"):
        prepare(directory)
    assert rows(directory, "snaps", "step_id, state_key, snap_epoch") == before


def rows(directory: Path, table: str, columns: str = "*") -> list[tuple[Any, ...]]:
    """All rows of a table."""
    found = []
    for name in parts(directory):
        with closing(sqlite3.connect(directory / name)) as database:
            found += database.execute(f"SELECT {columns} FROM {table}").fetchall()
    return sorted(found, key=str)


def change(directory: Path, statement: str, files: int = PARTITIONS) -> None:
    """Executes a statement in the store's files, or in the first ones."""
    for name in parts(directory)[:files]:
        with closing(sqlite3.connect(directory / name)) as database, database:
            database.execute(statement)
