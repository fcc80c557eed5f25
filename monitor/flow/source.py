"""The Kafka source: emits a chunk of raw messages per batch, with the progress of its partition.

Each partition is read by a consumer of its own, without a consumer group: the offset is stored in the job's snapshots
and nowhere else. End offsets are requested once a second, in the background, for all partitions of a process together.
They give the lag, and they prove that nothing lies beyond the position read (`IdleDetector`); without that a silent
partition would hold the watermark back for ever.
"""

import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeAlias

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # not in its __all__

from monitor.config.settings import KafkaTable
from monitor.core.sessions import Message
from monitor.core.watermark import NEVER, Progress
from monitor.flow.end_offsets import EndOffsets, IdleDetector
from monitor.flow.job_log import JOB_LOG
from monitor.flow.kafka_clients import answers, new_admin, new_consumer
from monitor.flow.snapshots import check_version
from monitor.flow.telemetry import TELEMETRY, Telemetry
from monitor.flow.topic_settings import TopicSettings, topic_settings
from monitor.runtime import signals
from monitor.runtime.clock import CLOCK, WallClock
from monitor.runtime.errors import JobError
from monitor.runtime.reporting import reported
from monitor.topics.brokers import BrokerReports, no_topic

BATCH_MESSAGES = 10_000
"""Messages of a chunk at most; their bytes are bounded by what the consumer has queued (_TUNING)."""
POLL_IDLE = timedelta(milliseconds=50)
"""How soon a partition that had nothing is polled again."""
ANNOUNCE_S = 1.0
"""How often a partition's progress is sent to every key group."""
START_TIMEOUT_S = 10.0
"""How long the brokers may take to answer at start."""
STATE_VERSION = 1
LOG_APPEND_TIME = 2
"""The type of message timestamps that the broker sets."""

_FATAL = {
    KafkaError._AUTO_OFFSET_RESET,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError._UNKNOWN_TOPIC,
}
PartitionState: TypeAlias = tuple[int, int, int]
"""Version, next offset, largest message timestamp or confirmed bound."""


class Chunk(NamedTuple):
    """Messages of one partition in their order, and its progress after them.

    `announce`: the progress is to be sent to every key group.
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
        clock: WallClock = CLOCK,
        telemetry: Telemetry = TELEMETRY,
        stopping: threading.Event = signals.stopping,
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
        messages = self._read()
        self._ends.poll()
        self._update_progress()
        assert before[0] <= self._position, "a position never falls back"
        assert before[1] <= self._progress.high_ms, "the largest timestamp never falls"
        now_s = time.monotonic()
        announce = now_s - self._announced_s >= ANNOUNCE_S
        self._had_nothing = not messages
        if not messages and not announce:
            return []
        if announce:
            self._announced_s = now_s
        return [Chunk(messages, self._progress, announce)]

    def next_awake(self) -> datetime | None:
        """In POLL_IDLE if there was nothing, else at once."""
        return datetime.now(UTC) + POLL_IDLE if self._had_nothing else None

    def snapshot(self) -> PartitionState:
        """The position to resume from, and the largest timestamp."""
        JOB_LOG.snapshot(self._progress.partition)
        return STATE_VERSION, self._position, self._progress.high_ms

    def close(self) -> None:
        """Closes the consumer."""
        self._consumer.close()

    def _read(self) -> list[Message]:
        received = self._consumer.consume(BATCH_MESSAGES, 0)
        good = [message for message in received if message.error() is None]
        if len(good) < len(received):
            for message in received:
                if (error := message.error()) is not None:
                    self._handle(message, error)
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
        self._idleness.broken()
        self._progress = self._progress._replace(high_ms=high_ms)
        return messages

    def _handle(self, message: KafkaMessage, error: KafkaError) -> None:
        """Handles a consumer's event: the end of the partition, an error that it retries itself, or a fatal one."""
        if error.code() == KafkaError._PARTITION_EOF:
            # behind the markers of transactions too, which are not delivered
            self._position = max(self._position, message.offset() or 0)
        elif error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return  # the client asks for a coordinator of the group that it must name; the job uses no group
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
        self._settings: dict[str, TopicSettings] = {}
        self._ends: EndOffsets | None = None
        self._reports = BrokerReports()
        self.begins: dict[str, int] = {}
        """The offset with which each partition begins, once it was checked."""

    @property
    def notices(self) -> dict[str, tuple[str, ...]]:
        """The notices about each topic, as it was when it was last looked at."""
        return {topic: settings.notices for topic, settings in self._settings.items()}

    def list_parts(self) -> list[str]:
        """All partitions of the topics; raises JobError if the brokers do not answer or a topic does not exist."""
        admin = self._admin()
        partitions: list[str] = []
        for topic in self._kafka.topics:
            with answers(admin, self._kafka, self._reports):
                metadata = admin.list_topics(topic, timeout=START_TIMEOUT_S).topics[topic]
            if metadata.error is not None or not metadata.partitions:
                raise JobError(no_topic(self._kafka.brokers, topic, metadata.error))
            self._settings[topic] = topic_settings(admin, metadata, self._kafka.allow_compacted)
            partitions += [f"{topic}/{number}" for number in sorted(metadata.partitions)]
        self._partitions = tuple(partitions)
        return partitions

    def check(self, resumed: Mapping[str, PartitionState]) -> None:
        """Raises JobError if the topics cannot be read from these states on."""
        self._consumer().close()
        admin = self._admin()
        for partition in self.list_parts():
            self.begins[partition] = self._begin(admin, partition, resumed.get(partition))[0]

    def _begin(self, admin: AdminClient, partition: str, state: PartitionState | None) -> tuple[int, int, int]:
        """The offset to begin with, the largest timestamp so far, and the partition's present end."""
        if state is not None:
            check_version(state[0], STATE_VERSION)
        first, end = (_offset(admin, partition, spec) for spec in (OffsetSpec.earliest(), OffsetSpec.latest()))
        offset, high_ms = (end if self._kafka.start == "end" else first, NEVER) if state is None else state[1:]
        assert first <= end, "a partition ends where it begins, or later"
        if not first <= offset <= end:
            raise _gone(partition, offset, first, end)
        return offset, high_ms, end

    def build_part(self, step_id: str, for_part: str, resume_state: PartitionState | None) -> KafkaPartition:
        """The partition, from its snapshot on; raises JobError if the messages there were deleted."""
        assert for_part in self._partitions, "the engine asks for parts that list_parts has named"
        admin = self._admin()
        offset, high_ms, end = self._begin(admin, for_part, resume_state)
        topic = for_part.rpartition("/")[0]
        if self._ends is None:
            self._ends = EndOffsets(admin, reports=self._reports)
        progress = Progress(self._partitions, for_part, high_ms, idle=False)
        stop_at = None if self._kafka.tail else end
        return KafkaPartition(
            self._consumer(),
            self._ends,
            progress,
            offset,
            stop_at,
            self._settings[topic].broker_time,
            self._idle_after_ms,
        )

    def _consumer(self) -> Consumer:
        return new_consumer(self._kafka, self._reports)

    def _admin(self) -> AdminClient:
        return new_admin(self._kafka, self._reports)


def _offset(admin: AdminClient, partition: str, spec: OffsetSpec) -> int:
    topic, _, number = partition.rpartition("/")
    request = {TopicPartition(topic, int(number)): spec}
    try:
        (future,) = admin.list_offsets(request, request_timeout=START_TIMEOUT_S).values()
        return int(future.result(START_TIMEOUT_S).offset)
    except (KafkaException, TimeoutError) as error:
        msg = f"the offsets of {partition} cannot be read: {error}; is the partition's leader up?"
        raise JobError(msg) from None


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
