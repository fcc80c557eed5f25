"""Stopping by a signal: SIGTERM and SIGINT ask the job to stop, and after a grace period it gives up waiting."""

import signal
import threading
from collections.abc import Callable
from types import FrameType

stopping = threading.Event()
"""Set when the job was asked to stop: sources then end, and the engine takes a last snapshot."""
STOP_GRACE_S = 20.0
"""How long a stop waits for points that cannot be written; shorter than the deployment's grace period."""

_on_overdue: list[Callable[[], None]] = []
"""Bounded by who registers: one action for each writer of the sink."""


def when_overdue(action: Callable[[], None]) -> None:
    """Registers an action that ends a wait; it is called if a stop takes longer than STOP_GRACE_S."""
    _on_overdue.append(action)


def install() -> None:
    """Makes SIGTERM and SIGINT set `stopping`. From the main thread only."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)


def _stop(_number: int, _frame: FrameType | None) -> None:
    if not stopping.is_set():
        stopping.set()
        timer = threading.Timer(STOP_GRACE_S, _give_up)
        timer.daemon = True
        timer.start()


def _give_up() -> None:
    for action in _on_overdue:
        action()
