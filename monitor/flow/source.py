"""The Kafka source: emits a chunk of raw messages per batch, with the progress of its partition.

Each partition is read by a consumer of its own, without a consumer group: the offset is stored in the job's snapshots
and nowhere else. End offsets are requested once a second, in the background, for all partitions of a process together.
They give the lag, and they prove that nothing lies beyond the position read (`IdleDetector`); without that a silent
partition would hold the watermark back for ever. The topics' ids and partitions are requested likewise (`TopicWatch`).
"""

import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka import Message as KafkaMessage
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # not in its __all__

from monitor.config.settings import KafkaTable
from monitor.core.sessions import Message
from monitor.core.watermark import NEVER, Progress
from monitor.flow import end_offsets, topic_watch
from monitor.flow.end_offsets import EndOffset, EndOffsets, IdleDetector
from monitor.flow.job_log import JOB_LOG
from monitor.flow.kafka_clients import answers, new_admin, new_consumer
from monitor.flow.source_state import NO_EPOCH, PartitionState, Position, position_of, state_of
from monitor.flow.stamps import packed_stamps, unpacked_stamps
from monitor.flow.telemetry import TELEMETRY, Telemetry
from monitor.flow.topic_settings import TopicSettings, topic_settings
from monitor.flow.topic_watch import Topics, TopicWatch
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
LOG_APPEND_TIME = 2
"""The type of message timestamps that the broker sets."""

_FATAL = {
    KafkaError._AUTO_OFFSET_RESET,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError._UNKNOWN_TOPIC,
}
TRUNCATED = KafkaError(KafkaError._LOG_TRUNCATION).str()
"""What the client says in an error of the code _AUTO_OFFSET_RESET if the log ends before the position."""


class Chunk(NamedTuple):
    """Messages of one partition in their order, and its progress after them.

    `announce`: the progress is to be sent to every key group. `behind`: the index of each message that is stamped
    behind what its partition had reached -> `high` before it, ms.
    """

    messages: list[Message]
    progress: Progress
    announce: bool
    behind: Mapping[int, int] = {}


class Reading(NamedTuple):
    """What the partitions of a process share."""

    ends: EndOffsets
    topics: TopicWatch
    idle_after_ms: int
    clock: WallClock = CLOCK
    telemetry: Telemetry = TELEMETRY
    stopping: threading.Event = signals.stopping


class KafkaPartition(StatefulSourcePartition[Chunk, PartitionState]):
    """One partition: reads batches, keeps its position and how far its timestamps have come."""

    def __init__(
        self,
        consumer: Consumer,
        shared: Reading,
        partition: str,
        partitions: tuple[str, ...],
        start: Position,
        end: EndOffset,
        tail: bool,
        broker_time: bool,
    ) -> None:
        assert partition in partitions, "the list has all partitions of the run, this one among them"
        topic, _, number = partition.rpartition("/")
        self._topic, self._number = topic, int(number)
        self._consumer = consumer
        self._shared = shared
        self._ends, self._topics = shared.ends, shared.topics
        self._start = start
        self._position, self._leader_epoch = start.offset, start.leader_epoch
        self._stop_at = None if tail else end.offset
        self._end_confirmed_ms = end.asked_ms - shared.idle_after_ms
        self._broker_time = broker_time
        self._stamps = unpacked_stamps(start.stamps, start.high_ms)
        self._idleness = IdleDetector(shared.idle_after_ms)
        self._announced_s = float("-inf")
        self._had_nothing = self._ended = False
        self._progress = Progress(partitions, partition, start.high_ms, idle=False, complete_ms=NEVER)
        consumer.assign([TopicPartition(topic, self._number, start.offset, "", start.leader_epoch)])
        self._ends.watch(topic, self._number, end)

    @reported
    def next_batch(self) -> list[Chunk]:
        """The messages that have arrived, without waiting; progress alone when it is due, and as the last of all.

        Raises StopIteration after the end or after it was asked to stop, JobError if the partition can no longer be
        read.
        """
        if self._ended:
            raise StopIteration
        self._ended = self._is_to_end()
        before = self._position, self._progress.high_ms
        messages, behind = ([], {}) if self._ended else self._read()
        self._ends.poll()
        self._topics.poll()
        self._update_progress()
        assert before[0] <= self._position, "a position never falls back"
        assert self._stop_at is None or self._position <= self._stop_at, "a bounded run skips nothing behind its end"
        assert before[1] <= self._progress.high_ms, "high never falls"
        now_s = time.monotonic()
        announce = self._ended or now_s - self._announced_s >= ANNOUNCE_S
        self._had_nothing = not messages
        if not messages and not announce:
            return []
        if announce:
            self._announced_s = now_s
        return [Chunk(messages, self._progress, announce, behind)]

    def next_awake(self) -> datetime | None:
        """In POLL_IDLE if there was nothing, else at once."""
        return datetime.now(UTC) + POLL_IDLE if self._had_nothing and not self._ended else None

    def snapshot(self) -> PartitionState:
        """The position to resume from, how far the timestamps have come, and the topic in which that holds."""
        JOB_LOG.snapshot(self._progress.partition)
        high_ms, stamps = self._progress.high_ms, packed_stamps(self._stamps)
        return state_of(Position(self._position, high_ms, stamps, self._start.topic_id, self._leader_epoch))

    def close(self) -> None:
        """Closes the consumer."""
        self._consumer.close()

    def _is_to_end(self) -> bool:
        return self._is_at_end() or self._topics.restart or self._shared.stopping.is_set()

    def _is_at_end(self) -> bool:
        """Whether a bounded run has read the partition as far as it was to."""
        return self._stop_at is not None and self._position >= self._stop_at

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
        last = _offset_of(good[-1])
        if self._stop_at is not None and last >= self._stop_at:
            good = [message for message in good if _offset_of(message) < self._stop_at]
        if good:
            self._move(_offset_of(good[-1]) + 1, good[-1].leader_epoch())
        self._move(last + 1)
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

    def _move(self, offset: int, leader_epoch: int | None = None) -> None:
        """Moves the position on, never back, and in a bounded run to its end at most: the rest is for the next run.

        What is not delivered may be of a later epoch than the last message.
        """
        if self._stop_at is not None:
            offset = min(offset, self._stop_at)
        if offset > self._position or (offset == self._position and leader_epoch is not None):
            self._position = offset
            self._leader_epoch = NO_EPOCH if leader_epoch is None else leader_epoch

    def _handle(self, message: KafkaMessage, error: KafkaError) -> None:
        """Handles a consumer's event: the end of the partition, an error that it retries itself, or a fatal one."""
        if error.code() == KafkaError._PARTITION_EOF:
            # behind the markers of transactions too, which are not delivered
            self._move(message.offset() or 0)
        elif error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return  # the client asks for a coordinator of the group that it must name; the job uses no group
        elif error.fatal() or error.code() in _FATAL:
            raise _unreadable(self._progress.partition, self._position, error)
        else:
            self._ends.waits.goes_on(error.str())

    def _update_progress(self) -> None:
        """Takes in what the brokers have answered: idleness, bounds for the timestamps to come, the lag."""
        end = self._ends.of(self._topic, self._number)
        bound_ms = self._idleness.confirm(self._position, end)
        high_ms = max(self._progress.high_ms, bound_ms) if self._broker_time else self._progress.high_ms
        is_over = self._ended and self._is_at_end()  # not if it was only stopped
        if is_over and not self._broker_time:
            # what the next run finds behind the end is younger than the question for it, whatever the last stamps are
            high_ms = max(high_ms, min(self._stamps.ended(), self._end_confirmed_ms))
        # without a message ever, it is at the end of a bounded run as if the partition did not exist yet
        is_left_empty = is_over and high_ms == NEVER
        idle = not self._broker_time and (self._idleness.is_idle(self._shared.clock.now_ms()) or is_left_empty)
        complete_ms = self._topics.complete_ms - self._shared.idle_after_ms
        found = high_ms, idle, complete_ms, self._topics.restart
        if found != self._progress[2:]:
            self._progress = Progress(*self._progress[:2], *found)
        lag = max(0, end.offset - self._position)
        self._shared.telemetry.gauge("lag", lag, topic=self._topic, partition=str(self._number))


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
        self._topics = Topics(0, {})
        self._resumed_topics: set[str] = set()
        self._reading: Reading | None = None
        self._settings: dict[str, TopicSettings] = {}
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
        for topic in self._kafka.topics:
            with answers(admin, self._kafka, self._reports):
                metadata = admin.list_topics(topic, timeout=START_TIMEOUT_S).topics[topic]
            if metadata.error is not None or not metadata.partitions:
                raise JobError(no_topic(self._kafka.brokers, topic, metadata.error))
            self._settings[topic] = topic_settings(admin, metadata, self._kafka.allow_compacted)
        self._topics = topic_watch.ask(admin, self._kafka.topics)
        self._partitions = tuple(
            f"{name}/{number}" for name, topic in self._topics.by_name.items() for number in sorted(topic.partitions)
        )
        return list(self._partitions)

    def check(self, resumed: Mapping[str, PartitionState]) -> None:
        """Raises JobError if the topics cannot be read from these states on; takes in which topics have state."""
        self._consumer().close()
        admin = self._admin()
        self._resumed_topics = {partition.rpartition("/")[0] for partition in resumed}
        for partition in self.list_parts():
            self.begins[partition] = self._begin(admin, partition, resumed.get(partition))[0].offset

    def _begin(self, admin: AdminClient, partition: str, state: PartitionState | None) -> tuple[Position, EndOffset]:
        """The position to begin with, and the partition's present end."""
        topic = partition.rpartition("/")[0]
        topic_id = self._topics.by_name[topic].id
        asked_ms = CLOCK.now_ms()
        first, end = (end_offsets.ask(admin, partition, spec) for spec in (OffsetSpec.earliest(), OffsetSpec.latest()))
        assert first <= end, "a partition ends where it begins, or later"
        if state is None:
            # one that was added since belongs to the topic as a whole: what it holds has been counted nowhere
            at_end = self._kafka.start == "end" and topic not in self._resumed_topics
            position = Position(end if at_end else first, topic_id=topic_id)
        else:
            position = position_of(state)
            topic_watch.check_id(topic, position.topic_id, topic_id)
            position = position._replace(topic_id=position.topic_id or topic_id)
        if not first <= position.offset <= end:
            raise _gone(partition, position.offset, first, end)
        return position, EndOffset(asked_ms, end)

    def build_part(self, step_id: str, for_part: str, resume_state: PartitionState | None) -> KafkaPartition:
        """The partition, from its snapshot on; raises JobError if the messages there were deleted."""
        assert for_part in self._partitions, "the engine asks for parts that list_parts has named"
        admin = self._admin()
        position, end = self._begin(admin, for_part, resume_state)
        if self._reading is None:
            stops = self._kafka.tail and self._kafka.on_new_partitions == "restart"
            watch = TopicWatch(admin, self._topics, stops=stops)
            self._reading = Reading(EndOffsets(admin, reports=self._reports), watch, self._idle_after_ms)
        broker_time = self._settings[for_part.rpartition("/")[0]].broker_time
        tail = self._kafka.tail
        return KafkaPartition(
            self._consumer(), self._reading, for_part, self._partitions, position, end, tail, broker_time
        )

    def _consumer(self) -> Consumer:
        return new_consumer(self._kafka, self._reports)

    def _admin(self) -> AdminClient:
        return new_admin(self._kafka, self._reports)


def _gone(partition: str, offset: int, first: int, end: int) -> JobError:
    return JobError(
        f"offset {offset} of {partition}, from which the job has to resume, no longer exists: "
        f"the topic holds {first} to {end}. "
        "The messages between were deleted by retention, or the topic was created again: "
        "start with a new recovery directory, and give the topic a longer retention"
    )


def _unreadable(partition: str, position: int, error: KafkaError) -> JobError:
    if TRUNCATED in error.str():
        return JobError(
            f"{partition} was truncated before offset {position}, up to which it was read: messages that were counted "
            f"are gone, by an unclean election of a leader for example ({error.str()}); start with a new recovery "
            "directory to count what the topic now holds, or restore the messages"
        )
    return JobError(
        f"{partition} cannot be read on from offset {position}: {error.str()}; check the topic, its retention and its "
        "rights; if the topic was deleted, restore it, or make it anew and start with a new recovery directory"
    )
