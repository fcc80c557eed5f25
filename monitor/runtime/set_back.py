"""A machine's clock that is set back: the process ends at once, to be started again.

The engine keeps by the wall clock when a partition is to be read again, a window to close and a snapshot to be taken:
until the clock has come to where it was, a job would stand still, and not even stop when it is asked to.
"""

import threading
import time

import structlog

from monitor.runtime.signals import RESTART_STATUS, leave

LOOK_S = 1.0
SET_BACK_S = 10.0
"""A smaller step only makes the job wait for as long."""

log = structlog.get_logger(__name__)


def watch() -> None:
    """Ends the process with RESTART_STATUS soon after the clock was set back by more than SET_BACK_S.

    Not in order: waiting is what no longer works. What was read since the last snapshot is read again.
    """
    threading.Thread(target=_watch, name="set-back", daemon=True).start()


def _watch() -> None:
    ahead_s = _ahead_s()
    while True:
        time.sleep(LOOK_S)
        before_s, ahead_s = ahead_s, _ahead_s()
        if before_s - ahead_s > SET_BACK_S:
            log.error("clock_set_back", seconds=round(before_s - ahead_s))
            leave(RESTART_STATUS)


def _ahead_s() -> float:
    """How far the wall clock is ahead of the steady one."""
    return time.time() - time.monotonic()
