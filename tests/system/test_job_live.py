"""The whole job while it follows a topic: stops and backlogs, silent partitions, servers that go away, its health."""

import itertools
import random
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from monitor.runtime.signals import RESTART_STATUS
from tests.support import golden, oracle
from tests.support.golden import CORRECTIONS, LOG_APPEND_TIME
from tests.support.job import (
    ROOT,
    RUN_S,
    SLOW,
    Job,
    Run,
    assert_stored,
    configured,
    counted,
    health,
    log_of,
    messages_counted,
)
from tests.support.oracle import Event, Message, classify
from tests.support.servers import Kafka, KairosDB, Record, free_ports
from tests.support.shifted_clock import ShiftedClock, unavailable
from tests.support.strategies import Config, encode

LATENESS_S, IDLE_S = 8, 1
STOP_S = 30.0
FIRST_MESSAGES = 120
BURSTS, BURST_MESSAGES, PAUSE_S = 8, 60, 0.4
MARGINS_MS = (-400, -100, 60, 100, 150, 250, 400, 1_000, 2_000, 5_000)
"""How far within the allowed lateness events are when they are made; they come to lie a few milliseconds later."""
PAUSED_S = 3
LOAD_EVERY_S = 0.02
OUTAGE_MESSAGES = 100
"""That come in while a server is down, or before and after."""
_MEETING = """
import pathlib, sys
from monitor.flow.recovery_meeting import Seat
Seat(pathlib.Path(sys.argv[1]), "0").meet(2)
sys.stdin.read()
"""

SHOP: Config = {
    "time": {"session_gap_s": 20, "allowed_lateness_s": LATENESS_S, "future_tolerance_s": 60},
    "tenants": {
        "live-shop": {
            "tags": {"device": ["mobile", "desktop"]},
            "points": {
                "home_page": {"event": "page_view", "where": {"page": "home"}},
                "order": {"event": "order", "value": {"attribute": "total", "scale": 100, "max": 1_000_000}},
                "engaged": {"event": "page_view", "nth": 2},
            },
            "experiments": {
                "button_color": {
                    "control": "blue",
                    "variations": {"blue": 1, "red": 1},
                    "qualified_when": {"any": [{"point": "home_page"}, {"point": "engaged"}]},
                }
            },
        }
    },
}


@pytest.fixture(scope="module")
def own_servers(tmp_path_factory: pytest.TempPathFactory, real_kafka: Kafka) -> Iterator[tuple[Kafka, KairosDB]]:
    """Servers that may be paused and stopped."""
    kafka, kairosdb = Kafka(tmp_path_factory.mktemp("kafka")), KairosDB(tmp_path_factory.mktemp("kairosdb"))
    try:
        with ThreadPoolExecutor() as pool:
            starting = pool.submit(kafka.start), pool.submit(kairosdb.start)
            for started in starting:
                started.result()
        yield kafka, kairosdb
    finally:
        kafka.stop()
        kairosdb.stop()


@pytest.fixture
def own_kafka(own_servers: tuple[Kafka, KairosDB]) -> Kafka:
    """The Kafka that may be stopped."""
    return own_servers[0]


@pytest.fixture
def own_kairosdb(own_servers: tuple[Kafka, KairosDB]) -> KairosDB:
    """The KairosDB that may be stopped."""
    return own_servers[1]


def test_nothing_of_a_backlog_is_rejected_that_live_reading_would_have_kept(
    real_kafka: Kafka, real_kairosdb: str, tmp_path: Path
) -> None:
    """What came in while the job was down, on time, is on time; however unevenly it lies, and is read."""
    rng = random.Random(11)
    job = _job(real_kafka, "backlog", 4, LOG_APPEND_TIME, real_kairosdb, tmp_path, options=SLOW)
    real_kafka.produce("backlog", _events(rng, range(4), FIRST_MESSAGES))
    with job.running() as run:
        run.awaits(lambda: messages_counted(real_kairosdb, job.dc) == FIRST_MESSAGES, "end of the topic")
        run.awaits(lambda: _watermark_s(real_kairosdb, job.dc), "watermark")
        run.stop(timeout_s=STOP_S)
    for burst in range(BURSTS):
        places = [0, 0, 0, 0, 0, 0, *([1] if burst == 0 else []), *([2] if burst == BURSTS - 1 else [])]  # 3 is silent
        real_kafka.produce("backlog", _events(rng, places, BURST_MESSAGES))
        time.sleep(PAUSE_S)
    job.run()
    answer = oracle.answer(job.config, log_of(real_kafka, ["backlog"]))
    assert answer.rejected["live-shop", "late"]
    assert counted(real_kairosdb, job.dc) == answer[1:4]
    assert_stored(real_kairosdb, job.config, answer)


def test_silent_partitions_do_not_hold_the_watermark_back(
    real_kafka: Kafka, real_kairosdb: str, tmp_path: Path
) -> None:
    """Where the broker sets the time, the watermark follows the present, with messages in one of four partitions and
    with none. Where producers do, it follows the partition that moves, and there is none before its first messages.
    """
    broker = _job(real_kafka, "silent", 4, LOG_APPEND_TIME, real_kairosdb, tmp_path / "broker", lateness_s=1)
    producer = _job(real_kafka, "created", 4, {}, real_kairosdb, tmp_path / "producer", lateness_s=1)
    numbers = itertools.count()

    def passed(job: Job) -> bool:
        return _watermark_s(real_kairosdb, job.dc) >= since_s

    def fed(job: Job) -> bool:
        now_ms = time.time_ns() // 1_000_000
        real_kafka.produce(job.dc, [(0, b"s-0", _event("s-0", now_ms, next(numbers)), now_ms) for _ in range(40)])
        return passed(job)

    with broker.running() as at_broker, producer.running() as at_producer:
        since_s = time.time()
        at_broker.awaits(lambda: passed(broker), "watermark of today, without messages")
        at_producer.awaits(lambda: len(health(real_kairosdb, producer.dc, "cpu_ms")["cpu_ms"]) >= 3, "reports")
        assert not _watermark_s(real_kairosdb, producer.dc)
        since_s = time.time()
        at_broker.awaits(lambda: fed(broker) & fed(producer), "later watermark, with messages in one partition")
        at_broker.stop()
        at_producer.stop()


def test_the_watermark_waits_for_a_broker_that_does_not_answer(
    own_kafka: Kafka, real_kairosdb: str, tmp_path: Path
) -> None:
    """Silence proves nothing: what is appended meanwhile, unseen, must not be late."""
    job = _job(own_kafka, "paused", 2, LOG_APPEND_TIME, real_kairosdb, tmp_path, lateness_s=1)
    with job.running() as run:
        since_s = time.time()
        run.awaits(lambda: _watermark_s(real_kairosdb, job.dc) >= since_s, "watermark of today")
        own_kafka.pause()
        paused_s = time.time()
        try:
            run.awaits(lambda: _reported_s(real_kairosdb, job.dc) > paused_s + PAUSED_S, "reports during the pause")
            assert _watermark_s(real_kairosdb, job.dc) <= paused_s - IDLE_S - 1
        finally:
            own_kafka.resume()
        run.awaits(lambda: _watermark_s(real_kairosdb, job.dc) > paused_s, "watermark after the pause")
        run.stop()


def test_an_outage_of_kafka_is_waited_for(own_kafka: Kafka, real_kairosdb: str, tmp_path: Path) -> None:
    """Kafka restarts under load: the job goes on by itself, says what it waits for, and nothing is lost."""
    job = _job(own_kafka, "restarted", 3, LOG_APPEND_TIME, real_kairosdb, tmp_path)
    with job.running() as run:
        with _load(own_kafka, "restarted"):
            run.awaits(lambda: messages_counted(real_kairosdb, job.dc) > OUTAGE_MESSAGES, "messages")
            own_kafka.stop()
            run.awaits(lambda: "kafka_waiting" in run.said(), "word of the outage")
            own_kafka.start()
            back_s = time.time()
            before = messages_counted(real_kairosdb, job.dc)
            run.awaits(lambda: messages_counted(real_kairosdb, job.dc) > before + OUTAGE_MESSAGES, "messages after it")
        wanted = sum(own_kafka.end_offsets("restarted").values())
        run.awaits(lambda: messages_counted(real_kairosdb, job.dc) >= wanted, "end of the topic")
        run.awaits(lambda: "kafka_recovered" in run.said(), "word of its end")
        run.awaits(lambda: _watermark_s(real_kairosdb, job.dc) > back_s, "later watermark")
        _stop_and_judge(run, job, own_kafka, "restarted", real_kairosdb)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_waits_for_its_cluster_can_be_stopped(
    number: signal.Signals, real_kafka: Kafka, real_kairosdb: str, tmp_path: Path
) -> None:
    """The other one was there when the job began, and ended before the engine had connected the two."""
    job = _job(real_kafka, f"unconnected-{number.name.lower()}", 1, LOG_APPEND_TIME, real_kairosdb, tmp_path)
    addresses = ";".join(f"127.0.0.1:{port}" for port in free_ports(2))
    with job.running("-i", "1", "-a", addresses) as run, _other_process(job):
        run.awaits(lambda: "error connecting to worker 0" in run.said(), "word of the connection")
        run.stop(number)
        assert '"job_stopped"' in run.said()


@pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
def test_a_job_whose_clock_is_set_back_is_started_again(
    real_kafka: Kafka, real_kairosdb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine waits by the clock: it would stand still for an hour. Steps forward, and small ones, do nothing."""
    clock = ShiftedClock(tmp_path / "clock")
    for name, value in clock.environment.items():
        monkeypatch.setenv(name, value)
    job = _job(real_kafka, "set-back", 3, LOG_APPEND_TIME, real_kairosdb, tmp_path)
    with _load(real_kafka, "set-back"):
        with job.running() as run:
            run.awaits(lambda: messages_counted(real_kairosdb, job.dc) > FIRST_MESSAGES, "messages")
            for shift_ms in (3_600_000, 3_595_000):
                clock.set(shift_ms)
                before = job.position()
                run.awaits(lambda before=before: job.position() > before, "progress")  # type: ignore[misc]
            clock.set(0)
            assert run.status() == RESTART_STATUS
            assert '"clock_set_back"' in run.said()
        with job.running() as run:
            before = job.position()
            run.awaits(lambda: job.position() > before, "progress")
            run.stop()
    job.run()
    assert_stored(real_kairosdb, job.config, oracle.answer(job.config, log_of(real_kafka, ["set-back"])))


@contextmanager
def _other_process(job: Job) -> Iterator[None]:
    """Process 0 of two as far as their meeting, and no further."""
    command = [sys.executable, "-c", _MEETING, str(job.recovery)]
    job.recovery.mkdir(exist_ok=True)
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE) as process:
        yield
        process.communicate()


def test_an_outage_of_kairosdb_is_waited_for(real_kafka: Kafka, own_kairosdb: KairosDB, tmp_path: Path) -> None:
    """KairosDB is away for some seconds under load: the job goes on by itself, says so, and nothing is lost."""
    job = _job(real_kafka, "unstored", 3, LOG_APPEND_TIME, own_kairosdb.url, tmp_path)
    with job.running() as run:
        with _load(real_kafka, "unstored"):
            run.awaits(lambda: messages_counted(own_kairosdb.url, job.dc) > OUTAGE_MESSAGES, "messages")
            own_kairosdb.stop()
            before = sum(real_kafka.end_offsets("unstored").values())
            run.awaits(lambda: "kairosdb_waiting" in run.said(), "word of the outage")
            run.awaits(lambda: sum(real_kafka.end_offsets("unstored").values()) > before + OUTAGE_MESSAGES, "load")
            own_kairosdb.start()
            run.awaits(lambda: "kairosdb_recovered" in run.said(), "word of its end")
        wanted = sum(real_kafka.end_offsets("unstored").values())
        run.awaits(lambda: messages_counted(own_kairosdb.url, job.dc) >= wanted, "end of the topic")
        _stop_and_judge(run, job, real_kafka, "unstored", own_kairosdb.url)
        assert sum(point.value for point in health(own_kairosdb.url, job.dc, "retries")["retries"]) > 0


def test_the_health_of_a_job_that_follows_a_topic(real_kafka: Kafka, real_kairosdb: str, tmp_path: Path) -> None:
    """Every metric that the contract lists is there, with its tags, and they agree with the log."""
    topics = golden.produce(real_kafka, CORRECTIONS, "health")
    config = configured(CORRECTIONS.config, "health", real_kafka, topics, real_kairosdb, tmp_path / "job")
    job = Job(tmp_path / "job", config)
    log = log_of(real_kafka, topics)
    answer = oracle.answer(job.config, log)
    tenant, worker, partitions = {"tenant": "corrected"}, {"worker": "0"}, range(CORRECTIONS.topics[0])
    names: dict[str, list[dict[str, str]]] = {
        "events": [tenant],
        "rejected": [{"tenant": found, "reason": reason} for found, reason in answer.rejected],
        "noted": [
            {"tenant": found, "reason": reason} | ({"point": "order"} if reason == "bad_value" else {})
            for found, reason in answer.warnings
        ],
        **{name: [tenant] for name in ("corrections", "delay_ms.sum", "delay_ms.count", "delay_ms.max")},
        "lag": [{"topic": topics[0], "partition": str(number)} for number in partitions],
        **{name: [{}] for name in ("watermark_s", "sessions", "totals", "points_written", "write_ms")},
        **{name: [worker] for name in ("snapshot_ms", "memory_bytes", "cpu_ms")},
    }

    def told() -> dict[str, list[Any]] | None:
        found = health(real_kairosdb, job.dc, *names)
        return (
            found
            if all(found.values())
            and not any(point.value for point in found["lag"][-len(partitions) :])
            and found["totals"][-1].value > len(answer.totals) - 100
            else None
        )

    with job.running() as run:
        found = run.awaits(told, "metric of each name, no lag, and the totals of the whole log")
        run.stop()
    for name, tags in names.items():
        assert _distinct(point.tags for point in found[name]) == _distinct(tags), name
    found = health(real_kairosdb, job.dc, *names)
    sums = {name: sum(point.value for point in points) for name, points in found.items()}
    assert counted(real_kairosdb, job.dc) == answer[1:4]
    accepted = answer.accepted.total()
    assert sums["events"] == sums["delay_ms.count"] == accepted
    assert sums["corrections"] > 0
    delays_ms = _delays_ms(job.config, log)
    assert sums["delay_ms.sum"] == sum(delays_ms)
    assert max(point.value for point in found["delay_ms.max"]) == max(delays_ms)
    assert 0 < found["sessions"][-1].value <= len(answer.visits)
    assert len(answer.totals) - 100 < found["totals"][-1].value < len(answer.totals) * 2
    assert sums["points_written"] > len(answer.totals)
    assert health(real_kairosdb, job.dc, "dead_letters")["dead_letters"] == []
    assert not (job.folder / "dead-letters.jsonl").exists()


def _job(
    kafka: Kafka,
    topic: str,
    partitions: int,
    topic_config: dict[str, str],
    url: str,
    folder: Path,
    lateness_s: int = LATENESS_S,
    options: Any = None,
) -> Job:
    """A job on a new topic; its dc is the topic's name."""
    kafka.create_topic(topic, partitions, topic_config)
    config = {
        **SHOP,
        "time": {**SHOP["time"], "allowed_lateness_s": lateness_s, "idle_after_s": IDLE_S, "flush_s": 0.5},
        "kafka": {"options": dict(options or {})},
    }
    return Job(folder / "job", configured(config, topic, kafka, [topic], url, folder / "job"))


def _stop_and_judge(run: Run, job: Job, kafka: Kafka, topic: str, url: str) -> None:
    """Stops a job that has come to the end of its topic, and compares what it has left with the oracle's answer."""
    run.stop()
    answer = oracle.answer(job.config, log_of(kafka, [topic]))
    assert counted(url, job.dc) == answer[1:4]
    assert_stored(url, job.config, answer)


@contextmanager
def _load(kafka: Kafka, topic: str) -> Iterator[None]:
    """Produces events all the time, whether Kafka answers or not; at the end all are in the topic."""
    options = {"bootstrap.servers": kafka.bootstrap, "enable.idempotence": True, "log_level": 2}
    producer = Producer({**options, "reconnect.backoff.max.ms": 200, "linger.ms": 20})
    ending = threading.Event()

    def work() -> None:
        rng = random.Random(13)
        while not ending.wait(LOAD_EVERY_S):
            for partition, key, value, _ in _events(rng, (0, 0, 1, 2), 2):
                producer.produce(topic, value, key, partition)
            producer.poll(0)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()
        left = producer.flush(RUN_S)
    assert left == 0


def _events(rng: random.Random, places: Any, count: int) -> Iterator[Record]:
    """Events of now, most of them as old as just is allowed; a session is always in the same partition."""
    for number in range(count):
        partition = rng.choice(list(places))
        session = f"s-{partition}-{rng.randrange(30)}"
        time_ms = time.time_ns() // 1_000_000 - LATENESS_S * 1_000 + rng.choice(MARGINS_MS)
        yield partition, session.encode(), _event(session, time_ms, rng.randrange(10**6), rng, number), None


def _event(session: str, time_ms: int, identity: int, rng: random.Random | None = None, number: int = 0) -> bytes:
    rng = rng or random.Random(number)
    return encode(
        {
            "tenant": "live-shop",
            "sessionId": session,
            "time": time_ms,
            "event": rng.choice(("page_view", "page_view", "order")),
            "eventId": f"e{identity}",
            "assignments": {"button_color": rng.choice(("blue", "blue", "blue", "red"))},
            "attributes": {
                "page": rng.choice(("home", "item")),
                "device": rng.choice(("mobile", "desktop", "tv")),
                "total": rng.choice((1, 19.99, -3)),
            },
        }
    )


def _watermark_s(url: str, dc: str) -> int:
    """The watermark that was reported last; 0 if there is none."""
    return max((point.value for point in health(url, dc, "watermark_s")["watermark_s"]), default=0)


def _reported_s(url: str, dc: str) -> float:
    """When the watermark was reported last."""
    return max((point.timestamp_ms / 1_000 for point in health(url, dc, "watermark_s")["watermark_s"]), default=0.0)


def _delays_ms(config: Config, log: list[Message]) -> list[int]:
    """How long after it happened each accepted event came in."""
    held: defaultdict[tuple[str, str], list[Event]] = defaultdict(list)
    delays_ms = []
    for message in log:
        _, reason, event = classify(config, message, held)
        if reason is None and event is not None:
            held[event.tenant, event.session_id].append(event)
            delays_ms.append(message.timestamp - event.time)
    return delays_ms


def _distinct(tags: Any) -> set[tuple[tuple[str, str], ...]]:
    return {tuple(sorted(found.items())) for found in tags}
