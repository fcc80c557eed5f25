"""Errors of the job's steps: each is logged when it happens, as one message or with its traceback."""

import os
import sys
import threading
from collections.abc import Callable
from contextlib import ContextDecorator
from types import TracebackType

import structlog

from monitor.runtime.errors import JobError

log = structlog.get_logger(__name__)


class Reporter(ContextDecorator):
    """Logs an error and lets it pass on to the engine; StopIteration, the end of a source, is no error.

    In a cluster the engine drops the error of a step and ends with a panic that does not say why.
    """

    def __init__(self) -> None:
        self.reports = 0

    def __enter__(self) -> None:
        return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, StopIteration):
            return
        self.reports += 1
        if isinstance(error, JobError):
            log.critical("job_failed", reason=str(error))
        else:
            log.critical("job_failed_internally", exc_info=error)


reported = Reporter()
"""Decorates each method that the engine calls; per batch, where its half a microsecond does not show."""


failed = threading.Event()
"""Set when the process ends because of an error."""


def install(explain: Callable[[BaseException], str | None] = lambda error: None) -> None:
    """Ends the process without a second traceback after an error that was reported.

    `explain` gives the message for an error of the engine that a person can act on, None for any other.
    """

    def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        failed.set()
        if reported.reports:
            return
        if (message := explain(error)) is not None:
            print(f"monitor: {message}", file=sys.stderr)
        else:
            sys.__excepthook__(kind, error, trace)

    sys.excepthook = report
    os.environ["RUST_BACKTRACE"] = "0"  # the engine panics when a step raises; its own stack explains nothing
