"""An answer that all readers share: computed at most every few seconds, for any number of readers."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


WORK_SHARE = 0.25
"""The largest share of the time that goes into computing an answer: a slow one is cached for longer."""


class Shared(Generic[T]):
    """The result of a function that blocks, at most `fresh_s` old. Thread-safe.

    A caller during the computation waits for it. An exception is raised to all who wait, and not cached.
    """

    def __init__(self, compute: Callable[[], T], fresh_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._compute, self._fresh_s, self._clock = compute, fresh_s, clock
        self._lock = threading.Lock()
        self._last: tuple[T, float] | None = None
        self._took_s = 0.0

    def get(self) -> T:
        """The shared result."""
        with self._lock:
            if (result := self.cached(max(self._fresh_s, self._took_s / WORK_SHARE))) is None:
                started_s = self._clock()
                result = self._compute()
                self._took_s = self._clock() - started_s
                self._last = result, started_s
            return result

    def cached(self, age_max_s: float) -> T | None:
        """The last result if it is not older; computes nothing and does not wait."""
        last = self._last
        return None if last is None or self._clock() - last[1] > age_max_s else last[0]
