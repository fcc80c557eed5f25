"""The state that a job leaves: it is read across versions or refused, and `monitor state` shows what is in it."""

import json
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from bytewax.recovery import init_db_dir
from typer.testing import CliRunner

from monitor.commands.main import app
from monitor.config.reader import parse
from monitor.flow import recovery_prepare
from monitor.flow.contents import Contents, inspect
from monitor.flow.keys import keys_by_step
from monitor.flow.snapshots import VERSION
from monitor.runtime.errors import JobError
from tests.support import make_state_fixture, oracle
from tests.support.driver import tags_of
from tests.support.earlier_formats import totals_after
from tests.support.faulty_server import FaultyServer
from tests.support.make_state_fixture import BEGIN_MS, Cells, LogSource, Ticking, as_message, cells_of
from tests.support.messages import BASE_MS, MINUTE_MS, message, shop
from tests.support.oracle import Message
from tests.support.strategies import Config, to_toml

ROOT = Path(__file__).parents[2]
RELEASED = sorted((ROOT / "tests/support/fixtures").glob("state-v*.tar.xz"))
"""A store of each state format that there has been."""
assert RELEASED, "at least one format has been released"
NEXT_YEAR_MS = BEGIN_MS + 365 * 86_400_000
JOB_S = 60
JOB = """
import sys
from pathlib import Path
from tests.support.make_state_fixture import CONFIG, LogSource, log, run
run(CONFIG, LogSource(log()), Path(sys.argv[1]))
"""


class Left(NamedTuple):
    """A job that was ended in the middle: its configuration, the whole log, its store, what it had written."""

    config: Config
    log: list[Message]
    store: Path
    buckets: Cells


@pytest.fixture(params=RELEASED, ids=lambda path: path.name)
def left(request: pytest.FixtureRequest, tmp_path: Path) -> Left:
    """The store that a job of each released state format has written."""
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    lines = [json.loads(line) for line in (tmp_path / "log.ndjson").read_text().splitlines()]
    points = [json.loads(line) for line in (tmp_path / "points.ndjson").read_text().splitlines()]
    config = tomllib.loads((tmp_path / "monitor.toml").read_text())
    buckets = {(series, timestamp_ms): value for series, timestamp_ms, value in points}
    return Left(config, [as_message(line) for line in lines], tmp_path / "recovery", buckets)


def test_this_version_goes_on_with_what_an_earlier_one_left(left: Left) -> None:
    """The job takes the store, reads the rest of the log, and the totals are those of the whole log.

    What the earlier version had read is not tardy.
    """
    positions = [partition.position for partition in inspect(left.store).partitions]
    recovery_prepare.prepare(left.store, keys_by_step(), worker="next-version")
    points = make_state_fixture.run(left.config, LogSource(left.log), left.store, Ticking(NEXT_YEAR_MS))
    read = [arrived for arrived in left.log if arrived.offset < positions[arrived.partition]]
    wanted = totals_after(left.config, left.log, read)
    assert totals(left.buckets | cells_of(points), left.config) == wanted
    assert wanted != oracle.answer(left.config, left.log).totals, "some are tardy"


def test_what_a_released_store_holds(left: Left) -> None:
    """Its kinds of state: positions, visits under way, totals that can change, open windows; definitions known."""
    contents = inspect(left.store, parse(left.config).compiled_tenants())
    assert 0 < sum(p.position for p in contents.partitions) < len(left.log)
    keys = {"flush": 17, "sessions": 128, "source": 3, "totals": 17}
    assert {step.step: step.keys for step in contents.steps} == keys
    assert {t.tenant for t in contents.tenants} == set(left.config["tenants"])
    assert all(tenant.live_sessions and tenant.totals and tenant.waiting for tenant in contents.tenants)
    assert all(tenant.differences == [] for tenant in contents.tenants)
    read = [m for m in left.log if m.offset < contents.partitions[m.partition].position]
    highs = [max(m.timestamp for m in read if m.partition == number) for number in range(3)]
    assert [partition.timestamp_ms for partition in contents.partitions] == highs
    assert contents.watermarks.smallest_ms == min(highs) - 1_000 * left.config["time"]["allowed_lateness_s"]


@pytest.mark.parametrize("step", ["sessions", "totals"])
def test_state_of_another_version_is_refused(left: Left, step: str) -> None:
    """With a message that names both formats and says what to do, to a job and to whoever looks at the store."""
    of_format(left.store, step, VERSION + 1)
    with pytest.raises(JobError, match="start the version that wrote it, or start with a new recovery directory"):
        make_state_fixture.run(left.config, LogSource(left.log), left.store, Ticking(NEXT_YEAR_MS))
    with pytest.raises(JobError, match=f"state format {VERSION + 1}, this one reads 1, 2, {VERSION}"):
        inspect(left.store)


def test_the_job_says_in_one_message_that_the_state_is_of_another_version(tmp_path: Path) -> None:
    """As a process: an exit status that is not 0, the reason, and no traceback."""
    (tmp_path / "monitor.toml").write_text(to_toml(shop()))
    with FaultyServer() as server:
        job = demo(tmp_path, server.url)
        until_s = time.monotonic() + JOB_S
        while not (found := look(tmp_path / "recovery")) or not found.partitions:
            assert time.monotonic() < until_s
            assert job.poll() is None
        job.terminate()
        assert job.wait(JOB_S) == 0
        (partition,) = inspect(tmp_path / "recovery").partitions
        assert partition.partition == "simulated/0"
        assert partition.position < 60, "seconds of traffic, not its start"
        assert partition.timestamp_ms is not None
        assert abs(partition.timestamp_ms - time.time() * 1_000) < 60_000

        of_format(tmp_path / "recovery", "sessions", VERSION + 1)
        job = demo(tmp_path, server.url)
        assert job.wait(JOB_S) != 0
    said = (tmp_path / "job.log").read_text()
    assert "start the version that wrote it" in said
    assert "Traceback" not in said


def test_a_store_is_shown_as_it_is(tmp_path: Path) -> None:
    """Three events of two visits in one minute, the clock at their end; by hand."""
    init_db_dir(tmp_path, recovery_prepare.PARTITIONS)
    messages = [message(0, "home"), message(1_000, "item", sessionId="s-2"), message(5_000, "item")]
    messages = [m._replace(offset=offset) for offset, m in enumerate(messages)]
    points = make_state_fixture.run(shop(), LogSource(messages), tmp_path, Ticking(NEXT_YEAR_MS))
    contents = inspect(tmp_path, parse(shop()).compiled_tenants())
    (partition,), (tenant,) = contents.partitions, contents.tenants
    assert (partition.partition, partition.position) == ("useful-events/0", 3)
    assert partition.timestamp_ms == BASE_MS + 5_000
    assert contents.watermarks.smallest_ms == contents.watermarks.largest_ms == BASE_MS + 5_000 - 600_000
    assert (tenant.tenant, tenant.live_sessions, tenant.minutes) == ("uswm", 2, 1)
    assert tenant.last_event_ms == (BASE_MS + 1_000, BASE_MS + 5_000)
    assert tenant.totals == len(cells_of(points))
    assert contents.minutes_ms == (BASE_MS, BASE_MS)
    assert contents.windows.open == 0, "the end of the log closes all windows"
    assert contents.size_bytes == sum(file.stat().st_size for file in tmp_path.glob("part-*"))
    assert (contents.execution, contents.workers) == (0, 1)


def test_a_new_store_is_shown_as_new(tmp_path: Path) -> None:
    """Nothing is in it, which is no fault."""
    init_db_dir(tmp_path, recovery_prepare.PARTITIONS)
    contents = inspect(tmp_path)
    assert (contents.resume_epoch, contents.execution, contents.partitions, contents.tenants) == (0, None, [], [])
    result = CliRunner().invoke(app, ["state", str(tmp_path)])
    assert (result.exit_code, result.stderr) == (0, "")
    assert "no job has used it yet" in result.output


def test_definitions_are_compared_by_what_they_define(left: Left) -> None:
    """New, gone and changed tags, points and experiments are named; a tenant that is not configured is told."""
    shop_table = left.config["tenants"]["shop"]
    points = {name: table for name, table in shop_table["points"].items() if name != "home_page"}
    points |= {"order": {"event": "order"}, "extra": {"event": "click"}}
    experiments = {"fast_checkout": shop_table["experiments"]["fast_checkout"]}
    tags = {"device": ["mobile"]}
    config = left.config | {"tenants": {"shop": {"tags": tags, "points": points, "experiments": experiments}}}
    states = {t.tenant: t.differences for t in inspect(left.store, parse(config).compiled_tenants()).tenants}
    assert states["wide"] == ["the tenant is not configured"]
    assert states["shop"] == [
        "experiment button_color is gone",
        "point extra is new",
        "point home_page is gone",
        "point order has changed",
        "tag device has changed",
        "tag login is gone",
    ]


def test_looking_leaves_no_trace(left: Left) -> None:
    """Not a byte of the directory changes, and no file is added, as SQLite would do."""
    before = {path.name: path.read_bytes() for path in left.store.iterdir()}
    inspect(left.store)
    assert {path.name: path.read_bytes() for path in left.store.iterdir()} == before


def test_a_store_is_looked_at_while_a_job_writes_it(tmp_path: Path) -> None:
    """Every look shows one moment, each not before the last; and so does the store of a job that was killed."""
    init_db_dir(tmp_path, recovery_prepare.PARTITIONS)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    job = subprocess.Popen([sys.executable, "-c", JOB, str(tmp_path)], cwd=ROOT / "tests", env=environment)
    try:
        seen: list[Contents] = []
        until_s = time.monotonic() + JOB_S
        while len({contents.resume_epoch for contents in seen}) < 8:
            assert time.monotonic() < until_s
            assert job.poll() is None, "the job was faster than eight looks"
            seen.append(inspect(tmp_path))
    finally:
        job.kill()
        job.wait()
    seen.append(inspect(tmp_path))
    epochs = [contents.resume_epoch for contents in seen]
    positions = [sum(p.position for p in contents.partitions) for contents in seen]
    assert epochs == sorted(epochs)
    assert positions == sorted(positions)
    for contents in seen:
        read = [p.timestamp_ms for p in contents.partitions if p.timestamp_ms is not None]
        if contents.watermarks.largest_ms is not None:
            assert contents.watermarks.largest_ms <= min(read) - 600_000, "state and positions are of one moment"


def test_files_of_different_moments_are_refused(left: Left) -> None:
    """As when they were copied one after the other."""
    for name, epoch in (("part-0.sqlite3", 1_000), ("part-1.sqlite3", 1_000)):
        with closing(sqlite3.connect(left.store / name)) as database, database:
            database.execute("UPDATE commits SET commit_epoch = ?", (epoch,))
    with pytest.raises(JobError, match="not of one moment"):
        inspect(left.store)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda store: shutil.rmtree(store), "is no directory"),
        (lambda store: [path.unlink() for path in store.iterdir()], "holds no recovery store"),
        (lambda store: (store / "part-2.sqlite3").unlink(), "holds 3 of 4 partitions"),
        (lambda store: (store / "part-2.sqlite3").write_bytes(b"no database"), "cannot be read"),
        (lambda store: (store / "part-2.sqlite3").write_bytes(b""), "cannot be read"),
        (lambda store: replace_states(store, pickle.dumps(7)), "cannot read"),
        (lambda store: replace_states(store, pickle.dumps(Path())), "cannot read"),
        (lambda store: replace_states(store, b"junk"), "cannot read"),
    ],
    ids=["none", "empty", "incomplete", "damaged", "emptied", "foreign", "code", "junk"],
)
def test_what_is_no_store_is_told(left: Left, damage: object, says: str) -> None:
    """One message on stderr that names the directory, status 2, and nothing on stdout."""
    assert callable(damage)
    damage(left.store)
    result = CliRunner().invoke(app, ["state", str(left.store)])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert says in result.stderr
    assert str(left.store) in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_wrong_configuration_is_told(left: Left, tmp_path: Path) -> None:
    """As every command does."""
    (tmp_path / "wrong.toml").write_text("colour = 1\n")
    result = CliRunner().invoke(app, ["state", str(left.store), "--config", str(tmp_path / "wrong.toml")])
    assert result.exit_code == 2
    assert "colour" in result.stderr


def test_both_forms_of_output(left: Left, tmp_path: Path) -> None:
    """Tables for people, which fit 80 columns, and JSON with the same numbers for programs."""
    contents = inspect(left.store)
    found = json.loads(CliRunner().invoke(app, ["state", str(left.store), "--json"]).output)
    assert found["resume_epoch"] == contents.resume_epoch
    assert [p["position"] for p in found["partitions"]] == [p.position for p in contents.partitions]
    assert {t["tenant"]: t["live_sessions"] for t in found["tenants"]} == {
        t.tenant: t.live_sessions for t in contents.tenants
    }
    (tmp_path / "other.toml").write_text(to_toml(left.config | {"tenants": {"shop": left.config["tenants"]["shop"]}}))
    said = CliRunner().invoke(app, ["state", str(left.store), "--config", str(tmp_path / "other.toml")]).output
    for tenant in contents.tenants:
        assert any({tenant.tenant, f"{tenant.live_sessions:,}"} <= set(line.split()) for line in said.splitlines())
    assert "17 open flush windows" in said
    assert "definitions of shop match the configuration" in said
    assert "definitions of wide differ from the configuration: the tenant is not configured" in said
    assert all(len(line) <= 80 for line in said.splitlines() if line.startswith("│"))
    assert "…" not in said


@pytest.mark.parametrize("name", ["a#b", "50%", "a?b", "größe 1"])
def test_any_folder_name(tmp_path: Path, name: str) -> None:
    """Characters with a meaning in a URI have none here."""
    (tmp_path / name).mkdir()
    init_db_dir(tmp_path / name, recovery_prepare.PARTITIONS)
    assert inspect(tmp_path / name).resume_epoch == 0


def look(store: Path) -> Contents | None:
    """The summary of a store, None while there is none."""
    try:
        return inspect(store)
    except JobError:
        time.sleep(0.05)
        return None


def totals(buckets: Cells, config: Config) -> dict[oracle.Key, float]:
    """Cells as the oracle writes them, without those that are 0."""
    return {
        (series.partition("|")[0], timestamp_ms, tags_of(series, config["dc"])): value
        for (series, timestamp_ms), value in buckets.items()
        if value
    }


def states_of(database: sqlite3.Connection, step: str) -> Iterator[tuple[int, bytes]]:
    """(row, state) of a step."""
    query = "SELECT rowid, ser_change FROM snaps WHERE step_id = ? AND ser_change IS NOT NULL"
    yield from database.execute(query, (f"monitor.{step}",)).fetchall()


def of_format(store: Path, step: str, version: int) -> None:
    """Makes the states of a step those of another format."""
    for path in store.glob("part-*.sqlite3"):
        with closing(sqlite3.connect(path)) as database, database:
            for row, data in states_of(database, step):
                changed = pickle.dumps(pickle.loads(data) | {"version": version})
                database.execute("UPDATE snaps SET ser_change = ? WHERE rowid = ?", (changed, row))


def replace_states(store: Path, data: bytes) -> None:
    """Puts something else in the place of every state."""
    for path in store.glob("part-*.sqlite3"):
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("UPDATE snaps SET ser_change = ? WHERE ser_change IS NOT NULL", (data,))


def demo(folder: Path, url: str) -> subprocess.Popen[bytes]:
    """The job on simulated traffic, with a recovery store."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MONITOR_", "BYTEWAX_"))}
    environment |= {
        "MONITOR_CONFIG": str(folder / "monitor.toml"),
        "MONITOR_KAIROSDB__URL": url,
        "MONITOR_KAIROSDB__DEAD_LETTERS": str(folder / "dead-letters.jsonl"),
        "MONITOR_DEMO_RATE": "20",
        "MONITOR_DEMO_SEED": "1",
    }
    command = [sys.executable, "-m", "bytewax.run", "dataflow:simulated_flow"]
    command += ["-r", str(folder / "recovery"), "-s", "1", "-b", "0"]
    with (folder / "job.log").open("wb") as log_file:
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log_file, stderr=log_file
        )


assert BASE_MS % MINUTE_MS == 0
