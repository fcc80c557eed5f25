"""Printing of the commands: results on stdout; an error as one message on stderr, with its exit status."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from monitor.runtime import times
from monitor.runtime.errors import MonitorError

OUT, ERR = Console(), Console(stderr=True)
FAILED, INTERRUPTED = 2, 130
"""Exit statuses: the command cannot do what was asked for; Ctrl-C."""


@contextmanager
def errors_reported() -> Iterator[None]:
    """Ends the command with one message and an exit status at an error that a person can act on, or at Ctrl-C.

    That is a MonitorError, or an error of the operating system (no such file, no permission, disk full). Any other
    exception is a bug of ours and keeps its traceback.
    """
    try:
        yield
    except BrokenPipeError:
        raise  # the reader of our output has gone (`| head`): typer ends the command without a message
    except (MonitorError, OSError) as error:
        print_error(f"monitor: {_described(error)}")
        raise typer.Exit(FAILED) from error
    except KeyboardInterrupt as interrupt:
        print_error("monitor: interrupted")
        raise typer.Exit(INTERRUPTED) from interrupt


def print_error(message: str) -> None:
    """Prints a message on stderr, unwrapped."""
    ERR.print(message, style="red", markup=False, highlight=False, soft_wrap=True)


def print_line(line: str) -> None:
    """Prints a line on stdout, unwrapped, whatever brackets and numbers are in it."""
    OUT.print(line, markup=False, highlight=False, soft_wrap=True)


def printable(text: str) -> str:
    """The text with escapes in place of characters that would control a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def moment(time_ms: int) -> str:
    """A time in UTC, to the second; in milliseconds as a number if it is beyond the years 1000 to 9999, as an event
    may say.
    """
    if not times.is_shown(time_ms):
        return f"{time_ms} ms"
    return times.moment(time_ms).strftime("%Y-%m-%d %H:%M:%SZ")


def _described(error: MonitorError | OSError) -> str:
    """The message of an error; of the operating system's: the path and the reason, without the error number."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)
