"""Processes that tests have started and that should have ended."""

import os
import time
from collections.abc import Callable

import psutil

SESSION_VARIABLE = "AB_MONITOR_TEST_SESSION"
"""Set by the session's main process, and so in the environment of all that descends from it."""
POLL_S = 0.05


def still_running(find: Callable[[], list[psutil.Process]], within_s: float) -> list[psutil.Process]:
    """The processes that `find` gives; waits up to `within_s` for them to end."""
    until_s = time.monotonic() + within_s
    while (left := find()) and time.monotonic() < until_s:
        time.sleep(POLL_S)
    return left


def children() -> list[psutil.Process]:
    """The children of this process that run."""
    return [child for child in psutil.Process().children() if _runs(child)]


def descendants(session: str) -> list[psutil.Process]:
    """The processes, other than this one, with this session in their environment, orphans among them."""
    found = psutil.process_iter(["environ"])
    marked = [one for one in found if (one.info["environ"] or {}).get(SESSION_VARIABLE) == session]
    return [one for one in marked if one.pid != os.getpid() and _runs(one)]


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
