"""What the commands print with: results on stdout; a fault as one message on stderr, and its exit status."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import typer
from rich.console import Console

OUT, ERR = Console(), Console(stderr=True)
FAULT, INTERRUPTED = 2, 130
"""Exit statuses: what was asked for cannot be done; Ctrl-C."""
_DATES_END_MS = 253_402_300_800_000


@contextmanager
def faults_told(*faults: type[Exception]) -> Iterator[None]:
    """Ends the command with one message when one of these faults comes, or Ctrl-C."""
    try:
        yield
    except faults as fault:
        say(f"monitor: {fault}")
        raise typer.Exit(FAULT) from fault
    except KeyboardInterrupt as interrupt:
        say("monitor: interrupted")
        raise typer.Exit(INTERRUPTED) from interrupt


def say(message: str) -> None:
    """Prints a message on stderr as it is."""
    ERR.print(message, style="red", markup=False, highlight=False, soft_wrap=True)


def printable(text: str) -> str:
    """A text that cannot steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def moment(time_ms: int) -> str:
    """A time in UTC, to the second; beyond the calendar (an event may claim any time) its milliseconds."""
    if time_ms >= _DATES_END_MS:
        return f"{time_ms} ms"
    return datetime.fromtimestamp(time_ms // 1_000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
