"""What the job makes of topics that change while it reads them."""

import pytest
from structlog.testing import capture_logs

from monitor.flow.topic_watch import Topic
from monitor.runtime.errors import JobError
from tests.support.messages import BASE_MS
from tests.support.source_rig import Rig, kafka_message, until_end


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_topic_made_anew_ends_the_job(rig: Rig) -> None:
    """Whatever its offsets are: only the id tells. The message says what to do."""
    partition = rig.partition([kafka_message(5, BASE_MS)], offset=5)
    partition.next_batch()
    rig.broker.topics["a/b"] = Topic("id-2", frozenset({3}))
    with pytest.raises(JobError, match=r"'a/b' was deleted and made anew.* id-1 and is id-2.*new recovery directory"):
        rig.confirmed(partition, 10_000)


def test_a_topic_without_an_id_is_taken_as_it_is(rig: Rig) -> None:
    """Brokers before Kafka 2.8 have none: nothing can be told from that."""
    rig.broker.topics["a/b"] = Topic("", frozenset({3}))
    partition = rig.partition(offset=5)
    assert rig.confirmed(partition, 10_000).complete_ms == BASE_MS - 20_000


def test_a_further_partition_ends_the_job_to_be_started_again(rig: Rig) -> None:
    """In order: its progress says why, and stays below what the new partition may hold."""
    partition = rig.partition([kafka_message(5, BASE_MS)], offset=5)
    assert rig.confirmed(partition, 10_000).complete_ms == BASE_MS - 20_000
    rig.broker.topics["a/b"] = Topic("id-1", frozenset({3, 4}))
    with capture_logs() as logs:
        found = rig.confirmed(partition, 20_000)
    assert (found.restart, found.complete_ms) == (True, BASE_MS - 20_000)
    (last,) = until_end(partition)
    assert (last.announce, last.progress.restart) == (True, True)
    assert [(entry["event"], entry["partitions"]) for entry in logs] == [("new_partitions", ["a/b/4"])]
    assert rig.telemetry.take().gauges["monitor.new_partitions|topic=a/b", ""] == 1


def test_a_further_partition_can_be_told_only(rig: Rig) -> None:
    """Once: the job goes on with those that it has, and the bound stays where it was."""
    rig.stops = False
    partition = rig.partition([kafka_message(5, BASE_MS)], offset=5)
    rig.broker.topics["a/b"] = Topic("id-1", frozenset({3, 4}))
    with capture_logs() as logs:
        for at_ms in (10_000, 20_000):
            found = rig.confirmed(partition, at_ms)
    assert (found.restart, found.complete_ms) == (False, BASE_MS - 30_000)
    assert [entry["event"] for entry in logs] == ["new_partitions"]


def test_only_answers_move_the_bound_for_further_partitions(rig: Rig) -> None:
    """Brokers that do not answer are waited for, and the bound with them."""
    partition = rig.partition(offset=5)
    rig.broker.answers = False
    with capture_logs() as logs:
        assert rig.confirmed(partition, 10_000).complete_ms == BASE_MS - 30_000
    assert {entry["event"] for entry in logs} == {"kafka_waiting", "kafka_topics_waiting"}
    rig.broker.answers = True
    assert rig.confirmed(partition, 20_000).complete_ms == BASE_MS - 10_000
