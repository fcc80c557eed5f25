"""The Kafka source: emits a chunk of raw messages per batch, with the progress of its partition.

Each partition is read by a consumer of its own, without a consumer group: the offset is stored in the job's snapshots
and nowhere else. End offsets are requested once a second, in the background, for all partitions of a process together.
They give the lag, and they prove that nothing lies beyond the position read (`IdleDetector`); without that a silent
partition would hold the watermark back for ever.
"""

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import structlog
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec  # type: ignore[attr-defined]  # not in its __all__

from monitor.config.settings import KafkaTable
from monitor.core.sessions import Message
from monitor.core.watermark import Progress, Stamps
from monitor.flow.end_offsets import EndOffsets, IdleDetector
from monitor.flow.source_state import PartitionState, Position, position_of, state_of
from monitor.flow.stamps import packed_stamps, unpacked_stamps
from monitor.flow.telemetry import TELEMETRY, Telemetry
from monitor.runtime import signals
from monitor.runtime.clock import CLOCK, WallClock
from monitor.runtime.errors import JobError
from monitor.runtime.reporting import reported

BATCH_MESSAGES = 10_000
"""Messages of a chunk at most; their bytes are bounded by what the consumer has queued (_TUNING)."""
POLL_IDLE = timedelta(milliseconds=50)
"""How soon a partition that had nothing is polled again."""
ANNOUNCE_S = 1.0
"""How often a partition's progress is sent to every key group."""
START_TIMEOUT_S = 10.0
"""How long the brokers may take to answer at start."""
LOG_APPEND_TIME = 2
"""The type of message timestamps that the broker sets."""

_FRESH: dict[str, str | int | float | bool] = {
    "metadata.max.age.ms": 5_000,
    "topic.metadata.refresh.interval.ms": 5_000,
}
"""How old an AdminClient's metadata may be: with metadata from before a broker's restart it gets no answers."""

_FATAL = {
    KafkaError._AUTO_OFFSET_RESET,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError._UNKNOWN_TOPIC,
}
_TUNING: dict[str, str | int | float | bool] = {
    "fetch.queue.backoff.ms": 50,  # at its default of 1000 the fetcher sleeps whenever the local queue is full
    "queued.max.messages.kbytes": 16_384,  # per partition, the bound of its bytes in memory
    "queued.min.messages": 50_000,
}
_ESSENTIALS: dict[str, str | int | float | bool] = {
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "error",  # the default jumps to the end, silently, when an offset is gone
}
"""Properties that `kafka.options` cannot override: exact totals depend on them."""

log = structlog.get_logger(__name__)
RDKAFKA_LOG = logging.getLogger("rdkafka")
"""The client library's log: silent unless configured, since what matters is reported as errors."""
RDKAFKA_LOG.addHandler(logging.NullHandler())
RDKAFKA_LOG.propagate = False


class Chunk(NamedTuple):
    """Messages of one partition in their order, and its progress after them.

    `announce`: the progress is to be sent to every key group. `behind`: the index of each message that is stamped
    behind what its partition had reached -> `high` before it, ms.
    """

    messages: list[Message]
    progress: Progress
    announce: bool
    behind: Mapping[int, int] = {}


class KafkaPartition(StatefulSourcePartition[Chunk, PartitionState]):
    """One partition: reads batches, keeps its position and how far its timestamps have come."""

    def __init__(
        self,
        consumer: Consumer,
        ends: EndOffsets,
        progress: Progress,
        offset: int,
        stop_at: int | None,
        broker_time: bool,
        idle_after_ms: int,
        clock: WallClock = CLOCK,
        telemetry: Telemetry = TELEMETRY,
        stopping: threading.Event = signals.stopping,
        stamps: Stamps | None = None,
    ) -> None:
        assert progress.partition in progress.partitions, "progress names all partitions of the run, its own among them"
        topic, _, number = progress.partition.rpartition("/")
        self._topic, self._number = topic, int(number)
        self._consumer = consumer
        self._ends = ends
        self._progress = progress
        self._position = offset
        self._stop_at = stop_at
        self._broker_time = broker_time
        self._stamps = Stamps(progress.high_ms) if stamps is None else stamps
        self._idleness = IdleDetector(idle_after_ms)
        self._clock, self._telemetry, self._stopping = clock, telemetry, stopping
        self._announced_s = float("-inf")
        self._had_nothing = False
        consumer.assign([TopicPartition(self._topic, self._number, offset)])
        ends.watch(self._topic, self._number)

    @reported
    def next_batch(self) -> list[Chunk]:
        """The messages that have arrived, without waiting; progress alone when it is due.

        Raises StopIteration at the end or when asked to stop, JobError if the partition can no longer be read.
        """
        if self._stopping.is_set() or (self._stop_at is not None and self._position >= self._stop_at):
            raise StopIteration
        before = self._position, self._progress.high_ms
        messages, behind = self._read()
        self._ends.poll()
        self._update_progress()
        assert before[0] <= self._position, "a position never falls back"
        assert before[1] <= self._progress.high_ms, "high never falls"
        now_s = time.monotonic()
        announce = now_s - self._announced_s >= ANNOUNCE_S
        self._had_nothing = not messages
        if not messages and not announce:
            return []
        if announce:
            self._announced_s = now_s
        return [Chunk(messages, self._progress, announce, behind)]

    def next_awake(self) -> datetime | None:
        """In POLL_IDLE if there was nothing, else at once."""
        return datetime.now(UTC) + POLL_IDLE if self._had_nothing else None

    def snapshot(self) -> PartitionState:
        """The position to resume from, and how far the timestamps have come."""
        return state_of(Position(self._position, self._progress.high_ms, packed_stamps(self._stamps)))

    def close(self) -> None:
        """Closes the consumer."""
        self._consumer.close()

    def _read(self) -> tuple[list[Message], Mapping[int, int]]:
        """The messages that have arrived, and which of them are behind."""
        received = self._consumer.consume(BATCH_MESSAGES, 0)
        good = [message for message in received if message.error() is None]
        if len(good) < len(received):
            for message in received:
                if (error := message.error()) is not None:
                    self._handle(message, error)
        if not good:
            return [], {}
        if self._stop_at is not None and _offset_of(good[-1]) >= self._stop_at:
            good = [message for message in good if _offset_of(message) < self._stop_at]
            self._position = self._stop_at
        if not good:
            return [], {}
        self._position = max(self._position, _offset_of(good[-1]) + 1)
        self._idleness.broken()
        messages: list[Message] = [(m.key(), m.value(), m.timestamp()[1]) for m in good]
        return messages, self._follow([stamp_ms for _, _, stamp_ms in messages], good)

    def _follow(self, stamps: list[int], of: list[KafkaMessage]) -> Mapping[int, int]:
        """Takes in the timestamps of messages; returns which are behind."""
        behind: dict[int, int] = {}
        start, stop = 0, len(of)
        while start < stop:
            self._broker_time = _has_broker_stamp(of[start])
            if _has_broker_stamp(of[-1]) is self._broker_time:
                end = stop
            else:  # the topic's configuration has changed in between
                end = next(i for i in range(start, stop) if _has_broker_stamp(of[i]) is not self._broker_time)
            if self._broker_time:
                self._stamps.high_ms = max([self._progress.high_ms, *stamps[start:end]])
            else:
                self._stamps.high_ms = self._progress.high_ms
                found = self._stamps.add(stamps[start:end])
                behind |= {start + index: high_ms for index, high_ms in found.items()}
            self._progress = self._progress._replace(high_ms=self._stamps.high_ms)
            start = end
        return behind

    def _handle(self, message: KafkaMessage, error: KafkaError) -> None:
        """Handles a consumer's event: the end of the partition, an error that it retries itself, or a fatal one."""
        if error.code() == KafkaError._PARTITION_EOF:
            # behind the markers of transactions too, which are not delivered
            self._position = max(self._position, message.offset() or 0)
        elif error.fatal() or error.code() in _FATAL:
            raise _unreadable(self._progress.partition, self._position, error)
        else:
            self._ends.waits.goes_on(error.str())

    def _update_progress(self) -> None:
        """Takes in the partition's end offset: idleness, a bound for the largest timestamp, the lag."""
        end = self._ends.of(self._topic, self._number)
        bound_ms = self._idleness.confirm(self._position, end)
        idle = not self._broker_time and self._idleness.is_idle(self._clock.now_ms())
        high_ms = max(self._progress.high_ms, bound_ms) if self._broker_time else self._progress.high_ms
        if high_ms != self._progress.high_ms or idle is not self._progress.idle:
            self._progress = self._progress._replace(high_ms=high_ms, idle=idle)
        if end is not None:
            lag = max(0, end.offset - self._position)
            self._telemetry.gauge("lag", lag, topic=self._topic, partition=str(self._number))


def _has_broker_stamp(message: KafkaMessage) -> bool:
    return bool(message.timestamp()[0] == LOG_APPEND_TIME)


def _offset_of(message: KafkaMessage) -> int:
    offset = message.offset()
    assert offset is not None, "every message has an offset, only errors may have none"
    return offset


class KafkaSource(FixedPartitionedSource[Chunk, PartitionState]):
    """The configured topics; a partition's key is `topic/number`. An entry per partition at most."""

    def __init__(self, kafka: KafkaTable, idle_after_ms: int) -> None:
        self._kafka = kafka
        self._idle_after_ms = idle_after_ms
        self._partitions: tuple[str, ...] = ()
        self._broker_time: dict[str, bool] = {}
        self._ends: EndOffsets | None = None

    def list_parts(self) -> list[str]:
        """All partitions of the topics; raises JobError if the brokers do not answer or a topic does not exist."""
        admin = self._admin()
        partitions: list[str] = []
        for topic in self._kafka.topics:
            try:
                metadata = admin.list_topics(topic, timeout=START_TIMEOUT_S).topics[topic]
            except KafkaException as error:
                raise _unreachable(self._kafka.brokers, error) from None
            if metadata.error is not None or not metadata.partitions:
                reason = metadata.error.str() if metadata.error is not None else "it has no partitions"
                at = self._kafka.brokers
                msg = f"the topic '{topic}' cannot be read at {at}: {reason}; create it or change kafka.topics"
                raise JobError(msg)
            self._broker_time[topic] = _has_broker_time(admin, topic)
            partitions += [f"{topic}/{number}" for number in sorted(metadata.partitions)]
        self._partitions = tuple(partitions)
        return partitions

    def check(self, resumed: Mapping[str, PartitionState]) -> None:
        """Raises JobError if the topics cannot be read from these states on."""
        self._consumer().close()
        admin = self._admin()
        for partition in self.list_parts():
            self._begin(admin, partition, resumed.get(partition))

    def _begin(self, admin: AdminClient, partition: str, state: PartitionState | None) -> tuple[Position, int]:
        """Where to begin, and the partition's present end."""
        first, end = (_offset(admin, partition, spec) for spec in (OffsetSpec.earliest(), OffsetSpec.latest()))
        fresh = Position(end if self._kafka.start == "end" else first)
        begin = fresh if state is None else position_of(state)
        assert first <= end, "a partition ends where it begins, or later"
        if not first <= begin.offset <= end:
            raise _gone(partition, begin.offset, first, end)
        return begin, end

    def build_part(self, step_id: str, for_part: str, resume_state: PartitionState | None) -> KafkaPartition:
        """The partition, from its snapshot on; raises JobError if the messages there were deleted."""
        assert for_part in self._partitions, "the engine asks for parts that list_parts has named"
        admin = self._admin()
        begin, end = self._begin(admin, for_part, resume_state)
        topic = for_part.rpartition("/")[0]
        if self._ends is None:
            self._ends = EndOffsets(admin)
        progress = Progress(self._partitions, for_part, begin.high_ms, idle=False)
        stop_at = None if self._kafka.tail else end
        return KafkaPartition(
            self._consumer(),
            self._ends,
            progress,
            begin.offset,
            stop_at,
            self._broker_time[topic],
            self._idle_after_ms,
            stamps=unpacked_stamps(begin.stamps, begin.high_ms),
        )

    def _consumer(self) -> Consumer:
        brokers = {"bootstrap.servers": self._kafka.brokers, "group.id": "monitor-without-group"}
        with _usable_options():
            return Consumer({**_TUNING, **brokers, **self._kafka.options, **_ESSENTIALS}, logger=RDKAFKA_LOG)

    def _admin(self) -> AdminClient:
        options = {**_FRESH, "bootstrap.servers": self._kafka.brokers, **_for_admin(self._kafka.options)}
        with _usable_options():
            return AdminClient(options, logger=RDKAFKA_LOG)


@contextmanager
def _usable_options() -> Iterator[None]:
    """Turns a client's error about its options into a JobError that names their section."""
    try:
        yield
    except KafkaException as error:
        msg = f"kafka.options cannot be used: {error.args[0].str()}"
        raise JobError(msg) from None


def _for_admin(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that concern the connection; an AdminClient logs a warning for a consumer's own."""
    connection = ("security.", "sasl.", "ssl.", "socket.", "broker.", "client.", "enable.ssl.", "reconnect.", "debug")
    return {name: value for name, value in options.items() if name.startswith(connection)}


def _offset(admin: AdminClient, partition: str, spec: OffsetSpec) -> int:
    topic, _, number = partition.rpartition("/")
    request = {TopicPartition(topic, int(number)): spec}
    try:
        (future,) = admin.list_offsets(request, request_timeout=START_TIMEOUT_S).values()
        return int(future.result(START_TIMEOUT_S).offset)
    except (KafkaException, TimeoutError) as error:
        msg = f"the offsets of {partition} cannot be read: {error}; is the partition's leader up?"
        raise JobError(msg) from None


def _has_broker_time(admin: AdminClient, topic: str) -> bool:
    """True if the broker sets the topic's timestamps.

    False where the topic's settings may not be read; the first message then decides.
    """
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    try:
        config = admin.describe_configs([resource], request_timeout=START_TIMEOUT_S)[resource].result(START_TIMEOUT_S)
    except (KafkaException, TimeoutError) as error:
        log.warning("the topic's timestamp type is unknown until its first message", topic=topic, error=str(error))
        return False
    return bool(config["message.timestamp.type"].value == "LogAppendTime")


def _unreachable(brokers: str, error: KafkaException) -> JobError:
    return JobError(
        f"no Kafka broker answers at {brokers}: {error.args[0].str()}; check kafka.brokers and that Kafka is up"
    )


def _gone(partition: str, offset: int, first: int, end: int) -> JobError:
    return JobError(
        f"offset {offset} of {partition}, from which the job has to resume, no longer exists: "
        f"the topic holds {first} to {end}. "
        "The messages between were deleted by retention, or the topic was created again: "
        "start with a new recovery directory, and give the topic a longer retention"
    )


def _unreadable(partition: str, position: int, error: KafkaError) -> JobError:
    return JobError(
        f"{partition} cannot be read on from offset {position}: {error.str()}; "
        "check the topic, its retention and its rights"
    )
