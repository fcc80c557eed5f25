"""Stopping: SIGTERM and SIGINT ask the job to stop, and after a grace period it gives up waiting.

A job can also stop by itself, to be started again: its exit status then tells that to whoever supervises it.
"""

import atexit
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

stopping = threading.Event()
"""Set when the job was asked to stop: sources then end, and the engine takes a last snapshot."""
STOP_GRACE_S = 20.0
"""How long a stop waits for points that cannot be written; shorter than the deployment's grace period."""
CONNECT_S = 1.0
"""How long a process that was asked to stop may go on connecting to the others of its cluster."""
RESTART_STATUS = 75
"""The exit status of a job that is to be started again: EX_TEMPFAIL of sysexits.h."""

_restart = threading.Event()
_signalled = threading.Event()
_connected = threading.Event()

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


def connecting(stopped: Callable[[], None]) -> None:
    """From now on a signal ends the process with status 0 after CONNECT_S, `stopped` called, unless it has connected.

    The engine waits for the other processes of a cluster in native code, without end, where no handler of Python runs.
    Nothing is read or changed before it has found them. From the main thread only.
    """
    _connected.clear()
    heard, written = socket.socketpair()
    written.setblocking(False)
    signal.set_wakeup_fd(written.detach(), warn_on_full_buffer=False)
    threading.Thread(target=_end_unconnected, args=(heard, stopped), name="connecting", daemon=True).start()


def connected() -> None:
    """The engine has found the other processes of the cluster; may be called again."""
    _connected.set()


def _end_unconnected(heard: socket.socket, stopped: Callable[[], None]) -> None:
    if not stopping.is_set():
        heard.recv(1)
    if not _connected.wait(CONNECT_S):
        stopped()
        leave(0)


def restart() -> None:
    """Asks the job to stop in order and to end with RESTART_STATUS, unless it was asked to stop before."""
    if not stopping.is_set():
        _restart.set()
        stopping.set()


def _exit() -> None:
    """Ends the process with RESTART_STATUS after a stop for a restart: the engine has no status of its own."""
    failed = getattr(sys, "last_value", None) is not None  # set by the interpreter for an error that nobody caught
    if _restart.is_set() and not _signalled.is_set() and not failed:
        leave(RESTART_STATUS)


def leave(status: int) -> NoReturn:
    """Ends the process at once, without anything that is registered for its end; what was logged is written."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


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
