"""Stopping: SIGTERM and SIGINT ask the job to stop, and after a grace period it gives up waiting.

A job can also stop by itself, to be started again: its exit status then tells that to whoever supervises it.
"""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

stopping = threading.Event()
"""Set when the job was asked to stop: sources then end, and the engine takes a last snapshot."""
STOP_GRACE_S = 20.0
"""How long a stop waits for points that cannot be written; shorter than the deployment's grace period."""
RESTART_STATUS = 75
"""The exit status of a job that is to be started again: EX_TEMPFAIL of sysexits.h."""

_restart = threading.Event()
_signalled = threading.Event()

_on_overdue: list[Callable[[], None]] = []
"""Bounded by who registers: one action for each writer of the sink."""


def when_overdue(action: Callable[[], None]) -> None:
    """Registers an action that ends a wait; it is called if a stop takes longer than STOP_GRACE_S."""
    _on_overdue.append(action)


def install() -> None:
    """Makes SIGTERM and SIGINT set `stopping`, and a restart the exit status. From the main thread only."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    atexit.register(_exit)


def restart() -> None:
    """Asks the job to stop in order and to end with RESTART_STATUS, unless it was asked to stop before."""
    if not stopping.is_set():
        _restart.set()
        stopping.set()


def _exit() -> None:
    """Ends the process with RESTART_STATUS after a stop for a restart: the engine has no status of its own."""
    failed = getattr(sys, "last_value", None) is not None  # set by the interpreter for an error that nobody caught
    if _restart.is_set() and not _signalled.is_set() and not failed:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(RESTART_STATUS)


def _stop(_number: int, _frame: FrameType | None) -> None:
    if not _signalled.is_set():
        _signalled.set()
        stopping.set()
        timer = threading.Timer(STOP_GRACE_S, _give_up)
        timer.daemon = True
        timer.start()


def _give_up() -> None:
    for action in _on_overdue:
        action()
