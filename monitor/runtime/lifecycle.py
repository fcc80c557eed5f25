"""Starting and stopping the job.

signals, and errors that a person has to act on as one message instead of a traceback.
"""

import atexit
import ctypes
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

import structlog

from monitor.runtime.errors import MonitorError

log = structlog.get_logger(__name__)

stopping = threading.Event()
"""Set when the job was asked to stop: sources end, a last snapshot is written."""
STOP_GRACE_S = 20.0
"""How long a stop waits for what cannot be written; kept below the grace period of the deployment."""

YOUNG_OBJECTS = 500_000
"""How many more objects are made than freed between two looks at the youngest: some 50 MB."""

_on_overdue: list[Callable[[], None]] = []


class JobError(MonitorError):
    """The job cannot start or go on; the message says what is wrong and what to do."""


def when_overdue(action: Callable[[], None]) -> None:
    """Has `action` called if a stop takes longer than the grace: to give up waiting."""
    _on_overdue.append(action)


def install() -> None:
    """Makes SIGTERM and SIGINT stop the job cleanly, and an error that ended a step end the process with its message
    alone.
    """
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    sys.excepthook = _excepthook
    spare_the_collector()
    atexit.register(gc.freeze)  # nothing is to be looked for in all that is held once more, just before it goes
    os.environ["RUST_BACKTRACE"] = "0"  # the engine panics when a step raises; its own stack says nothing


def spare_the_collector() -> None:
    """Has the garbage collector look seldom for cycles: the job makes none per event, and looking costs a fifth."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 100)


def give_memory_back() -> None:
    """Has the C library give free pieces of its heap back to the system: milliseconds; only glibc can.

    It keeps them otherwise: sessions at rest become smaller when they settle, and leave holes.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))


def _stop(signum: int, frame: FrameType | None) -> None:
    if not stopping.is_set():
        stopping.set()
        timer = threading.Timer(STOP_GRACE_S, _give_up)
        timer.daemon = True
        timer.start()


def _give_up() -> None:
    for action in _on_overdue:
        action()


class _Reported:
    """A context that reports an error at once.

    In a cluster the engine loses errors: all that is left of them is a panic.
    """

    def __init__(self) -> None:
        self.errors: list[BaseException] = []

    def __enter__(self) -> None:
        return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, StopIteration):
            self.errors.append(error)
            if isinstance(error, JobError):
                log.critical("the job stops", reason=str(error))
            else:
                log.critical("the job stops by an error of its own", exc_info=error)


reported = _Reported()
"""To be entered around each call from the engine into a step."""


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not reported.errors:
        sys.__excepthook__(kind, error, trace)
