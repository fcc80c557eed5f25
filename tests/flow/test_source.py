"""A partition of the Kafka source, between a stand-in for the client library's consumer and the engine."""

from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import KafkaError, Message
from structlog.testing import capture_logs

from monitor.core.watermark import APART_MS, NEVER, Progress, Stamps
from monitor.flow import source
from monitor.flow.source_state import NO_EPOCH, Position, position_of
from monitor.flow.stamps import packed_stamps
from monitor.runtime.errors import JobError
from tests.support.messages import BASE_MS
from tests.support.source_rig import Rig, kafka_error, kafka_message, progress_of, until_end


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_batch_is_handed_on_as_it_is(rig: Rig) -> None:
    """Key, value and timestamp in their order; the position is behind the last, high is the largest timestamp."""
    first, second, third = kafka_message(5, BASE_MS + 2), kafka_message(6, BASE_MS + 9), kafka_message(8, BASE_MS + 4)
    partition = rig.partition([first, second], [third], offset=5)
    assert rig.log.assigned == [("a/b", 3, 5, NO_EPOCH)]
    (chunk,) = partition.next_batch()
    assert chunk.messages == [(b"k5", b"v5", BASE_MS + 2), (b"k6", b"v6", BASE_MS + 9)]
    assert chunk.progress == Progress(("a/b/3", "t/0"), "a/b/3", BASE_MS + 9, idle=False, complete_ms=BASE_MS - 30_000)
    assert chunk.announce
    (chunk,) = partition.next_batch()
    assert (chunk.progress.high_ms, chunk.announce) == (BASE_MS + 9, False)
    assert partition.snapshot() == (2, 9, BASE_MS + 9, b"", "id-1", 7)


def test_high_does_not_fall_behind_the_state(rig: Rig) -> None:
    """After a restart high is at least what it was."""
    partition = rig.partition([kafka_message(5, BASE_MS)], offset=5, high_ms=BASE_MS + 70)
    (chunk,) = partition.next_batch()
    assert chunk.progress.high_ms == BASE_MS + 70


def test_the_end_of_the_partition_moves_the_position(rig: Rig) -> None:
    """Markers of transactions are never delivered: the position is behind them once the end is reported."""
    partition = rig.partition([kafka_message(5, BASE_MS), kafka_error(KafkaError._PARTITION_EOF, 8)], offset=5)
    partition.next_batch()
    assert partition.snapshot()[1] == 8
    rig.log.batches.append([kafka_error(KafkaError._PARTITION_EOF, 7)])
    partition.next_batch()
    assert partition.snapshot()[1] == 8, "an older report does not move it back"


@pytest.mark.parametrize(("stop_at", "read"), [(7, 2), (6, 1), (5, 0)])
def test_a_bounded_run_ends_where_the_topic_ended_at_its_start(rig: Rig, stop_at: int, read: int) -> None:
    """Nothing at or beyond the end is handed on, the last is the progress, and the state is the end exactly."""
    batch = [kafka_message(offset, BASE_MS) for offset in (5, 6, 7, 8)]
    partition = rig.partition(batch, offset=5, stop_at=stop_at)
    chunks = list(until_end(partition))
    assert [len(chunk.messages) for chunk in chunks] == ([read, 0] if read else [0])
    assert chunks[-1].announce
    assert partition.snapshot()[1] == stop_at


def test_a_bounded_run_ends_behind_what_is_not_delivered(rig: Rig) -> None:
    """Where the topic ends with a transaction's marker, the report of the end is what ends the run."""
    partition = rig.partition(
        [kafka_message(5, BASE_MS)], [kafka_error(KafkaError._PARTITION_EOF, 7)], offset=5, stop_at=7
    )
    assert [len(chunk.messages) for chunk in until_end(partition)] == [1, 0]


@pytest.mark.parametrize("end", [7, 9])
def test_a_bounded_run_leaves_what_came_during_it_to_the_next(rig: Rig, end: int) -> None:
    """An end that is reported in one batch with messages behind the run's own end does not skip those."""
    before, behind = [kafka_message(5, BASE_MS)], [kafka_message(offset, BASE_MS) for offset in range(6, end)]
    batch = [*before, kafka_error(KafkaError._PARTITION_EOF, 6), *behind, kafka_error(KafkaError._PARTITION_EOF, end)]
    partition = rig.partition(batch, offset=5, stop_at=6)
    assert [len(chunk.messages) for chunk in until_end(partition)] == [1, 0]
    assert partition.snapshot()[1] == 6


def test_a_bounded_run_leaves_a_watermark(rig: Rig) -> None:
    """With the brokers' time, the end that was confirmed at start bounds what follows; an empty partition is idle."""
    *_, last = until_end(rig.partition([kafka_message(5, BASE_MS - 50_000)], offset=5, stop_at=6))
    assert last.progress.high_ms == BASE_MS - 30_000
    *_, last = until_end(rig.partition(stop_at=0, broker_time=False))
    assert last.progress.idle
    *_, last = until_end(rig.partition([kafka_message(5, BASE_MS, kind=1)], offset=5, stop_at=6, broker_time=False))
    assert not last.progress.idle


def test_a_wrong_clock_at_the_end_of_a_bounded_run_does_not_reach_the_next(rig: Rig) -> None:
    """Of a partition with too few messages all timestamps may be wrong: what follows its end is not late by them."""
    ahead = kafka_message(0, BASE_MS * 1_000, kind=1)
    partition = rig.partition([ahead], stop_at=1, broker_time=False)
    *_, last = until_end(partition)
    assert last.progress.high_ms == BASE_MS - 30_000
    right = [kafka_message(offset, BASE_MS + offset, kind=1) for offset in range(1, 5)]
    partition = rig.partition(right, start=position_of(partition.snapshot()), stop_at=5, broker_time=False)
    assert [chunk.behind for chunk in until_end(partition)] == [{}, {}]


def test_stopping_ends_the_partition(rig: Rig) -> None:
    """Asked to stop, the partition reads no more, and hands on how far it was read."""
    partition = rig.partition([kafka_message(5, BASE_MS)], offset=5)
    rig.stopping.set()
    (chunk,) = until_end(partition)
    assert (chunk.messages, chunk.announce) == ([], True)
    assert position_of(partition.snapshot()) == Position(5, NEVER, topic_id="id-1")
    partition.close()
    assert rig.log.closed


def test_a_bounded_run_that_is_stopped_has_not_ended(rig: Rig) -> None:
    """A partition that was not read to its end holds the watermark: what it still has is not late in the next run."""
    rig.stopping.set()
    for batches in ((), ([kafka_message(0, BASE_MS, kind=1)],)):
        (chunk,) = until_end(rig.partition(*batches, stop_at=2, broker_time=False))
        assert (chunk.progress.high_ms, chunk.progress.idle) == (NEVER, False)


def test_a_position_is_resumed_as_it_was(rig: Rig) -> None:
    """With the epoch of its leader, by which the client recognises a truncation, and the id of its topic."""
    start = Position(5, BASE_MS, packed_stamps(Stamps(BASE_MS, 1, [BASE_MS])), "id-1", 4)
    partition = rig.partition([kafka_message(5, BASE_MS)], start=start)
    assert rig.log.assigned == [("a/b", 3, 5, 4)]
    assert position_of(partition.snapshot()) == start
    partition.next_batch()
    assert position_of(partition.snapshot()) == start._replace(offset=6, leader_epoch=7)


def test_the_epoch_is_that_of_what_lies_before_the_position(rig: Rig) -> None:
    """Behind a transaction's marker, of which it is not known, it is none: else it looks truncated."""
    end = kafka_error(KafkaError._PARTITION_EOF, 6)
    partition = rig.partition([end, kafka_message(5, BASE_MS)], [kafka_error(KafkaError._PARTITION_EOF, 7)], offset=5)
    partition.next_batch()
    assert position_of(partition.snapshot())[-1] == 7
    partition.next_batch()
    assert position_of(partition.snapshot())[::4] == (7, NO_EPOCH)


def test_positions_of_the_version_before_are_read() -> None:
    """They have no id of a topic and no epoch; those of any other version are refused."""
    assert position_of((1, 5, BASE_MS)) == Position(5, BASE_MS, b"", "", NO_EPOCH)
    with pytest.raises(JobError, match="another version"):
        position_of((3, 5, BASE_MS))


@pytest.mark.parametrize(
    "code", [KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError.NOT_LEADER_FOR_PARTITION]
)
def test_trouble_that_passes_is_waited_for(rig: Rig, code: int) -> None:
    """The consumer reports it, goes on by itself, and what it delivers beside it is taken."""
    partition = rig.partition([kafka_error(code), kafka_message(5, BASE_MS)], offset=5)
    with capture_logs() as logs:
        (chunk,) = partition.next_batch()
    assert len(chunk.messages) == 1
    assert [(entry["log_level"], entry["came"]) for entry in logs] == [("warning", KafkaError(code).str())]


@pytest.mark.parametrize(
    "error",
    [
        KafkaError(KafkaError._AUTO_OFFSET_RESET, "no offset"),
        KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED),
        KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART),
        KafkaError(KafkaError._FATAL, "out of order", fatal=True),
    ],
    ids=lambda error: error.name(),
)
def test_trouble_that_does_not_pass_ends_the_job(rig: Rig, error: KafkaError) -> None:
    """One message that names the partition and the position."""
    partition = rig.partition([Message(topic="a/b", partition=3, error=error)], offset=5)
    with capture_logs() as logs, pytest.raises(JobError, match="a/b/3 cannot be read on from offset 5: "):
        partition.next_batch()
    assert [entry["event"] for entry in logs] == ["job_failed"]


def test_a_truncation_ends_the_job(rig: Rig) -> None:
    """With a message of its own: what was counted is gone from the topic."""
    error = KafkaError(KafkaError._AUTO_OFFSET_RESET, f"end offset is 3: {source.TRUNCATED}")
    partition = rig.partition([Message(topic="a/b", partition=3, error=error)], offset=5)
    with pytest.raises(JobError, match=r"a/b/3 was truncated before offset 5.*end offset is 3.*new recovery directory"):
        partition.next_batch()


def test_a_silent_partition_is_looked_at_again_soon(rig: Rig) -> None:
    """Nothing there: nothing is handed on until progress is due, and the engine need not ask all the time."""
    partition = rig.partition([kafka_message(5, BASE_MS)], offset=5)
    partition.next_batch()
    assert partition.next_awake() is None
    assert partition.next_batch() == []
    awake = partition.next_awake()
    assert awake is not None
    assert timedelta(0) < awake - datetime.now(UTC) <= source.POLL_IDLE


def test_progress_is_announced_once_a_second(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """With messages or without."""
    monkeypatch.setattr(source, "ANNOUNCE_S", 0.0)
    partition = rig.partition()
    assert [(chunk.messages, chunk.announce) for chunk in partition.next_batch()] == [([], True)]
    monkeypatch.setattr(source, "ANNOUNCE_S", 1_000.0)
    assert partition.next_batch() == []


def test_with_the_brokers_time_a_confirmed_end_moves_high(rig: Rig) -> None:
    """LogAppendTime: nothing lies beyond the position, so high is the moment of the question less idle_after_s."""
    rig.broker.end = 6
    partition = rig.partition([kafka_message(5, BASE_MS - 50_000, kind=2)], offset=5)
    assert rig.confirmed(partition, 0).high_ms == BASE_MS - 30_000
    assert rig.confirmed(partition, 20_000).high_ms == BASE_MS - 10_000
    expected = Progress(("a/b/3", "t/0"), "a/b/3", BASE_MS + 10_000, idle=False, complete_ms=BASE_MS + 10_000)
    assert rig.confirmed(partition, 40_000) == expected
    rig.broker.answers = False
    assert rig.confirmed(partition, 90_000).high_ms == BASE_MS + 10_000, "silence alone proves nothing"
    rig.broker.answers, rig.broker.end = True, 7
    assert rig.confirmed(partition, 95_000).high_ms == BASE_MS + 10_000, "something lies beyond the position"
    assert partition.snapshot()[1:3] == (6, BASE_MS + 10_000)


def test_with_the_brokers_time_a_confirmed_end_does_not_pull_high_back(rig: Rig) -> None:
    """A message younger than the bound counts."""
    rig.broker.end = 6
    partition = rig.partition([kafka_message(5, BASE_MS, kind=2)], offset=5)
    assert rig.confirmed(partition, 10_000).high_ms == BASE_MS


def test_with_the_producers_time_a_silent_partition_becomes_idle(rig: Rig) -> None:
    """CreateTime: after idle_after_s of answers that nothing is there, and only for as long as they keep coming."""
    rig.broker.end = 6
    partition = rig.partition([kafka_message(5, BASE_MS - 50_000, kind=1)], offset=5, broker_time=True)
    assert not rig.confirmed(partition, 0).idle
    assert not rig.confirmed(partition, 29_999).idle
    assert rig.confirmed(partition, 31_000).idle
    assert progress_of(partition).high_ms == NEVER, "one message proves nothing"
    rig.broker.answers = False
    assert rig.confirmed(partition, 60_000).idle
    assert not rig.confirmed(partition, 61_000).idle, "the newest answer is old"


def test_an_idle_partition_wakes_up(rig: Rig) -> None:
    """With its next message, or when the broker says that there is one; the silence then counts from the start."""
    rig.broker.end = 6
    partition = rig.partition([kafka_message(5, BASE_MS, kind=1)], offset=5)
    rig.confirmed(partition, 0)
    assert rig.confirmed(partition, 31_000).idle
    rig.log.batches.append([kafka_message(6, BASE_MS + 32_000, kind=1)])
    rig.broker.end = 7
    assert not rig.confirmed(partition, 33_000).idle
    assert not rig.confirmed(partition, 60_000).idle
    assert rig.confirmed(partition, 64_000).idle
    rig.broker.end = 8
    assert not rig.confirmed(partition, 66_000).idle


def test_the_lag_is_told(rig: Rig) -> None:
    """Messages behind the end of the partition, as a gauge with topic and partition."""
    rig.broker.end = 16
    rig.confirmed(rig.partition([kafka_message(5, BASE_MS)], offset=5), 0)
    assert rig.telemetry.take().gauges["monitor.lag|topic=a/b|partition=3", ""] == 10


def test_with_the_producers_time_one_wrong_clock_moves_nothing(rig: Rig) -> None:
    """High follows the many, less 20 s; what is stamped behind it is told, with high as it was before that message."""
    year_ms = 365 * 86_400_000
    stamps = [BASE_MS + number * 1_000 for number in range(300)]
    stamps[0], stamps[7], stamps[150], stamps[240] = BASE_MS + year_ms, -1, BASE_MS * 1_000, BASE_MS + 1_000
    log = [kafka_message(offset, stamp, kind=1) for offset, stamp in enumerate(stamps)]
    partition = rig.partition(log[:140], log[140:290], log[290:])
    chunks = [chunk for _ in range(3) for chunk in partition.next_batch()]
    assert [chunk.progress.high_ms - BASE_MS for chunk in chunks] == [20_000, 170_000, 180_000]
    assert [dict(chunk.behind) for chunk in chunks] == [{}, {100: BASE_MS + 120_000}, {}]


def test_what_high_comes_from_survives_a_restart(rig: Rig) -> None:
    """The state has the newest timestamps, so that a restart makes no difference."""
    log = [kafka_message(offset, BASE_MS + offset * 1_000, kind=1) for offset in range(200)]
    straight = rig.partition(log)
    (at_once,) = straight.next_batch()
    stopped = rig.partition(log[:95])
    stopped.next_batch()
    state = stopped.snapshot()
    assert position_of(state).high_ms == NEVER
    (resumed,) = rig.partition(log[95:], start=position_of(state)).next_batch()
    assert resumed.progress == at_once.progress
    assert straight.snapshot()[:3] == (2, 200, BASE_MS + 99_000 - APART_MS)


def test_state_of_the_version_before_goes_on(rig: Rig) -> None:
    """Its high is kept, and follows the timestamps once there are enough of them."""
    state = (1, 5, BASE_MS + 70_000)
    log = [kafka_message(5 + number, BASE_MS + number * 1_000, kind=1) for number in range(250)]
    partition = rig.partition(log[:100], log[100:], start=position_of(state))
    assert [chunk.progress.high_ms - BASE_MS for _ in range(2) for chunk in partition.next_batch()] == [70_000, 129_000]


def test_a_topic_whose_configuration_changes(rig: Rig) -> None:
    """Each timestamp counts as its own type says, also within a batch."""
    ahead, broker = kafka_message(1, BASE_MS + 9_000_000, kind=1), kafka_message(2, BASE_MS + 60_000, kind=2)
    (chunk,) = rig.partition([ahead, broker]).next_batch()
    assert chunk.progress.high_ms == BASE_MS + 60_000
    (chunk,) = rig.partition(
        [kafka_message(0, BASE_MS + 60_000, kind=2), ahead, kafka_message(2, BASE_MS, kind=1)]
    ).next_batch()
    assert chunk.progress.high_ms == BASE_MS + 60_000
    assert dict(chunk.behind) == {2: BASE_MS + 60_000}
