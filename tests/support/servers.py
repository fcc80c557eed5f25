"""Real Apache Kafka and KairosDB for the tests, each a process of its own on free loopback ports.

Needs Java 17 and Maven, which fetches the jars once per machine. To try the real thing by hand:

    python -m tests.support.servers fetch     # only fetch
    python -m tests.support.servers run       # start both, print where they are, Ctrl-C stops them
"""

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from string import Template
from typing import ClassVar, Self, TypeAlias

import pytest
import typer
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

from monitor.kairosdb import client
from monitor.kairosdb.errors import KairosDbError
from tests.support.jars import FILES, KAFKA, KAIROSDB, TAIL_LINES, ServerError, fetch, run_tool, unavailable

READY_TIMEOUT_S = 180
READY_POLL_S = 0.05
PROBE_TIMEOUT_S = 2
STOP_TIMEOUT_S = 20
REQUEST_TIMEOUT_S = 30
MESSAGE_BYTES_MAX = 8 * 1024 * 1024
RECORDS_PER_FLUSH = 50_000
"""Half of what librdkafka queues by default: a flush comes before the queue is full."""

PORTS = range(15_000, 32_000)
PORT_ATTEMPTS_MAX = 100
CLUSTER_ID = "YWItbW9uaXRvci10ZXN0cw"
"""16 bytes in base64, as Kafka asks; which ones is of no matter."""

JVM = ("java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-XX:+ExitOnOutOfMemoryError")

Record: TypeAlias = tuple[int, bytes | str | None, bytes | str | None, int | None]
"""Partition, key, value, timestamp in ms (None: the present)."""


class Server(ABC):
    """One server process, with its configuration, data and log in `folder`, its ports fixed for its life.

    Given the `ports` of one that another process has started, it is a client of that one, never to be started itself.

    It runs in a session of its own, so that Ctrl-C reaches the tests but not the server they still need, and never
    outlives this process, however that ends.
    """

    name: ClassVar[str]
    port_count: ClassVar[int] = 0

    def __init__(self, folder: Path, ports: Sequence[int] = ()) -> None:
        self.folder = folder
        self.ports = tuple(ports) or tuple(free_ports(self.port_count))
        self.log_path = folder / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Starts the server, and returns it once it answers; ServerError if it ends, or takes READY_TIMEOUT_S."""
        if self._process is not None:
            msg = f"{self.name} is already started"
            raise RuntimeError(msg)
        self.folder.mkdir(parents=True, exist_ok=True)
        command = self._prepare()
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._guard = _guard(self._process.pid)
            self._await_ready(self._process)
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """Stops the server in order (SIGTERM, after 20 s SIGKILL); its data and ports stay. Does nothing if stopped."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the server as a crash does (SIGKILL)."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stops the server if it runs, and starts it with the same data on the same port."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freezes the server (SIGSTOP): its connections stay open, nothing is answered."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets a paused server go on (SIGCONT)."""
        self._running().send_signal(signal.SIGCONT)

    def log_tail(self) -> str:
        """The last lines of the server's log."""
        with self.log_path.open(errors="replace") as log:
            return "".join(deque(log, TAIL_LINES))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @abstractmethod
    def _prepare(self) -> list[str]:
        """Writes what the server needs into its folder; gives its command line."""

    @abstractmethod
    def _is_ready(self) -> bool: ...

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            msg = f"{self.name} is not started"
            raise RuntimeError(msg)
        return self._process

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self._is_ready():
            if (status := process.poll()) is not None:
                msg = f"{self.name} ended with status {status} before it was ready; its log ends:\n{self.log_tail()}"
                raise ServerError(msg)
            if time.monotonic() > deadline:
                msg = f"{self.name} was not ready within {READY_TIMEOUT_S} s; its log ends:\n{self.log_tail()}"
                raise ServerError(msg)
            time.sleep(READY_POLL_S)

    def _end(self, signal_number: signal.Signals) -> None:
        process, guard = self._process, self._guard
        if process is None:
            return
        process.send_signal(signal_number)
        process.send_signal(signal.SIGCONT)  # paused, it would not take SIGTERM
        try:
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT_S)
        finally:
            process.kill()
            process.wait()
            if guard is not None:
                guard.kill()
                guard.communicate()
            self._process = self._guard = None


class Kafka(Server):
    """Apache Kafka, one KRaft node. It keeps records of any timestamp and creates no topics by itself."""

    name = "Kafka"
    port_count = 2
    properties: ClassVar[tuple[str, ...]] = ("server.properties",)
    """The files with its properties; of one that is given twice the last holds."""
    format_options: ClassVar[tuple[str, ...]] = ()
    """Further options of the tool that formats its storage."""

    def __init__(self, folder: Path, ports: Sequence[int] = ()) -> None:
        super().__init__(folder, ports)
        self._broker_port, self._controller_port = self.ports
        self.bootstrap = f"127.0.0.1:{self._broker_port}"
        # Level 2: that a server is down is what failure tests are about, no news for stderr.
        self._client: dict[str, str | int | float | bool] = {
            "bootstrap.servers": self.bootstrap,
            "reconnect.backoff.max.ms": 200,
            "log_level": 2,
        }
        self._producer = self._new_producer()

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> None:
        """Creates a topic and waits until each partition has its leader; `config` is the topic's, by Kafka's names."""
        admin = AdminClient(self._client)
        new = NewTopic(name, num_partitions=partitions, replication_factor=1, config=dict(config or {}))
        admin.create_topics([new])[name].result(REQUEST_TIMEOUT_S)
        self._await_leaders(name, partitions)

    def add_partitions(self, name: str, partitions: int) -> None:
        """Gives a topic further partitions, `partitions` in all, and waits until each has its leader."""
        admin = AdminClient(self._client)
        admin.create_partitions([NewPartitions(name, partitions)])[name].result(REQUEST_TIMEOUT_S)
        self._await_leaders(name, partitions)

    def remake_topic(self, name: str, partitions: int = 1) -> None:
        """Deletes a topic, and creates another one of the same name."""
        admin = AdminClient(self._client)
        admin.delete_topics([name])[name].result(REQUEST_TIMEOUT_S)
        self._producer = self._new_producer()  # one that knew the old topic would go on with its partitions
        self.create_topic(name, partitions)

    def produce(self, topic: str, records: Iterable[Record]) -> None:
        """Writes the records, each partition in the order given, and returns when all are acknowledged.

        Raises KafkaException for the first record that was refused, or not taken within 30 s.
        """
        refused: list[KafkaError] = []

        def note(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                refused.append(error)

        remaining = iter(records)
        while chunk := list(islice(remaining, RECORDS_PER_FLUSH)):
            for partition, key, value, timestamp_ms in chunk:
                self._producer.produce(topic, value, key, partition, on_delivery=note, timestamp=timestamp_ms or 0)
            self._producer.flush()  # ends within message.timeout.ms
            if refused:
                raise KafkaException(refused[0])

    def delete_records(self, topic: str, before: Mapping[int, int]) -> None:
        """Deletes, as retention does, what lies before an offset, per partition."""
        partitions = [TopicPartition(topic, partition, offset) for partition, offset in before.items()]
        admin = AdminClient(self._client)  # its futures end only while it lives
        for future in admin.delete_records(partitions).values():
            future.result(REQUEST_TIMEOUT_S)

    def end_offsets(self, topic: str) -> dict[int, int]:
        """The offset of the next record, per partition."""
        consumer = Consumer(self._client | {"group.id": "end-offsets"})
        try:
            known = consumer.list_topics(topic, REQUEST_TIMEOUT_S).topics[topic]
            if known.error is not None:
                raise KafkaException(known.error)
            partitions = [TopicPartition(topic, number) for number in known.partitions]
            return {at.partition: _end_offset(consumer, at) for at in partitions}
        finally:
            consumer.close()

    def _prepare(self) -> list[str]:
        properties = self.folder / "server.properties"
        settings = {
            "broker_port": self._broker_port,
            "controller_port": self._controller_port,
            "message_bytes_max": MESSAGE_BYTES_MAX,
            "folder": self.folder,
        }
        text = "\n".join((FILES / "kafka" / name).read_text() for name in self.properties)
        properties.write_text(Template(text).substitute(settings))
        logging = {"defaultLogLevel": "warn", "showDateTime": "true", "dateTimeFormat": "HH:mm:ss.SSS"}
        java = [*JVM, "-Xms128m", "-Xmx512m", "-cp", f"{fetch(KAFKA)}/*"]
        java += [f"-Dorg.slf4j.simpleLogger.{name}={value}" for name, value in logging.items()]
        if not (self.folder / "data/meta.properties").exists():
            tool = ["kafka.tools.StorageTool", "format", "--standalone", "-t", CLUSTER_ID, "-c", str(properties)]
            run_tool(
                [*java, *tool, *self.format_options],
                READY_TIMEOUT_S,
                "Kafka could not format its storage",
                cwd=self.folder,
            )
        self._producer = self._new_producer()  # one that met a fatal error in an earlier life stays broken
        return [*java, "kafka.Kafka", str(properties)]

    def _is_ready(self) -> bool:
        try:
            return bool(self._producer.list_topics(timeout=PROBE_TIMEOUT_S).brokers)
        except KafkaException:
            return False

    def _await_leaders(self, name: str, partitions: int) -> None:
        deadline = time.monotonic() + REQUEST_TIMEOUT_S
        while self._partitions_led(name) < partitions:
            if time.monotonic() > deadline:
                msg = f"topic {name} has no leaders after {REQUEST_TIMEOUT_S} s"
                raise ServerError(msg)
            time.sleep(READY_POLL_S)

    def _partitions_led(self, topic: str) -> int:
        partitions = self._producer.list_topics(topic, REQUEST_TIMEOUT_S).topics[topic].partitions.values()
        return sum(partition.leader >= 0 for partition in partitions)

    def _new_producer(self) -> Producer:
        """A producer that neither loses nor repeats nor reorders, and gives up after 30 s."""
        timeout_ms = REQUEST_TIMEOUT_S * 1000
        options = {"enable.idempotence": True, "message.max.bytes": MESSAGE_BYTES_MAX, "message.timeout.ms": timeout_ms}
        return Producer(self._client | options)


def _end_offset(consumer: Consumer, at: TopicPartition) -> int:
    """The offset of the next record; a partition that was just added may have no leader for a moment."""
    until_s = time.monotonic() + REQUEST_TIMEOUT_S
    while True:
        try:
            return int(consumer.get_watermark_offsets(at, REQUEST_TIMEOUT_S)[1])
        except KafkaException as error:
            no_leader = KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE
            if error.args[0].code() not in no_leader or time.monotonic() > until_s:
                raise
            time.sleep(READY_POLL_S)


class KairosDB(Server):
    """KairosDB over its H2 store, which honours no ttl and writes up to a second late.

    So `kill` loses points that were acknowledged (thousands, under load); `stop` and `pause` lose none.
    """

    name = "KairosDB"
    port_count = 1

    def __init__(self, folder: Path, ports: Sequence[int] = ()) -> None:
        super().__init__(folder, ports)
        (self._port,) = self.ports
        self.url = f"http://127.0.0.1:{self._port}"

    def _prepare(self) -> list[str]:
        files = fetch(KAIROSDB)
        home = files / "kairosdb"
        # Alone in its folder: KairosDB loads every .conf beside the one it is given.
        conf = self.folder / "conf/kairosdb.conf"
        conf.parent.mkdir(exist_ok=True)
        conf.write_text(Template((FILES / "kairosdb/kairosdb.conf").read_text()).substitute(port=self._port, home=home))
        java = [*JVM, "-Xmx512m", "-Duser.timezone=UTC", f"-Dlogback.configurationFile={FILES}/kairosdb/logback.xml"]
        # Guice, the bean validator behind group_by and the time zones reach into the JDK.
        java += [
            f"--add-opens=java.base/{package}=ALL-UNNAMED"
            for package in ("java.lang", "java.util", "sun.util.calendar")
        ]
        return [*java, "-cp", f"{home}/lib/*:{files}/*", "org.kairosdb.core.Main", "-c", "run", "-p", str(conf)]

    def _is_ready(self) -> bool:
        try:
            client.check(self.url, PROBE_TIMEOUT_S)
        except KairosDbError:
            return False
        return True


def require() -> None:
    """Skips the test that calls it where the servers cannot be had, with the reason; fails it where `CI` is set."""
    if (reason := unavailable()) is not None:
        if in_ci():
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


def in_ci() -> bool:
    """Whether this is a run of continuous integration, where a test that cannot run is a fault."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false", "no")


def free_ports(count: int) -> list[int]:
    """Loopback ports that nothing listens on, from below the range the system gives to outgoing connections.

    A server that is down for a while would lose a port of that range: to any connection, even to a client's own attempt
    to reconnect, which the kernel can connect to itself.
    """
    candidates = random.SystemRandom().sample(PORTS, PORT_ATTEMPTS_MAX)
    ports = list(islice(filter(_is_free, candidates), count))
    if len(ports) < count:
        msg = f"{count} free ports wanted; found {len(ports)} in {PORT_ATTEMPTS_MAX} attempts"
        raise ServerError(msg)
    return ports


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _guard(pid: int) -> subprocess.Popen[bytes]:
    """A process that kills `pid` when its standard input ends, as it does when this process ends, even by SIGKILL."""
    command = ["sh", "-c", 'read -r _; kill -KILL "$1"', "guard", str(pid)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)


app = typer.Typer(help="Real Kafka and KairosDB, as the tests use them.", add_completion=False)


@app.command("fetch")
def fetch_all() -> None:
    """Fetches the jars of both servers with Maven, unless they are there: 77 MB, and what Maven itself needs."""
    if (reason := unavailable()) is not None:
        sys.exit(reason)
    for name in (KAFKA, KAIROSDB):
        typer.echo(fetch(name))


@app.command()
def run() -> None:
    """Runs both servers on free ports, with empty stores, until Ctrl-C."""
    fetch_all()
    with (
        tempfile.TemporaryDirectory(prefix="monitor-servers-") as folder,
        Kafka(Path(folder, "kafka")) as kafka,
        KairosDB(Path(folder, "kairosdb")) as kairosdb,
    ):
        typer.echo(f"Kafka at {kafka.bootstrap}\nKairosDB at {kairosdb.url}\nlogs under {folder}; Ctrl-C stops both")
        signals = {signal.SIGINT, signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        signal.sigwait(signals)


if __name__ == "__main__":
    app()
