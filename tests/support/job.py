"""The whole job as its users run it, in processes of its own, and what it leaves in the store.

A `Job` is a folder with a configuration, a recovery store and the log of each run. `log_of` reads topics back for the
oracle, `totals` reads what the job has written, `health` what it says of itself.
"""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from monitor.flow import recovery_store
from monitor.runtime.errors import JobError
from tests.support.oracle import Answer, Key, Message
from tests.support.reading import reader_of, stored_points
from tests.support.servers import Kafka
from tests.support.strategies import Config, to_toml

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "bytewax.run", "dataflow:flow")
RUN_S = 180.0
"""The longest that a run over a test's topic, a stop, or anything that is waited for may take on a busy machine."""
WRITTEN_S = 15.0
"""The longest that KairosDB may take to write what it has accepted."""
POLL_S = 0.1
SAID_CHARACTERS = 4_000
SLOW: Mapping[str, str | int] = {
    "fetch.message.max.bytes": 1,
    "queued.min.messages": 1,
    "fetch.queue.backoff.ms": 200,
}
"""Options with which a consumer gets one produced batch per 200 ms: so that there is a middle to be stopped in."""


class HealthPoint(NamedTuple):
    """One point of a health metric; tags without dc."""

    timestamp_ms: int
    tags: Mapping[str, str]
    value: int


class Run:
    """One process of the job that was started."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    def said(self) -> str:
        """What it has written to standard output and error so far."""
        return self._log.read_text(errors="replace")

    def status(self, timeout_s: float = RUN_S) -> int:
        """Its exit status, negative for a signal, once it has ended; fails the test if it goes on for too long."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the job has not ended within {timeout_s} s; it said:\n{self.said()[-SAID_CHARACTERS:]}")

    def ends_well(self, timeout_s: float = RUN_S) -> None:
        """Waits for its end, which has to be in order: status 0, and not a word of an error."""
        status = self.status(timeout_s)
        assert status == 0, f"status {status}; the job said:\n{self.said()[-SAID_CHARACTERS:]}"
        assert "Traceback" not in self.said()
        assert "panicked" not in self.said()

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = RUN_S) -> None:
        """Asks it to stop, and waits for its end, which has to be in order."""
        self.process.send_signal(number)
        self.ends_well(timeout_s)

    def crash(self) -> None:
        """Ends it with SIGKILL."""
        self.process.kill()
        self.process.wait()

    def awaits_after_end(self, condition: Callable[[], T | None], what: str) -> T:
        """Asks until the answer is true: KairosDB answers before it has written what a job has written last."""
        until_s = time.monotonic() + WRITTEN_S
        while not (found := condition()):
            if time.monotonic() > until_s:
                pytest.fail(f"no {what} after {WRITTEN_S} s; the job said:\n{self.said()[-SAID_CHARACTERS:]}")
            time.sleep(POLL_S)
        return found

    def awaits(self, condition: Callable[[], T | None], what: str, timeout_s: float = RUN_S) -> T:
        """Asks until the answer is true, and gives it; fails the test if that takes too long, or the job ends."""
        until_s = time.monotonic() + timeout_s
        while True:
            ended = self.process.poll() is not None
            if found := condition():
                return found
            if ended or time.monotonic() > until_s:
                after = "the job has ended" if ended else f"{timeout_s} s"
                pytest.fail(f"no {what} after {after}; it said:\n{self.said()[-SAID_CHARACTERS:]}")
            time.sleep(POLL_S)


class Job:
    """A job: its configuration, and a folder with its recovery store, its dead letters and what its runs have said."""

    def __init__(self, folder: Path, config: Config) -> None:
        self.folder = folder
        self.config = config
        self.recovery = folder / "recovery"
        self._runs = 0
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "monitor.toml").write_text(to_toml(config))

    @property
    def dc(self) -> str:
        """The tag by which its points are known."""
        return str(self.config["dc"])

    @contextmanager
    def running(self, *arguments: str, snapshot_s: str = "1", **environment: str) -> Iterator[Run]:
        """Starts a process of the job; it is killed at the end, if it still runs.

        `environment` overrides the configuration, by the names without `MONITOR_`.
        """
        command = [*COMMAND, *arguments, "-r", str(self.recovery), "-s", snapshot_s, "-b", "0"]
        overrides = {f"MONITOR_{name}": value for name, value in environment.items()}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MONITOR_", "BYTEWAX_"))}
        self._runs += 1
        log = self.folder / f"run-{self._runs}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=inherited | {"MONITOR_CONFIG": str(self.folder / "monitor.toml")} | overrides,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            yield Run(process, log)
        finally:
            process.kill()
            process.wait()

    def run(self, **environment: str) -> None:
        """Runs the job to the present end of its topics; it has to end in order."""
        with self.running(**{"KAFKA__TAIL": "false", **environment}) as run:
            run.ends_well()

    def position(self) -> int:
        """How many messages its latest complete snapshot lies behind; 0 without one."""
        with suppress(JobError):  # its files are being made at this moment
            return sum(int(state[1]) for state in recovery_store.source_states(self.recovery).values())
        return 0

    def starts(self) -> int:
        """How often the engine has begun to work with its recovery store."""
        found = 0
        for file in self.recovery.glob("part-*.sqlite3"):
            with (
                suppress(sqlite3.OperationalError),
                closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as store,
            ):
                found += store.execute("SELECT count(*) FROM exs").fetchone()[0]
        return found


def configured(config: Config, dc: str, kafka: Kafka, topics: Iterable[str], url: str, folder: Path) -> Config:
    """The configuration of a job on these servers; what `config` says of its sections holds."""
    sections: Config = {
        "dc": dc,
        "kafka": {"brokers": kafka.bootstrap, "topics": list(topics)},
        "kairosdb": {"url": url, "dead_letters": str(folder / "dead-letters.jsonl")},
        "time": {"flush_s": 0.5, "idle_after_s": 1},
    }
    merged = {name: sections[name] | config.get(name, {}) for name in ("kafka", "kairosdb", "time")}
    return {**config, "dc": dc, **merged}


def log_of(kafka: Kafka, topics: Iterable[str]) -> list[Message]:
    """All messages of the topics, each partition in its order; the partitions are numbered through.

    A message without a value is given an empty one: the same to the rules.
    """
    ends = {(topic, number): end for topic in topics for number, end in sorted(kafka.end_offsets(topic).items())}
    numbers = {partition: number for number, partition in enumerate(ends)}
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "log", "enable.partition.eof": True})
    log: list[Message] = []
    left = {partition for partition, end in ends.items() if end}
    try:
        consumer.assign([TopicPartition(*partition, 0) for partition in left])
        while left:
            for read in consumer.consume(10_000, POLL_S):
                topic, partition, offset = read.topic(), read.partition(), read.offset()
                assert topic is not None
                assert partition is not None
                assert offset is not None
                if (error := read.error()) is not None:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    left.discard((topic, partition))
                    continue
                log.append(
                    Message(numbers[topic, partition], offset, read.timestamp()[1], read.key(), read.value() or b"")
                )
    finally:
        consumer.close()
    assert len(log) == sum(ends.values())
    return sorted(log, key=lambda message: message[:2])


def totals(url: str, config: Config) -> dict[Key, int]:
    """What the store holds of a job's contributions, without those that are 0."""
    found: dict[Key, int] = {}
    with reader_of(url) as reader:
        for tenant in config["tenants"]:
            names = reader.names(f"{tenant}.visit.")
            for name, timestamp_ms, tags, value in stored_points(reader, names, dc=config["dc"]):
                key = name, timestamp_ms, tuple(sorted(tags.items()))
                assert key not in found, f"{key} is stored twice"
                found[key] = value
    return {key: total for key, total in found.items() if total != 0}


def expected(answer: Answer, dc: str) -> dict[Key, float]:
    """The totals of an answer, for a mirror with another dc."""
    return {
        (name, minute_ms, tuple((tag, dc if tag == "dc" else value) for tag, value in tags)): total
        for (name, minute_ms, tags), total in answer.totals.items()
    }


def assert_stored(url: str, config: Config, answer: Answer) -> None:
    """Fails, with the first differences, unless the store comes to hold exactly what the oracle says.

    KairosDB answers before it has written, so what a job has written last may be there a moment later.
    """
    want, until_s = expected(answer, config["dc"]), time.monotonic() + WRITTEN_S
    while True:
        got = totals(url, config)
        wrong = sorted(key for key in got.keys() | want.keys() if got.get(key) != want.get(key))
        if not wrong or time.monotonic() > until_s:
            break
        time.sleep(POLL_S)
    shown = "\n".join(f"{key}: {got.get(key)} stored, {want.get(key)} wanted" for key in wrong[:10])
    assert not wrong, f"{len(wrong)} of {len(want)} totals differ:\n{shown}"
    assert want, "a log that comes to nothing tests nothing"


def health(url: str, dc: str, *names: str) -> dict[str, list[HealthPoint]]:
    """The points of these health metrics, names without `monitor.`, in the order of their time."""
    told: dict[str, list[HealthPoint]] = {name: [] for name in names}
    with reader_of(url) as reader:
        for name, timestamp_ms, tags, value in stored_points(reader, [f"monitor.{name}" for name in names], dc=dc):
            others = {tag: text for tag, text in tags.items() if tag != "dc"}
            told[name.removeprefix("monitor.")].append(HealthPoint(timestamp_ms, others, value))
    return {name: sorted(read, key=lambda point: point.timestamp_ms) for name, read in told.items()}


def counted(url: str, dc: str) -> tuple[Counter[str], Counter[tuple[str, str]], Counter[tuple[str, str]]]:
    """What a job has counted: accepted by tenant, rejected and noted by tenant and reason, as the oracle has them."""
    told = health(url, dc, "events", "rejected", "noted")
    accepted = Counter[str]()
    for point in told["events"]:
        accepted[point.tags["tenant"]] += point.value
    rejected, warnings = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for counter, name in ((rejected, "rejected"), (warnings, "noted")):
        for point in told[name]:
            counter[point.tags["tenant"], point.tags["reason"]] += point.value
    return accepted, rejected, warnings


def messages_counted(url: str, dc: str) -> int:
    """How many messages a job has accepted or rejected, as far as it has written."""
    accepted, rejected, _ = counted(url, dc)
    return accepted.total() + rejected.total()
