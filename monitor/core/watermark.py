"""The watermark: the event time before which nothing more will be accepted. Pure.

For each source partition p, `high[p]` is the largest message timestamp read from it, or a later bound that the broker
has confirmed. The watermark is the smallest of them less the allowed lateness; it never falls. A partition that is
*idle* (silent and read to its end, on a topic whose timestamps are the producers') is left out of the minimum. One more
bound takes part in it: the moment as of which the list of partitions is known to be complete.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, final

NEVER = -(2**62)
"""Before all time: nothing was read yet."""
ALWAYS = 2**62
"""After all time."""


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
        """State to keep over a restart besides `value_ms`: partition -> its largest message timestamp or bound, ms."""
        return dict(self._highs)


def smallest(watermarks: Mapping[int, int], groups: Iterable[int]) -> int:
    """The watermark that all of the groups have passed; NEVER while one has not been heard of."""
    return min((watermarks.get(group, NEVER) for group in groups), default=NEVER)
