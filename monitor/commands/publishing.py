"""Records on their way to a Kafka topic: each at its time, or as fast as the topic takes them."""

import time
from collections.abc import Iterable, Iterator

from monitor.topics.kafka import Publisher
from monitor.topics.recorded import Record

_SHORTEST_WAIT_S = 0.002
"""Shorter sleeps take longer than asked for, and would hold up a fast log."""


def paced(records: Iterable[Record], first_ms: int, last_ms: float, speed: float) -> Iterator[Record]:
    """The records, none earlier than its timestamp says; late ones follow at once.

    So does one with a timestamp after `last_ms`, which is wrong. `speed`: how many times as fast as the timestamps;
    infinity for no pace at all.
    """
    began_at = time.monotonic()
    for record in records:
        due_ms = record.timestamp_ms - first_ms if record.timestamp_ms <= last_ms else 0
        due_at = began_at + due_ms / 1000 / speed
        if (wait_s := due_at - time.monotonic()) > _SHORTEST_WAIT_S:
            time.sleep(wait_s)
        yield record


def published(records: Iterable[Record], publisher: Publisher) -> Iterator[Record]:
    """The records, each after it was handed to the publisher."""
    for record in records:
        publisher.send(record)
        yield record


def now_ms() -> int:
    """The time of this machine in ms since the epoch."""
    return time.time_ns() // 1_000_000
