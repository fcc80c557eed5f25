"""An answer that all readers share: asked for at most every few seconds, however many look."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


WORK_SHARE = 0.25
"""An answer that takes long is kept for longer: at most this share of the time goes into computing it."""


class Shared(Generic[T]):
    """The result of a function that blocks, at most `fresh_s` old when it is given. For any thread.

    Who asks while it is computed waits for that. What it raises is raised to all who wait, and not kept.
    """

    def __init__(self, compute: Callable[[], T], fresh_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._compute, self._fresh_s, self._clock = compute, fresh_s, clock
        self._lock = threading.Lock()
        self._found: tuple[T, float] | None = None
        self._took_s = 0.0

    def get(self) -> T:
        """The shared result."""
        with self._lock:
            if (found := self.known(max(self._fresh_s, self._took_s / WORK_SHARE))) is None:
                started_s = self._clock()
                found = self._compute()
                self._took_s = self._clock() - started_s
                self._found = found, started_s
            return found

    def known(self, age_max_s: float) -> T | None:
        """The last result if it is not older; asks nothing and does not wait."""
        found = self._found
        return None if found is None or self._clock() - found[1] > age_max_s else found[0]
