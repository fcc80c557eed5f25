"""The watermark: the event time before which nothing more will be accepted. Pure.

For each source partition p, `high[p]` says how far its messages have come. Where the broker sets the timestamps, it is
the largest, or a later bound that the broker has confirmed. Where the producers set them, `Stamps` works it out, so
that a wrong clock does not move it. The watermark is the smallest `high[p]` less the allowed lateness; it never falls.
A partition that is *idle* (silent and read to its end, with the producers' timestamps) is left out of the minimum.
One more bound takes part in it: the moment as of which the list of partitions is known to be complete.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, final

NEVER = -(2**62)
"""Before all time: nothing was read yet."""
ALWAYS = 2**62
"""After all time."""
STAMPS_KEPT = 1_000
"""The newest timestamps of a partition, from which `high` is worked out; older ones are dropped."""
WRONG_MAX = 100
"""How many of these may be wrong."""
APART_MS = 20_000
"""How far right clocks may be apart: `high` stays so far behind the timestamps that it comes from."""
EVERY, SOON = 1_000, 10
"""After how many messages `high` is worked out at the latest, and at the earliest."""
SOON_MS = 40_000
"""How far most of the newest SOON messages must be ahead of `high`, for it to be worked out before EVERY messages."""


class Progress(NamedTuple):
    """The progress of reading one source partition, with the list of all partitions, so that none is overlooked.

    `complete_ms`: no message of a partition that is not on the list is older. `restart`: there is such a partition, and
    the job ends, to be started again.
    """

    partitions: tuple[str, ...]
    partition: str
    high_ms: int
    idle: bool
    complete_ms: int = ALWAYS
    restart: bool = False


@final
class Stamps:
    """The `high` of a partition whose timestamps the producers set: at most WRONG_MAX of STAMPS_KEPT may be wrong.

    It is the largest value so far of: the WRONG_MAX + 1st largest of the newest STAMPS_KEPT timestamps, less APART_MS.
    One of these WRONG_MAX + 1 is right, so `high` stays APART_MS behind the largest right one. It depends on the
    partition's messages in their order alone, not on how they are cut into batches: it is worked out after every
    EVERY-th message, and after every SOON-th if most of the last SOON are SOON_MS ahead of it.
    """

    def __init__(self, high_ms: int = NEVER, count: int = 0, newest: Iterable[int] = ()) -> None:
        self.high_ms = high_ms
        self._count = count
        self._newest = list(newest)

    def add(self, stamps: list[int]) -> dict[int, int]:
        """Takes in the timestamps of the next messages.

        Returns those that are behind: the index of each timestamp below `high` -> `high` before that message.
        """
        behind: dict[int, int] = {}
        start = 0
        while start < len(stamps):
            end = min(len(stamps), start + EVERY - self._count % EVERY)
            is_ahead = max(stamps[start:end]) >= self.high_ms + SOON_MS
            step = SOON if is_ahead or self._count % SOON > 0 else EVERY
            while start < end:
                stop = min(end, start + step - self._count % step)
                self._add_part(stamps, start, stop, behind)
                if self._count % EVERY == 0 or (step == SOON and self._count % SOON == 0 and self._is_far_ahead()):
                    self._work_out()
                start = stop
        return behind

    def ended(self) -> int:
        """The `high` to report when no message follows: without one yet, the smallest timestamp; NEVER if none."""
        return min(self._newest, default=NEVER) if self.high_ms == NEVER else self.high_ms

    def state(self) -> tuple[int, list[int]]:
        """State to keep over a restart besides `high_ms`: the number of messages, and the newest timestamps."""
        return self._count, self._newest[-STAMPS_KEPT:]

    def _add_part(self, stamps: list[int], start: int, stop: int, behind: dict[int, int]) -> None:
        part = stamps[start:stop]
        if min(part) < self.high_ms:
            behind.update({index: self.high_ms for index in range(start, stop) if stamps[index] < self.high_ms})
        self._newest += part
        self._count += stop - start

    def _is_far_ahead(self) -> bool:
        """True if most of the last SOON timestamps are: those of a few wrong clocks give no reason to work."""
        return sorted(self._newest[-SOON:])[SOON // 2 - 1] >= self.high_ms + SOON_MS

    def _work_out(self) -> None:
        del self._newest[:-STAMPS_KEPT]
        if len(self._newest) > WRONG_MAX:
            self.high_ms = max(self.high_ms, sorted(self._newest)[-1 - WRONG_MAX] - APART_MS)


@final
class Watermark:
    """The watermark of one key group, from the progress of the partitions."""

    def __init__(self, lateness_ms: int, value_ms: int = NEVER, highs: Mapping[str, int] | None = None) -> None:
        self._lateness_ms = lateness_ms
        self.value_ms = value_ms
        self._highs = dict(highs or {})
        self._idle: set[str] = set()

    def advance(self, progress: Progress) -> bool:
        """Takes in one partition's progress; whether the watermark has risen."""
        partition = progress.partition
        self._highs[partition] = max(self._highs.get(partition, NEVER), progress.high_ms)
        if progress.idle:
            self._idle.add(partition)
        else:
            self._idle.discard(partition)
        moving = [self._highs.get(p, NEVER) for p in progress.partitions if p not in self._idle]
        before = self.value_ms
        if moving:
            self.value_ms = max(before, min(*moving, progress.complete_ms) - self._lateness_ms)
        return self.value_ms > before

    def highs(self) -> dict[str, int]:
        """State to keep over a restart besides `value_ms`: partition -> its largest `high`, ms."""
        return dict(self._highs)


def smallest(watermarks: Mapping[int, int], groups: Iterable[int]) -> int:
    """The watermark that all of the groups have passed; NEVER while one has not been heard of."""
    return min((watermarks.get(group, NEVER) for group in groups), default=NEVER)
