"""A partition of the Kafka source under test: over stand-ins for the client library, under a clock that is set."""

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from monitor.core.watermark import NEVER, Progress
from monitor.flow.end_offsets import EndOffset, EndOffsets
from monitor.flow.source import Chunk, KafkaPartition, Reading
from monitor.flow.source_state import NO_EPOCH, Position
from monitor.flow.telemetry import Telemetry
from monitor.flow.topic_watch import Topic, Topics, TopicWatch
from tests.support.messages import BASE_MS


class Log:
    """Stands in for confluent_kafka's Consumer: gives out what it is told to, in the batches it is told."""

    def __init__(self, *batches: Iterable[Message]) -> None:
        self.batches = [list(batch) for batch in batches]
        self.assigned: list[tuple[str, int, int, int]] = []
        self.closed = False

    def assign(self, partitions: list[TopicPartition]) -> None:
        """Notes the partition and where to begin."""
        self.assigned = [
            (p.topic, p.partition, p.offset, NO_EPOCH if p.leader_epoch is None else p.leader_epoch) for p in partitions
        ]

    def consume(self, num_messages: int, timeout: float) -> list[Message]:
        """The next batch, at once."""
        assert timeout == 0
        batch = self.batches.pop(0) if self.batches else []
        assert len(batch) <= num_messages
        return batch

    def close(self) -> None:
        """Notes it."""
        self.closed = True


class Broker:
    """Stands in for confluent_kafka's AdminClient: says where the partition ends, or that it cannot."""

    def __init__(self) -> None:
        self.end = 0
        self.topics = {"a/b": Topic("id-1", frozenset({3}))}
        self.answers = True
        self.errors: list[int] = []
        """The codes of the next answers about offsets: a leader that moves."""

    def poll(self, timeout: float) -> int:
        """There is nothing to report."""
        return 0

    def list_offsets(self, wanted: dict[TopicPartition, Any], request_timeout: float) -> dict[TopicPartition, Any]:
        """Answers at once."""
        if self.errors:
            future: Future[Any] = Future()
            future.set_exception(KafkaException(KafkaError(self.errors.pop(0))))
            return dict.fromkeys(wanted, future)
        return {
            partition: self._answered(TopicPartition(partition.topic, partition.partition, self.end))
            for partition in wanted
        }

    def describe_topics(self, wanted: TopicCollection, request_timeout: float) -> dict[str, Any]:
        """Answers at once."""
        return {
            name: self._answered(
                SimpleNamespace(
                    topic_id=self.topics[name].id or "A" * 22,
                    partitions=[SimpleNamespace(id=number) for number in self.topics[name].partitions],
                )
            )
            for name in wanted.topic_names
        }

    def _answered(self, answer: object) -> Future[Any]:
        future: Future[Any] = Future()
        if self.answers:
            future.set_result(answer)
        else:
            future.set_exception(KafkaException(KafkaError(KafkaError._TIMED_OUT)))
        return future


class Rig:
    """A partition over a log and a broker, under a clock that is set."""

    def __init__(self) -> None:
        self.clock, self.telemetry, self.stopping = Clock(BASE_MS), Telemetry(), threading.Event()
        self.log, self.broker = Log(), Broker()
        self.stops = True

    def partition(
        self,
        *batches: Iterable[Message],
        offset: int = 0,
        high_ms: int = NEVER,
        stop_at: int | None = None,
        broker_time: bool = True,
        start: Position | None = None,
    ) -> KafkaPartition:
        """The partition 3 of a topic whose name has a slash, at an offset or a position."""
        self.log = Log(*batches)
        admin = cast(AdminClient, self.broker)
        topics = Topics(BASE_MS, {"a/b": Topic("id-1", frozenset({3}))})
        watch = TopicWatch(admin, topics, stops=self.stops, clock=self.clock, telemetry=self.telemetry)
        ends = EndOffsets(admin, self.clock)
        shared = Reading(ends, watch, 30_000, self.clock, self.telemetry, self.stopping)
        start = start or Position(offset, high_ms, topic_id="id-1")
        end = EndOffset(BASE_MS, 10**6 if stop_at is None else stop_at)
        partitions = ("a/b/3", "t/0")
        return KafkaPartition(
            cast(Consumer, self.log), shared, "a/b/3", partitions, start, end, stop_at is None, broker_time
        )

    def confirmed(self, partition: KafkaPartition, at_ms: int) -> Progress:
        """The progress after the broker was asked at that time (ms after the base) and has answered."""
        self.clock.now = BASE_MS + at_ms
        partition.next_batch()  # asks
        self.clock.now += 1
        partition.next_batch()  # hears
        return progress_of(partition)


class Clock:
    """A clock that is set."""

    def __init__(self, now_ms: int) -> None:
        self.now = now_ms

    def now_ms(self) -> int:
        """What it was set to."""
        return self.now


def until_end(partition: KafkaPartition) -> Iterator[Chunk]:
    """What the partition hands on until it ends."""
    while True:
        try:
            yield from partition.next_batch()
        except StopIteration:
            return


def kafka_message(offset: int, timestamp_ms: int, kind: int = 2) -> Message:
    """A message of the partition; kind 2 is a timestamp of the broker's, 1 of the producer's."""
    return Message(
        topic="a/b",
        partition=3,
        offset=offset,
        key=b"k%d" % offset,
        value=b"v%d" % offset,
        timestamp=(kind, timestamp_ms),
        leader_epoch=7,
    )


def kafka_error(code: int, offset: int | None = None) -> Message:
    """An event of the consumer instead of a message."""
    error = KafkaError(code)
    return Message(topic="a/b", partition=3, error=error, offset=-1001 if offset is None else offset)


def progress_of(partition: KafkaPartition) -> Progress:
    """The progress that the partition would announce."""
    return partition._progress
