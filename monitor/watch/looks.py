"""What the watcher has found lately, for those who watch the watcher. Thread-safe."""

import threading
import time
from collections.abc import Callable, Sequence

from monitor.core.metrics import DataPoint
from monitor.serve.prometheus_verdicts import LABELS, Told


class Looks:
    """The verdicts that were written last for a data center, and when the last look succeeded.

    Made when the watcher starts.
    """

    def __init__(self, dc: str, now_ms: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        self._dc, self._now_ms, self._clock = dc, now_ms, clock
        self._succeeded_s = clock()
        self._told: dict[tuple[str, ...], list[Told]] = {}
        """By data center, tenant and experiment: so many as are configured."""
        self._lock = threading.Lock()

    def wrote(self, points: Sequence[DataPoint]) -> None:
        """Takes in the points of an experiment's verdicts, in place of its earlier ones."""
        told = [self._told_by(point) for point in points]
        with self._lock:
            if told:
                self._told[told[0].tags[:3]] = told

    def succeeded(self) -> None:
        """A look at all experiments has ended without an error."""
        with self._lock:
            self._succeeded_s = self._clock()

    def success_age_s(self) -> float:
        """The time since the last look that succeeded; without any, since the start."""
        with self._lock:
            return self._clock() - self._succeeded_s

    def judged_age_s(self) -> float | None:
        """The age of the last final minute that was judged, of any experiment; None before the first."""
        newest_ms = max((one.at_ms for one in self.told()), default=None)
        return None if newest_ms is None else (self._now_ms() - newest_ms) / 1_000

    def told(self) -> list[Told]:
        """The verdicts of all experiments."""
        with self._lock:
            return [one for of_experiment in self._told.values() for one in of_experiment]

    def _told_by(self, point: DataPoint) -> Told:
        name, *pairs = point.series.split("|")
        tags = {"dc": self._dc, **dict(pair.split("=", 1) for pair in pairs)}
        return Told(name, tuple(tags[label] for label in LABELS), point.value, point.timestamp_ms)
