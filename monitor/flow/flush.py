"""The step `flush`: accumulates changes per metric key group in windows of processing time, by a steady clock."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from bytewax.operators.windowing import Clock, ClockLogic, TumblingWindower

from monitor.flow.changes import Changes, PlainChanges, merge, no_changes
from monitor.runtime.clock import CLOCK, WallClock

ALIGNED_TO = datetime(2020, 1, 1, tzinfo=UTC)
"""Where windows begin; any moment does, but it must stay: windows that are open in a snapshot count from it."""


def nothing() -> PlainChanges | None:
    """The empty accumulator of a window."""
    return None


def accumulate(into: PlainChanges | None, more: PlainChanges | None) -> PlainChanges | None:
    """Adds changes to those of the window so far, in place."""
    if more is None:
        return into
    changes = Changes(*more)  # a plain tuple, if it comes from another process
    summed = no_changes(changes.group) if into is None else Changes(*into)
    merge(summed, changes)
    return summed


def flush_windows(flush_s: float) -> TumblingWindower:
    """The windows, of flush_s seconds each."""
    assert flush_s > 0, "the configuration allows no other"
    return TumblingWindower(length=timedelta(seconds=flush_s), align_to=ALIGNED_TO)


class FlushClock(Clock[Any, datetime]):
    """The processing time that closes flush windows.

    Not Bytewax's SystemClock: it ends the job when the machine's clock is set back.
    """

    def __init__(self, clock: WallClock = CLOCK) -> None:
        self._clock = clock

    def build(self, resume_state: datetime | None) -> "_FlushClockLogic":
        """A key's clock, new or from a snapshot."""
        behind = resume_state - _utc(self._clock.now_ms()) if resume_state is not None else timedelta(0)
        return _FlushClockLogic(self._clock, max(behind, timedelta(0)))


@dataclass
class _FlushClockLogic(ClockLogic[Any, datetime]):
    """A steady clock that after a restart is never behind its snapshot: else windows that are open would not close."""

    _clock: WallClock
    _lead: timedelta
    _now: datetime = field(default=ALIGNED_TO)

    def __post_init__(self) -> None:
        assert self._lead >= timedelta(0), "the clock is moved forward only"
        self.before_batch()

    def before_batch(self) -> None:
        now = _utc(self._clock.now_ms()) + self._lead
        assert now >= self._now, "the flush clock never goes back"
        self._now = now

    def on_item(self, value: Any) -> tuple[datetime, datetime]:
        return self._now, self._now

    def on_notify(self) -> datetime:
        self.before_batch()
        return self._now

    def on_eof(self) -> datetime:
        return datetime.max.replace(tzinfo=UTC)

    def to_system_utc(self, timestamp: datetime) -> datetime | None:
        self.before_batch()
        return datetime.now(UTC) + (timestamp - self._now)

    def snapshot(self) -> datetime:
        return self._now


def _utc(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1_000, UTC)
