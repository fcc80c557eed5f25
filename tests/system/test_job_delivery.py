"""A 204 is not storage: the numbers of the whole job are right in the end, whatever KairosDB forgets."""

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor import devstore
from tests.support import oracle
from tests.support.forgetful import forgetful
from tests.support.job import Job, configured, expected, health, log_of, totals
from tests.support.messages import BASE_MS, MINUTE_MS, message, shop
from tests.support.oracle import Message
from tests.support.servers import Kafka, KairosDB, Record, require

MINUTES, VISITS, SEALING = 6, 40, 250
LATENESS_S = 2


@pytest.fixture
def own_kairosdb(tmp_path: Path) -> Iterator[KairosDB]:
    """A real KairosDB that may be stopped."""
    require()
    with KairosDB(tmp_path / "kairosdb") as server:
        yield server


def _records(log: list[Message]) -> list[Record]:
    return [(each.partition, each.key, each.value, each.timestamp) for each in log]


def _visits(first_minute: int) -> list[Message]:
    """Visits over some minutes, in the order of their time."""
    rng = random.Random(first_minute)
    times = sorted(rng.randrange(MINUTES * MINUTE_MS) for _ in range(VISITS * 5))
    return [
        message(first_minute * MINUTE_MS + at, rng.choice(("home", "item")), sessionId=f"s-{rng.randrange(VISITS)}")
        for at in times
    ]


def _sealing(minute: int) -> list[Message]:
    """Enough messages of one clock to move the watermark of a topic with the producers' times."""
    return [message(minute * MINUTE_MS + i * 100, "home", sessionId="sealing") for i in range(SEALING)]


def _wrong(url: str, job: Job, kafka: Kafka, topic: str, until_minute: int) -> int:
    """How many totals before a minute differ from the oracle's."""
    want = expected(oracle.answer(job.config, log_of(kafka, [topic])), job.dc)
    got = totals(url, job.config)
    keys = [key for key in got.keys() | want.keys() if key[1] < BASE_MS + until_minute * MINUTE_MS]
    assert keys
    return sum(got.get(key) != want.get(key) for key in keys)


def test_what_a_store_answers_204_to_and_forgets_is_repaired(real_kafka: Kafka, tmp_path: Path) -> None:
    """Much of what is written is lost without any error: final minutes are read back, and end right. It is counted."""
    topic = "forgetful"
    real_kafka.create_topic(topic)
    with devstore.running(tmp_path / "store.sqlite3") as url, forgetful(url) as store:
        config = configured(shop(lateness_s=LATENESS_S), topic, real_kafka, [topic], store.url, tmp_path / "job")
        job = Job(tmp_path / "job", config)
        real_kafka.produce(topic, _records(_visits(0) + _sealing(2 * MINUTES)))
        with job.running() as run:
            run.awaits(lambda: store.forgotten > 3 and totals(url, config), "totals")
            run.awaits(lambda: _wrong(url, job, real_kafka, topic, MINUTES), "totals that are wrong")
            store.get_well()
            run.awaits(lambda: not _wrong(url, job, real_kafka, topic, MINUTES), "repairs")
            run.awaits(lambda: health(url, job.dc, "repaired")["repaired"], "word of the repairs")
            run.stop()
        assert not [letter for letter in tmp_path.rglob("dead-letters*.jsonl") if letter.read_text()]


def test_what_was_not_read_back_at_a_stop_is_read_back_by_the_next_run(real_kafka: Kafka, tmp_path: Path) -> None:
    """The job ends at the end of its topic, with its last minutes unread; the store forgets one of them meanwhile."""
    topic = "unread"
    real_kafka.create_topic(topic)
    with devstore.running(tmp_path / "store.sqlite3") as url, forgetful(url) as store:
        config = configured(shop(lateness_s=LATENESS_S), topic, real_kafka, [topic], store.url, tmp_path / "job")
        job = Job(tmp_path / "job", config)
        real_kafka.produce(topic, _records(_visits(0) + _sealing(2 * MINUTES)))
        job.run()
        store.get_well()
        assert _wrong(url, job, real_kafka, topic, MINUTES)
        with job.running() as run:
            run.awaits(lambda: not _wrong(url, job, real_kafka, topic, MINUTES), "repairs")
            run.stop()


@pytest.mark.parametrize("ending", ["stop", "kill"])
def test_a_kairosdb_that_is_restarted_loses_nothing(
    real_kafka: Kafka, own_kairosdb: KairosDB, tmp_path: Path, ending: str
) -> None:
    """It is ended at random moments while the job writes: totals and health counters are complete in the end."""
    topic, url = f"restarted-{ending}", own_kairosdb.url
    real_kafka.create_topic(topic)
    config = configured(shop(lateness_s=LATENESS_S), topic, real_kafka, [topic], url, tmp_path / "job")
    job = Job(tmp_path / "job", config)
    produced, chance = 0, random.Random(ending)

    def accepted() -> int:
        return sum(point.value for point in health(url, job.dc, "events")["events"])

    with job.running() as run:
        for turn in range(3):
            log = _visits(turn * MINUTES)
            real_kafka.produce(topic, _records(log))
            produced += len(log)
            wanted = produced - chance.randrange(len(log))
            run.awaits(lambda wanted=wanted: accepted() >= wanted, "events")  # type: ignore[misc]
            getattr(own_kairosdb, ending)()
            own_kairosdb.start()
        real_kafka.produce(topic, _records(_sealing(5 * MINUTES)))
        run.awaits(lambda: accepted() == produced + SEALING, "all events")
        run.awaits(lambda: not _wrong(url, job, real_kafka, topic, 3 * MINUTES), "totals")
        run.stop()
    answer = oracle.answer(config, log_of(real_kafka, [topic]))
    counters: Counter[str] = Counter()
    for point in health(url, job.dc, "events")["events"]:
        counters[point.tags["tenant"]] += point.value
    assert counters == answer.accepted
