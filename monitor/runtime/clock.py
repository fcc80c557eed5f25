"""The machine's clock, made steady: a job must not act on a clock that is set while it runs."""

import time


class SteadyClock:
    """Wall-clock time that only moves forward, at its own pace: read once, then advanced by the monotonic clock."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return (self._offset_ns + time.monotonic_ns()) // 1_000_000


CLOCK = SteadyClock()
"""The clock of this process."""
