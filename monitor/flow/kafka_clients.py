"""The Kafka clients of the job: their properties, and how brokers that do not answer are told."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from confluent_kafka import Consumer, KafkaException
from confluent_kafka.admin import AdminClient

from monitor.config.settings import KafkaTable
from monitor.runtime.errors import JobError
from monitor.topics.brokers import BrokerReports, no_connection

Properties: TypeAlias = dict[str, str | int | float | bool]

_FRESH: Properties = {
    "metadata.max.age.ms": 5_000,
    "topic.metadata.refresh.interval.ms": 5_000,
}
"""How old an AdminClient's metadata may be: with metadata from before a broker's restart it gets no answers."""
_TUNING: Properties = {
    "fetch.queue.backoff.ms": 50,  # at its default of 1000 the fetcher sleeps whenever the local queue is full
    "queued.max.messages.kbytes": 16_384,  # per partition, the bound of its bytes in memory
    "queued.min.messages": 50_000,
}
_ESSENTIALS: Properties = {
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "error",  # the default jumps to the end, silently, when an offset is gone
}
"""Properties that `kafka.options` cannot override: exact totals depend on them."""

RDKAFKA_LOG = logging.getLogger("rdkafka")
"""The client library's log: silent unless configured, since what matters is reported as errors."""
RDKAFKA_LOG.addHandler(logging.NullHandler())
RDKAFKA_LOG.propagate = False


def new_consumer(kafka: KafkaTable, reports: BrokerReports) -> Consumer:
    """A consumer; its reports about connections come with each `consume`. Raises JobError if an option is wrong."""
    brokers = {"bootstrap.servers": kafka.brokers, "group.id": "monitor-without-group"}
    with _usable_options():
        properties = {**_TUNING, **brokers, **kafka.options, **_ESSENTIALS, "error_cb": reports.heard}
        return Consumer(properties, logger=RDKAFKA_LOG)


def new_admin(kafka: KafkaTable, reports: BrokerReports) -> AdminClient:
    """An AdminClient with all of `kafka.options`: it ignores a consumer's own. Raises JobError if one is wrong."""
    properties: Any = {**_FRESH, "bootstrap.servers": kafka.brokers, **kafka.options, "error_cb": reports.heard}
    with _usable_options():
        return AdminClient(properties, logger=RDKAFKA_LOG)


@contextmanager
def answers(admin: AdminClient, kafka: KafkaTable, reports: BrokerReports) -> Iterator[None]:
    """Turns a request without an answer into a JobError with the reason that the client reports."""
    try:
        yield
    except KafkaException as error:
        admin.poll(0)  # hands out what the client has reported meanwhile
        raise JobError(no_connection(kafka.brokers, error.args[0], reports)) from None


@contextmanager
def _usable_options() -> Iterator[None]:
    """Turns a client's error about its options into a JobError that names their section."""
    try:
        yield
    except KafkaException as error:
        msg = f"kafka.options cannot be used: {error.args[0].str()}"
        raise JobError(msg) from None
