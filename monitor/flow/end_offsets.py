"""End offsets, as the brokers report them, and the detection of idle partitions that follows from them.

Silence alone proves nothing: the consumer may be cut off from a broker that keeps appending. Only an answer does.
"""

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # not in its __all__
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from monitor.core.watermark import NEVER
from monitor.runtime.clock import CLOCK, WallClock
from monitor.runtime.errors import JobError
from monitor.runtime.waiting import WaitLog
from monitor.topics.brokers import BrokerReports

ASK_EVERY_MS = 1_000
ANSWER_TIMEOUT_S = 10.0
LEADER_WAIT_S = 10.0
"""How long a partition may be without a leader that answers, at start."""
LEADER_PAUSE_S = 0.2
_PASSES = {
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError.UNKNOWN_LEADER_EPOCH,
}
"""What brokers say while a partition's leader moves: Kafka calls all of these retriable."""


class EndOffset(NamedTuple):
    """A broker's answer: at `asked_ms` or later, nothing was beyond `offset`."""

    asked_ms: int
    offset: int


def ask(admin: AdminClient, partition: str, spec: OffsetSpec) -> int:
    """An offset of `topic/number` as it is now; raises JobError if nobody leads the partition, or does not answer."""
    topic, _, number = partition.rpartition("/")
    request = {TopicPartition(topic, int(number)): spec}
    until_led = Retrying(
        retry=retry_if_exception(_passes),
        stop=stop_after_delay(LEADER_WAIT_S),
        wait=wait_fixed(LEADER_PAUSE_S),
        reraise=True,
    )
    try:
        return until_led(_answered, admin, request)
    except (KafkaException, TimeoutError) as error:
        msg = f"the offsets of {partition} cannot be read: {error}; is the partition's leader up?"
        raise JobError(msg) from None


def _answered(admin: AdminClient, request: dict[TopicPartition, OffsetSpec]) -> int:
    (future,) = admin.list_offsets(request, request_timeout=ANSWER_TIMEOUT_S).values()
    return int(future.result(ANSWER_TIMEOUT_S).offset)


def _passes(error: BaseException) -> bool:
    return isinstance(error, KafkaException) and error.args[0].code() in _PASSES


class EndOffsets:
    """The present end offsets of a process's partitions, requested in the background.

    All collections have an entry for each partition that was watched: those that the engine gave to this process.
    """

    def __init__(self, admin: AdminClient, clock: WallClock = CLOCK, reports: BrokerReports | None = None) -> None:
        self._admin = admin
        self._reports = reports or BrokerReports()
        self._clock = clock
        self._partitions: list[TopicPartition] = []
        self._answers: dict[tuple[str, int], EndOffset] = {}
        self._waiting: Mapping[TopicPartition, Future[Any]] = {}
        self._asked_ms = 0
        self._lock = threading.Lock()
        self.waits = WaitLog("kafka", self._reports.details)

    def watch(self, topic: str, partition: int, first: EndOffset) -> None:
        """Requests the end of this partition too; `first` is the answer that was given at start."""
        assert (topic, partition) not in self._answers, "a partition is watched once, by the part that reads it"
        self._answers[topic, partition] = first
        self._partitions.append(TopicPartition(topic, partition))

    def of(self, topic: str, partition: int) -> EndOffset:
        """The newest answer for a partition."""
        return self._answers[topic, partition]

    def poll(self) -> None:
        """Takes in answers that have arrived, and asks again once a second; never waits."""
        if self._lock.acquire(blocking=False):
            try:
                self._poll()
            finally:
                self._lock.release()

    def _poll(self) -> None:
        assert self._lock.locked(), "one thread at a time replaces the requests"
        if all(future.done() for future in self._waiting.values()):
            if self._waiting:
                self._admin.poll(0)  # hands out what the client has reported meanwhile
            for partition, future in self._waiting.items():
                if (error := future.exception()) is not None:
                    self.waits.goes_on(str(error))  # and the answer stays as old as it is
                else:
                    self._answers[partition.topic, partition.partition] = EndOffset(
                        self._asked_ms, future.result().offset
                    )
            if self._waiting and not any(future.exception() for future in self._waiting.values()):
                self.waits.over()
                self._reports.forget()
            self._waiting = {}
        now_ms = self._clock.now_ms()
        if not self._waiting and now_ms - self._asked_ms >= ASK_EVERY_MS:
            self._asked_ms = now_ms
            requests = {partition: OffsetSpec.latest() for partition in self._partitions}
            self._waiting = self._admin.list_offsets(requests, request_timeout=ANSWER_TIMEOUT_S)


class IdleDetector:
    """Idleness of a partition that has been read to its end. All times are when the broker was asked.

    With the broker's timestamps (LogAppendTime): nothing older than the question, less a tolerance for clocks, can
    follow. With the producers': after `idle_after_ms` of answers that nothing lies beyond the position, the partition
    is idle.
    """

    def __init__(self, idle_after_ms: int) -> None:
        self._idle_after_ms = idle_after_ms
        self._since_ms: int | None = None
        self._until_ms = 0

    def confirm(self, position: int, end: EndOffset) -> int:
        """Takes in the newest answer; returns the bound below which no message can be appended, NEVER if unknown."""
        if position < end.offset:
            self._since_ms = None
            return NEVER
        if self._since_ms is None:
            self._since_ms = end.asked_ms
        assert end.asked_ms >= self._until_ms, "answers come in the order of their questions"
        self._until_ms = end.asked_ms
        return end.asked_ms - self._idle_after_ms

    def broken(self) -> None:
        """A message was read."""
        self._since_ms = None

    def is_idle(self, now_ms: int) -> bool:
        """True if answers have confirmed the silence for idle_after_ms, and the newest answer is younger than that."""
        confirmed = self._since_ms is not None and self._until_ms - self._since_ms >= self._idle_after_ms
        return confirmed and now_ms - self._until_ms < self._idle_after_ms
