"""The work as a batch in DuckDB: the answer that `monitor verify` computes, from the log as a file.

python -m bench.peers.duckdb_batch LOG
"""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Annotated

import typer

from bench import load, totals
from bench.figures import Figures, Meter, details_of, most_memory_bytes, report
from monitor.batch import Batch, workspace
from monitor.config.reader import parse
from monitor.topics.recorded import Record


def measure(path: Path) -> Figures:
    """Reads the log, computes all totals and fetches them."""
    numbers, read, compute = count(), Meter(), Meter()

    def records() -> Iterator[Record]:
        for key, value, at_ms in load.read(path):
            yield Record(0, next(numbers), at_ms, key, value)

    with workspace() as work:
        batch = Batch(work, parse(load.config()))
        with read.running():
            batch.read(records())
        with compute.running():
            batch.judge()
            batch.compute()
            found = {
                (cell.name, cell.minute_ms // totals.MINUTE_MS, _tags(cell.experiment, cell.tags)): value
                for cell, value in batch.totals()
            }
    messages = next(numbers)
    details = details_of(read_us=1e6 * read.cpu_s / messages, compute_us=1e6 * compute.cpu_s / messages)
    cpu_s, wall_s = read.cpu_s + compute.cpu_s, read.wall_s + compute.wall_s
    return Figures("DuckDB batch", messages, cpu_s, wall_s, most_memory_bytes(), totals.digest(found), details)


def _tags(experiment: str, tags: str) -> str:
    return "|".join(sorted([f"experiment={experiment}", *(tags.split("|") if tags else ())]))


def main(log: Annotated[Path, typer.Argument(help="The log, from `python -m bench.load --write LOG`.")]) -> None:
    """Measures DuckDB and prints its figures as JSON."""
    report(measure(log))


if __name__ == "__main__":
    typer.run(main)
