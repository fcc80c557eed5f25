"""A writer with all that it needs, for tests; its times are milliseconds."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from monitor.core.metrics import DataPoint
from monitor.kairosdb.dead_letters import DeadLetters
from monitor.kairosdb.points import Renderer
from monitor.kairosdb.stats import WriterStats
from monitor.kairosdb.writer import Writer, WriterSettings
from tests.support.faulty_server import FaultyServer

T_MS = 1_795_491_060_000
QUICK = WriterSettings(
    linger_s=0.01,
    connect_timeout_s=1,
    read_timeout_s=5,
    backoff_first_s=0.001,
    backoff_max_s=0.004,
    retry_after_max_s=0.01,
)
PATIENT = replace(QUICK, linger_s=60)
"""Sends only full requests, or at a flush."""
TIMEOUT_S = 20


class Rig:
    """A writer with what it needs, and what it gave up."""

    def __init__(self, server: FaultyServer, path: Path, settings: WriterSettings) -> None:
        self.stats = WriterStats()
        self.letters = DeadLetters(path)
        self.writer = Writer(server.url, Renderer("dal", 2_592_000), self.letters, self.stats, settings)

    def given_up(self) -> list[dict[str, Any]]:
        """The dead letters on the disk."""
        path = self.letters.path
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@contextmanager
def rigged(server: FaultyServer, path: Path, settings: WriterSettings) -> Iterator[Rig]:
    """A rig whose thread is gone afterwards."""
    rig = Rig(server, path, settings)
    with closing(rig.letters), closing(rig.writer):
        yield rig
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("kairosdb-writer")]


def points_of(count: int, value: int = 1) -> list[DataPoint]:
    """Points that differ in series or timestamp, many of them of one metric."""
    return [DataPoint(f"m.{index // 500}|tag=v{index}", T_MS, value) for index in range(count)]


def cells_of(points: list[DataPoint]) -> dict[tuple[str, int], int | float]:
    return {(series, timestamp_ms): value for series, timestamp_ms, value in points}


def until(condition: Callable[[], bool], timeout_s: float = TIMEOUT_S) -> None:
    """Returns when the condition holds."""
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "must come true"
        time.sleep(0.001)


def in_thread(work: Callable[[], object]) -> Callable[[], BaseException | None]:
    """Runs in a thread; the result waits for its end and gives what it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def end() -> BaseException | None:
        thread.join(TIMEOUT_S)
        assert not thread.is_alive(), "must end"
        return raised[0] if raised else None

    return end
