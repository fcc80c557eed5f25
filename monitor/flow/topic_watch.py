"""The topics while the job reads them: whether they are still the same ones, and have no further partitions.

A topic that was deleted and made anew has the same name and other messages at the same offsets; only its id tells.
A partition that was added holds events that the job does not read. The answer that there is none bounds the watermark:
nothing in a partition that did not exist yet can be older than the question, less a tolerance for clocks.
"""

import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import NamedTuple

import structlog
from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, TopicDescription  # type: ignore[attr-defined]  # not in its __all__

from monitor.core.watermark import NEVER
from monitor.flow.telemetry import TELEMETRY, Telemetry
from monitor.runtime.clock import CLOCK, WallClock
from monitor.runtime.errors import JobError
from monitor.runtime.waiting import WaitLog

ASK_EVERY_MS = 2_000
"""How often the brokers are asked for the topics' ids and partitions."""
ANSWER_TIMEOUT_S = 10.0
_ZERO_ID = "A" * 22
"""The id of all zeros, in base64: that of brokers that have none."""

log = structlog.get_logger(__name__)


class Topic(NamedTuple):
    """What the brokers say of a topic; `id` is empty where they have no ids (before Kafka 2.8)."""

    id: str
    partitions: frozenset[int]


class Topics(NamedTuple):
    """The topics by name, as the brokers described them at `asked_ms` or later."""

    asked_ms: int
    by_name: Mapping[str, Topic]


def ask(admin: AdminClient, names: Iterable[str], clock: WallClock = CLOCK) -> Topics:
    """The topics as they are now; raises JobError if the brokers do not describe one."""
    asked_ms = clock.now_ms()
    topics = {}
    for name, future in _request(admin, names).items():
        try:
            topics[name] = _topic(future.result(ANSWER_TIMEOUT_S))
        except (KafkaException, TimeoutError) as error:
            msg = f"the topic '{name}' cannot be described: {error}; check that it exists and may be read"
            raise JobError(msg) from None
    return Topics(asked_ms, topics)


def check_id(name: str, before: str, now: str) -> None:
    """Raises JobError if a topic's id is another one than before; an unknown id is no other."""
    if before and now and before != now:
        msg = (
            f"the topic '{name}' was deleted and made anew: its id was {before} and is {now}, and the offsets that "
            "the job has reached belong to the old one; start with a new recovery directory to count the new topic "
            "(minutes that the store has of the old one are then overwritten where the new one has events), "
            "or restore the old topic"
        )
        raise JobError(msg)


class TopicWatch:
    """Asks for the topics again and again, in the background, for all partitions of a process together.

    `stops`: whether the job ends for a further partition, to be started again; otherwise that is only told. Its
    collections have an entry for each topic.
    """

    def __init__(
        self,
        admin: AdminClient,
        topics: Topics,
        *,
        stops: bool,
        clock: WallClock = CLOCK,
        telemetry: Telemetry = TELEMETRY,
    ) -> None:
        self._admin, self._topics, self._stops = admin, topics, stops
        self._clock, self._telemetry = clock, telemetry
        self._asked_ms = topics.asked_ms
        self._waiting: Mapping[str, Future[TopicDescription]] = {}
        self._told: frozenset[str] = frozenset()
        self._lock = threading.Lock()
        self._waits = WaitLog("kafka_topics")
        self.complete_ms = topics.asked_ms
        """When the newest answer was asked for in which no topic had a further partition; NEVER is no such answer."""
        self.restart = False
        """Set when the job is to end and to be started again."""
        assert topics.asked_ms > NEVER, "the topics were asked for at start"

    def poll(self) -> None:
        """Takes in answers that have arrived, and asks again when it is time; never waits.

        Raises JobError if a topic was made anew.
        """
        if self._lock.acquire(blocking=False):
            try:
                self._poll()
            finally:
                self._lock.release()

    def _poll(self) -> None:
        if self._waiting and all(future.done() for future in self._waiting.values()):
            answers, self._waiting = self._waiting, {}
            failed = [error for future in answers.values() if (error := future.exception()) is not None]
            if failed:
                self._waits.goes_on(str(failed[0]))  # and the bound stays as old as it is
            else:
                self._waits.over()
                self._compare({name: _topic(future.result()) for name, future in answers.items()})
        now_ms = self._clock.now_ms()
        if not self._waiting and now_ms - self._asked_ms >= ASK_EVERY_MS:
            self._asked_ms = now_ms
            self._waiting = _request(self._admin, self._topics.by_name)

    def _compare(self, now: Mapping[str, Topic]) -> None:
        further: set[str] = set()
        for name, (topic_id, partitions) in self._topics.by_name.items():
            check_id(name, topic_id, now[name].id)
            added = now[name].partitions - partitions
            further |= {f"{name}/{number}" for number in added}
            self._telemetry.gauge("new_partitions", len(added), topic=name)
        if not further:
            self.complete_ms = self._asked_ms
        elif further != self._told:
            self._told = frozenset(further)
            self._tell(sorted(further))

    def _tell(self, further: list[str]) -> None:
        self.restart = self._stops
        does = "the job stops, to be started again" if self._stops else "they are not read until the job is restarted"
        log.warning("new_partitions", partitions=further, does=does)


def _request(admin: AdminClient, names: Iterable[str]) -> Mapping[str, Future[TopicDescription]]:
    return admin.describe_topics(TopicCollection(list(names)), request_timeout=ANSWER_TIMEOUT_S)


def _topic(described: TopicDescription) -> Topic:
    topic_id = str(described.topic_id)
    partitions = frozenset(partition.id for partition in described.partitions)
    return Topic("" if topic_id == _ZERO_ID else topic_id, partitions)
