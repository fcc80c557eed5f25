"""Whether the store answers, looked at apart from the answers themselves: a slow one must not hide a dead store."""

import threading
import time

from monitor.serve.problems import Problem, ProblemError
from monitor.serve.store import Store

EVERY_S = 1.0
QUIET_S = 5.0
"""The store is asked if it has answered nothing for so long: longer than the time between two refreshes of a page."""
WATCHED_S = 10.0
"""It is not asked if no reader has looked for so long."""


class StoreWatch:
    """A thread that asks the store a small question while somebody reads and it has been silent."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._problem: Problem | None = None
        self._looked_s = time.monotonic() - WATCHED_S
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="page-store-watch", daemon=True)
        self._thread.start()

    def problem(self) -> Problem | None:
        """Why the store does not answer; None if it did when it was last asked. Does not wait."""
        self._looked_s = time.monotonic()
        return self._problem

    def close(self) -> None:
        """Ends the thread."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(EVERY_S):
            is_watched = time.monotonic() - self._looked_s <= WATCHED_S
            self._problem = self._asked() if is_watched and self._store.silent_s() >= QUIET_S else None

    def _asked(self) -> Problem | None:
        try:
            self._store.is_answering()
        except ProblemError as error:
            return error.problem
        return None
