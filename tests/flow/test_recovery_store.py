"""The recovery store before a job starts: made once, and refused where the job could not resume from it."""

import os
import pickle
import sqlite3
import subprocess
import sys
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig
from bytewax.testing import TestingSink, TestingSource, run_main

from monitor.flow import recovery_prepare, recovery_store
from monitor.flow.recovery_prepare import PARTITIONS
from monitor.flow.recovery_store import source_states
from monitor.runtime.errors import JobError

KEYS = {"sum": {"even", "odd"}}
EXIT_TIMEOUT_S = 30
PREPARE = """
import sys
from pathlib import Path
from monitor.flow.recovery_prepare import begin, prepare
print("ready", flush=True)
sys.stdin.readline()
prepared = prepare(Path(sys.argv[1]), {}, worker=sys.argv[2])
begin(prepared, processes=int(sys.argv[3]))
print("prepared", flush=True)
sys.stdin.readline()
"""


def test_a_store_is_made_where_there_is_none(tmp_path: Path) -> None:
    """With the folders on the way to it, and readable by the engine."""
    directory = tmp_path / "a" / "b"
    prepare(directory)
    assert parts(directory) == [f"part-{i}.sqlite3" for i in range(PARTITIONS)]
    assert source_states(directory) == {}
    assert run(directory, [1, 2, 3]) == [1, 2, 4]


def test_a_store_that_is_there_is_left_alone(tmp_path: Path) -> None:
    """The second start finds it, empty or with state, and the job goes on with it."""
    prepare(tmp_path)
    before = [(tmp_path / name).read_bytes() for name in parts(tmp_path)]
    prepare(tmp_path)
    assert [(tmp_path / name).read_bytes() for name in parts(tmp_path)] == before
    run(tmp_path, [1, 2, TestingSource.EOF(), 3, 4])
    prepare(tmp_path)
    assert run(tmp_path, [1, 2, TestingSource.EOF(), 3, 4]) == [4, 6]


def test_processes_that_start_together_make_it_once(tmp_path: Path) -> None:
    """Each of a cluster's processes prepares the store at the same moment: one makes it, the others find it whole."""
    for attempt in range(2):
        directory = tmp_path / str(attempt)
        with ExitStack() as stack:
            processes = [stack.enter_context(preparing(directory, worker, 3)) for worker in range(3)]
            for process in processes:
                assert line_of(process) == "ready"
            for process in processes:
                say(process)
            assert [line_of(process) for process in processes] == ["prepared"] * 3
            for process in processes:
                say(process)
            assert [process.wait(EXIT_TIMEOUT_S) for process in processes] == [0, 0, 0]
        assert len(parts(directory)) == PARTITIONS
        assert run(directory, [1]) == [1]


def test_another_job_with_the_same_store_is_refused(tmp_path: Path) -> None:
    """For as long as the first one lives; a job that comes after it may."""
    with preparing(tmp_path, 0) as process:
        say(process)
        assert [line_of(process), line_of(process)] == ["ready", "prepared"]
        with pytest.raises(JobError, match="another job uses the recovery directory"):
            recovery_prepare.prepare(tmp_path, KEYS, worker="0")
        say(process)
        assert process.wait(EXIT_TIMEOUT_S) == 0
    recovery_prepare.prepare(tmp_path, KEYS, worker="0")


@pytest.mark.parametrize("missing", [0, PARTITIONS - 1])
def test_missing_part_files_are_refused(tmp_path: Path, missing: int) -> None:
    """With how many there are of how many."""
    prepare(tmp_path)
    (tmp_path / f"part-{missing}.sqlite3").unlink()
    with pytest.raises(JobError, match=f"holds {PARTITIONS - 1} of {PARTITIONS} partitions"):
        prepare(tmp_path)


def test_a_part_file_too_many_is_refused(tmp_path: Path) -> None:
    """As when files of two stores are thrown together."""
    prepare(tmp_path)
    (tmp_path / f"part-{PARTITIONS}.sqlite3").write_bytes((tmp_path / "part-0.sqlite3").read_bytes())
    with pytest.raises(JobError, match=f"holds {PARTITIONS + 1} of {PARTITIONS} partitions"):
        prepare(tmp_path)


@pytest.mark.parametrize("damage", [b"no database at all", b"SQLite format 3\0" + b"\xff" * 200])
@pytest.mark.parametrize("read", ["prepare", "source_states"])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: bytes, read: str) -> None:
    """The message names the file."""
    prepare(tmp_path)
    (tmp_path / "part-2.sqlite3").write_bytes(damage)
    with pytest.raises(JobError, match=r"part-2\.sqlite3 cannot be read"):
        prepare(tmp_path) if read == "prepare" else source_states(tmp_path)


def test_keys_that_the_job_does_not_have_are_refused(tmp_path: Path) -> None:
    """The engine would ignore their state in silence; the message names the step and the key."""
    prepare(tmp_path)
    run(tmp_path, [1, 2])
    with pytest.raises(JobError, match=r"other key groups \(step flow\.sum\.stateful.*, key odd\)"):
        prepare(tmp_path, {"sum": {"even"}})


def test_more_keys_and_other_steps_do_not_matter(tmp_path: Path) -> None:
    """A key without state yet is no fault, nor is a step that the job does not speak of, such as its source."""
    prepare(tmp_path)
    run(tmp_path, [1, 2])
    prepare(tmp_path, {"sum": {"even", "odd", "prime"}, "more": {"x"}})
    prepare(tmp_path, {})


def test_keys_that_were_discarded_do_not_matter(tmp_path: Path) -> None:
    """The engine keeps a row of each key for ever, without state when it is discarded."""
    prepare(tmp_path)
    run(tmp_path, [1, 2, -1])
    prepare(tmp_path, {"sum": {"even"}})


def test_the_states_that_sources_will_resume_with(tmp_path: Path) -> None:
    """The states that a real dataflow wrote, after a first run and after the next."""
    prepare(tmp_path)
    items = [1, 2, 3, TestingSource.EOF(), 4, TestingSource.EOF(), 5]
    seen = []
    for _ in range(3):
        run(tmp_path, items)
        (state,) = source_states(tmp_path).values()
        seen.append(state)
    assert seen == sorted(seen)
    assert len(set(seen)) == 3


def test_an_epoch_that_was_not_finished_does_not_count(tmp_path: Path) -> None:
    """The state is that from which a run resumes after a crash, not the newest that was written."""
    prepare(tmp_path)
    run(tmp_path, [1, 2, TestingSource.EOF(), 3])
    before = source_states(tmp_path)
    for name in parts(tmp_path):
        with closing(sqlite3.connect(tmp_path / name)) as database, database:
            database.execute(
                "INSERT INTO snaps (step_id, state_key, snap_epoch, ser_change) "
                "SELECT step_id, state_key, snap_epoch + 1000, x'80' FROM snaps"
            )
    assert source_states(tmp_path) == before


def test_a_state_that_needs_a_foreign_class_is_refused(tmp_path: Path) -> None:
    """A start reads states as `monitor state` does: without running what a pickle asks for."""
    prepare(tmp_path)
    run(tmp_path, [1, 2])
    for name in parts(tmp_path):
        with closing(sqlite3.connect(tmp_path / name)) as database, database:
            database.execute(
                "UPDATE snaps SET ser_change = ? WHERE step_id LIKE '%.source' AND ser_change IS NOT NULL",
                (pickle.dumps(Path("any")),),
            )
    with pytest.raises(JobError, match=r"cannot read \(step flow\.source, key .*\): it needs pathlib"):
        prepare(tmp_path)


def test_what_a_crashed_run_left_of_an_epoch_is_never_resumed(tmp_path: Path) -> None:
    """Not even once a later run has finished an epoch of that number, in which the key was not touched."""
    prepare(tmp_path)
    items = [1, 2, TestingSource.EOF(), 4, 6, 8, TestingSource.ABORT(), 3]
    assert run(tmp_path, items) == [1, 2]
    resume = recovery_store.read(tmp_path, lambda store: store.resume_epoch)
    for name in parts(tmp_path):  # as a run that was killed after its snapshots, before the end of the epoch
        with closing(sqlite3.connect(tmp_path / name)) as database, database:
            database.execute(
                "INSERT INTO snaps (step_id, state_key, snap_epoch, ser_change) SELECT step_id, state_key, ?, ? "
                "FROM snaps WHERE state_key = 'odd' AND ser_change IS NOT NULL",
                (resume, pickle.dumps(1_000)),
            )
    prepare(tmp_path)
    run(tmp_path, items)  # some epochs of even numbers, and a crash
    prepare(tmp_path)
    assert run(tmp_path, items)[-1] == 4


@pytest.mark.parametrize("name", ["a#b", "50%", "a?b", "größe 1"])
def test_any_folder_name(tmp_path: Path, name: str) -> None:
    """A store may lie anywhere: what means something in a URI means nothing here."""
    prepare(tmp_path / name)
    run(tmp_path / name, [1])
    prepare(tmp_path / name)
    assert len(source_states(tmp_path / name)) == 1


def prepare(directory: Path, keys: dict[str, set[str]] = KEYS) -> None:
    """Prepares a store as a process of its own would, and lets its seat go as the end of that process does."""
    prepared = recovery_prepare.prepare(directory, keys)
    assert recovery_prepare.begin(prepared)
    os.close(prepared.seat._file)


def parts(directory: Path) -> list[str]:
    """The names of the store's files."""
    return sorted(file.name for file in directory.glob("part-*.sqlite3"))


def run(directory: Path, items: list[Any]) -> list[int]:
    """Runs a tiny dataflow, an epoch for each item: running sums of even and of odd numbers; -1 discards the latter."""

    def step(total: int | None, item: int) -> tuple[int | None, int]:
        return None if item < 0 else (total or 0) + item, (total or 0) + item

    out: list[tuple[str, int]] = []
    flow = Dataflow("flow")
    numbers = op.input("source", flow, TestingSource(items))
    keyed = op.key_on("key", numbers, lambda item: ("even", "odd")[item % 2])
    sums = op.stateful_map("sum", keyed, step)
    op.output("sink", sums, TestingSink(out))
    run_main(flow, epoch_interval=timedelta(0), recovery_config=RecoveryConfig(directory, backup_interval=timedelta(0)))
    return [total for _, total in out]


def preparing(directory: Path, worker: int, processes: int = 1) -> subprocess.Popen[str]:
    """A process that prepares the store when it is told to, and ends when it is told again."""
    command = [sys.executable, "-c", PREPARE, str(directory), str(worker), str(processes)]
    root = Path(recovery_store.__file__).parent.parent
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line of a process; empty if it ended."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def say(process: subprocess.Popen[str]) -> None:
    """Tells a process to go on."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
