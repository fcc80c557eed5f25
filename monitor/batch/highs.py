"""How far the timestamps of each partition have come before each message (specification, section 5)."""

from collections import deque
from collections.abc import Iterable, Iterator

from monitor.topics.recorded import Record

NEVER_MS = -(2**62)
KEPT, WRONG, APART_MS = 1_000, 100, 20_000
LATEST, EARLIEST, AHEAD_MS = 1_000, 10, 40_000


class _Partition:
    """The newest timestamps of a partition, at most KEPT, and its `high`, as of the last message."""

    def __init__(self) -> None:
        self.count = 0
        self.high_ms = NEVER_MS
        self.newest: deque[int] = deque(maxlen=KEPT)

    def add(self, stamp_ms: int) -> None:
        self.count += 1
        self.newest.append(stamp_ms)
        if self.count % EARLIEST == 0 and len(self.newest) > WRONG:
            last = [self.newest[-i] for i in range(1, EARLIEST + 1)]
            ahead = sum(stamp_ms >= self.high_ms + AHEAD_MS for stamp_ms in last)
            if self.count % LATEST == 0 or ahead > EARLIEST / 2:
                descending = sorted(self.newest, reverse=True)
                self.high_ms = max(self.high_ms, descending[WRONG] - APART_MS)

    def settled_ms(self) -> int:
        """`high` as of the last message; with too few messages for one, it assumes that a tenth of them is wrong."""
        if self.high_ms > NEVER_MS:
            return self.high_ms
        return sorted(self.newest, reverse=True)[len(self.newest) // 10]


class Highs:
    """The `high` of each partition, by the numbers in the records; an entry for each partition."""

    def __init__(self) -> None:
        self._partitions: dict[int, _Partition] = {}

    def before(self, records: Iterable[Record]) -> Iterator[tuple[Record, int | None]]:
        """Each record, and how far its partition had come before it if its timestamp is behind that, else None."""
        for record in records:
            partition = self._partitions.get(record.partition)
            if partition is None:
                partition = self._partitions[record.partition] = _Partition()
            high_ms, stamp_ms = partition.high_ms, record.timestamp_ms
            partition.add(stamp_ms)
            yield record, high_ms if stamp_ms < high_ms else None

    def smallest_ms(self) -> int:
        """The smallest of all partitions, as of their last messages; there must be one."""
        return min(partition.settled_ms() for partition in self._partitions.values())
