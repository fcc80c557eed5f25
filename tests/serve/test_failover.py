"""Two real jobs read one topic into one store, and things happen to them: what `monitor serve` says meanwhile."""

import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import requests

from monitor import devstore
from monitor.config import reader
from monitor.serve import answers, spans
from monitor.serve.own_metrics import Watch
from monitor.serve.service import open_service
from tests.support.golden import LOG_APPEND_TIME
from tests.support.job import ROOT, SLOW, Job, Run, configured
from tests.support.reading import points
from tests.support.servers import Kafka, free_ports
from tests.support.strategies import Config, encode, toml_value

TENANT, EXPERIMENT, TOPIC = "failing-over", "button_color", "failover"
PREFERRED, OTHER = "left", "right"
RIGHT_S = 60.0
"""How long it may take until what is read is right again."""
POLL_S = 0.5
LOAD_EVERY_S = 0.05
STEADY = 3
"""Answers in a row: with times as short as here, a report that comes late can make one of them look otherwise."""

SETTINGS: Config = {
    "time": {"session_gap_s": 20, "allowed_lateness_s": 8, "future_tolerance_s": 60, "idle_after_s": 1, "flush_s": 0.5},
    "serve": {"dcs": [PREFERRED, OTHER], "stale_after_s": 3, "behind_s": 4, "return_after_s": 3},
    "tenants": {
        TENANT: {
            "points": {"home_page": {"event": "page_view", "where": {"page": "home"}}},
            "experiments": {
                EXPERIMENT: {
                    "control": "blue",
                    "variations": {"blue": 1, "red": 1},
                    "qualified_when": {"point": "home_page"},
                }
            },
        }
    },
}


class Asked:
    """`monitor serve` as a process, the topic, and what must always hold between them."""

    def __init__(self, url: str, kafka: Kafka) -> None:
        self._url, self._kafka = url, kafka
        self._start_ms = time.time_ns() // 1_000_000

    def get(self, path: str, **parameters: Any) -> Any:
        """The JSON of a path."""
        answer = requests.get(self._url + path, parameters, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def visits(self) -> tuple[int, Any]:
        """All assigned visits, and what that rests on; never more than messages, of which each is a visit."""
        answer = self.get(f"/api/tenants/{TENANT}/experiments/{EXPERIMENT}", **{"from": self._start_ms})
        total = sum(variation["assigned"] for variation in answer["variations"])
        assert total <= self.messages()
        served = answer["basis"]["served"]
        assert [part["start"] for part in served[1:]] == [part["end"] for part in served[:-1]]
        return total, served

    def messages(self) -> int:
        """The number of messages in the topic."""
        return sum(self._kafka.end_offsets(TOPIC).values())

    def state(self, dc: str) -> str:
        """The state of a data center."""
        return next(str(health["state"]) for health in self.get("/api/health")["dcs"] if health["dc"] == dc)

    def serving(self) -> str:
        """The active data center."""
        return str(self.get("/api/health")["serving_dc"])

    def awaits(self, condition: Callable[[], bool], what: str) -> None:
        """Asks until it is so, with the reads right or behind all the time."""
        until_s = time.monotonic() + RIGHT_S
        while not condition():
            assert time.monotonic() < until_s, f"no {what}: {self.get('/api/health')}"
            self.visits()
            time.sleep(POLL_S)

    def is_right_by(self, dc: str) -> None:
        """Waits until a data center serves the present, and all that is in the topic now is counted."""
        messages = self.messages()
        self.awaits(lambda: all(self.serving() == dc for _ in range(STEADY)), f"{dc} to serve")
        self.awaits(lambda: self.visits()[0] >= messages, f"{messages} visits")


def test_reads_are_right_whatever_becomes_of_a_job(real_kafka: Kafka, tmp_path: Path) -> None:
    """One is stopped, frozen, slowed down, robbed of its state; both are stopped and the other comes back: each time
    the reads are right within a minute, and never double.
    """
    real_kafka.create_topic(TOPIC, 2, LOG_APPEND_TIME)
    with devstore.running(tmp_path / "store.sqlite3") as url, ExitStack() as jobs:
        left, right = (_job(real_kafka, dc, url, tmp_path / dc) for dc in (PREFERRED, OTHER))
        loading = ExitStack()
        with _served(left, tmp_path) as at, loading:
            loading.enter_context(_load(real_kafka))
            asked = Asked(at, real_kafka)
            first, other = jobs.enter_context(left.running()), jobs.enter_context(right.running())
            asked.awaits(lambda: asked.state(PREFERRED) == asked.state(OTHER) == "healthy", "health of both")
            asked.is_right_by(PREFERRED)

            first.stop()
            asked.is_right_by(OTHER)
            first = jobs.enter_context(left.running())
            asked.is_right_by(PREFERRED)

            first.process.send_signal(signal.SIGSTOP)
            asked.is_right_by(OTHER)
            first.process.send_signal(signal.SIGCONT)
            asked.is_right_by(PREFERRED)

            first = _slowed(jobs, left, first)
            asked.awaits(lambda: asked.state(PREFERRED) == "behind", "delay")
            asked.is_right_by(OTHER)
            first.crash()
            shutil.rmtree(left.recovery)
            first = jobs.enter_context(left.running())
            asked.is_right_by(PREFERRED)

            first.stop()
            other.stop()
            asked.awaits(lambda: "silent" in str(asked.get("/api/health")["advice"]), "word of the silence")
            jobs.enter_context(right.running())
            asked.is_right_by(OTHER)
            loading.close()
            asked.is_right_by(OTHER)
            switches = asked.get("/api/health")["failovers"]
        _assert_told(switches)
        _assert_agreed(url, left.config, asked)


def _assert_told(switches: list[dict[str, Any]]) -> None:
    """The switches, the newest first: there and back for each fault."""
    assert all(before["to_dc"] == after["from_dc"] for after, before in pairwise(switches))
    assert switches[0]["to_dc"] == OTHER
    assert {switch["reason"] for switch in switches if switch["to_dc"] == PREFERRED} == {"preferred"}
    assert {switch["reason"] for switch in switches if switch["to_dc"] == OTHER} <= {"stale", "behind", "missing"}
    assert 5 <= len(switches) <= 13


def _assert_agreed(url: str, settings: Config, asked: Asked) -> None:
    """Another service over the same store comes to the same, and writes its failovers."""
    with open_service(reader.parse(settings), url) as service:
        served = answers.experiment(service, TENANT, EXPERIMENT, spans.last(service.now_ms(), 1))
        total = sum(variation.assigned for variation in served.variations)
        assert total == asked.messages()
        watch = Watch(service, url)
        assert watch.once() > 0
        written = points(url, "monitor.failover")
        assert {dict(tags)["dc"] for _, _, tags in written} == {PREFERRED, OTHER}
        watch.once()
        assert points(url, "monitor.failover") == written
        assert not any(points(url, "monitor.divergence_ppm").values())


def _job(kafka: Kafka, dc: str, url: str, folder: Path) -> Job:
    return Job(folder, configured(SETTINGS, dc, kafka, [TOPIC], url, folder))


def _slowed(jobs: ExitStack, job: Job, run: Run) -> Run:
    """The job, started again so that it reads less than comes in."""
    run.stop()
    options = {**SLOW, "fetch.queue.backoff.ms": 400}
    return jobs.enter_context(job.running(KAFKA__OPTIONS=toml_value(options)))


@contextmanager
def _served(job: Job, folder: Path) -> Iterator[str]:
    """The base URL of a process of the command."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "monitor", "serve", "--config", str(job.folder / "monitor.toml")]
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen([*command, "--port", str(port)], cwd=ROOT, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        until_s = time.monotonic() + RIGHT_S
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > until_s:
                pytest.fail(f"serve does not answer; it said:\n{(folder / 'serve.log').read_text()}")
            time.sleep(POLL_S)
        yield url
        process.terminate()
        assert process.wait(RIGHT_S) == 0, (folder / "serve.log").read_text()
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/api/health", timeout=5).ok
    except requests.RequestException:
        return False


@contextmanager
def _load(kafka: Kafka) -> Iterator[None]:
    """A visit to each partition, again and again."""
    ending = threading.Event()

    def work() -> None:
        number = 0
        while not ending.wait(LOAD_EVERY_S):
            number += 1
            kafka.produce(TOPIC, [(place, f"s-{place}-{number}", _event(place, number), None) for place in range(2)])

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def _event(place: int, number: int) -> bytes:
    return encode(
        {
            "tenant": TENANT,
            "sessionId": f"s-{place}-{number}",
            "time": time.time_ns() // 1_000_000,
            "event": "page_view",
            "assignments": {EXPERIMENT: ("blue", "red")[number % 2]},
            "attributes": {"page": "home"},
        }
    )
