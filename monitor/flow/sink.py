"""The KairosDB sink: lanes as partitions of a Bytewax sink.

At-least-once, and every write is an upsert of an absolute total, so a replay after a crash changes nothing.
`snapshot` returns only when each point of the epoch is accepted or in the dead-letter file: an epoch whose output is
not safe is never committed. Back pressure: a lane that is full blocks `write_batch`, and with it the flow.
"""

from pathlib import Path

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from monitor.config.settings import KairosDbTable
from monitor.core.metrics import DataPoint
from monitor.flow.telemetry import TELEMETRY
from monitor.kairosdb import points
from monitor.kairosdb.points import KairosUnreachable, Renderer
from monitor.kairosdb.writer import DeadLetters, DeadLettersUnwritable, Writer, WriterStats, WriterStopped
from monitor.runtime import signals
from monitor.runtime.errors import JobError
from monitor.runtime.reporting import reported

WRITERS = 4
"""Requests in flight at most, over the whole job."""
DAY_S = 86_400


class WriterPartition(StatefulSinkPartition[list[DataPoint], None]):
    """One lane."""

    def __init__(self, lane: Writer, stats: WriterStats) -> None:
        self._lane = lane
        self._stats = stats
        signals.when_overdue(lane.close)

    def write_batch(self, items: list[list[DataPoint]]) -> None:
        """Hands the points to the lane; blocks while it is full."""
        with reported:
            try:
                for points in items:
                    self._lane.put(points)
            except WriterStopped as error:
                raise _stopped(error) from error
            self._report()

    def snapshot(self) -> None:
        """Returns when all points are safe."""
        with reported:
            try:
                self._lane.flush()
            except WriterStopped as error:
                raise _stopped(error) from error
            self._report()

    def close(self) -> None:
        """Ends the lane."""
        self._lane.close()

    def _report(self) -> None:
        for name, amount in self._stats.take().items():
            if amount:
                TELEMETRY.count(name, amount)


class KairosSink(FixedPartitionedSink[list[DataPoint], None]):
    """Writes points to KairosDB; a metric key group always goes to the same lane."""

    def __init__(self, settings: KairosDbTable, dc: str) -> None:
        self._settings = settings
        self._renderer = Renderer(dc, settings.ttl_days * DAY_S)
        self._stats = WriterStats()
        self._dead_letters: DeadLetters | None = None

    def list_parts(self) -> list[str]:
        """The lanes; raises JobError if KairosDB does not answer or the dead-letter file cannot be written."""
        try:
            points.check(self._settings.url)
            self._dead_letters = self._dead_letters or DeadLetters(_own(Path(self._settings.dead_letters)))
        except (KairosUnreachable, DeadLettersUnwritable) as error:
            raise JobError(str(error)) from error
        return [f"lane-{number}" for number in range(WRITERS)]

    def part_fn(self, item_key: str) -> int:
        """By the number of the metric key group."""
        return int(item_key.partition("/")[0])

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> WriterPartition:
        """A lane; what it had not delivered is replayed, so it has no state."""
        assert self._dead_letters is not None, "list_parts comes first"
        return WriterPartition(Writer(self._settings.url, self._renderer, self._dead_letters, self._stats), self._stats)


def _own(path: Path) -> Path:
    """The dead-letter file of this process: those of a cluster on one machine must not rotate each other's."""
    return path if TELEMETRY.worker == "0" else path.with_suffix(f".{TELEMETRY.worker}{path.suffix}")


def _stopped(error: WriterStopped) -> JobError:
    return JobError(f"{error}; nothing is lost: started again, the job goes on from its last snapshot")
