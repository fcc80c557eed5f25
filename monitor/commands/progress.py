"""The progress of `monitor simulate`, `replay` and `record`: a bar on stderr while they run, a line at the end."""

import time
from collections.abc import Callable, Generator, Iterable

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from monitor.runtime.console import ERR, moment, print_line
from monitor.topics.recorded import Record

_UPDATE_EVERY = 500
"""Messages; drawing the bar for each would take longer than the work."""


class Tally:
    """How many messages have passed, and their first and last timestamp."""

    def __init__(self) -> None:
        self.messages = 0
        self.first_ms = self.last_ms = 0
        self.began_at = time.monotonic()

    def add(self, record: Record) -> None:
        """Counts a message."""
        if self.messages == 0:
            self.first_ms = record.timestamp_ms
        self.messages += 1
        self.last_ms = record.timestamp_ms

    def count(self) -> float:
        """The messages so far."""
        return self.messages

    def span_ms(self) -> float:
        """The time from the first message's timestamp to the last one's."""
        return self.last_ms - self.first_ms

    def print_summary(self, partitions: int, *places: str) -> None:
        """Prints how many messages went where, and how fast."""
        took_s = time.monotonic() - self.began_at
        span = f"{moment(self.first_ms)} to {moment(self.last_ms)}" if self.messages else "empty"
        to = f" -> {', '.join(places)}" if places else ""
        print_line(
            f"{self.messages:,} messages in {partitions} partitions, {span}{to}; "
            f"{took_s:.1f} s, {self.messages / max(took_s, 0.001):,.0f} messages/s"
        )


def with_progress(
    records: Iterable[Record],
    tally: Tally,
    action: str,
    total: float | None = None,
    done: Callable[[], float] = lambda: 0,
) -> Generator[Record, None, None]:
    """The same records, counted in the tally, with a bar that is full when `done` gives `total`."""
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[messages]:,} messages"),
        TimeElapsedColumn(),
        console=ERR,
        transient=True,
    )
    with progress:
        task = progress.add_task(action, total=total, messages=0)
        for record in records:
            tally.add(record)
            if tally.messages % _UPDATE_EVERY == 0:
                progress.update(task, completed=done(), messages=tally.messages)
            yield record


def scanning(records: Iterable[tuple[str, Record]]) -> Generator[tuple[str, Record], None, None]:
    """The same records, counted by a progress bar on stderr."""
    columns = SpinnerColumn(), TextColumn("scanning"), BarColumn(), TextColumn("{task.completed:,} messages")
    with Progress(*columns, TimeElapsedColumn(), console=ERR, transient=True, disable=not ERR.is_terminal) as progress:
        task = progress.add_task("scanning", total=None)
        for count, record in enumerate(records, 1):
            if count % _UPDATE_EVERY == 0:
                progress.update(task, completed=count)
            yield record


def exhaust(items: Iterable[object]) -> None:
    """Takes every item, for what that does on the way."""
    for _ in items:
        pass
