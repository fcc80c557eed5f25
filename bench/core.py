"""The core alone: message bytes in, deltas out, through the very steps of the job but without engine and servers.

What counts as core is `sessions` (decode, accept, visits, corrections) and `regroup` (sums, series); what routing,
flushing and totals cost beside them is told apart. Messages come as the job reads them: 10,000 at a time, by key group.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from bench import load, totals
from bench.figures import Figures, Meter, details_of, most_memory_bytes, report
from monitor.config.reader import parse
from monitor.core.metrics import DataPoint
from monitor.core.watermark import Progress
from monitor.flow.changes import PlainChanges
from monitor.flow.flush import accumulate
from monitor.flow.regroup import Regroup
from monitor.flow.route import route
from monitor.flow.sessions import SessionsStep, Tallied, compile_config, sessions
from monitor.flow.source import Chunk
from monitor.flow.totals import TotalsStep
from monitor.runtime import logs, memory

CHUNK_MESSAGES = 10_000
CHUNKS_PER_ANNOUNCEMENT = 8
"""How many chunks a partition reads in the second between two announcements of its progress, at 80,000 messages/s."""
CHUNKS_PER_FLUSH = 80
PARTITION = "load/0"


class Pipeline:
    """The steps of the job in a row, each metered; one worker, one partition."""

    def __init__(self, config: load.Config) -> None:
        compiled = compile_config(parse(config))
        self._route = route(compiled)
        self._new = sessions(compiled)
        self._regroup = Regroup(compiled)
        self.sessions: dict[str, SessionsStep] = {}
        self._pending: dict[str, PlainChanges | None] = {}
        self._ledgers: dict[str, TotalsStep] = {}
        self.meters: defaultdict[str, Meter] = defaultdict(Meter)
        self._high_ms = 0

    def feed(self, messages: Sequence[load.Message], *, announce: bool) -> None:
        """Takes a chunk of messages from bytes to deltas that wait for the flush."""
        tallied = self.tally(messages, announce=announce)
        with self.meters["regroup"].running():
            changes = self._regroup(tallied)
        with self.meters["accumulate"].running():
            for key, change in changes:
                self._pending[key] = accumulate(self._pending.get(key), change)

    def tally(self, messages: Sequence[load.Message], *, announce: bool) -> list[tuple[str, Tallied]]:
        """Takes a chunk of messages into their sessions; what that changes."""
        self._high_ms = max(self._high_ms, messages[-1][2]) if messages else self._high_ms
        progress = Progress((PARTITION,), PARTITION, self._high_ms, idle=False)
        with self.meters["route"].running():
            routed = self._route([Chunk(list(messages), progress, announce)])
        by_key: dict[str, list[Any]] = {}
        for key, item in routed:  # as the engine does
            by_key.setdefault(key, []).append(item)
        steps = [(key, self._step(key), by_key[key]) for key in sorted(by_key)]
        with self.meters["sessions"].running():
            return [(key, tally) for key, step, items in steps for tally in step.on_batch(items)[0]]

    def advance(self, high_ms: int) -> None:
        """Tells every key group that the partition is read to this time."""
        self._high_ms = max(self._high_ms, high_ms)
        self.tally([], announce=True)

    def flush(self) -> list[DataPoint]:
        """The new totals of all that has changed since the last flush."""
        points: list[DataPoint] = []
        with self.meters["totals"].running():
            for key in sorted(self._pending):
                ledger = self._ledgers.get(key) or self._ledgers.setdefault(key, TotalsStep(None))
                for some in ledger.on_batch([(0, self._pending[key])])[0]:
                    points += some
        self._pending.clear()
        return points

    def _step(self, key: str) -> SessionsStep:
        step = self.sessions.get(key)
        if step is None:
            step = self.sessions[key] = self._new(None)
        return step


def chunks(messages: Iterable[load.Message]) -> Iterator[list[load.Message]]:
    """Messages as the job reads them."""
    remaining = iter(messages)
    while chunk := list(islice(remaining, CHUNK_MESSAGES)):
        yield chunk


def measure(messages: list[load.Message], *, aa: bool = False) -> Figures:
    """Feeds a load through the steps, with live A/A of all experiments or without."""
    memory.tune_collector()
    config = load.config()
    config["tenants"] = {name: tenant | {"aa": aa} for name, tenant in config["tenants"].items()}
    pipeline = Pipeline(config)
    points: list[DataPoint] = []
    began_s = time.perf_counter()
    for number, chunk in enumerate(chunks(messages), 1):
        pipeline.feed(chunk, announce=number % CHUNKS_PER_ANNOUNCEMENT == 0)
        if number % CHUNKS_PER_FLUSH == 0:
            points += pipeline.flush()
    points += pipeline.flush()
    wall_s = time.perf_counter() - began_s
    n, meters = len(messages), pipeline.meters
    details = {f"{step}_us": 1e6 * meter.cpu_s / n for step, meter in meters.items()}
    return Figures(
        name="core",
        units=n,
        cpu_s=meters["sessions"].cpu_s + meters["regroup"].cpu_s,
        wall_s=wall_s,
        memory_bytes=most_memory_bytes(),
        digest=totals.digest(totals.of_points(points)),
        details=details_of(points=len(points), **details),
    )


def main(
    events: Annotated[int, typer.Option(help="About how many events.")] = 500_000,
    seed: Annotated[int, typer.Option()] = load.SEED,
    log: Annotated[Path | None, typer.Option(help="A log to take instead of making one.")] = None,
    aa: Annotated[bool, typer.Option(help="With live A/A of all experiments.")] = False,
) -> None:
    """Measures the core and prints its figures as JSON."""
    logs.set_up()
    report(measure(load.make(events, seed).messages if log is None else list(load.read(log)), aa=aa))


if __name__ == "__main__":
    typer.run(main)
