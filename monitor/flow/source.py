"""The Kafka source: hands on a chunk of raw messages per batch, with how far its partition has been read.

Each partition is read by a consumer of its own, without a consumer group: the offset is part of the job's snapshots
and nowhere else. What the broker says of the ends of the partitions is asked for once a second, in the background,
for all of a process together: it tells the lag, and that nothing lies beyond the position read (`Quiet`), without
which a silent partition would hold the watermark back for ever.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeAlias

import structlog
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec  # type: ignore[attr-defined]  # not in its __all__

from monitor.config.settings import KafkaTable
from monitor.core.sessions import Message
from monitor.core.watermark import NEVER, Progress
from monitor.flow.end_offsets import EndOffsets, IdleDetector
from monitor.flow.snapshots import check_version
from monitor.flow.telemetry import TELEMETRY
from monitor.runtime import lifecycle
from monitor.runtime.clock import CLOCK
from monitor.runtime.lifecycle import JobError, reported

BATCH_MESSAGES = 10_000
POLL_IDLE = timedelta(milliseconds=50)
"""How soon a partition that had nothing is looked at again."""
ANNOUNCE_S = 1.0
"""How often a partition's progress is told to every key group."""
START_TIMEOUT_S = 10.0
"""How long the brokers may take to answer at start."""
STATE_VERSION = 1
LOG_APPEND_TIME = 2
"""The message timestamp type whose time is the broker's own."""

_FRESH: dict[str, str | int | float | bool] = {
    "metadata.max.age.ms": 5_000,
    "topic.metadata.refresh.interval.ms": 5_000,
}
"""How old an AdminClient's view of the cluster may be: with that from before a broker's restart it gets no answers."""

_FATAL = {
    KafkaError._AUTO_OFFSET_RESET,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError._UNKNOWN_TOPIC,
}
_TUNING: dict[str, str | int | float | bool] = {
    "fetch.queue.backoff.ms": 50,  # at its default of 1000 the fetcher sleeps whenever the local queue is full
    "queued.max.messages.kbytes": 16_384,  # per partition
    "queued.min.messages": 50_000,
}
_ESSENTIALS: dict[str, str | int | float | bool] = {
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "error",  # the default jumps to the end, silently, when an offset is gone
}
"""Properties that `kafka.options` cannot override: the job's exactness rests on them."""

log = structlog.get_logger(__name__)
RDKAFKA_LOG = logging.getLogger("rdkafka")
"""The client library's own log: silent unless configured, since what matters comes as errors."""
RDKAFKA_LOG.addHandler(logging.NullHandler())
RDKAFKA_LOG.propagate = False

PartitionState: TypeAlias = tuple[int, int, int]
"""Version, next offset, largest message timestamp or confirmed bound."""


class Chunk(NamedTuple):
    """What a partition hands on: messages in their order, and its progress after them.

    `announce`: the progress is to be told to every key group.
    """

    messages: list[Message]
    progress: Progress
    announce: bool


class KafkaPartition(StatefulSourcePartition[Chunk, PartitionState]):
    """One partition: reads batches, keeps its position and its largest timestamp."""

    def __init__(
        self,
        consumer: Consumer,
        ends: EndOffsets,
        progress: Progress,
        offset: int,
        stop_at: int | None,
        broker_time: bool,
        idle_after_ms: int,
    ) -> None:
        topic, _, number = progress.partition.rpartition("/")
        self._topic, self._number = topic, int(number)
        self._consumer = consumer
        self._ends = ends
        self._progress = progress
        self._position = offset
        self._stop_at = stop_at
        self._broker_time = broker_time
        self._quiet = IdleDetector(idle_after_ms)
        self._announced_s = float("-inf")
        self._had_nothing = False
        consumer.assign([TopicPartition(self._topic, self._number, offset)])
        ends.watch(self._topic, self._number)

    def next_batch(self) -> list[Chunk]:
        """Whatever is there, at once; progress alone when it is due.

        Raises StopIteration at the end or when asked to stop, JobError if the partition cannot be read on.
        """
        with reported:
            return self._next()

    def _next(self) -> list[Chunk]:
        if lifecycle.stopping.is_set() or (self._stop_at is not None and self._position >= self._stop_at):
            raise StopIteration
        messages = self._read()
        self._ends.poll()
        self._look_around()
        now_s = time.monotonic()
        announce = now_s - self._announced_s >= ANNOUNCE_S
        self._had_nothing = not messages
        if not messages and not announce:
            return []
        if announce:
            self._announced_s = now_s
        return [Chunk(messages, self._progress, announce)]

    def next_awake(self) -> datetime | None:
        """Soon, if there was nothing."""
        return datetime.now(UTC) + POLL_IDLE if self._had_nothing else None

    def snapshot(self) -> PartitionState:
        """Where to go on."""
        return STATE_VERSION, self._position, self._progress.high_ms

    def close(self) -> None:
        """Leaves the consumer."""
        self._consumer.close()

    def _read(self) -> list[Message]:
        received = self._consumer.consume(BATCH_MESSAGES, 0)
        good = [message for message in received if message.error() is None]
        if len(good) < len(received):
            for message in received:
                if (error := message.error()) is not None:
                    self._heed(message, error)
        if not good:
            return []
        if self._stop_at is not None and _offset_of(good[-1]) >= self._stop_at:
            good = [message for message in good if _offset_of(message) < self._stop_at]
            self._position = self._stop_at
        if good:
            self._position = max(self._position, _offset_of(good[-1]) + 1)
            self._broker_time = good[-1].timestamp()[0] == LOG_APPEND_TIME
        messages: list[Message] = [(m.key(), m.value(), m.timestamp()[1]) for m in good]
        high_ms = max([self._progress.high_ms, *[timestamp_ms for _, _, timestamp_ms in messages]])
        self._quiet.broken()
        self._progress = self._progress._replace(high_ms=high_ms)
        return messages

    def _heed(self, message: KafkaMessage, error: KafkaError) -> None:
        """What a consumer reports beside messages: the end of the partition, trouble that passes, and what does not."""
        if error.code() == KafkaError._PARTITION_EOF:
            # behind the markers of transactions too, which are not delivered
            self._position = max(self._position, message.offset() or 0)
        elif error.fatal() or error.code() in _FATAL:
            raise _lost(self._progress.partition, self._position, error)
        else:
            self._ends.waits.goes_on(error.str())

    def _look_around(self) -> None:
        """Takes in what the broker says of the partition's end."""
        end = self._ends.of(self._topic, self._number)
        bound_ms = self._quiet.confirm(self._position, end)
        idle = not self._broker_time and self._quiet.is_idle(CLOCK.now_ms())
        high_ms = max(self._progress.high_ms, bound_ms) if self._broker_time else self._progress.high_ms
        if high_ms != self._progress.high_ms or idle is not self._progress.idle:
            self._progress = self._progress._replace(high_ms=high_ms, idle=idle)
        if end is not None:
            TELEMETRY.gauge("lag", max(0, end.offset - self._position), topic=self._topic, partition=str(self._number))


def _offset_of(message: KafkaMessage) -> int:
    offset = message.offset()
    assert offset is not None, "only errors have none"
    return offset


class KafkaSource(FixedPartitionedSource[Chunk, PartitionState]):
    """The configured topics; a partition's key is `topic/number`."""

    def __init__(self, kafka: KafkaTable, idle_after_ms: int) -> None:
        self._kafka = kafka
        self._idle_after_ms = idle_after_ms
        self._partitions: tuple[str, ...] = ()
        self._broker_time: dict[str, bool] = {}
        self._ends: EndOffsets | None = None

    def list_parts(self) -> list[str]:
        """All partitions of the topics; raises JobError if the brokers or a topic are not there."""
        admin = self._admin()
        partitions: list[str] = []
        for topic in self._kafka.topics:
            try:
                found = admin.list_topics(topic, timeout=START_TIMEOUT_S).topics[topic]
            except KafkaException as error:
                raise _unreachable(self._kafka.brokers, error) from None
            if found.error is not None or not found.partitions:
                reason = found.error.str() if found.error is not None else "it has no partitions"
                at = self._kafka.brokers
                msg = f"the topic '{topic}' cannot be read at {at}: {reason}; create it or change kafka.topics"
                raise JobError(msg)
            self._broker_time[topic] = _has_broker_time(admin, topic)
            partitions += [f"{topic}/{number}" for number in sorted(found.partitions)]
        self._partitions = tuple(partitions)
        return partitions

    def check(self, resumed: Mapping[str, PartitionState]) -> None:
        """Raises JobError if the topics cannot be read on from these states."""
        self._consumer().close()
        admin = self._admin()
        for partition in self.list_parts():
            self._begin(admin, partition, resumed.get(partition))

    def _begin(self, admin: AdminClient, partition: str, state: PartitionState | None) -> tuple[int, int, int]:
        """Where to begin, the largest timestamp known from before, and the partition's present end."""
        if state is not None:
            check_version(state[0], STATE_VERSION)
        first, end = (_offset(admin, partition, spec) for spec in (OffsetSpec.earliest(), OffsetSpec.latest()))
        offset, high_ms = (end if self._kafka.start == "end" else first, NEVER) if state is None else state[1:]
        if not first <= offset <= end:
            raise _gone(partition, offset, first, end)
        return offset, high_ms, end

    def build_part(self, step_id: str, for_part: str, resume_state: PartitionState | None) -> KafkaPartition:
        """The partition, from where it was left; raises JobError if the messages there are gone."""
        admin = self._admin()
        offset, high_ms, end = self._begin(admin, for_part, resume_state)
        topic = for_part.rpartition("/")[0]
        if self._ends is None:
            self._ends = EndOffsets(admin)
        progress = Progress(self._partitions, for_part, high_ms, idle=False)
        stop_at = None if self._kafka.tail else end
        return KafkaPartition(
            self._consumer(),
            self._ends,
            progress,
            offset,
            stop_at,
            self._broker_time[topic],
            self._idle_after_ms,
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
    """Says of options that a client does not take whose they are."""
    try:
        yield
    except KafkaException as error:
        msg = f"kafka.options cannot be used: {error.args[0].str()}"
        raise JobError(msg) from None


def _for_admin(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that concern the connection; an AdminClient warns of a consumer's own."""
    connection = ("security.", "sasl.", "ssl.", "socket.", "broker.", "client.", "enable.ssl.", "reconnect.", "debug")
    return {name: value for name, value in options.items() if name.startswith(connection)}


def _offset(admin: AdminClient, partition: str, spec: OffsetSpec) -> int:
    topic, _, number = partition.rpartition("/")
    wanted = {TopicPartition(topic, int(number)): spec}
    try:
        (future,) = admin.list_offsets(wanted, request_timeout=START_TIMEOUT_S).values()
        return int(future.result(START_TIMEOUT_S).offset)
    except (KafkaException, TimeoutError) as error:
        msg = f"the offsets of {partition} cannot be read: {error}; is the partition's leader up?"
        raise JobError(msg) from None


def _has_broker_time(admin: AdminClient, topic: str) -> bool:
    """Whether the topic's timestamps are the broker's; False where that may not be asked: its messages will tell."""
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    try:
        config = admin.describe_configs([resource], request_timeout=START_TIMEOUT_S)[resource].result(START_TIMEOUT_S)
    except (KafkaException, TimeoutError) as error:
        log.warning("the topic's timestamp type is not known before its first message", topic=topic, error=str(error))
        return False
    return bool(config["message.timestamp.type"].value == "LogAppendTime")


def _unreachable(brokers: str, error: KafkaException) -> JobError:
    return JobError(
        f"no Kafka broker answers at {brokers}: {error.args[0].str()}; check kafka.brokers and that Kafka is up"
    )


def _gone(partition: str, offset: int, first: int, end: int) -> JobError:
    return JobError(
        f"offset {offset} of {partition}, where the job has to go on, is not there any more: "
        f"the topic holds {first} to {end}. "
        "What fell out of retention is lost to this job, or the topic was made anew: "
        "start with a new recovery directory, and give the topic a longer retention"
    )


def _lost(partition: str, position: int, error: KafkaError) -> JobError:
    return JobError(
        f"{partition} cannot be read on from offset {position}: {error.str()}; "
        "check the topic, its retention and its rights"
    )
