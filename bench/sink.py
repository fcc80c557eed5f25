"""The sink alone: points in, gzipped JSON to a server in another process that answers 204, through the job's own lanes.

And the embedded store: the same points into it by the same way, and the query that a dashboard asks: one metric over 24
hours, grouped by two tags.
"""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, TypeAlias

import psutil
import requests
import typer

from bench import load, null_server
from bench.figures import Figures, Meter, details_of, most_memory_bytes, report
from monitor.config.settings import KairosDbTable
from monitor.core.codes import MINUTE_MS
from monitor.core.metrics import DataPoint
from monitor.flow.sink import WRITERS, KairosSink
from monitor.kairosdb.points import KairosUnreachable, check
from tests.support.servers import free_ports

POINTS_PER_ITEM = 1_000
DAY_MINUTES = 1_440
QUERIES = 15
READY_S = 30.0
REQUEST_S = 30.0
QUERIED = "uswm.visit.fm.blue.order"

Item: TypeAlias = list[DataPoint]


def points(number: int) -> Iterator[DataPoint]:
    """So many points of all the series that the reference configuration has, minute after minute."""
    series = [
        f"{tenant}.visit.{scope}.{variation}.{point}|device={device}|experiment={experiment}|login={login}"
        for tenant in load.TENANTS
        for scope in ("assigned", "fm")
        for experiment, variations in load.EXPERIMENTS.items()
        for variation in variations
        for point in load.POINTS
        for device in load.DEVICES
        for login in ("true", "false")
    ]
    everything = (
        DataPoint(one, load.START_MS // MINUTE_MS * MINUTE_MS + minute * MINUTE_MS, 7 * minute + len(one))
        for minute in range(number // len(series) + 1)
        for one in series
    )
    return islice(everything, number)


def write(url: str, folder: Path, items: Sequence[Item], meter: Meter) -> None:
    """Writes points as the job does: to lanes, then a snapshot of each, which returns when all are accepted."""
    sink = KairosSink(KairosDbTable(url=url, dead_letters=str(folder / "dead-letters.jsonl")), "bench")
    lanes = [sink.build_part("bench", name, None) for name in sink.list_parts()]
    try:
        with meter.running():
            for number, item in enumerate(items):
                lanes[number % WRITERS].write_batch([item])
            for lane in lanes:
                lane.snapshot()
    finally:
        for lane in lanes:
            lane.close()


def measure(number: int) -> Figures:
    """The sink: CPU of this process, which does nothing else."""
    items = _items(points(number))
    meter = Meter()
    with TemporaryDirectory(prefix="monitor-bench-") as folder, null_server.running() as url:
        write(url, Path(folder), items, meter)
    per_s = number / meter.cpu_s
    details = details_of(points_per_cpu_s=per_s)
    return Figures("sink", number, meter.cpu_s, meter.wall_s, most_memory_bytes(), "", details)


def measure_store(number: int) -> Figures:
    """The embedded store: wall time and its CPU for writing, then the time of the query."""
    items, queried = _items(points(number)), _items(_day())
    meter, day = Meter(), Meter()
    with TemporaryDirectory(prefix="monitor-bench-") as folder, store(Path(folder)) as (url, process):
        before = process.cpu_times()
        write(url, Path(folder), items, meter)
        after = process.cpu_times()
        write(url, Path(folder), queried, day)
        query_s = [_ask(url) for _ in range(QUERIES)]
        memory_bytes = process.memory_info().rss
    cpu_s = after.user + after.system - before.user - before.system
    details = details_of(
        points_per_s=number / meter.wall_s,
        writer_cpu_s=meter.cpu_s,
        query_ms=1e3 * median(query_s),
        query_max_ms=1e3 * max(query_s),
    )
    return Figures("store", number, cpu_s, meter.wall_s, memory_bytes, "", details)


@contextmanager
def store(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """The embedded store in a process of its own: its URL."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "monitor", "store", str(folder / "store.sqlite3"), "--port", str(port)]
    with (folder / "store.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _await(url, process)
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def _await(url: str, process: subprocess.Popen[bytes]) -> None:
    until_s = time.monotonic() + READY_S
    while True:
        try:
            check(url, timeout_s=1.0)
        except KairosUnreachable:
            if process.poll() is not None or time.monotonic() > until_s:
                raise
            time.sleep(0.1)
        else:
            return


def _day() -> Iterator[DataPoint]:
    """A day of one metric with all combinations of two tags."""
    start_ms = load.START_MS // MINUTE_MS * MINUTE_MS
    for minute in range(DAY_MINUTES):
        for device in load.DEVICES:
            for login in ("true", "false"):
                series = f"{QUERIED}|device={device}|experiment=button_color|login={login}"
                yield DataPoint(series, start_ms + minute * MINUTE_MS, minute)


def _ask(url: str) -> float:
    """Seconds until a day's answer, a sum for each minute and combination of the two tags, is here."""
    metric = {
        "name": QUERIED,
        "group_by": [{"name": "tag", "tags": ["device", "login"]}],
        "aggregators": [{"name": "sum", "sampling": {"value": 1, "unit": "minutes"}}],
    }
    start_ms = load.START_MS // MINUTE_MS * MINUTE_MS
    query = {"start_absolute": start_ms, "end_absolute": start_ms + DAY_MINUTES * MINUTE_MS - 1, "metrics": [metric]}
    began_s = time.perf_counter()
    answer = requests.post(f"{url}/api/v1/datapoints/query", json=query, timeout=REQUEST_S)
    took_s = time.perf_counter() - began_s
    answer.raise_for_status()
    results = answer.json()["queries"][0]["results"]
    assert sum(len(result["values"]) for result in results) == DAY_MINUTES * len(load.DEVICES) * 2
    return took_s


def _items(some: Iterator[DataPoint]) -> list[Item]:
    items = []
    while item := list(islice(some, POINTS_PER_ITEM)):
        items.append(item)
    return items


def main(
    what: Annotated[str, typer.Argument(help="sink or store")] = "sink",
    number: Annotated[int, typer.Option("--points", help="How many points.")] = 500_000,
) -> None:
    """Measures the sink or the embedded store and prints the figures as JSON."""
    report(measure(number) if what == "sink" else measure_store(number))


if __name__ == "__main__":
    typer.run(main)
