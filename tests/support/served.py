"""A store that two mirrors have filled with one log, and what the log comes to, for tests of the query service."""

import socket
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import requests
import uvicorn
from starlette.types import ASGIApp

from monitor.config import reader as configuration
from monitor.serve.app import create_app
from monitor.serve.service import Service, open_service
from tests.support import oracle, reading
from tests.support.golden import CORRECTIONS, LONG_DAY, chunks
from tests.support.job import expected
from tests.support.oracle import Answer, Key, Message
from tests.support.strategies import Config

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
DCS = ("served-dal", "served-cdc")
LATENESS_S = 600
REPORT_MS = 20_000

CASE = LONG_DAY._replace(
    name="served",
    seed=21,
    messages=2_500,
    alive=30,
    text=CORRECTIONS.text.replace("session_gap_s = 60", "session_gap_s = 600").replace(
        "allowed_lateness_s = 60", f"allowed_lateness_s = {LATENESS_S}"
    ),
)
TENANT, BUTTON, CHECKOUT = "corrected", "button_color", "fast_checkout"
PATH = f"/api/tenants/{TENANT}/experiments"


class Served(NamedTuple):
    """A log, its configuration, what it comes to, and when it ends: the present of the tests."""

    config: Config
    answer: Answer
    start_ms: int
    now_ms: int
    by_name: dict[str, list[tuple[int, dict[str, str], float]]]

    def totals(self, dc: str) -> dict[Key, float]:
        """The totals of one data center."""
        return expected(self.answer, dc)

    def sum(self, name: str, start_ms: int, end_ms: int, **tags: str | Sequence[str]) -> float:
        """A metric over a range, for these values of tags."""
        return sum(
            value
            for minute_ms, of_total, value in self.by_name.get(f"{TENANT}.visit.{name}", ())
            if start_ms <= minute_ms < end_ms
            and all(of_total[tag] in ([values] if isinstance(values, str) else values) for tag, values in tags.items())
        )


def log_of_case() -> list[Message]:
    """The log of the case; timestamps are its own."""
    log: list[Message] = []
    for chunk in chunks(CASE):
        for _, (partition, key, value, timestamp_ms) in chunk:
            assert timestamp_ms is not None
            assert not isinstance(key, str)
            assert isinstance(value, bytes)
            log.append(Message(partition, len(log), timestamp_ms, key, value))
    return sorted(log, key=lambda message: message[:2])


@cache
def served() -> Served:
    """The case, computed once."""
    config: dict[str, Any] = {**CASE.config, "serve": {"dcs": list(DCS)}}
    config["tenants"][TENANT]["points"]["order"]["value"]["max"] = 100_000
    answer = oracle.answer(config, log_of_case())
    minutes = [minute_ms for _, minute_ms, _ in answer.totals]
    by_name: defaultdict[str, list[tuple[int, dict[str, str], float]]] = defaultdict(list)
    for (name, minute_ms, tags), value in answer.totals.items():
        by_name[name].append((minute_ms, dict(tags), value))
    return Served(config, answer, min(minutes), max(minutes) + 3 * MINUTE_MS + 17_000, by_name)


def write(url: str, totals: Mapping[Key, float]) -> None:
    """Writes contributions, sums of squares as doubles."""
    written = [
        (name, minute_ms, dict(tags), float(value) if name.endswith(".sumsq") else value)
        for (name, minute_ms, tags), value in totals.items()
    ]
    post(url, written)


def report(url: str, dc: str, start_ms: int, end_ms: int, behind_s: int = 0, lateness_s: int = LATENESS_S) -> None:
    """Writes the watermarks that a healthy job reports, from a moment to before another."""
    moments = range(start_ms, end_ms, REPORT_MS)
    post(url, [("monitor.watermark_s", at_ms, {"dc": dc}, at_ms // 1_000 - lateness_s - behind_s) for at_ms in moments])


def post(url: str, points: Iterable[tuple[str, int, dict[str, str], int | float]]) -> None:
    """Writes points, over those that are there."""
    reading.write(url, points)


@contextmanager
def serving(url: str, case: Served, **settings: Any) -> Iterator["Client"]:
    """The service over a store, with the end of the log as the present."""
    parsed = configuration.parse({**case.config, "serve": {"dcs": list(DCS)} | settings})
    with open_service(parsed, url, lambda: case.now_ms) as service, http(create_app(service)) as at:
        yield Client(at, service)


class Client(NamedTuple):
    """A client of the API."""

    url: str
    service: Service

    def ask(self, path: str, headers: Mapping[str, str] | None = None, **parameters: Any) -> requests.Response:
        """Whatever is answered."""
        return requests.get(self.url + path, parameters, headers=headers, timeout=30)

    def get(self, path: str, **parameters: Any) -> Any:
        """The JSON of a path below the tenant's experiments."""
        answer = self.ask(PATH + path, **parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def problem(self, path: str, **parameters: Any) -> Any:
        """A refusal, which has all that a problem has."""
        answer = self.ask(path, **parameters)
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["status"] == answer.status_code
        assert problem.keys() == {"type", "title", "status", "detail", "fix"}
        assert all(problem.values())
        return problem


def filled(url: str, case: Served) -> str:
    """Both mirrors, and their reports from an hour before the log until the present."""
    for dc in DCS:
        write(url, case.totals(dc))
        report(url, dc, case.start_ms - HOUR_MS, case.now_ms)
    return url


def ranges(case: Served) -> list[tuple[int, int]]:
    """All of the log, a part that is final and cuts hours, and one minute."""
    middle_ms = case.start_ms + 3 * HOUR_MS + 7 * MINUTE_MS
    return [
        (case.start_ms, case.now_ms // MINUTE_MS * MINUTE_MS + MINUTE_MS),
        (middle_ms, middle_ms + 2 * HOUR_MS + 11 * MINUTE_MS),
        (middle_ms, middle_ms + MINUTE_MS),
    ]


@contextmanager
def http(app: ASGIApp) -> Iterator[str]:
    """The base URL of an application that is served, for as long as the block lasts."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = uvicorn.Server(uvicorn.Config(app, access_log=False, log_config=None, ws="none"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
