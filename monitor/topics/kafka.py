"""Messages onto a Kafka topic and off it again, for simulated traffic and recorded logs."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Mapping
from time import monotonic
from types import TracebackType
from typing import Self

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
from monitor.topics.recorded import Record

ANSWER_S = 10.0
"""How long a broker may take for an answer before it counts as unreachable."""

STALL_S = 30.0
"""How long nothing may move, writing or reading, before the transfer is given up."""

QUEUED_MESSAGES = 100_000
"""Messages on their way to the broker; at the bound, `send` waits."""

MERGED_MESSAGES = 200_000
"""Messages held back to be put in order of time; at the bound the earliest goes, in order or not."""

_MESSAGE_BYTES_MAX = 16 * 1024 * 1024
_BATCH = 1_000
_POLL_S = 0.2

Options = Mapping[str, str]
"""librdkafka properties beyond the brokers: SASL, TLS, ..."""


class TopicError(MonitorError):
    """A topic that cannot be written or read; the message says which, where and why."""


def partitions_of(brokers: str, topic: str, options: Options) -> int:
    """How many partitions a topic has. Raises TopicError if no broker answers or the topic does not exist."""
    try:
        # All topics are asked for: to ask for one by name may create it.
        metadata = AdminClient(_properties(brokers, options)).list_topics(timeout=ANSWER_S)
    except KafkaException as fault:
        message = f"no Kafka broker answered at {brokers} within {ANSWER_S:g} s: {_reason(fault)}"
        raise TopicError(message) from fault
    if topic not in metadata.topics:
        message = f"there is no topic {topic!r} at {brokers}"
        raise TopicError(message)
    return len(metadata.topics[topic].partitions)


class Publisher:
    """Writes messages to a topic, in order within each partition; a context manager that flushes at its end."""

    def __init__(self, brokers: str, topic: str, options: Options) -> None:
        self._topic = topic
        self._fault: str | None = None
        self._producer = Producer(
            {
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
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and issubclass(kind, TopicError):
            self._producer.purge()  # what is queued would only wait for its own time-out
            return
        left = self._producer.flush(STALL_S)
        if kind is not None:
            return
        self._raise_fault()
        if left:
            message = f"topic {self._topic!r}: {left} messages were not taken within {STALL_S:g} s"
            raise TopicError(message)

    def send(self, record: Record) -> None:
        """Queues a message with its own timestamp (its time of sending if it has none); waits while the queue is full.

        Raises TopicError if this or an earlier message cannot be written.
        """
        give_up_at = monotonic() + STALL_S
        while not self._queued(record):
            self._producer.poll(_POLL_S)
            if monotonic() > give_up_at:
                message = f"topic {self._topic!r}: the broker takes no messages for {STALL_S:g} s"
                raise TopicError(message)
        self._producer.poll(0)
        self._raise_fault()

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
        except KafkaException as fault:
            message = f"topic {self._topic!r}: {_reason(fault)}"
            raise TopicError(message) from fault
        return True

    def _delivered(self, fault: KafkaError | None, message: Message) -> None:
        if fault is not None and self._fault is None:
            self._fault = f"topic {self._topic!r}, partition {message.partition()}: {fault.str()}"

    def _raise_fault(self) -> None:
        if self._fault is not None:
            raise TopicError(self._fault)


def read_topic(brokers: str, topic: str, options: Options, seconds: float | None) -> Generator[Record, None, None]:
    """All messages of a topic from its beginning, in order of their timestamps as far as the order of reading permits.

    Up to the present end of the topic, or for so many seconds. Raises TopicError.
    """
    count = partitions_of(brokers, topic, options)
    consumer = Consumer(
        {
            "group.id": "monitor-record",  # asked for by the client; nothing is committed under it
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.queue.backoff.ms": 50,
            **_properties(brokers, options),
        }
    )
    try:
        partitions = [TopicPartition(topic, n, OFFSET_BEGINNING) for n in range(count)]
        bounds = {p.partition: consumer.get_watermark_offsets(p, timeout=ANSWER_S) for p in partitions}
        consumer.assign(partitions)
        merge = _Merge({n for n, (first, end) in bounds.items() if first < end})
        if seconds is not None:
            yield from _read_for(consumer, merge, seconds)
        else:
            yield from _read_until(consumer, merge, {n: end for n, (_, end) in bounds.items()}, topic)
        yield from merge.rest()
    except KafkaException as fault:
        message = f"topic {topic!r} cannot be read: {_reason(fault)}"
        raise TopicError(message) from fault
    finally:
        consumer.close()


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
    """Reads each partition up to its end, or to where nothing more comes (a transaction's marker may be last)."""
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
        yield from merge.ready()
        if unfinished and monotonic() - moved_at > STALL_S:
            stalled = f"topic {topic!r}: nothing came for {STALL_S:g} s from partitions {sorted(unfinished)}"
            raise TopicError(stalled)


class _Merge:
    """Messages of several partitions on their way into one order of time."""

    def __init__(self, behind: set[int]) -> None:
        self.behind = behind
        """Partitions that are not read to their end: what they hold may be earlier than anything held here."""
        self._held: dict[int, deque[Record]] = {}
        self._count = 0

    def add(self, record: Record) -> None:
        self.behind.add(record.partition)
        self._held.setdefault(record.partition, deque()).append(record)
        self._count += 1

    def ready(self) -> Iterator[Record]:
        """Those messages that nothing earlier can precede any more."""
        while self._held and (self.behind <= self._held.keys() or self._count > MERGED_MESSAGES):
            yield self._earliest()

    def rest(self) -> Iterator[Record]:
        """All that is left."""
        while self._held:
            yield self._earliest()

    def _earliest(self) -> Record:
        partition = min(self._held, key=lambda n: (self._held[n][0].timestamp_ms, n))
        record = self._held[partition].popleft()
        if not self._held[partition]:
            del self._held[partition]
        self._count -= 1
        return record


def _partition_at_end(message: Message) -> int | None:
    """The partition whose end this reports; None for a message. Raises KafkaException for any other report."""
    fault = message.error()
    if fault is None:
        return None
    if fault.code() != KafkaError._PARTITION_EOF:
        raise KafkaException(fault)
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
    # Without its log lines: what goes wrong is said once, by the exception.
    return {"bootstrap.servers": brokers, "log_level": 0, **options}


def _reason(fault: KafkaException) -> str:
    error = fault.args[0]
    return error.str() if isinstance(error, KafkaError) else str(error)
