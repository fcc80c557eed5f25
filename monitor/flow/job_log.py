"""The log of a job that is well: its start, that it is ready, how it goes every few minutes, its end.

All numbers are this process's own. They are the health counters on their way into the flow, summed once more.
"""

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import structlog

from monitor.core.metrics import Series
from monitor.core.notices import NOTICES
from monitor.flow.telemetry import TELEMETRY, Telemetry
from monitor.runtime import reporting

PROGRESS_S = 300.0
"""How often the job logs how it goes."""
PARTITIONS_TOLD = 100
"""Of how many partitions at most the start says where they begin."""
_COUNTERS = ("events", "rejected", "points_written", "dead_letters", "retries", "snapshot_ms", "cpu_ms")

log = structlog.get_logger(__name__)


class JobLog:
    """The log of one process of a job."""

    def __init__(self, telemetry: Telemetry = TELEMETRY, every_s: float = PROGRESS_S) -> None:
        self._telemetry = telemetry
        self._every_s = every_s
        self._began_s = self._told_s = time.monotonic()
        self._is_ready = False
        self._totals: Counter[str] = Counter()
        """By health metric, names without `monitor.`; bounded by those that there are."""
        self._told: Counter[str] = Counter()
        self._gauges: Mapping[tuple[Series, str], int] = {}
        self._snapshots: Counter[str] = Counter()
        """By source partition of this process."""

    def started(self, begins: Mapping[str, int], notices: Mapping[str, tuple[str, ...]], **facts: Any) -> None:
        """The job may begin: `begins` has the offset of each partition, `notices` what is to be said of each topic."""
        self._began_s = self._told_s = time.monotonic()
        told = dict(list(begins.items())[:PARTITIONS_TOLD])
        log.info("job_started", **facts, partitions=len(begins), begins=told)
        for topic, names in notices.items():
            for name in names:
                log.warning("topic_notice", topic=topic, notice=name, means=NOTICES[name])

    def snapshot(self, partition: str) -> None:
        """The engine has asked a partition of the source for its state, as it does once for each snapshot."""
        self._snapshots[partition] += 1

    def counted(self, counts: Mapping[Series, int], gauges: Mapping[tuple[Series, str], int]) -> None:
        """Takes in the health counters and gauges of a batch, and logs what is due."""
        self._add(counts)
        if gauges:
            self._gauges = gauges
        now_s = time.monotonic()
        if not self._is_ready:
            self._is_ready = True
            log.info("job_ready", after_s=round(now_s - self._began_s, 1))
        if now_s - self._told_s >= self._every_s:
            self._progress(now_s)

    def stopped(self) -> None:
        """Logs the totals since the start; nothing if an error ends the process, which has said why."""
        if reporting.failed.is_set() or reporting.reported.reports:
            return
        self._add(self._telemetry.take().counts)
        log.info("job_stopped", ran_s=round(time.monotonic() - self._began_s, 1), **self._since(Counter()))

    def _add(self, counts: Mapping[Series, int]) -> None:
        for series, amount in counts.items():
            self._totals[series.partition("|")[0].removeprefix("monitor.")] += amount

    def _progress(self, now_s: float) -> None:
        seconds = now_s - self._told_s
        figures = self._since(self._told)
        lag = sum(value for (series, _), value in self._gauges.items() if series.startswith("monitor.lag|"))
        memory = sum(value for (series, _), value in self._gauges.items() if series.startswith("monitor.memory_bytes|"))
        per_s = round((figures["events"] + figures["rejected"]) / seconds, 1)
        log.info("job_progress", seconds=round(seconds), per_s=per_s, lag=lag, memory_bytes=memory, **figures)
        self._told_s, self._told = now_s, self._now()

    def _now(self) -> Counter[str]:
        return self._totals + Counter(snapshots=max(self._snapshots.values(), default=0))

    def _since(self, then: Mapping[str, int]) -> dict[str, int]:
        now = self._now()
        return {name: now[name] - then.get(name, 0) for name in (*_COUNTERS, "snapshots")}


JOB_LOG = JobLog()
"""The log of this process."""
