"""The offsets that a start asks for: a leader that moves is waited for, anything else is said at once."""

from typing import cast

import pytest
from confluent_kafka import KafkaError
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # not in its __all__

from monitor.flow import end_offsets
from monitor.runtime.errors import JobError
from tests.support.source_rig import Broker

MOVES = [KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(end_offsets, "LEADER_PAUSE_S", 0)


def test_a_leader_that_moves_is_waited_for() -> None:
    """As during a rolling restart of the brokers, or just after partitions were added."""
    broker = Broker()
    broker.end, broker.errors = 7, list(MOVES)
    assert end_offsets.ask(cast(AdminClient, broker), "a/b/3", OffsetSpec.latest()) == 7


def test_a_leader_that_does_not_come_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the wait, with what the brokers said."""
    monkeypatch.setattr(end_offsets, "LEADER_WAIT_S", 0.02)
    broker = Broker()
    broker.errors = [KafkaError.NOT_LEADER_FOR_PARTITION] * 10**6
    with pytest.raises(JobError, match=r"offsets of a/b/3 cannot be read: .*NOT_LEADER.*is the partition's leader up"):
        end_offsets.ask(cast(AdminClient, broker), "a/b/3", OffsetSpec.latest())


def test_another_error_ends_the_start_at_once() -> None:
    """No right to read does not pass by itself."""
    broker = Broker()
    broker.errors = [KafkaError.TOPIC_AUTHORIZATION_FAILED]
    with pytest.raises(JobError, match="TOPIC_AUTHORIZATION_FAILED"):
        end_offsets.ask(cast(AdminClient, broker), "a/b/3", OffsetSpec.latest())
