"""The time: a steady clock, because a job must not act on a clock that is set while it runs, and fixed intervals."""

import time
from typing import Protocol


class WallClock(Protocol):
    """The time as the job asks for it: the process's steady clock, or one that a test sets."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        ...


class SteadyClock:
    """Wall-clock time that only moves forward, at its own pace: read once, then advanced by the monotonic clock."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return (self._offset_ns + time.monotonic_ns()) // 1_000_000


class Interval:
    """Something to be done once per interval, at most: `is_due` is true for the first call and then for one in each."""

    def __init__(self, length_s: float, *, first_at_once: bool = True) -> None:
        assert length_s >= 0, "an interval has a length"
        self._length_s = length_s
        self._last_s = float("-inf") if first_at_once else time.monotonic()

    def is_due(self) -> bool:
        """True if the interval since the last True is over; the next one then begins."""
        now_s = time.monotonic()
        if now_s - self._last_s < self._length_s:
            return False
        self._last_s = now_s
        return True


CLOCK = SteadyClock()
"""The clock of this process."""
