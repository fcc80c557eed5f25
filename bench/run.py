"""Runs all benchmarks and prints one table; writes all figures as JSON to bench/results/.

    python -m bench.run            # everything at full size: about a quarter of an hour
    python -m bench.run --quick    # 1 to 2 minutes, smaller, without Spark

Each benchmark is a process of its own. Those that are compared with each other run in turn, several rounds, each after
a fixed piece of work that tells how fast the machine is at the moment; the best round counts.
"""

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, NamedTuple, TypeAlias

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from bench import kafka, load
from bench.figures import ROOT, Figures, calibrate, run
from bench.goals import GOALS, Found, Goal
from bench.peers import spark_job
from tests.support import browser, jars
from tests.support.interpreted import is_compiled

RESULTS = Path(__file__).parent / "results"
EXPO_EVENTS_PER_S_CORE = (167, 333)
"""30,000 to 60,000 entries a second on 180 cores."""
MIB = 1 << 20
TABLE_COLUMNS = 150
"""The width of the table where there is no terminal."""


class Sizes(NamedTuple):
    """How much is measured."""

    events: int
    peer_events: int
    """Of the slow peers."""
    rounds: int
    few_visits: int
    many_visits: int
    traffic_per_s: int
    points: int
    probes: int


FULL = Sizes(500_000, 200_000, 3, 10_000, 1_000_000, 4_170, 500_000, 300)
QUICK = Sizes(100_000, 5_000, 2, 10_000, 60_000, 500, 200_000, 40)
Benchmark: TypeAlias = Callable[[], Figures]


class Round(msgspec.Struct, frozen=True):
    """One run of a benchmark. `calibration_s`: CPU of the fixed work, the mean of before and after the run."""

    figures: Figures
    calibration_s: float


class Result(msgspec.Struct):
    """What is written as JSON."""

    when: str
    machine: str
    cores: int
    python: str
    sizes: Sizes
    failures: dict[str, str]
    rounds: dict[str, list[Round]]


def compared(sizes: Sizes, log: Path, peer_log: Path, spark: Path | None, folder: Path) -> dict[str, Benchmark]:
    """The benchmarks that do the same work on the same log; the slow peers perhaps on a shorter one."""
    with_kafka = jars.unavailable() is None
    benchmarks: dict[str, Benchmark] = {
        "core": lambda: run("bench.core", "--events", sizes.events),
        "plain Python": lambda: run("bench.peers.plain", log),
        "DuckDB batch": lambda: run("bench.peers.duckdb_batch", log),
    }
    if is_compiled():
        as_source = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
        benchmarks["core, interpreted"] = lambda: run(
            "tests.support.interpreted", "bench.core", "--events", sizes.events, environment=as_source
        )
    if with_kafka:
        benchmarks["job"] = lambda: run("bench.job", "--events", sizes.events)
        benchmarks["naive Bytewax"] = lambda: _naive(peer_log)
    if spark is not None:
        parts = folder / "parts"
        spark_job.write_parts(parts, load.read(peer_log))
        benchmarks["Spark"] = lambda: run("bench.peers.spark_job", parts, python=str(spark))
    return benchmarks


def alone(sizes: Sizes, quick: bool) -> dict[str, Benchmark]:
    """The benchmarks of single parts."""
    with_kafka = jars.unavailable() is None
    traffic = ("--events-per-s", sizes.traffic_per_s)
    many = ("--visits", sizes.many_visits, *traffic, *(["--restart"] if with_kafka else []))
    benchmarks: dict[str, Benchmark] = {
        "sink": lambda: run("bench.sink", "sink", "--points", sizes.points),
        "store": lambda: run("bench.sink", "store", "--points", sizes.points),
        "few visits": lambda: run("bench.live", "--visits", sizes.few_visits, *traffic),
        "many visits": lambda: run("bench.live", *many),
        "verdicts": lambda: run("bench.verdicts"),
    }
    if browser.executable() is not None:
        benchmarks["first paint"] = lambda: run("bench.first_paint")
    if with_kafka:
        benchmarks["latency"] = lambda: run("bench.latency", "--probes", sizes.probes)
        if not quick:
            benchmarks["idle"] = lambda: run("bench.latency", "--idle")
            benchmarks["two processes"] = lambda: run("bench.job", "--events", sizes.events, "--processes", 2)
    return benchmarks


def _naive(log: Path) -> Figures:
    with kafka.broker() as (broker, _):
        kafka.fill(broker, "naive", load.read(log))
        return run("bench.peers.naive_bytewax", broker.bootstrap, "naive")


def measure(benchmarks: dict[str, Benchmark], rounds: int, result: Result, console: Console) -> None:
    """Runs them in turn, so many rounds; slow peers once."""
    for number in range(rounds):
        for name, benchmark in benchmarks.items():
            if number and name in ("naive Bytewax", "Spark"):
                continue
            with console.status(f"{name}, round {number + 1} of {rounds}"):
                before_s = calibrate()
                try:
                    figures = benchmark()
                    rounded = Round(figures, (before_s + calibrate()) / 2)
                    result.rounds.setdefault(name, []).append(rounded)
                except (RuntimeError, jars.ServerError) as error:  # the others are wanted all the same
                    result.failures[name] = str(error)


def best(result: Result) -> dict[str, Round]:
    """The best round of each benchmark, at the speed that the machine had then."""
    return {
        name: min(rounds, key=lambda one: one.figures.cpu_s / one.calibration_s)
        for name, rounds in result.rounds.items()
    }


def check_digests(found: Found, peer_digest: str) -> None:
    """Raises ValueError unless all that did the same work came to the same totals."""
    wanted = {found["plain Python"].units: found["plain Python"].digest}
    wanted.setdefault(next((f.units for n, f in found.items() if n in ("naive Bytewax", "Spark")), 0), peer_digest)
    for name, figures in found.items():
        if figures.digest and figures.digest != wanted.get(figures.units):
            msg = f"{name} came to other totals than plain Python: {figures.digest}, not {wanted.get(figures.units)}"
            raise ValueError(msg)


def table(rounds: dict[str, Round]) -> Table:
    """The one table. `calm`: CPU if the machine had been as fast all the time as at its fastest moment."""
    found = {name: one.figures for name, one in rounds.items()}
    fastest_s = min(one.calibration_s for one in rounds.values())
    calm_us = {name: one.figures.cpu_us * fastest_s / one.calibration_s for name, one in rounds.items()}
    shown = Table(title="CPU of the process, as the system counts it, in the best round", title_justify="left")
    shown.caption = "calm, x plain: corrected for how fast the machine was at the moment"
    shown.add_column("what", no_wrap=True)
    for column in ("CPU µs", "calm", "wall s", "MiB", "x plain", "events/s a core"):
        shown.add_column(column, justify="right")
    for column in ("measured", "must", "aim"):
        shown.add_column(column, justify="right")
    for name, figures in found.items():
        goals = [goal for goal in GOALS if goal.row == name and _is_known(goal, found)]
        is_event, has_units = bool(figures.digest), name not in ("idle", "latency", "first paint")
        cells = [
            name,
            f"{figures.cpu_us:,.1f}" if has_units else "",
            f"{calm_us[name]:,.1f}" if has_units else "",
            f"{figures.wall_s:,.1f}",
            f"{figures.memory_bytes / MIB:,.0f}" if figures.memory_bytes else "",
            f"{calm_us[name] / calm_us['plain Python']:.2f}" if is_event else "",
            f"{1e6 / figures.cpu_us:,.0f}" if is_event else "",
        ]
        judged = [_judged(goal, found) for goal in goals] or [("", "", "")]
        shown.add_row(*cells, *judged[0])
        for further in judged[1:]:
            shown.add_row(*[""] * len(cells), *further)
    expo = "{:,} to {:,}".format(*EXPO_EVENTS_PER_S_CORE)
    shown.add_section()
    shown.add_row("Expo, for comparison", "", "", "", "", "", expo, "", "", "")
    return shown


def _is_known(goal: Goal, found: Found) -> bool:
    try:
        return goal.value(found) is not None
    except KeyError:  # a detail that was not measured
        return False


def _judged(goal: Goal, found: Found) -> tuple[str, str, str]:
    value = goal.value(found)
    assert value is not None, "goals that are not known are not shown"
    color = "green" if goal.reaches(value, goal.aim) else "yellow" if goal.reaches(value, goal.must) else "red"
    text = f"{value:,.0f}" if value >= 1_000 else f"{value:,.2f}"
    return f"[{color}]{text}[/] {goal.unit}", f"{goal.must:,g}", f"{goal.aim:,g}"


@contextmanager
def _logs(sizes: Sizes) -> Iterator[tuple[Path, Path, Path]]:
    with TemporaryDirectory(prefix="monitor-bench-") as name:
        folder = Path(name)
        log, peer_log = folder / "load.log", folder / "peer.log"
        load.write(log, load.make(sizes.events).messages)
        load.write(peer_log, load.make(sizes.peer_events).messages)
        yield folder, log, peer_log


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Smaller, about 2 minutes, without Spark.")] = False,
    spark: Annotated[
        Path | None, typer.Option(envvar="BENCH_SPARK_PYTHON", help="Python of an environment with pyspark.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only these benchmarks, besides plain Python.")] = None,
) -> None:
    """Runs the benchmarks, prints the table, and writes the JSON."""
    console, sizes = Console(width=None if sys.stdout.isatty() else TABLE_COLUMNS), QUICK if quick else FULL
    if spark is not None and (quick or not spark_job.available(spark)):
        spark = None
    when = time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime())
    machine = f"{platform.machine()} {platform.system()} {platform.release()}"
    result = Result(when, machine, os.cpu_count() or 1, platform.python_version(), sizes, {}, {})
    with _logs(sizes) as (folder, log, peer_log):
        wanted = {*(only or []), "plain Python"}
        same = compared(sizes, log, peer_log, spark, folder)
        parts = alone(sizes, quick)
        if only:
            same = {name: benchmark for name, benchmark in same.items() if name in wanted}
            parts = {name: benchmark for name, benchmark in parts.items() if name in wanted}
        measure(same, sizes.rounds, result, console)
        measure(parts, 1, result, console)
        peer_digest = run("bench.peers.plain", peer_log).digest
    rounds = best(result)
    console.print(table(rounds))
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{when}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result)))
    console.print(f"figures in {path}", highlight=False, soft_wrap=True)
    for name, failure in result.failures.items():
        console.print(f"[red]{name} has failed[/]")
        console.print(failure, markup=False, highlight=False)
    check_digests({name: one.figures for name, one in rounds.items()}, peer_digest)
    console.print("all that did the same work came to the same totals")
    if result.failures:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
