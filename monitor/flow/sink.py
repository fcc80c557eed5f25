"""The KairosDB sink: writers as partitions of a Bytewax sink.

At-least-once, and every write is an upsert of an absolute total, so a replay after a crash changes nothing.
`snapshot` returns only when each point of the epoch is accepted or in the dead-letter file: an epoch whose output is
not safe is never committed. Back pressure: a writer that is full blocks `write_batch`, and with it the flow.
"""

from contextlib import ExitStack, closing
from pathlib import Path

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from monitor.config.settings import KairosDbTable
from monitor.core.metrics import DataPoint
from monitor.flow.readback import Readback
from monitor.flow.telemetry import TELEMETRY, Telemetry
from monitor.kairosdb import client
from monitor.kairosdb.dead_letters import DeadLetters, DeadLettersUnwritable
from monitor.kairosdb.errors import KairosDbError
from monitor.kairosdb.outages import Outages
from monitor.kairosdb.points import Renderer
from monitor.kairosdb.stats import WriterStats
from monitor.kairosdb.writer import Writer, WriterSettings, WriterStopped
from monitor.runtime import signals
from monitor.runtime.clock import CLOCK, WallClock
from monitor.runtime.errors import JobError
from monitor.runtime.reporting import reported

WRITERS = 4
"""Requests in flight at most, over the whole job."""
DAY_S = 86_400
STAMP_MS = 64
"""Milliseconds that the last reports of the processes are spread over: one for each."""


class WriterPartition(StatefulSinkPartition[list[DataPoint], None]):
    """One writer."""

    def __init__(
        self, writer: Writer, stats: WriterStats, writers: dict[Writer, bool], readback: Readback | None
    ) -> None:
        self._writer = writer
        self._readback = readback
        self._stats = stats
        self._writers = writers
        writers[writer] = True
        signals.when_overdue(writer.close)

    @reported
    def write_batch(self, items: list[list[DataPoint]]) -> None:
        """Hands the points to the writer; blocks while it is full."""
        try:
            for points in items:
                self._writer.put(points)
        except WriterStopped as error:
            raise _stopped(error) from error
        self._report()

    @reported
    def snapshot(self) -> None:
        """Returns when each point is accepted or in the dead-letter file."""
        try:
            self._writer.flush()
        except WriterStopped as error:
            raise _stopped(error) from error
        self._report()

    def close(self) -> None:
        """Ends all writers of the process, once its last partition closes: an outage until then concerns all of them.

        That one first writes what was counted since the last report.
        """
        self._writers[self._writer] = False
        if any(self._writers.values()):
            return
        with reported, ExitStack() as stack:
            for writer in self._writers:
                stack.enter_context(closing(writer))
            if self._readback is not None:
                self._readback.close()
            self._report()
            try:
                self._writer.put(_last_counts(TELEMETRY, CLOCK))
                self._writer.flush()
                for writer in self._writers:
                    writer.flush()
            except WriterStopped as error:
                raise _stopped(error) from error

    def _report(self) -> None:
        for name, amount in self._stats.take().items():
            if amount:
                TELEMETRY.count(name, amount)


class KairosSink(FixedPartitionedSink[list[DataPoint], None]):
    """Writes points to KairosDB; a metric key group always goes to the same writer."""

    def __init__(self, settings: KairosDbTable, dc: str) -> None:
        self._settings = settings
        self._dc = dc
        self._renderer = Renderer(dc, settings.ttl_days * DAY_S)
        self._stats = WriterStats()
        self._outages = Outages()
        self._dead_letters: DeadLetters | None = None
        self._writers: dict[Writer, bool] = {}
        """Those of this process, WRITERS at most, and whether their partitions are open."""
        points = settings.readback_points
        self._readback = Readback(settings.url, dc, points) if points else None

    def readback(self) -> Readback | None:
        """What reads back final minutes from this KairosDB until the last writer closes; None: it is switched off."""
        return self._readback

    def list_parts(self) -> list[str]:
        """The keys of the writers; raises JobError if KairosDB does not answer or dead letters cannot be written.

        The engine asks for them once it has connected the processes of a cluster.
        """
        signals.connected()
        try:
            client.check(self._settings.url)
            self._dead_letters = self._dead_letters or DeadLetters(_own(Path(self._settings.dead_letters)))
        except (KairosDbError, DeadLettersUnwritable) as error:
            raise JobError(str(error)) from error
        # "lane" is an old word for a writer. Recovery stores hold these keys, so they must not change.
        return [f"lane-{number}" for number in range(WRITERS)]

    def part_fn(self, item_key: str) -> int:
        """By the number of the metric key group."""
        return int(item_key.partition("/")[0])

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> WriterPartition:
        """A writer; what it had not delivered is replayed, so it has no state."""
        assert self._dead_letters is not None, "list_parts comes first"
        settings, stats = WriterSettings(rewrite_s=self._settings.rewrite_s), self._stats
        writer = Writer(self._settings.url, self._renderer, self._dead_letters, stats, settings, self._outages)
        return WriterPartition(writer, stats, self._writers, self._readback)


def _last_counts(telemetry: Telemetry, clock: WallClock) -> list[DataPoint]:
    """What this process has counted since its last report into the flow, which has ended.

    The timestamp is behind those of the flow, and another one for each process, so that no counter is overwritten.
    """
    stamp_ms = (clock.now_ms() // STAMP_MS + 1) * STAMP_MS + int(telemetry.worker) % STAMP_MS
    return [DataPoint(series, stamp_ms, count) for series, count in telemetry.take().counts.items()]


def _own(path: Path) -> Path:
    """The dead-letter file of this process: those of a cluster on one machine must not rotate each other's."""
    return path if TELEMETRY.worker == "0" else path.with_suffix(f".{TELEMETRY.worker}{path.suffix}")


def _stopped(error: WriterStopped) -> JobError:
    return JobError(f"{error}; nothing is lost: started again, the job goes on from its last snapshot")
