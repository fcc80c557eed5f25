"""The real servers that other tests stand on: they keep what they are given, and are gone when they should be."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from monitor.devstore.server import running
from tests.support import jars, servers
from tests.support.jars import ServerError
from tests.support.reading import points
from tests.support.servers import Kafka, KairosDB, Server

MINUTE_MS = 1_795_491_060_000
WAIT_S = 30


class Sleeper(Server):
    """A server without needs. Like a JVM it handles SIGTERM, once it is up."""

    name = "Sleeper"

    def _prepare(self) -> list[str]:
        return ["sh", "-c", "trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done"]

    def _is_ready(self) -> bool:
        return "up" in self.log_tail()


class Failing(Server):
    """A server that ends before it is ready."""

    name = "Failing"

    def _prepare(self) -> list[str]:
        return ["sh", "-c", "echo no such disk; exit 3"]

    def _is_ready(self) -> bool:
        return False


@pytest.fixture(params=["embedded", "KairosDB"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of each store that speaks KairosDB's API: the real one, and the monitor's own."""
    if request.param == "KairosDB":
        yield request.getfixturevalue("real_kairosdb")
    else:
        with running(tmp_path / "store.db") as url:
            yield url


def test_kafka_keeps_records_as_they_were_produced(real_kafka: Kafka) -> None:
    """Key, value, order and timestamp of a record, of whatever day, come back as they were given."""
    topic = _new_topic(real_kafka, partitions=2)
    records = [(0, "s-1", b"first", 1), (1, "s-2", b"other", MINUTE_MS), (0, None, None, MINUTE_MS + 10**12)]
    real_kafka.produce(topic, records)
    assert real_kafka.end_offsets(topic) == {0: 2, 1: 1}
    assert _stored(real_kafka, topic, 0) == [(b"s-1", b"first", 1), (None, None, MINUTE_MS + 10**12)]
    assert _stored(real_kafka, topic, 1) == [(b"s-2", b"other", MINUTE_MS)]


def test_log_append_time_replaces_the_producers_timestamp(real_kafka: Kafka) -> None:
    """On a LogAppendTime topic the message timestamp is the broker's moment of arrival."""
    topic = _new_topic(real_kafka, config={"message.timestamp.type": "LogAppendTime"})
    before_ms = time.time_ns() // 1_000_000
    real_kafka.produce(topic, [(0, "s", b"event", 1)])
    after_ms = time.time_ns() // 1_000_000
    ((_, _, timestamp_ms),) = _stored(real_kafka, topic, 0)
    assert before_ms <= timestamp_ms <= after_ms


def test_a_record_that_kafka_refuses_is_an_error(real_kafka: Kafka) -> None:
    """What was not stored is raised, not dropped."""
    topic = _new_topic(real_kafka, config={"max.message.bytes": "1000"})
    with pytest.raises(KafkaException, match="MSG_SIZE_TOO_LARGE"):
        real_kafka.produce(topic, [(0, "s", b"x" * 10_000, None)])
    assert real_kafka.end_offsets(topic) == {0: 0}


def test_deleted_records_are_gone_from_the_front(real_kafka: Kafka) -> None:
    """Records before the offset cannot be read any more; the end stays."""
    topic = _new_topic(real_kafka)
    real_kafka.produce(topic, [(0, "s", str(i), None) for i in range(5)])
    real_kafka.delete_records(topic, {0: 3})
    assert [value for _, value, _ in _stored(real_kafka, topic, 0)] == [b"3", b"4"]
    assert real_kafka.end_offsets(topic) == {0: 5}


def test_kafka_has_no_topic_that_nobody_created(real_kafka: Kafka) -> None:
    """A mistyped topic is an error, it does not come into being."""
    with pytest.raises(KafkaException, match="UNKNOWN_TOPIC"):
        real_kafka.end_offsets("nobody-created-this")


def test_kafka_keeps_its_data_and_its_port_over_a_crash(tmp_path: Path) -> None:
    """After SIGKILL and a start what was acknowledged is there, under the same address; a pause only delays."""
    servers.require()
    with Kafka(tmp_path) as kafka:
        topic = _new_topic(kafka)
        bootstrap = kafka.bootstrap
        kafka.produce(topic, [(0, "s", b"before", None)])
        kafka.kill()
        kafka.restart()
        kafka.pause()
        kafka.resume()
        kafka.produce(topic, [(0, "s", b"after", None)])
        assert kafka.bootstrap == bootstrap
        assert [value for _, value, _ in _stored(kafka, topic, 0)] == [b"before", b"after"]


def test_points_reads_back_every_cell_under_a_prefix(store: str) -> None:
    """Cells differ by name, timestamp and tags; the series of a metric may have different tags; upserts replace."""
    prefix = f"t{uuid.uuid4().hex}."
    _write(store, f"{prefix}a", MINUTE_MS, 1, dc="dal", device="mobile")
    _write(store, f"{prefix}a", MINUTE_MS, 2, dc="dal")
    _write(store, f"{prefix}a", 0, -3, dc="dal")
    _write(store, f"{prefix}b", MINUTE_MS, 4, dc="dal")
    _write(store, f"{prefix}b", MINUTE_MS, 5, dc="dal")
    _write(store, f"x{prefix}", MINUTE_MS, 6, dc="dal")
    assert points(store, prefix) == {
        (f"{prefix}a", MINUTE_MS, (("dc", "dal"), ("device", "mobile"))): 1,
        (f"{prefix}a", MINUTE_MS, (("dc", "dal"),)): 2,
        (f"{prefix}a", 0, (("dc", "dal"),)): -3,
        (f"{prefix}b", MINUTE_MS, (("dc", "dal"),)): 5,
    }


def test_points_of_a_prefix_that_nothing_has(store: str) -> None:
    """No data is an empty answer."""
    assert points(store, "nothing-starts-like-this") == {}


def test_points_reads_more_metrics_than_one_request_asks_for(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size of a request does not show in the answer."""
    monkeypatch.setattr("monitor.kairosdb.reader.METRICS_PER_REQUEST", 2)
    prefix = f"t{uuid.uuid4().hex}."
    for i in range(5):
        _write(store, f"{prefix}{i}", MINUTE_MS, i, dc="dal")
    assert points(store, prefix) == {(f"{prefix}{i}", MINUTE_MS, (("dc", "dal"),)): i for i in range(5)}


def test_one_cell_with_two_values_is_an_error(real_kairosdb: str) -> None:
    """A metric written as long and as double has two values at one timestamp: a fault, never one of them."""
    name = f"t{uuid.uuid4().hex}"
    _write(real_kairosdb, name, MINUTE_MS, 1, dc="dal")
    _write(real_kairosdb, name, MINUTE_MS, 2.5, dc="dal")
    with pytest.raises(ValueError, match="one value per cell"):
        points(real_kairosdb, name)


def test_kairosdb_keeps_its_data_and_its_port_over_a_restart(tmp_path: Path) -> None:
    """After an orderly stop and a start what was acknowledged is there, under the same address."""
    servers.require()
    name = f"t{uuid.uuid4().hex}"
    with KairosDB(tmp_path) as kairosdb:
        url = kairosdb.url
        _write(url, name, MINUTE_MS, 1, dc="dal")
        kairosdb.restart()
        assert kairosdb.url == url
        assert points(url, name) == {(name, MINUTE_MS, (("dc", "dal"),)): 1}


def test_a_server_that_ends_early_shows_its_log(tmp_path: Path) -> None:
    """The error says what the server said, and the server can be started again."""
    server = Failing(tmp_path)
    for _ in range(2):
        with pytest.raises(ServerError, match=r"(?s)Failing ended with status 3 .*no such disk"):
            server.start()


def test_a_paused_server_can_be_stopped(tmp_path: Path) -> None:
    """A frozen process takes no SIGTERM: stop() thaws it, and does not wait for the SIGKILL."""
    with Sleeper(tmp_path) as server:
        server.pause()
        began_s = time.monotonic()
        server.stop()
        assert time.monotonic() - began_s < servers.STOP_TIMEOUT_S / 2


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_server_ends_with_the_process_that_started_it(tmp_path: Path, end: signal.Signals) -> None:
    """However the tests are interrupted, no server stays behind."""
    script = (
        "import pathlib, sys\n"
        "from tests.project.test_servers import Sleeper\n"
        "server = Sleeper(pathlib.Path(sys.argv[1])).start()\n"
        "print(server._process.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert _is_running(pid)
        owner.send_signal(end)
    _wait_until(lambda: not _is_running(pid))


def test_servers_are_skipped_where_java_or_maven_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason names the tool that is missing or too old."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"^needs Java 17 and Maven: java not found$"):
        servers.require()
    _tool(tmp_path / "java", """echo 'openjdk version "11.0.2" 2019-01-15' >&2""")
    with pytest.raises(pytest.skip.Exception, match=r"^needs Java 17 and Maven: mvn not found$"):
        servers.require()
    _tool(tmp_path / "mvn", "exit 1")
    with pytest.raises(pytest.skip.Exception, match=r"^needs Java 17 and Maven: java says .*11\.0\.2"):
        servers.require()
    _tool(tmp_path / "java", """echo 'openjdk version "17.0.15" 2025-04-15' >&2""")
    servers.require()


@pytest.mark.parametrize(("value", "fails"), [("true", True), ("1", True), ("false", False), ("0", False), ("", False)])
def test_in_ci_missing_servers_are_a_failure(
    value: str, fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where CI is set a test that cannot run must not pass for one that did."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", value)
    outcome = pytest.fail.Exception if fails else pytest.skip.Exception
    with pytest.raises(outcome, match="java not found"):
        servers.require()


def test_a_failed_fetch_shows_what_maven_said_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An incomplete folder is never taken for the jars: not after a failure, nor after an interruption."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    write = 'for last; do :; done; mkdir "${last#*=}" && touch "${last#*=}"'
    _tool(tmp_path / "mvn", f"{write}/half.jar; echo no route to the repository; exit 1")
    with pytest.raises(ServerError, match=r"(?s)Maven could not fetch kafka.*no route to the repository"):
        jars.fetch(jars.KAFKA)
    _tool(tmp_path / "mvn", f"{write}/whole.jar")
    folder = jars.fetch(jars.KAFKA)
    assert [path.name for path in folder.iterdir()] == ["whole.jar"]
    _tool(tmp_path / "mvn", "exit 1")
    assert jars.fetch(jars.KAFKA) == folder


def _new_topic(kafka: Kafka, partitions: int = 1, config: dict[str, str] | None = None) -> str:
    topic = f"t{uuid.uuid4().hex}"
    kafka.create_topic(topic, partitions, config)
    return topic


def _stored(kafka: Kafka, topic: str, partition: int) -> list[tuple[bytes | None, bytes | None, int]]:
    """Key, value and timestamp of every record of the partition, in order."""
    end = kafka.end_offsets(topic)[partition]
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "t", "auto.offset.reset": "earliest"})
    try:
        consumer.assign([TopicPartition(topic, partition, 0)])
        messages: list[Message] = []
        while not messages or (messages[-1].offset() or 0) + 1 < end:
            message = consumer.poll(WAIT_S)
            assert message is not None, f"{len(messages)} records came, the end is {end}"
            assert message.error() is None
            messages.append(message)
    finally:
        consumer.close()
    return [(message.key(), message.value(), message.timestamp()[1]) for message in messages]


def _write(url: str, name: str, timestamp_ms: int, value: float, **tags: str) -> None:
    kind = "long" if isinstance(value, int) else "double"
    point = {"name": name, "timestamp": timestamp_ms, "value": value, "type": kind, "tags": tags}
    answer = requests.post(f"{url}/api/v1/datapoints", json=[point], timeout=WAIT_S)
    assert answer.status_code == 204, answer.text


def _tool(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s, "the condition did not come true"
        time.sleep(0.02)
