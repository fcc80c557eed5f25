"""Starting and stopping the job: signals, and errors that a person has to act on as one message instead of a traceback."""

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

stopping = threading.Event()
"""Set when the job was asked to stop: sources end, a last snapshot is written."""
STOP_GRACE_S = 20.0
"""How long a stop waits for what cannot be written; kept below the grace period of the deployment."""

_on_overdue: list[Callable[[], None]] = []


class JobError(Exception):
    """The job cannot start or go on; the message says what is wrong and what to do."""


def when_overdue(action: Callable[[], None]) -> None:
    """Has `action` called if a stop takes longer than the grace: to give up waiting."""
    _on_overdue.append(action)


def install() -> None:
    """Makes SIGTERM and SIGINT stop the job cleanly, and a JobError end it with its message alone."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    sys.excepthook = _excepthook


def _stop(signum: int, frame: FrameType | None) -> None:
    if not stopping.is_set():
        stopping.set()
        timer = threading.Timer(STOP_GRACE_S, lambda: [action() for action in _on_overdue])
        timer.daemon = True
        timer.start()


def job_error(error: BaseException | None) -> JobError | None:
    """The JobError that an exception stems from, if any: the engine wraps what its steps raise."""
    while error is not None:
        if isinstance(error, JobError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    found = job_error(error)
    if found is None:
        sys.__excepthook__(kind, error, trace)
    else:
        print(f"monitor: {found}", file=sys.stderr, flush=True)
