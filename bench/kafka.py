"""Real Kafka for the benchmarks: the server of the tests, and topics that are filled with a load."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from zlib import crc32

from bench import load
from tests.support.servers import Kafka

PARTITIONS = 4
PRODUCER_TIME = {"message.timestamp.type": "CreateTime"}
"""A log with timestamps of its own: those of arrival, as LogAppendTime would have set them."""


@contextmanager
def broker() -> Iterator[tuple[Kafka, Path]]:
    """A broker, and a folder for whatever else; both gone at the end."""
    with TemporaryDirectory(prefix="monitor-bench-") as folder, Kafka(Path(folder, "kafka")) as kafka:
        yield kafka, Path(folder)


def fill(kafka: Kafka, topic: str, messages: Iterable[load.Message], partitions: int = PARTITIONS) -> None:
    """Makes a topic with these messages, each session in one partition."""
    kafka.create_topic(topic, partitions, PRODUCER_TIME)
    append(kafka, topic, messages, partitions)


def append(kafka: Kafka, topic: str, messages: Iterable[load.Message], partitions: int = PARTITIONS) -> None:
    """Adds messages to a topic."""
    kafka.produce(topic, ((crc32(key) % partitions, key, value, at_ms) for key, value, at_ms in messages))
