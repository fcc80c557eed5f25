"""Reading a topic to its end, however long those who read take in between."""

import time
import uuid

import pytest

from monitor.topics import kafka
from monitor.topics.kafka import Publisher, read_topic
from monitor.topics.recorded import Record
from tests.support.messages import BASE_MS
from tests.support.servers import Kafka


def test_a_reader_that_takes_its_time_is_no_standstill(real_kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several topics, one waits while the others are read: nothing has stalled at the broker."""
    monkeypatch.setattr(kafka, "STALL_S", 2.0)
    monkeypatch.setattr(kafka, "_BATCH", 10)
    topic = f"slowly-{uuid.uuid4().hex}"
    real_kafka.create_topic(topic, partitions=1)
    sent = [Record(0, offset, BASE_MS + offset, b"k", b"v") for offset in range(100)]
    with Publisher(real_kafka.bootstrap, topic, {}) as publisher:
        for record in sent:
            publisher.send(record)
    read: list[Record] = []
    for record in read_topic(real_kafka.bootstrap, topic, {}, None):
        if not read:
            time.sleep(2.1)
        read.append(record)
    assert read == sent
