"""Writing messages to a Kafka topic and reading them from it, for simulated traffic and recorded logs."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Mapping
from time import monotonic
from types import TracebackType
from typing import Any, Self

from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from monitor.runtime.errors import MonitorError
from monitor.topics.brokers import BrokerReports, no_connection
from monitor.topics.recorded import Record

ANSWER_S = 10.0
"""Time-out of a broker's answer, after which it counts as unreachable."""

STALL_S = 30.0
"""Time without any progress, writing or reading, after which the transfer fails."""

QUEUED_MESSAGES = 100_000
"""Messages queued for the broker; at the bound, or at librdkafka's default of 1 GiB, `send` waits."""

MERGED_MESSAGES, MERGED_BYTES = 200_000, 512 * 1024 * 1024
"""Messages buffered to order them by time, and their bytes; at a bound the earliest is handed on, in order or not."""

_MESSAGE_BYTES_MAX = 16 * 1024 * 1024
_BATCH = 1_000
_POLL_S = 0.2

Options = Mapping[str, str]
"""librdkafka properties beyond the brokers: SASL, TLS, ..."""


class TopicError(MonitorError):
    """A topic cannot be written or read; the message names the topic and the cause."""


def partitions_of(brokers: str, topic: str, options: Options) -> int:
    """The number of a topic's partitions. Raises TopicError if no broker answers or the topic does not exist."""
    reports = BrokerReports()
    properties: Any = {**_properties(brokers, options), "error_cb": reports.heard}
    try:
        admin = AdminClient(properties)
    except KafkaException as error:
        message = f"the options of the Kafka client cannot be used: {_reason(error)}"
        raise TopicError(message) from error
    try:
        # Request all topics, because a request for one by name may create it.
        metadata = admin.list_topics(timeout=ANSWER_S)
    except KafkaException as error:
        admin.poll(0)  # hands out what the client has reported meanwhile
        raise TopicError(no_connection(brokers, error.args[0], reports)) from error
    if topic not in metadata.topics:
        message = f"there is no topic {topic!r} at {brokers}, or the user has no right to see it (DESCRIBE)"
        raise TopicError(message)
    return len(metadata.topics[topic].partitions)


class Publisher:
    """Writes messages to a topic, in order within each partition; a context manager that flushes on exit."""

    def __init__(self, brokers: str, topic: str, options: Options) -> None:
        self._topic = topic
        self._error: str | None = None
        self._reports = BrokerReports()
        self._producer = Producer(
            {
                "error_cb": self._reports.heard,
                "linger.ms": 10,
                "compression.type": "lz4",
                "enable.idempotence": True,
                "queue.buffering.max.messages": QUEUED_MESSAGES,
                "message.timeout.ms": int(1000 * STALL_S),
                "message.max.bytes": _MESSAGE_BYTES_MAX,
                **_properties(brokers, options),
            }
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and issubclass(kind, TopicError):
            self._producer.purge()  # queued messages would only wait for their own time-out
            return
        undelivered = self._producer.flush(STALL_S)
        if kind is not None:
            return
        self._raise_error()
        if undelivered:
            message = f"topic {self._topic!r}: {undelivered} messages were not delivered within {STALL_S:g} s"
            raise TopicError(message)

    def send(self, record: Record) -> None:
        """Queues a message with its own timestamp (its time of sending if it has none); waits while the queue is full.

        Raises TopicError if this or an earlier message cannot be written.
        """
        give_up_at = monotonic() + STALL_S
        while not self._queued(record):
            self._producer.poll(_POLL_S)
            if monotonic() > give_up_at:
                message = f"topic {self._topic!r}: the broker has accepted no messages for {STALL_S:g} s"
                raise TopicError(message)
        self._producer.poll(0)
        self._raise_error()

    def _queued(self, record: Record) -> bool:
        try:
            self._producer.produce(
                self._topic,
                key=record.key,
                value=record.value,
                partition=record.partition,
                timestamp=max(record.timestamp_ms, 0),
                on_delivery=self._delivered,
            )
        except BufferError:
            return False
        except KafkaException as error:
            message = f"topic {self._topic!r}: {_reason(error)}"
            raise TopicError(message) from error
        return True

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self._reports.forget()
        elif self._error is None:
            partition, cause = message.partition(), self._reports.cause()
            where = f"topic {self._topic!r}" + ("" if partition is None else f", partition {partition}")
            # a message that was never sent says only that its time is over
            self._error = f"{where}: {error.str()}" + ("" if cause is None else f" ({cause.str()})")

    def _raise_error(self) -> None:
        if self._error is not None:
            raise TopicError(self._error)


def read_topic(brokers: str, topic: str, options: Options, seconds: float | None) -> Generator[Record, None, None]:
    """All messages of a topic from its beginning, in order of their timestamps as far as the order of reading permits.

    Reads up to the present end of the topic, or for `seconds` if given. Raises TopicError.
    """
    count = partitions_of(brokers, topic, options)
    consumer = _consumer(brokers, options)
    try:
        bounds = _bounds(consumer, topic, count)
        consumer.assign([TopicPartition(topic, n, OFFSET_BEGINNING) for n in range(count)])
        merge = _Merge({n for n, (first, end) in bounds.items() if first < end})
        if seconds is not None:
            yield from _read_for(consumer, merge, seconds)
        else:
            yield from _read_until(consumer, merge, {n: end for n, (_, end) in bounds.items()}, topic)
        yield from merge.rest()
    except KafkaException as error:
        message = f"topic {topic!r} cannot be read: {_reason(error)}"
        raise TopicError(message) from error
    finally:
        consumer.close()


def filled_partitions(brokers: str, topic: str, options: Options) -> list[int]:
    """The numbers of a topic's partitions that hold messages. Raises TopicError."""
    count = partitions_of(brokers, topic, options)
    consumer = _consumer(brokers, options)
    try:
        return [number for number, (first, end) in _bounds(consumer, topic, count).items() if first < end]
    except KafkaException as error:
        message = f"topic {topic!r} cannot be read: {_reason(error)}"
        raise TopicError(message) from error
    finally:
        consumer.close()


def _consumer(brokers: str, options: Options) -> Consumer:
    return Consumer(
        {
            "group.id": "monitor-record",  # the client requires one; nothing is committed under it
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.queue.backoff.ms": 50,
            **_properties(brokers, options),
        }
    )


def _bounds(consumer: Consumer, topic: str, count: int) -> dict[int, tuple[int, int]]:
    """The first offset of each partition, and its end."""
    partitions = [TopicPartition(topic, number) for number in range(count)]
    return {p.partition: consumer.get_watermark_offsets(p, timeout=ANSWER_S) for p in partitions}


def _read_for(consumer: Consumer, merge: _Merge, seconds: float) -> Iterator[Record]:
    stop_at = monotonic() + seconds
    while monotonic() < stop_at:
        for message in consumer.consume(_BATCH, min(_POLL_S, seconds)):
            partition = _partition_at_end(message)
            if partition is None:
                merge.add(_record(message))
            else:
                merge.behind.discard(partition)
        yield from merge.ready()


def _read_until(consumer: Consumer, merge: _Merge, ends: Mapping[int, int], topic: str) -> Iterator[Record]:
    """Reads each partition up to its end offset, or to the end of its messages (a transaction's marker may be last)."""
    unfinished = set(merge.behind)
    moved_at = monotonic()
    while unfinished:
        for message in consumer.consume(_BATCH, _POLL_S):
            moved_at = monotonic()
            partition = _partition_at_end(message)
            if partition is None:
                record = _record(message)
                partition = record.partition
                if partition in unfinished and record.offset < ends[partition]:
                    merge.add(record)
                if record.offset + 1 < ends[partition]:
                    continue
            unfinished.discard(partition)
            merge.behind.discard(partition)
        for record in merge.ready():
            yield record
            moved_at = monotonic()  # what the reader takes is no standstill of the broker
        if unfinished and monotonic() - moved_at > STALL_S:
            stalled = f"topic {topic!r}: nothing came for {STALL_S:g} s from partitions {sorted(unfinished)}"
            raise TopicError(stalled)


class _Merge:
    """Merges the messages of several partitions by time."""

    def __init__(self, behind: set[int]) -> None:
        self.behind = behind
        """Partitions not read to their end yet: their next message may be earlier than any buffered one."""
        self._buffers: dict[int, deque[Record]] = {}
        self._count = self._bytes = 0

    def add(self, record: Record) -> None:
        self.behind.add(record.partition)
        self._buffers.setdefault(record.partition, deque()).append(record)
        self._count += 1
        self._bytes += _size(record)

    def ready(self) -> Iterator[Record]:
        """The messages that no earlier message can precede any more."""
        while self._buffers and (
            self.behind <= self._buffers.keys() or self._count > MERGED_MESSAGES or self._bytes > MERGED_BYTES
        ):
            yield self._earliest()

    def rest(self) -> Iterator[Record]:
        """The remaining messages."""
        while self._buffers:
            yield self._earliest()

    def _earliest(self) -> Record:
        partition = min(self._buffers, key=lambda n: (self._buffers[n][0].timestamp_ms, n))
        record = self._buffers[partition].popleft()
        if not self._buffers[partition]:
            del self._buffers[partition]
        self._count -= 1
        self._bytes -= _size(record)
        return record


def _size(record: Record) -> int:
    return len(record.key or b"") + len(record.value or b"")


def _partition_at_end(message: Message) -> int | None:
    """The partition whose end this reports; None for a message. Raises KafkaException for any other report."""
    error = message.error()
    if error is None:
        return None
    if error.code() != KafkaError._PARTITION_EOF:
        raise KafkaException(error)
    return message.partition()


def _record(message: Message) -> Record:
    kind, timestamp_ms = message.timestamp()
    partition, offset = message.partition(), message.offset()
    assert partition is not None
    assert offset is not None
    return Record(
        partition, offset, -1 if kind == TIMESTAMP_NOT_AVAILABLE else timestamp_ms, message.key(), message.value()
    )


def _properties(brokers: str, options: Options) -> dict[str, str | int | float | bool]:
    # Without librdkafka's log lines: the exception reports each error once.
    return {"bootstrap.servers": brokers, "log_level": 0, **options}


def _reason(exception: KafkaException) -> str:
    error = exception.args[0]
    return error.str() if isinstance(error, KafkaError) else str(error)
