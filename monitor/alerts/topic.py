"""A Kafka topic: a message as one record, for systems that act on it by themselves.

The key is the tenant, a space and the experiment in UTF-8, such as `uswm fast_checkout`, and the partition is chosen
from it as Java's clients do, so all of an experiment is in order. The value is the JSON document of the webhooks. Any
error is tried again: acknowledged means written by all replicas in sync.
"""

from collections.abc import Mapping

import msgspec
from confluent_kafka import KafkaException

from monitor.alerts import bodies
from monitor.alerts.changes import Message
from monitor.alerts.outcomes import Outcome, Verdict
from monitor.alerts.secret_values import read_secret, shown
from monitor.config.alerts import AlertsKafkaTable
from monitor.config.settings import KafkaTable
from monitor.topics.kafka import Publisher, TopicError
from monitor.topics.recorded import Record

_BY_KEY, _NOW = -1, -1
"""In place of a partition's number and a timestamp: the client chooses them."""
_FIXED = {"partitioner": "murmur2_random", "acks": "all"}


class Topic:
    """The topic of the configuration. Raises SecretError if its password cannot be read.

    Without brokers of its own it is on the cluster of the events, with the same options.
    """

    takes_groups = True

    def __init__(self, table: AlertsKafkaTable, events: KafkaTable, environment: Mapping[str, str]) -> None:
        password = read_secret("alerts.kafka.password", table.password_env, table.password_file, environment)
        shared = events.options if table.brokers is None else {}
        options = {name: _text(value) for name, value in {**shared, **table.options}.items()}
        self._hidden = [value for name, value in options.items() if "password" in name or "secret" in name]
        if password is not None:
            options["sasl.password"] = password
            self._hidden.append(password)
        self._brokers = table.brokers or events.brokers
        self._topic = table.topic
        self._options = {**options, **_FIXED, "message.timeout.ms": str(round(table.timeout_s * 1_000))}

    def send(self, message: Message) -> Outcome:
        """Writes the record once, with a client of its own: alerts are rare."""
        key = f"{message.tenant} {message.experiment}".encode()
        value = msgspec.json.encode(bodies.json_document(message))
        try:
            with Publisher(self._brokers, self._topic, self._options) as publisher:
                publisher.send(Record(_BY_KEY, 0, _NOW, key, value))
        except (TopicError, KafkaException) as error:
            return Outcome(Verdict.FAILED, shown(str(error), self._hidden), is_of_target=True)
        return Outcome(Verdict.ACCEPTED, "written")

    def cut(self) -> None:
        """Does nothing: the client ends by itself after `timeout_s`."""


def _text(value: str | int | float | bool) -> str:
    """A property as librdkafka's clients take it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
