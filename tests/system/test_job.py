"""The whole job on real Kafka and real KairosDB: the store holds exactly what the oracle makes of the log."""

import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from monitor.commands.main import app
from tests.support import golden, oracle
from tests.support.golden import CASES, CORRECTIONS, LOG_APPEND_TIME, Case
from tests.support.job import SLOW, Job, Run, assert_stored, configured, counted, log_of, messages_counted
from tests.support.oracle import Answer
from tests.support.servers import Kafka, Record, free_ports
from tests.support.strategies import BAD_FIELDS, NOT_JSON, STRANGE_FIELDS, Config, encode

AT_FULL_SPEED = "{}"
CRASH_WITHIN_S = 2.0
"""Of a start: long enough to read and to take snapshots, short enough to be hit while starting."""
STOPS = 3
STOP_S = 30.0
"""A stop has to be prompt, the last snapshot included; on a busy machine it takes longer than its second."""
STRANGE_MESSAGES = 2_000
HUGE_BYTES = 3 * 1024 * 1024
DEPTH = 100_000


class Golden(NamedTuple):
    """A case whose log is in Kafka; two of the ways to run it are under way while a test looks at the third."""

    case: Case
    kafka: Kafka
    topics: list[str]
    url: str
    folder: Path
    answer: Answer
    straight: tuple[Job, Run]
    two: tuple[Job, list[Run]]

    def slow_job(self, way: str) -> Job:
        """Another job on the same log, one that takes its time."""
        return _job(self.case.config, f"{self.case.name}-{way}", self.kafka, self.topics, self.url, self.folder, SLOW)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def run_case(
    request: pytest.FixtureRequest, real_kafka: Kafka, real_kairosdb: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Golden]:
    """Each golden case with its answer, from the log as it came to lie in the topics."""
    case: Case = request.param
    topics = golden.produce(real_kafka, case, f"golden-{case.name}")
    log = log_of(real_kafka, topics)
    answer = oracle.answer(case.config, log)
    missing = case.shows - golden.shown(case.config, log, answer)
    assert not missing, f"the log of {case.name} does not show {missing}"
    folder = tmp_path_factory.mktemp(case.name)
    straight, two = (
        _job(case.config, f"{case.name}-{way}", real_kafka, topics, real_kairosdb, folder)
        for way in ("straight", "two")
    )
    addresses = ";".join(f"127.0.0.1:{port}" for port in free_ports(2))
    with ExitStack() as stack:
        run = stack.enter_context(straight.running(KAFKA__TAIL="false"))
        runs = [
            stack.enter_context(two.running("-i", str(number), "-a", addresses, KAFKA__TAIL="false"))
            for number in range(2)
        ]
        yield Golden(case, real_kafka, topics, real_kairosdb, folder, answer, (straight, run), (two, runs))


def test_a_job_that_crashes_again_and_again_leaves_the_same_store(run_case: Golden) -> None:
    """Killed in the middle, then at any moment, and started again: the store holds what an undisturbed run leaves."""
    rng = random.Random(run_case.case.seed)
    job = run_case.slow_job("crashes")
    with job.running(KAFKA__TAIL="false") as run:
        run.awaits(job.position, "snapshot")
        time.sleep(rng.uniform(0, 1))
        run.crash()
    assert 0 < job.position() < run_case.case.messages
    for _ in range(2):
        with job.running(KAFKA__TAIL="false") as run:
            time.sleep(rng.uniform(0, CRASH_WITHIN_S))
            run.crash()
    job.run(KAFKA__OPTIONS=AT_FULL_SPEED)
    assert_stored(run_case.url, job.config, run_case.answer)


@pytest.mark.parametrize("run_case", [CORRECTIONS], indirect=True, ids=lambda case: case.name)
def test_what_a_crash_left_behind_is_written_over(run_case: Golden) -> None:
    """Totals written after the last snapshot are written again, also those that the replay, in other batches, ends with
    where they were at the snapshot.
    """
    job = run_case.slow_job("unsaved")
    with job.running(KAFKA__TAIL="false", snapshot_s="60") as run:
        wanted = run_case.case.messages // 2
        run.awaits(lambda: messages_counted(run_case.url, job.dc) > wanted, "half of the messages")
        run.crash()
    assert job.position() == 0
    job.run(KAFKA__OPTIONS=AT_FULL_SPEED)
    assert_stored(run_case.url, job.config, run_case.answer)


def test_a_straight_run_stores_and_counts_what_the_log_comes_to(run_case: Golden) -> None:
    """Read once to its end: every total is right, so is every count, and `monitor verify` says so."""
    job, run = run_case.straight
    run.ends_well()
    assert_stored(run_case.url, job.config, run_case.answer)
    assert counted(run_case.url, job.dc) == run_case.answer[1:4]
    assert not (job.folder / "dead-letters.jsonl").exists()
    verified = CliRunner().invoke(app, ["verify", "--config", str(job.folder / "monitor.toml"), "--to", "2100-01-01"])
    assert verified.exit_code == 0, verified.output
    assert f"equal: {len(run_case.answer.totals):,} points compared" in verified.output


def test_two_processes_leave_the_same_store(run_case: Golden) -> None:
    """A cluster of two shares the work, not the result."""
    job, runs = run_case.two
    for run in runs:
        run.ends_well()
    assert_stored(run_case.url, job.config, run_case.answer)


def test_mirrors_are_equal_but_for_their_dc(run_case: Golden) -> None:
    """Two jobs on one log, the second of two processes: `monitor verify --against` finds every point equal."""
    (job, run), (mirror, runs) = run_case.straight, run_case.two
    for ended in (run, *runs):
        ended.ends_well()
    status, said = _against(job, mirror)
    assert status == 0, said
    assert f"equal: {len(run_case.answer.totals):,} points compared" in said


@pytest.mark.parametrize("run_case", [CORRECTIONS], indirect=True, ids=lambda case: case.name)
def test_the_mirror_that_is_behind_is_named(run_case: Golden) -> None:
    """Stopped half way, it holds less; when it has caught up, both are equal."""
    (job, run), behind = run_case.straight, run_case.slow_job("behind")
    run.ends_well()
    with behind.running(KAFKA__TAIL="false") as half:
        half.awaits(behind.position, "snapshot")
        half.stop()
    assert 0 < behind.position() < run_case.case.messages
    status, said = _against(behind, job)
    assert status == 1, said
    assert f"{job.dc} is more complete" in said
    behind.run(KAFKA__OPTIONS=AT_FULL_SPEED)
    assert _against(behind, job)[0] == 0


def _against(job: Job, mirror: Job) -> tuple[int, str]:
    """Exit status and output of comparing a job's points with its mirror's."""
    config = ["--config", str(job.folder / "monitor.toml")]
    whole = ["--from", "2000-01-01", "--to", "2100-01-01"]
    verified = CliRunner().invoke(app, ["verify", *config, "--against", mirror.dc, *whole])
    return verified.exit_code, verified.output


@pytest.mark.parametrize("run_case", [CORRECTIONS], indirect=True, ids=lambda case: case.name)
def test_a_job_that_is_stopped_at_any_moment_goes_on_exactly_there(run_case: Golden) -> None:
    """SIGTERM and SIGINT: soon an end with status 0; after the last start nothing is lost and nothing counted twice."""
    rng = random.Random(run_case.case.seed)
    job = run_case.slow_job("stops")
    positions = [0]
    for number in range(STOPS):
        moment = job.position if number % 2 == 0 else job.starts
        before = moment()
        with job.running(KAFKA__TAIL="false") as run:
            run.awaits(partial(_beyond, moment, before), "progress")
            time.sleep(rng.uniform(0, 1))
            run.stop(signal.SIGINT if number % 2 else signal.SIGTERM, STOP_S)
        positions.append(job.position())
    assert 0 < positions[1] < run_case.case.messages
    assert positions == sorted(positions)
    job.run(KAFKA__OPTIONS=AT_FULL_SPEED)
    assert_stored(run_case.url, job.config, run_case.answer)
    assert counted(run_case.url, job.dc) == run_case.answer[1:4]


def _beyond(moment: Callable[[], int], before: int) -> bool:
    return moment() > before


def test_no_message_stops_the_job(real_kafka: Kafka, real_kairosdb: str, tmp_path: Path) -> None:
    """Whatever bytes are in a topic, the job comes to its end, and judges each message as the contract says."""
    config = {**CORRECTIONS.config, "limits": {}}
    real_kafka.create_topic("strange", 1, {**LOG_APPEND_TIME, "max.message.bytes": str(2 * HUGE_BYTES)})
    real_kafka.produce("strange", _strange(random.Random(7)))
    job = _job(config, "strange", real_kafka, ["strange"], real_kairosdb, tmp_path)
    job.run()
    answer = oracle.answer(config, log_of(real_kafka, ["strange"]))
    assert counted(real_kairosdb, job.dc) == answer[1:4]
    assert_stored(real_kairosdb, job.config, answer)


def _strange(rng: random.Random) -> Iterator[Record]:
    """Messages like those of a golden case, most of them mutated, and some extremes."""
    plain = [record for chunk in golden.chunks(CORRECTIONS) for _, record in chunk]
    for value in (*NOT_JSON, *_extremes()):
        yield 0, b"s-1", value, None
    for _ in range(STRANGE_MESSAGES):
        _, key, plain_value, _ = rng.choice(plain)
        assert isinstance(plain_value, bytes)
        yield 0, key, _mutated(rng, plain_value), None


def _mutated(rng: random.Random, value: bytes) -> bytes | None:
    """A value as damage leaves it: bytes flipped, cut off at either end, doubled, none at all, or as it was."""
    at = rng.randrange(len(value) + 1)
    match rng.randrange(8):
        case 0:
            return value[:at]
        case 1:
            return value[at:]
        case 2:
            return value[:at] + rng.randbytes(rng.randrange(1, 5)) + value[at + 1 :]
        case 3:
            return value[:at] + value[max(0, at - 9) :]
        case 4:
            return rng.choice((None, b"", value + b"\0", value * 2, b"\xff\xfe" + value))
        case 5:
            return bytes(byte ^ (1 << rng.randrange(8)) if rng.random() < 0.01 else byte for byte in value)
        case _:
            return value


def _extremes() -> Iterator[bytes | None]:
    """Values at which parsers break: none, huge, nested without end, numbers without end, every wrong field."""
    event = {"tenant": "corrected", "sessionId": "s-1", "time": time.time_ns() // 1_000_000, "event": "order"}
    text = encode(event)[:-1]
    yield from (None, b"[" * DEPTH, b'{"a":' * DEPTH, b"\0" * HUGE_BYTES)
    yield encode(event | {"padding": "p" * HUGE_BYTES})
    yield text + b', "attributes": {"total": ' + b"[" * DEPTH + b"]" * DEPTH + b"}}"
    yield text + b', "other": ' + b'{"a":' * DEPTH + b"1" + b"}" * DEPTH + b"}"
    for number in (b"9" * 300, b"9" * 5_000, b"1e400", b"-1e-400", b"0." + b"1" * 5_000):
        yield text + b', "eventId": "e' + number[:20] + b'", "attributes": {"total": ' + number + b"}}"
        yield text + b', "time": ' + number + b"}"
    yield from (encode(event | fields) for fields in (*BAD_FIELDS, *STRANGE_FIELDS))


def _job(
    config: Config,
    dc: str,
    kafka: Kafka,
    topics: list[str],
    url: str,
    folder: Path,
    options: Mapping[str, object] | None = None,
) -> Job:
    table = {**config.get("kafka", {}), "options": dict(options or {})}
    return Job(folder / dc, configured({**config, "kafka": table}, dc, kafka, topics, url, folder / dc))
