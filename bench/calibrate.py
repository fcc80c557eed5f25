"""Measures the promise of the verdicts: how many healthy weeks have a false alarm, and how soon an incident is found.

    make calibrate                # 100 weeks: some minutes on two cores
    make calibrate WEEKS=1000     # the tables of docs/statistics.md

Ends with status 1 if more healthy weeks have an alarm than a level allows, by more than two standard errors. Ctrl-C
shows what was measured so far. Weeks are numbered, and equal on every machine and with any number of processes.
"""

import math
import os
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench.looks import LEVEL, ONE_LOOK, VERDICTS, found_after, strongest
from bench.weeks import INCIDENTS, Incident

LEVELS = (0.05, 0.02, 0.01, 0.001)
"""Those of note, warn, hold and stop for a check of share 1."""
STANDARD_ERRORS = 2.0
"""By how many a level may be exceeded."""
TABLE_COLUMNS = 120
"""The width of the tables where there is no terminal."""

Found = dict[str, float]
"""By test: the largest ln E of a healthy week, or the minutes until an incident was found."""


def main(
    weeks: Annotated[int, typer.Option(min=1, help="healthy weeks")] = 100,
    incident_weeks: Annotated[int, typer.Option(min=1, help="weeks with each incident")] = 60,
    processes: Annotated[int, typer.Option(min=1, help="processes that share the work")] = os.cpu_count() or 1,
) -> None:
    """Measures false alarms and times to detect, and prints them as tables."""
    healthy, late = measured(weeks, incident_weeks, processes)
    console = Console(width=None if sys.stdout.isatty() else TABLE_COLUMNS)
    if healthy:
        console.print(false_alarms(healthy, VERDICTS, "Healthy weeks with an alarm"))
        console.print(false_alarms(healthy, ONE_LOOK, "The same of tests that are made for one look"))
    for incident in INCIDENTS:
        if late[incident]:
            console.print(times(incident.name, late[incident]))
    over = exceeded(healthy)
    for sentence in over:
        console.print(sentence)
    raise typer.Exit(1 if over else 0)


def measured(weeks: int, incident_weeks: int, processes: int) -> tuple[list[Found], dict[Incident, list[Found]]]:
    """The figures of all weeks, or of those that were done before an interruption, in any order."""
    healthy: list[Found] = []
    late: dict[Incident, list[Found]] = {incident: [] for incident in INCIDENTS}
    with ProcessPoolExecutor(processes, initializer=_leave_interruptions) as pool, Progress(transient=True) as progress:
        jobs: dict[Future[Found], Callable[[Found], None]] = {
            pool.submit(found_after, number, incident): late[incident].append
            for incident in INCIDENTS
            for number in range(incident_weeks)
        }
        jobs |= {pool.submit(strongest, number): healthy.append for number in range(weeks)}
        try:
            for job in progress.track(as_completed(jobs), len(jobs), description="weeks"):
                jobs[job](job.result())
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)  # at once: the end of the block would wait for all of them
    return healthy, late


def _leave_interruptions() -> None:
    """Ctrl-C is for the process that prints the tables."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def share(weeks: Sequence[Found], test: str, level: float) -> tuple[float, float]:
    """The share of weeks in which a test alarms at a level, with its standard error."""
    alarms = sum(week[test] >= -math.log(level) for week in weeks)
    found = alarms / len(weeks)
    return found, math.sqrt(found * (1 - found) / len(weeks))


def exceeded(weeks: Sequence[Found]) -> list[str]:
    """A sentence for each level that a verdict exceeds by more than STANDARD_ERRORS."""
    said = []
    for test in VERDICTS if weeks else ():
        for level in LEVELS:
            found, error = share(weeks, test, level)
            if found > level + STANDARD_ERRORS * error:
                said.append(f"{test}: {_percent(found, error)} of the healthy weeks have an alarm at {level:g}")
    return said


def _percent(found: float, error: float) -> str:
    return f"{100 * found:.2f} % ± {100 * error:.2f}"


def median(values: Sequence[float]) -> tuple[float, float]:
    """The median, and its standard error: half of the distance of the values one standard deviation of rank away.

    The rank of the median among n values has a binomial distribution, of standard deviation sqrt(n) / 2.
    """
    ordered, middle, apart = sorted(values), (len(values) - 1) / 2, math.sqrt(len(values)) / 2
    low, high = (ordered[min(len(ordered) - 1, max(0, round(middle + side)))] for side in (-apart, apart))
    return (ordered[math.floor(middle)] + ordered[math.ceil(middle)]) / 2, (high - low) / 2


def false_alarms(weeks: Sequence[Found], tests: Sequence[str], title: str) -> Table:
    """The shares of weeks with an alarm, by test and level."""
    table = Table(title=f"{title}: {len(weeks)} weeks", title_justify="left")
    table.add_column("test")
    for level in LEVELS:
        table.add_column(f"at {level:g}", justify="right")
    for test in tests:
        cells = [share(weeks, test, level) for level in LEVELS]
        table.add_row(test, *(_percent(*cell) for cell in cells))
    return table


def times(name: str, weeks: Sequence[Found]) -> Table:
    """The minutes until an incident was found, by test."""
    table = Table(title=f"{name}: {len(weeks)} weeks", title_justify="left")
    for column in ("test", f"found at {LEVEL:g}", "median, minutes", "80 % of weeks"):
        table.add_column(column, justify="left" if column == "test" else "right")
    for test in weeks[0]:
        values = sorted(week[test] for week in weeks)
        found = sum(map(math.isfinite, values)) / len(values)
        middle, error = median(values)
        tenth = round(0.1 * (len(values) - 1))
        between = f"{values[tenth]:.0f} to {values[len(values) - 1 - tenth]:.0f}"
        table.add_row(test, f"{100 * found:.0f} %", f"{middle:.0f} ± {error:.0f}", between)
    return table


if __name__ == "__main__":
    typer.run(main)
