"""What the brokers say: each report of a client in words that name the remedy."""

import pytest
from confluent_kafka import KafkaError

from monitor.topics.brokers import BrokerReports, no_connection, no_topic

NO_ANSWER = KafkaError(KafkaError._TRANSPORT, "Failed to get metadata")
DOWN = KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down")


@pytest.mark.parametrize(
    ("reports", "words"),
    [
        ((), ("no Kafka broker answers at a:1: Failed to get metadata", "kafka.brokers", "is up")),
        ((KafkaError(KafkaError._TRANSPORT, "refused"), DOWN), ("no Kafka broker answers at a:1: refused", "is up")),
        ((KafkaError(KafkaError._RESOLVE, "no such name"), DOWN), ("no such name", "kafka.brokers")),
        ((KafkaError(KafkaError._AUTHENTICATION, "wrong"), DOWN), ("refuses the login: wrong", "sasl.*")),
        (
            (KafkaError(KafkaError._SSL, "no CA"), DOWN),
            ("no secure connection to Kafka at a:1: no CA", "ssl.ca.location"),
        ),
        ((DOWN,), ("closes the connections", "security.protocol")),
    ],
    ids=["silence", "refused", "name", "login", "certificate", "closed"],
)
def test_why_no_broker_answers(reports: tuple[KafkaError, ...], words: tuple[str, ...]) -> None:
    """The cause before what follows from it, in any order of the reports."""
    for order in (reports, reports[::-1]):
        heard = BrokerReports()
        for report in order:
            heard.heard(report)
        message = no_connection("a:1", NO_ANSWER, heard)
        for word in words:
            assert word in message


def test_an_answer_ends_what_was_reported() -> None:
    """Then the brokers have nothing to say, and a log line has no detail."""
    heard = BrokerReports()
    heard.heard(KafkaError(KafkaError._SSL, "no CA"))
    assert heard.details() == {"client_says": "no CA"}
    heard.forget()
    assert heard.details() == {}
    assert heard.cause() is None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), "allow the user READ, DESCRIBE and DESCRIBE_CONFIGS"),
        (KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART), "create it or change kafka.topics"),
        (None, "it has no partitions"),
    ],
)
def test_why_a_topic_cannot_be_read(error: KafkaError | None, words: str) -> None:
    """A missing right is not a missing topic."""
    message = no_topic("a:1", "orders", error)
    assert "'orders'" in message
    assert words in message
