"""Starts that cannot work: each ends with status 1 and one message that says what is wrong and what to do."""

import pickle
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.job import Job, configured
from tests.support.servers import Kafka, free_ports
from tests.support.strategies import Config
from tests.system.test_job_live import SHOP

TOPIC, PARTITIONS, RECORDS = "starts", 4, 20
AT_ONCE = 3
END_S = 40.0
"""A broker that cannot be reached is given 10 s."""

Change = Callable[[Any], Any]


class Place(NamedTuple):
    """Where a job has run once, in order, and left its recovery store."""

    kafka: Kafka
    url: str
    folder: Path
    recovery: Path

    def job(self, name: str, **sections: Config) -> Job:
        """A new job with a copy of that recovery store; `sections` change its configuration."""
        folder = self.folder / name
        config = configured({**SHOP, "kafka": {"tail": False}}, "starts", self.kafka, [TOPIC], self.url, folder)
        job = Job(folder, {**config, **{name: config[name] | changes for name, changes in sections.items()}})
        shutil.copytree(self.recovery, job.recovery)
        return job


class Failed(NamedTuple):
    """How a start has ended."""

    status: int
    said: str


@pytest.fixture(scope="module")
def place(real_kafka: Kafka, real_kairosdb: str, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A job that has read its topic."""
    folder = tmp_path_factory.mktemp("starts")
    real_kafka.create_topic(TOPIC, PARTITIONS)
    real_kafka.produce(TOPIC, ((number % PARTITIONS, b"key", b"{}", None) for number in range(RECORDS)))
    job = Job(folder / "first", configured(SHOP, "starts", real_kafka, [TOPIC], real_kairosdb, folder / "first"))
    job.run()
    assert job.position() == RECORDS
    return Place(real_kafka, real_kairosdb, folder, job.recovery)


@pytest.fixture(scope="module")
def ended(place: Place) -> Iterator[dict[str, Failed]]:
    """How each start has ended: some at a time, since each mostly waits."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield dict(zip(STARTS, pool.map(lambda start: start(place), STARTS.values()), strict=True))


def config_fault(place: Place) -> Failed:
    return _started(place.job("config-fault", time={"flush_s": -1, "flush": 1}))


def no_config(place: Place) -> Failed:
    return _started(place.job("no-config"), CONFIG="")


def no_broker(place: Place) -> Failed:
    return _started(place.job("no-broker", kafka={"brokers": f"127.0.0.1:{free_ports(1)[0]}"}))


def unknown_option(place: Place) -> Failed:
    return _started(place.job("unknown-option", kafka={"options": {"no.such.option": 1}}))


def no_topic(place: Place) -> Failed:
    return _started(place.job("no-topic", kafka={"topics": [TOPIC, "never-made"]}))


def no_kairosdb(place: Place) -> Failed:
    return _started(place.job("no-kairosdb", kairosdb={"url": f"http://127.0.0.1:{free_ports(1)[0]}"}))


def wrong_path(place: Place) -> Failed:
    return _started(place.job("wrong-path", kairosdb={"url": f"{place.url}/api/v1"}))


def dead_letters(place: Place) -> Failed:
    return _started(place.job("dead-letters", kairosdb={"dead_letters": str(place.folder)}))


def missing_part(place: Place) -> Failed:
    job = place.job("missing-part")
    (job.recovery / "part-2.sqlite3").unlink()
    return _started(job)


def damaged_part(place: Place) -> Failed:
    job = place.job("damaged-part")
    (job.recovery / "part-2.sqlite3").write_bytes(b"not of SQLite" * 1_000)
    return _started(job)


def no_folder(place: Place) -> Failed:
    job = place.job("no-folder")
    shutil.rmtree(job.recovery)
    job.recovery.write_text("a file")
    return _started(job)


def other_keys(place: Place) -> Failed:
    job = place.job("other-keys")
    with _parts(job) as parts:
        for part in parts:
            part.execute(
                "UPDATE snaps SET state_key = replace(state_key, '/128', '/64') WHERE step_id LIKE '%.sessions'"
            )
    return _started(job)


def other_sessions(place: Place) -> Failed:
    return _started(_changed(place, "sessions", lambda state: state | {"version": 99}))


def other_totals(place: Place) -> Failed:
    return _started(_changed(place, "totals", lambda state: state | {"version": 99}))


def other_source(place: Place) -> Failed:
    return _started(_changed(place, "source", lambda state: (99, *state[1:])))


def taken(place: Place) -> Failed:
    job = place.job("taken", kafka={"tail": True})
    with job.running() as first:
        first.awaits(lambda: job.starts() > 1, "start")
        failed = _started(job)
        first.stop()
    return failed


def out_of_retention(place: Place) -> Failed:
    place.kafka.create_topic("short-lived")
    place.kafka.produce("short-lived", ((0, None, b"{}", None) for _ in range(9)))
    job = place.job("out-of-retention", kafka={"topics": ["short-lived"]})
    shutil.rmtree(job.recovery)
    job.run()
    place.kafka.produce("short-lived", ((0, None, b"{}", None) for _ in range(9)))
    place.kafka.delete_records("short-lived", {0: 12})
    return _started(job)


STARTS = {
    function.__name__: function
    for function in (
        *(
            no_broker,
            taken,
            out_of_retention,
            config_fault,
            no_config,
            unknown_option,
            no_topic,
            no_kairosdb,
            wrong_path,
        ),
        *(dead_letters, missing_part, damaged_part, no_folder, other_keys, other_sessions, other_totals, other_source),
    )
}
"""The longest ones first."""


@pytest.mark.parametrize(
    ("start", "wanted"),
    [
        ("config_fault", ("2 errors", "time.flush_s", "time.flush:", "monitor.toml")),
        ("no_config", ("MONITOR_CONFIG", "is not set", "configuration file")),
        ("no_broker", ("no Kafka broker answers at 127.0.0.1:", "kafka.brokers")),
        ("unknown_option", ("kafka.options", "no.such.option")),
        ("no_topic", ("never-made", "create it", "kafka.topics")),
        ("no_kairosdb", ("KairosDB must answer GET http://127.0.0.1:", "refused", "kairosdb.url")),
        ("wrong_path", ("KairosDB must answer GET", "404", "kairosdb.url")),
        ("dead_letters", ("dead-letter file must be writable", "kairosdb.dead_letters")),
        (
            "missing_part",
            ("holds 3 of 4 partitions", "bring the missing part-*.sqlite3 files back", "new recovery directory"),
        ),
        ("damaged_part", ("part-2.sqlite3 cannot be read", "new recovery directory")),
        ("no_folder", ("recovery directory", "File exists")),
        ("other_keys", ("other key groups", "/64", "new recovery directory")),
        ("other_sessions", ("another version", "state format 99", "new recovery directory")),
        ("other_totals", ("another version", "state format 99", "new recovery directory")),
        ("other_source", ("another version", "state format 99", "new recovery directory")),
        ("taken", ("another job uses the recovery directory", "stop that one first")),
        ("out_of_retention", ("offset 9 of short-lived/0", "12 to 18", "new recovery directory", "longer retention")),
    ],
)
def test_a_start_that_cannot_work_says_why(ended: dict[str, Failed], start: str, wanted: tuple[str, ...]) -> None:
    """Status 1, and one message with the place and what to do."""
    status, said = ended[start]
    assert status == 1, said
    for words in wanted:
        assert words in said
    assert said.startswith("monitor: ")
    assert "Traceback" not in said
    assert "panicked" not in said


def _started(job: Job, **environment: str) -> Failed:
    with job.running(**environment) as run:
        return Failed(run.status(END_S), run.said())


def _changed(place: Place, step: str, change: Change) -> Job:
    """A job in whose recovery store each state of a step was changed."""
    job = place.job(f"other-{step}")
    changed = 0
    with _parts(job) as parts:
        for part in parts:
            query = "SELECT rowid, ser_change FROM snaps WHERE step_id LIKE ? AND ser_change IS NOT NULL"
            for row, data in part.execute(query, [f"%.{step}"]).fetchall():
                state = pickle.dumps(change(pickle.loads(data)))
                part.execute("UPDATE snaps SET ser_change = ? WHERE rowid = ?", [state, row])
                changed += 1
    assert changed
    return job


@contextmanager
def _parts(job: Job) -> Iterator[list[sqlite3.Connection]]:
    """The files of a recovery store, opened; what is done to them is kept."""
    parts = [sqlite3.connect(file) for file in sorted(job.recovery.glob("part-*.sqlite3"))]
    try:
        yield parts
        for part in parts:
            part.commit()
    finally:
        for part in parts:
            part.close()
