"""All messages of a job's topics up to their present end, or of a recorded log in their place."""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Protocol, TypeAlias

from monitor.topics import recorded
from monitor.topics.kafka import read_topic
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
    options = {name: _property(value) for name, value in kafka.options.items()}

    def of(topic: str) -> Iterator[Read]:
        records = stack.enter_context(closing(read_topic(kafka.brokers, topic, options, None)))
        return ((f"{topic}/{record.partition}", record) for record in records)

    return heapq.merge(*[of(topic) for topic in kafka.topics], key=lambda item: item[1].timestamp_ms)


def _property(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
