"""All messages of a job's topics up to their present end, or of a recorded log in their place."""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Protocol, TypeAlias

from monitor.topics import recorded
from monitor.topics.kafka import filled_partitions, read_topic
from monitor.topics.recorded import Record

Read: TypeAlias = tuple[str, Record]
"""The name of a partition, and one of its messages."""


class Topics(Protocol):
    """The topics to read: `brokers` are bootstrap servers, `options` librdkafka properties beyond them."""

    @property
    def brokers(self) -> str: ...
    @property
    def topics(self) -> Sequence[str]: ...
    @property
    def options(self) -> Mapping[str, str | int | float | bool]: ...


def messages(kafka: Topics, log: Path | None, stack: ExitStack) -> Iterator[Read]:
    """The messages, in order within each partition; the stack closes the consumers.

    Raises RecordedLogError or OSError for a log, TopicError for a topic.
    """
    return _of_topics(kafka, stack) if log is None else _of_log(log)


def _of_log(path: Path) -> Iterator[Read]:
    return ((str(record.partition), record) for record in recorded.read(path))


def _of_topics(kafka: Topics, stack: ExitStack) -> Iterator[Read]:
    """All messages of the topics by time, as far as the order of reading permits; a partition is named TOPIC/NUMBER."""
    options = _options(kafka)

    def of(topic: str) -> Iterator[Read]:
        records = stack.enter_context(closing(read_topic(kafka.brokers, topic, options, None)))
        return ((f"{topic}/{record.partition}", record) for record in records)

    return heapq.merge(*[of(topic) for topic in kafka.topics], key=lambda item: item[1].timestamp_ms)


def partitions(kafka: Topics) -> list[str]:
    """The names of the partitions that hold messages. Raises TopicError."""
    options = _options(kafka)
    return [
        f"{topic}/{number}" for topic in kafka.topics for number in filled_partitions(kafka.brokers, topic, options)
    ]


def _options(kafka: Topics) -> dict[str, str]:
    return {name: _property(value) for name, value in kafka.options.items()}


def _property(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
