"""Telemetry of a process on its way into the flow: gauges and counters of the source, the sink and the process.

Steps set and count numbers here; once a second `regroup` takes them all and sends them to the one key that writes
health metrics. That key sums a gauge over its parts, so that each process reports its own.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import psutil

from monitor.core.metrics import Series, health_series


class Readings(NamedTuple):
    """Counters since the last taking, and gauges by (series, part)."""

    counts: dict[Series, int]
    gauges: dict[tuple[Series, str], int]


class Telemetry:
    """Numbers by health series; may be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = psutil.Process()
        self._cpu_ms = 0
        self._counts: dict[Series, int] = {}
        self._gauges: dict[tuple[Series, str], int] = {}
        """Both are bounded by the health series: their tags are tenants, reasons, partitions, key groups, processes."""
        self.worker = "0"
        """The number of this process in its cluster: the tag `worker`."""

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Adds the time that the context takes, in ms, to a counter of this worker."""
        started = time.perf_counter()
        yield
        self.count(name, round((time.perf_counter() - started) * 1_000), worker=self.worker)

    def report_process(self) -> None:
        """Adds the memory of the process and the CPU time it has used since the last call."""
        used_ms = round(time.process_time() * 1_000)
        self.count("cpu_ms", used_ms - self._cpu_ms, worker=self.worker)
        self._cpu_ms = used_ms
        self.gauge("memory_bytes", self._process.memory_info().rss, worker=self.worker)

    def count(self, name: str, amount: int, **tags: str) -> None:
        """Adds to a counter."""
        assert amount >= 0, "a counter never falls"
        series = health_series(name, **tags)
        with self._lock:
            self._counts[series] = self._counts.get(series, 0) + amount

    def gauge(self, name: str, value: int, part: str = "", **tags: str) -> None:
        """Sets one part of a gauge; what is written is the sum over its parts."""
        with self._lock:
            self._gauges[health_series(name, **tags), part] = value

    def take(self) -> Readings:
        """All numbers; counters start again at 0."""
        with self._lock:
            counts, self._counts = self._counts, {}
            return Readings(counts, dict(self._gauges))


TELEMETRY = Telemetry()
"""The numbers of this process."""
