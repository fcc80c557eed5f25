"""What becomes of one attempt to deliver a message."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from threading import Event, Timer
from typing import NamedTuple, Protocol

from monitor.alerts.changes import Message


class Verdict(StrEnum):
    """Whether a message is done with."""

    ACCEPTED = "accepted"
    FAILED = "failed"
    """It is tried again."""
    REFUSED = "refused"
    """It would be refused again: it is given up."""


class Outcome(NamedTuple):
    """What the target answered. `text` has no secret in it and is short."""

    verdict: Verdict
    text: str
    retry_after_s: float | None = None
    """How long the target asks to be left alone."""
    is_of_target: bool = False
    """Whether the target is at fault, and not the message: other messages would fail as well."""


class Sender(Protocol):
    """Delivers messages to one target; `send` is called by one thread at a time."""

    takes_groups: bool
    """Whether a message may have several changes."""

    def send(self, message: Message) -> Outcome:
        """Tries once, within a bound of time."""
        ...

    def cut(self) -> None:
        """Ends an attempt in progress, from another thread."""
        ...


@contextmanager
def deadline(seconds: float, cut: Callable[[], None]) -> Iterator[Event]:
    """Calls `cut` if the block takes longer, which sets the event that it gives.

    A time-out of a socket bounds each wait for bytes, but not a slow drip of them.
    """
    is_over = Event()

    def end() -> None:
        is_over.set()
        cut()

    timer = Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield is_over
    finally:
        timer.cancel()
        timer.join()
