"""Simulated traffic as the source of a flow: the job that `make run` shows. All but the source is the real job.

`python -m bytewax.run dataflow:simulated_flow`; MONITOR_DEMO_RATE, _SEED and _INCIDENTS choose the traffic, and
MONITOR_DEMO_SWITCHES names the file of incidents that are switched on while it runs. MONITOR_DEMO_LOG names a folder
in which the traffic is recorded, so that what the job makes of it can be proved and explained (topics/rolling_log.py);
MONITOR_DEMO_NEW says that the store is empty, so that a log that begins now lacks nothing.
"""

import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, TypeAlias

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from monitor.core.sessions import Message
from monitor.core.watermark import Progress
from monitor.flow.job_log import JOB_LOG
from monitor.flow.source import Chunk
from monitor.runtime import signals
from monitor.runtime.clock import CLOCK, WallClock
from monitor.runtime.errors import JobError
from monitor.runtime.reporting import reported
from monitor.simulate import Switchboard, Traffic, parse_incident
from monitor.topics.rolling_log import RollingLog

PARTITION = "simulated/0"
CATCH_UP_S = 60
"""Traffic of a longer pause is skipped: it exists only while the job runs."""
STATE_VERSION = 1

TrafficState: TypeAlias = tuple[int, int, int]
"""Version, start of the traffic in ms, next second."""


class SimulatedPartition(StatefulSourcePartition[Chunk, TrafficState]):
    """Emits the traffic of each second when it is over."""

    def __init__(
        self,
        traffic: Traffic,
        second: int,
        switches: Switchboard,
        log: RollingLog | None = None,
        clock: WallClock = CLOCK,
        stopping: threading.Event = signals.stopping,
    ) -> None:
        assert second >= 0, "seconds count from the start of the traffic"
        self._traffic = traffic
        self._second = second
        self._switches, self._log = switches, log
        self._clock, self._stopping = clock, stopping

    @reported
    def next_batch(self) -> list[Chunk]:
        """The traffic of the next second, if it is over; raises StopIteration when asked to stop."""
        if self._stopping.is_set():
            raise StopIteration
        if self._clock.now_ms() < self._over_ms():
            return []
        self._switches.look()
        messages: list[Message] = [(m.key, m.value, m.timestamp_ms) for m in self._traffic.second(self._second)]
        self._record(messages)
        progress = Progress((PARTITION,), PARTITION, self._over_ms(), idle=False)
        self._second += 1
        return [Chunk(messages, progress, announce=True)]

    def next_awake(self) -> datetime | None:
        """The end of the second."""
        return datetime.now(UTC) + timedelta(milliseconds=max(0, self._over_ms() - self._clock.now_ms()))

    def snapshot(self) -> TrafficState:
        """The start of the traffic, and the second to resume with."""
        JOB_LOG.snapshot(PARTITION)
        return STATE_VERSION, self._traffic.start_ms, self._second

    def _record(self, messages: list[Message]) -> None:
        """Records what the job is about to read."""
        try:
            if self._log is not None:
                self._log.append(messages)
        except OSError as error:
            message = f"the traffic cannot be recorded: {error.filename}: {error.strerror}"
            raise JobError(message) from error

    def _over_ms(self) -> int:
        return self._traffic.start_ms + (self._second + 1) * 1_000


class RunFiles(NamedTuple):
    """The files of a run: incidents that are switched, and the folder of the recorded log (None: none is kept).

    `is_new`: there are no numbers yet of traffic before the log.
    """

    switches: Path
    log: Path | None
    is_new: bool


class SimulatedSource(FixedPartitionedSource[Chunk, TrafficState]):
    """Seeded traffic as a source of one partition, at the pace of the clock."""

    def __init__(self, seed: int, rate: float, incidents: list[str], files: RunFiles) -> None:
        self._seed, self._rate = seed, rate
        self._incidents, self._files = incidents, files

    def list_parts(self) -> list[str]:
        """The one partition."""
        return [PARTITION]

    def build_part(self, step_id: str, for_part: str, resume_state: TrafficState | None) -> SimulatedPartition:
        """The traffic from its snapshot on; from now on after a long pause."""
        now_ms = CLOCK.now_ms()
        _, start_ms, second = resume_state or (STATE_VERSION, now_ms, 0)
        present = (now_ms - start_ms) // 1_000
        incidents = [parse_incident(text, start_ms) for text in self._incidents]
        switches = Switchboard(self._files.switches)
        traffic = Traffic(self._seed, start_ms, self._rate, incidents, on_at=switches.on_at)
        log = None
        if self._files.log is not None:
            until_ms = None if resume_state is None else start_ms + second * 1_000
            log = RollingLog(self._files.log, until_ms, first_offset=0 if self._files.is_new else 1)
        return SimulatedPartition(traffic, second if present - second <= CATCH_UP_S else present, switches, log)


def simulated_source(_: object) -> SimulatedSource:
    """The source that the environment describes."""
    texts = os.environ.get("MONITOR_DEMO_INCIDENTS", "").split()
    seed, rate = int(os.environ["MONITOR_DEMO_SEED"]), float(os.environ["MONITOR_DEMO_RATE"])
    log = os.environ.get("MONITOR_DEMO_LOG")
    switches = Path(os.environ.get("MONITOR_DEMO_SWITCHES", "incidents.ndjson"))
    files = RunFiles(switches, Path(log) if log else None, is_new=os.environ.get("MONITOR_DEMO_NEW") == "yes")
    return SimulatedSource(seed, rate, texts, files)
