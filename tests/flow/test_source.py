"""A partition of the Kafka source, between a stand-in for the client library's consumer and the engine."""

import threading
from collections.abc import Iterable
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from structlog.testing import capture_logs

from monitor.core.watermark import NEVER, Progress
from monitor.flow import source
from monitor.flow.end_offsets import EndOffsets
from monitor.flow.source import KafkaPartition
from monitor.flow.telemetry import Telemetry
from monitor.runtime.errors import JobError
from tests.support.messages import BASE_MS


@pytest.fixture
def rig() -> "_Rig":
    return _Rig()


def test_a_batch_is_handed_on_as_it_is(rig: "_Rig") -> None:
    """Key, value and timestamp in their order; the position is behind the last, high is the largest timestamp."""
    first, second, third = _kafka(5, BASE_MS + 2), _kafka(6, BASE_MS + 9), _kafka(8, BASE_MS + 4)
    partition = rig.partition([first, second], [third], offset=5)
    assert rig.log.assigned == [("a/b", 3, 5)]
    (chunk,) = partition.next_batch()
    assert chunk.messages == [(b"k5", b"v5", BASE_MS + 2), (b"k6", b"v6", BASE_MS + 9)]
    assert chunk.progress == Progress(("a/b/3", "t/0"), "a/b/3", BASE_MS + 9, idle=False)
    assert chunk.announce
    (chunk,) = partition.next_batch()
    assert (chunk.progress.high_ms, chunk.announce) == (BASE_MS + 9, False)
    assert partition.snapshot() == (1, 9, BASE_MS + 9)


def test_high_does_not_fall_behind_the_state(rig: "_Rig") -> None:
    """After a restart high is at least what it was."""
    partition = rig.partition([_kafka(5, BASE_MS)], offset=5, high_ms=BASE_MS + 70)
    (chunk,) = partition.next_batch()
    assert chunk.progress.high_ms == BASE_MS + 70


def test_the_end_of_the_partition_moves_the_position(rig: "_Rig") -> None:
    """Markers of transactions are never delivered: the position is behind them once the end is reported."""
    partition = rig.partition([_kafka(5, BASE_MS), _error(KafkaError._PARTITION_EOF, 8)], offset=5)
    partition.next_batch()
    assert partition.snapshot()[1] == 8
    rig.log.batches.append([_error(KafkaError._PARTITION_EOF, 7)])
    partition.next_batch()
    assert partition.snapshot()[1] == 8, "an older report does not move it back"


@pytest.mark.parametrize(("stop_at", "read"), [(7, 2), (6, 1), (5, 0)])
def test_a_bounded_run_ends_where_the_topic_ended_at_its_start(rig: "_Rig", stop_at: int, read: int) -> None:
    """Nothing at or beyond the end is handed on, and the state is the end exactly."""
    batch = [_kafka(offset, BASE_MS) for offset in (5, 6, 7, 8)]
    partition = rig.partition(batch, offset=5, stop_at=stop_at)
    if read:
        (chunk,) = partition.next_batch()
        assert len(chunk.messages) == read
    with pytest.raises(StopIteration):
        partition.next_batch()
    assert partition.snapshot()[1] == stop_at


def test_a_bounded_run_ends_behind_what_is_not_delivered(rig: "_Rig") -> None:
    """Where the topic ends with a transaction's marker, the report of the end is what ends the run."""
    partition = rig.partition([_kafka(5, BASE_MS)], [_error(KafkaError._PARTITION_EOF, 7)], offset=5, stop_at=7)
    partition.next_batch()
    partition.next_batch()
    with pytest.raises(StopIteration):
        partition.next_batch()


def test_stopping_ends_the_partition(rig: "_Rig") -> None:
    """Asked to stop, the partition reads no more."""
    partition = rig.partition([_kafka(5, BASE_MS)], offset=5)
    rig.stopping.set()
    with pytest.raises(StopIteration):
        partition.next_batch()
    assert partition.snapshot() == (1, 5, NEVER)
    partition.close()
    assert rig.log.closed


@pytest.mark.parametrize(
    "code", [KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError.NOT_LEADER_FOR_PARTITION]
)
def test_trouble_that_passes_is_waited_for(rig: "_Rig", code: int) -> None:
    """The consumer reports it, goes on by itself, and what it delivers beside it is taken."""
    partition = rig.partition([_error(code), _kafka(5, BASE_MS)], offset=5)
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
def test_trouble_that_does_not_pass_ends_the_job(rig: "_Rig", error: KafkaError) -> None:
    """One message that names the partition and the position."""
    partition = rig.partition([Message(topic="a/b", partition=3, error=error)], offset=5)
    with capture_logs() as logs, pytest.raises(JobError, match="a/b/3 cannot be read on from offset 5: "):
        partition.next_batch()
    assert [entry["event"] for entry in logs] == ["job_failed"]


def test_a_silent_partition_is_looked_at_again_soon(rig: "_Rig") -> None:
    """Nothing there: nothing is handed on until progress is due, and the engine need not ask all the time."""
    partition = rig.partition([_kafka(5, BASE_MS)], offset=5)
    partition.next_batch()
    assert partition.next_awake() is None
    assert partition.next_batch() == []
    awake = partition.next_awake()
    assert awake is not None
    assert timedelta(0) < awake - datetime.now(UTC) <= source.POLL_IDLE


def test_progress_is_announced_once_a_second(rig: "_Rig", monkeypatch: pytest.MonkeyPatch) -> None:
    """With messages or without."""
    monkeypatch.setattr(source, "ANNOUNCE_S", 0.0)
    partition = rig.partition()
    assert [(chunk.messages, chunk.announce) for chunk in partition.next_batch()] == [([], True)]
    monkeypatch.setattr(source, "ANNOUNCE_S", 1_000.0)
    assert partition.next_batch() == []


def test_with_the_brokers_time_a_confirmed_end_moves_high(rig: "_Rig") -> None:
    """LogAppendTime: nothing lies beyond the position, so high is the moment of the question less idle_after_s."""
    rig.broker.end = 6
    partition = rig.partition([_kafka(5, BASE_MS - 50_000, kind=2)], offset=5)
    assert rig.confirmed(partition, 0).high_ms == BASE_MS - 30_000
    assert rig.confirmed(partition, 20_000).high_ms == BASE_MS - 10_000
    assert rig.confirmed(partition, 40_000) == Progress(("a/b/3", "t/0"), "a/b/3", BASE_MS + 10_000, idle=False)
    rig.broker.answers = False
    assert rig.confirmed(partition, 90_000).high_ms == BASE_MS + 10_000, "silence alone proves nothing"
    rig.broker.answers, rig.broker.end = True, 7
    assert rig.confirmed(partition, 95_000).high_ms == BASE_MS + 10_000, "something lies beyond the position"
    assert partition.snapshot() == (1, 6, BASE_MS + 10_000)


def test_with_the_brokers_time_a_confirmed_end_does_not_pull_high_back(rig: "_Rig") -> None:
    """A message younger than the bound counts."""
    rig.broker.end = 6
    partition = rig.partition([_kafka(5, BASE_MS, kind=2)], offset=5)
    assert rig.confirmed(partition, 10_000).high_ms == BASE_MS


def test_with_the_producers_time_a_silent_partition_becomes_idle(rig: "_Rig") -> None:
    """CreateTime: after idle_after_s of answers that nothing is there, and only for as long as they keep coming."""
    rig.broker.end = 6
    partition = rig.partition([_kafka(5, BASE_MS - 50_000, kind=1)], offset=5, broker_time=True)
    assert not rig.confirmed(partition, 0).idle
    assert not rig.confirmed(partition, 29_999).idle
    assert rig.confirmed(partition, 31_000).idle
    assert _progress_of(partition).high_ms == BASE_MS - 50_000
    rig.broker.answers = False
    assert rig.confirmed(partition, 60_000).idle
    assert not rig.confirmed(partition, 61_000).idle, "the newest answer is old"


def test_an_idle_partition_wakes_up(rig: "_Rig") -> None:
    """With its next message, or when the broker says that there is one; the silence then counts from the start."""
    rig.broker.end = 6
    partition = rig.partition([_kafka(5, BASE_MS, kind=1)], offset=5)
    rig.confirmed(partition, 0)
    assert rig.confirmed(partition, 31_000).idle
    rig.log.batches.append([_kafka(6, BASE_MS + 32_000, kind=1)])
    rig.broker.end = 7
    assert not rig.confirmed(partition, 33_000).idle
    assert not rig.confirmed(partition, 60_000).idle
    assert rig.confirmed(partition, 64_000).idle
    rig.broker.end = 8
    assert not rig.confirmed(partition, 66_000).idle


def test_the_lag_is_told(rig: "_Rig") -> None:
    """Messages behind the end of the partition, as a gauge with topic and partition."""
    rig.broker.end = 16
    rig.confirmed(rig.partition([_kafka(5, BASE_MS)], offset=5), 0)
    assert rig.telemetry.take().gauges["monitor.lag|topic=a/b|partition=3", ""] == 10


class _Log:
    """Stands in for confluent_kafka's Consumer: gives out what it is told to, in the batches it is told."""

    def __init__(self, *batches: Iterable[Message]) -> None:
        self.batches = [list(batch) for batch in batches]
        self.assigned: list[tuple[str, int, int]] = []
        self.closed = False

    def assign(self, partitions: list[TopicPartition]) -> None:
        """Notes the partition and where to begin."""
        self.assigned = [(p.topic, p.partition, p.offset) for p in partitions]

    def consume(self, num_messages: int, timeout: float) -> list[Message]:
        """The next batch, at once."""
        assert timeout == 0
        batch = self.batches.pop(0) if self.batches else []
        assert len(batch) <= num_messages
        return batch

    def close(self) -> None:
        """Notes it."""
        self.closed = True


class _Broker:
    """Stands in for confluent_kafka's AdminClient: says where the partition ends, or that it cannot."""

    def __init__(self) -> None:
        self.end = 0
        self.answers = True

    def poll(self, timeout: float) -> int:
        """There is nothing to report."""
        return 0

    def list_offsets(self, wanted: dict[TopicPartition, Any], request_timeout: float) -> dict[TopicPartition, Any]:
        """Answers at once."""
        answers: dict[TopicPartition, Any] = {}
        for partition in wanted:
            future: Future[Any] = Future()
            if self.answers:
                future.set_result(TopicPartition(partition.topic, partition.partition, self.end))
            else:
                future.set_exception(KafkaException(KafkaError(KafkaError._TIMED_OUT)))
            answers[partition] = future
        return answers


class _Rig:
    """A partition over a log and a broker, under a clock that is set."""

    def __init__(self) -> None:
        self.clock, self.telemetry, self.stopping = _Clock(BASE_MS), Telemetry(), threading.Event()
        self.log, self.broker = _Log(), _Broker()

    def partition(
        self,
        *batches: Iterable[Message],
        offset: int = 0,
        high_ms: int = NEVER,
        stop_at: int | None = None,
        broker_time: bool = True,
    ) -> KafkaPartition:
        """The partition 3 of a topic whose name has a slash, at an offset."""
        self.log = _Log(*batches)
        progress = Progress(("a/b/3", "t/0"), "a/b/3", high_ms, idle=False)
        return KafkaPartition(
            cast(Consumer, self.log),
            EndOffsets(cast(AdminClient, self.broker), self.clock),
            progress,
            offset,
            stop_at,
            broker_time,
            30_000,
            self.clock,
            self.telemetry,
            self.stopping,
        )

    def confirmed(self, partition: KafkaPartition, at_ms: int) -> Progress:
        """The progress after the broker was asked at that time (ms after the base) and has answered."""
        self.clock.now = BASE_MS + at_ms
        partition.next_batch()  # asks
        self.clock.now += 1
        partition.next_batch()  # hears
        return _progress_of(partition)


class _Clock:
    def __init__(self, now_ms: int) -> None:
        self.now = now_ms

    def now_ms(self) -> int:
        return self.now


def _kafka(offset: int, timestamp_ms: int, kind: int = 2) -> Message:
    return Message(
        topic="a/b",
        partition=3,
        offset=offset,
        key=b"k%d" % offset,
        value=b"v%d" % offset,
        timestamp=(kind, timestamp_ms),
    )


def _error(code: int, offset: int | None = None) -> Message:
    error = KafkaError(code)
    return Message(topic="a/b", partition=3, error=error, offset=-1001 if offset is None else offset)


def _progress_of(partition: KafkaPartition) -> Progress:
    """The progress that the partition would announce."""
    return partition._progress
