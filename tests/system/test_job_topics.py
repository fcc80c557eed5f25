"""The whole job on topics that change: made anew, truncated, given partitions; and its last report."""

import random
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from zlib import crc32

import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner

from monitor.commands.main import app
from monitor.runtime.signals import RESTART_STATUS
from tests.support import oracle
from tests.support.golden import LOG_APPEND_TIME
from tests.support.job import (
    RUN_S,
    Job,
    Run,
    assert_stored,
    configured,
    counted,
    health,
    log_of,
    messages_counted,
)
from tests.support.servers import Kafka, Record, free_ports
from tests.support.strategies import encode
from tests.system.test_job_live import SHOP

LATENESS_S = 2
LOAD_EVERY_S = 0.02
SESSIONS = 60
PROCESSES = 3
"""One more than there are partitions at first: it reads none, and has to end like the others."""


@pytest.fixture
def own_kafka(tmp_path: Path, real_kafka: Kafka) -> Iterator[Kafka]:
    """A Kafka that may be killed."""
    with Kafka(tmp_path / "kafka") as kafka:
        yield kafka


@pytest.mark.parametrize("config", [LOG_APPEND_TIME, {}], ids=["broker", "producer"])
def test_partitions_that_are_added_under_load(
    config: dict[str, str], real_kafka: Kafka, real_kairosdb: str, tmp_path: Path
) -> None:
    """From 2 to 4, with sessions that move: all processes end with the status of a restart, and started again on the
    same recovery directory they have lost nothing, rejected nothing by the watermark and counted nothing twice.
    """
    topic = f"grown-{len(config)}"
    real_kafka.create_topic(topic, 2, config)
    job = _job(real_kafka, topic, real_kairosdb, tmp_path)

    def counts(messages: int) -> bool:
        assert not [run.said() for run in runs if run.process.poll() is not None]
        return messages_counted(real_kairosdb, job.dc) >= messages

    with _load(real_kafka, topic) as load:
        with _cluster(job) as runs:
            runs[0].awaits(lambda: counts(SESSIONS) and _watermark_s(real_kairosdb, job.dc), "watermark")
            real_kafka.add_partitions(topic, 4)
            load.spread(4)
            assert [run.status() for run in runs] == [RESTART_STATUS] * PROCESSES
            assert any("new_partitions" in run.said() for run in runs)
            assert not any("Traceback" in run.said() for run in runs)
        with _cluster(job) as runs:
            unread = sum(real_kafka.end_offsets(topic).values()) + SESSIONS
            runs[0].awaits(lambda: counts(unread), "messages of now")
            load.end()
            wanted = sum(real_kafka.end_offsets(topic).values())
            runs[0].awaits(lambda: counts(wanted), "end of the topic")
            for run in runs:
                run.process.terminate()
            for run in runs:
                run.ends_well()
    assert all(real_kafka.end_offsets(topic).values())
    # the oracle knows no watermark: to it late is only what came late by its own timestamp, as on a slow machine
    answer = oracle.answer(job.config, log_of(real_kafka, [topic]))
    assert counted(real_kairosdb, job.dc) == answer[1:4]
    assert_stored(real_kairosdb, job.config, answer)


def test_a_partition_added_meanwhile_is_read_from_its_beginning(
    real_kafka: Kafka, real_kairosdb: str, tmp_path: Path
) -> None:
    """Whatever kafka.start says: it belongs to a topic of which the job has counted all since it began."""
    real_kafka.create_topic("added", 1)
    real_kafka.produce("added", _events(range(10), 1))
    job = _job(real_kafka, "added", real_kairosdb, tmp_path, start="end")
    job.run()
    real_kafka.add_partitions("added", 2)
    real_kafka.produce("added", ((1, *record[1:]) for record in _events(range(10), 1)))
    job.run()
    assert messages_counted(real_kairosdb, job.dc) == 10
    assert not health(real_kairosdb, job.dc, "rejected")["rejected"]


def test_new_partitions_can_be_told_only(real_kafka: Kafka, real_kairosdb: str, tmp_path: Path) -> None:
    """kafka.on_new_partitions = "warn": the log and a gauge say so, the job goes on, and the watermark waits."""
    real_kafka.create_topic("warned", 1, LOG_APPEND_TIME)
    job = _job(real_kafka, "warned", real_kairosdb, tmp_path, on_new_partitions="warn")
    with job.running() as run:
        run.awaits(lambda: _watermark_s(real_kairosdb, job.dc), "watermark")
        real_kafka.add_partitions("warned", 2)
        run.awaits(lambda: "new_partitions" in run.said(), "word of it")
        run.awaits(
            lambda: any(
                point.value == 1 for point in health(real_kairosdb, job.dc, "new_partitions")["new_partitions"]
            ),
            "gauge",
        )
        stands_s = _watermark_s(real_kairosdb, job.dc)
        real_kafka.produce("warned", _events(range(10), 1))
        run.awaits(lambda: messages_counted(real_kairosdb, job.dc) == 10, "messages")
        run.stop()
    assert _watermark_s(real_kairosdb, job.dc) == stands_s
    assert run.said().count('"event": "new_partitions"') == 1


def test_a_topic_made_anew_is_noticed_at_start(real_kafka: Kafka, real_kairosdb: str, tmp_path: Path) -> None:
    """Its offsets would fit: nothing of it is counted, and the message says what to do."""
    real_kafka.create_topic("remade", 1)
    real_kafka.produce("remade", _events(range(10), 1))
    job = _job(real_kafka, "remade", real_kairosdb, tmp_path)
    job.run()
    real_kafka.remake_topic("remade", 1)
    real_kafka.produce("remade", _events(range(30), 1))
    with job.running() as run:
        assert run.status() == 1
    for words in ("monitor: the topic 'remade' was deleted and made anew", "new recovery directory", "restore"):
        assert words in run.said()
    assert messages_counted(real_kairosdb, job.dc) == 10


def test_a_topic_made_anew_is_noticed_while_it_is_read(real_kafka: Kafka, real_kairosdb: str, tmp_path: Path) -> None:
    """The job ends with status 1 and one message, and refuses to go on until it is given a new recovery directory."""
    real_kafka.create_topic("remade-live", 2)
    real_kafka.produce("remade-live", _events(range(10), 2))
    job = _job(real_kafka, "remade-live", real_kairosdb, tmp_path)
    with job.running() as run:
        run.awaits(lambda: job.position() == 10, "snapshot")
        real_kafka.remake_topic("remade-live", 2)
        real_kafka.produce("remade-live", _events(range(40), 2))
        assert run.status() == 1
        assert "new recovery directory" in run.said()
        assert "Traceback" not in run.said()
    with job.running() as run:
        assert run.status() == 1
        assert "'remade-live' was deleted and made anew" in run.said()


@pytest.mark.parametrize("is_running", [False, True], ids=["at start", "while it runs"])
def test_a_truncation_is_noticed(is_running: bool, own_kafka: Kafka, real_kairosdb: str, tmp_path: Path) -> None:
    """A leader that has lost messages, and has got others at their offsets since: the epoch of the leader tells."""
    topic = "truncated"
    own_kafka.create_topic(topic, 1)
    own_kafka.produce(topic, _events(range(20), 1))
    (log,) = (own_kafka.folder / "data" / f"{topic}-0").glob("*.log")
    kept_bytes = log.stat().st_size
    own_kafka.produce(topic, _events(range(20), 1))
    job = _job(own_kafka, topic, real_kairosdb, tmp_path, dc=f"truncated-{is_running}")

    def lose() -> None:
        own_kafka.kill()
        with log.open("r+b") as file:
            file.truncate(kept_bytes)
        own_kafka.start()
        own_kafka.produce(topic, _events(range(60), 1))

    if is_running:
        with job.running() as run:
            run.awaits(lambda: job.position() == 40, "snapshot")
            lose()
            status = run.status()
    else:
        job.run()
        lose()
        with job.running() as run:
            status = run.status()
    assert status == 1
    assert f"{topic}/0 was truncated before offset 40" in run.said()
    assert "new recovery directory" in run.said()
    assert messages_counted(real_kairosdb, job.dc) == 40


def test_a_bounded_run_on_a_short_topic_leaves_its_last_report(
    real_kafka: Kafka, real_kairosdb: str, tmp_path: Path
) -> None:
    """A watermark, with one of 4 partitions empty and producers' timestamps; no lag; verify compares all."""
    real_kafka.create_topic("short", 4)
    real_kafka.produce("short", _events(range(20), 3))
    job = _job(real_kafka, "short", real_kairosdb, tmp_path)
    with job.running(KAFKA__TAIL="false") as run:
        run.ends_well()
        run.awaits_after_end(lambda: _watermark_s(real_kairosdb, job.dc), "watermark")
    lags = health(real_kairosdb, job.dc, "lag")["lag"]
    assert {point.tags["partition"]: point.value for point in lags} == {str(number): 0 for number in range(4)}
    assert sum(_values(real_kairosdb, job.dc, "points_written")) > len(
        oracle.answer(job.config, log_of(real_kafka, ["short"])).totals
    )
    verified = CliRunner().invoke(app, ["verify", "--config", str(job.folder / "monitor.toml")])
    assert verified.exit_code == 0, verified.output
    assert not (job.folder / "dead-letters.jsonl").exists()


def _job(kafka: Kafka, topic: str, url: str, folder: Path, dc: str = "", **table: object) -> Job:
    """A job on a topic; its dc is the topic's name, unless it is given."""
    config = {**SHOP, "time": {**SHOP["time"], "allowed_lateness_s": LATENESS_S, "idle_after_s": 1, "flush_s": 0.5}}
    return Job(folder / "job", configured({**config, "kafka": table}, dc or topic, kafka, [topic], url, folder / "job"))


@contextmanager
def _cluster(job: Job) -> Iterator[list[Run]]:
    """The processes of a job that share its work."""
    addresses = ";".join(f"127.0.0.1:{port}" for port in free_ports(PROCESSES))
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                job.running("-i", str(number), "-a", addresses, KAIROSDB__DEAD_LETTERS=f"{job.folder}/{number}")
            )
            for number in range(PROCESSES)
        ]


def _watermark_s(url: str, dc: str) -> int:
    """The newest watermark that a job has reported; 0 if it has none."""
    return max(_values(url, dc, "watermark_s"), default=0)


def _values(url: str, dc: str, name: str) -> list[int]:
    return [point.value for point in health(url, dc, name)[name]]


class _Load:
    """Events of now, produced all the time; each session is where its key says, among the partitions of the moment."""

    def __init__(self, kafka: Kafka, topic: str) -> None:
        self._partitions = 2
        self._topic, self._ending, self._sent = topic, threading.Event(), 0
        self._producer = Producer(
            {"bootstrap.servers": kafka.bootstrap, "linger.ms": 5, "topic.metadata.refresh.interval.ms": 200}
        )
        self._thread = threading.Thread(target=self._work)

    def spread(self, partitions: int) -> None:
        """Uses so many partitions from now on, which the topic has got."""
        while len(self._producer.list_topics(self._topic, RUN_S).topics[self._topic].partitions) < partitions:
            time.sleep(LOAD_EVERY_S)
        self._partitions = partitions

    def end(self) -> None:
        """Returns when all events are in the topic."""
        self._ending.set()
        self._thread.join()
        assert self._producer.flush(RUN_S) == 0

    def _work(self) -> None:
        rng = random.Random(17)
        while not self._ending.wait(LOAD_EVERY_S):
            for partition, key, value, _ in _events([rng.randrange(SESSIONS)], self._partitions, self._sent):
                self._producer.produce(self._topic, value, key, partition)
                self._sent += 1
            self._producer.poll(0)


@contextmanager
def _load(kafka: Kafka, topic: str) -> Iterator[_Load]:
    """A load, from now on."""
    load = _Load(kafka, topic)
    load._thread.start()
    try:
        yield load
    finally:
        load.end()


def _events(sessions: Iterable[int], partitions: int, first: int = 0) -> Iterator[Record]:
    """An event of now for each session, in the partition of its key."""
    for number, session in enumerate(sessions, first):
        key = b"s-%d" % session
        now_ms = time.time_ns() // 1_000_000
        event = {
            "tenant": "live-shop",
            "sessionId": key.decode(),
            "time": now_ms - number % 3 * 400,
            "event": ("page_view", "order")[number % 5 == 0],
            "eventId": f"e{number}",
            "assignments": {"button_color": ("blue", "red")[session % 2]},
            "attributes": {"page": "home", "device": "mobile", "total": 5},
        }
        yield crc32(key) % partitions, key, encode(event), now_ms
