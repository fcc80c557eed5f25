"""Live visits: what many idle ones cost those that are under way.

A population of visits of about 10 events in 3 experiments comes and falls silent, so long ago that their events lie
behind the watermark, but not so long that they may be forgotten. Then the reference load runs over it. Measured are:

* CPU of `sessions` per event of that traffic; a second run with few idle visits tells how far it depends on them;
* memory: what the resident size of the process has grown by, per visit, before the traffic;
* the pause of a snapshot, after each 10 s of traffic: `snapshot()` of every key group and `pickle` of what it gives, as
  the engine does, and how long SQLite takes to write that, which the engine does in the same pause;
* with `--restart`, a real job on a recovery store with these states: from its start to its first message from Kafka.

The population comes from another process through a pipe, so that none of it is in this one's memory but its visits.
"""

import gc
import heapq
import pickle
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, NamedTuple

import psutil
import typer

from bench import load
from bench.core import Pipeline, chunks
from bench.figures import Figures, details_of, most_memory_bytes, report
from bench.process import SNAPSHOT_S
from monitor.runtime import logs, memory

ARRIVING_S = 1_200
"""The population begins over so much time ..."""
SILENCE_S = 720
"""... and is silent for so long after its last event: longer than the allowed lateness, far from forgotten."""
WARM_UP_S, TRAFFIC_S = 120, 30
"""The traffic is measured once it is nearly as dense as it gets."""
EVENTS_PER_S = 4_170
"""The reference load, by default at the rate at which a million visits are live: each lives 2,400 s, with 10 events."""


class Pause(NamedTuple):
    """How long a snapshot of all key groups took, and its bytes by key."""

    wall_s: float
    states: dict[str, bytes]


def measure(visits: int, restart: bool, events_per_s: int) -> Figures:
    """Runs the traffic over so many idle visits."""
    memory.tune_collector()
    pipeline = Pipeline(load.config())
    pipeline.advance(load.START_MS)
    gc.collect()
    process = psutil.Process()
    empty_bytes = process.memory_info().rss
    now_ms = _populate(pipeline, visits)
    gc.collect()
    per_visit = (process.memory_info().rss - empty_bytes) / visits
    meter = pipeline.meters["sessions"]
    events = 0
    pauses: list[Pause] = []
    began_cpu_s = began_wall_s = 0.0
    epochs = groupby(_traffic(now_ms, events_per_s), lambda message: (message[2] - now_ms) // (1_000 * SNAPSHOT_S))
    for epoch, slice_of in epochs:
        if epoch == WARM_UP_S // SNAPSHOT_S:
            events, pauses, began_cpu_s, began_wall_s = 0, [], meter.cpu_s, meter.wall_s
        for chunk in chunks(slice_of):
            pipeline.tally(chunk, announce=True)
            events += len(chunk)
        pauses.append(snapshot(pipeline))
    states = pauses[-1].states
    details = details_of(
        visits=visits,
        bytes_per_visit=per_visit,
        pause_s=min(pause.wall_s for pause in pauses),
        pause_max_s=max(pause.wall_s for pause in pauses),
        pause_sqlite_s=_write_s(states),
        snapshot_bytes=sum(map(len, states.values())),
        **(_restarted(states, now_ms) if restart else {}),
    )
    cpu_s, wall_s = meter.cpu_s - began_cpu_s, meter.wall_s - began_wall_s
    return Figures(f"{visits:,} live visits", events, cpu_s, wall_s, most_memory_bytes(), "", details)


def snapshot(pipeline: Pipeline) -> Pause:
    """A snapshot of all key groups of sessions, as the engine makes it at the end of an epoch."""
    began_s = time.perf_counter()
    states = {key: pickle.dumps(step.snapshot()) for key, step in pipeline.sessions.items()}
    return Pause(time.perf_counter() - began_s, states)


def _traffic(now_ms: int, events_per_s: int) -> Iterator[load.Message]:
    """The reference load from `now_ms` on, for as long as it is wanted."""
    wanted_s = WARM_UP_S + TRAFFIC_S
    made = load.make(wanted_s * events_per_s, load.SEED + 1, now_ms, events_per_s)
    return (message for message in made.messages if message[2] < now_ms + 1_000 * wanted_s)


def _populate(pipeline: Pipeline, visits: int) -> int:
    """Lets the population come and fall silent; the time after that."""
    latest_ms = load.START_MS
    with _population(visits) as messages:
        parts = groupby(messages, lambda message: (message[2] - load.START_MS) // (1_000 * SNAPSHOT_S))
        for _, part in parts:
            for chunk in chunks(part):
                pipeline.tally(chunk, announce=True)
                latest_ms = max(latest_ms, chunk[-1][2])
            for step in pipeline.sessions.values():
                step.snapshot()
    now_ms = latest_ms + 1_000 * SILENCE_S
    pipeline.advance(now_ms)
    memory.trim_heap()  # as the job does every minute
    return now_ms


@contextmanager
def _population(visits: int) -> Iterator[Iterator[load.Message]]:
    command = [sys.executable, "-m", "bench.live", "--visits", str(visits), "--generate"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield load.parsed(process.stdout)
    if process.returncode:
        msg = f"{command} ended with status {process.returncode}"
        raise RuntimeError(msg)


def generate(visits: int) -> Iterator[load.Message]:
    """The events of the population in the order of time, each arriving at once."""
    chance = random.Random(load.SEED)
    waiting: list[tuple[int, int, bytes, bytes]] = []
    for number in range(visits):
        start_ms = load.START_MS + 1_000 * ARRIVING_S * number // visits
        while waiting and waiting[0][0] < start_ms:
            yield _message(heapq.heappop(waiting))
        session = f"{chance.getrandbits(72):018x}"
        for i, (time_ms, text) in enumerate(load.visit_events(chance, number | 8, session, start_ms)):
            heapq.heappush(waiting, (time_ms, number * 100 + i, session.encode(), text.encode()))
    while waiting:
        yield _message(heapq.heappop(waiting))


def _message(found: tuple[int, int, bytes, bytes]) -> load.Message:
    at_ms, _, key, value = found
    return key, value, at_ms


def _write_s(states: dict[str, bytes]) -> float:
    """How long SQLite takes to write the states to a file."""
    with TemporaryDirectory(prefix="monitor-bench-") as folder:
        began_s = time.perf_counter()
        with closing(sqlite3.connect(Path(folder, "snaps.sqlite3"))) as file, file:
            file.execute("PRAGMA journal_mode = WAL")
            file.execute("CREATE TABLE snaps (state_key TEXT PRIMARY KEY, ser_change BLOB)")
            file.executemany("INSERT INTO snaps VALUES (?, ?)", states.items())
        return time.perf_counter() - began_s


def _restarted(states: dict[str, bytes], now_ms: int) -> dict[str, float]:
    from bench import restart  # needs a broker

    return restart.measure(states, now_ms)


def main(
    visits: Annotated[int, typer.Option(help="Idle visits.")] = 1_000_000,
    restart: Annotated[bool, typer.Option(help="Also restart a job on a store with them; needs Kafka.")] = False,
    events_per_s: Annotated[int, typer.Option(help="Of the traffic, in event time.")] = EVENTS_PER_S,
    only_generate: Annotated[bool, typer.Option("--generate", help="Only write the population's messages.")] = False,
) -> None:
    """Measures live visits and prints the figures as JSON."""
    logs.set_up()
    if only_generate:
        sys.stdout.buffer.writelines(map(load.line, generate(visits)))
    else:
        report(measure(visits, restart, events_per_s))


if __name__ == "__main__":
    typer.run(main)
