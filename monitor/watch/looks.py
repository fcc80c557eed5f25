"""What the watcher has found lately, for those who watch the watcher. Thread-safe."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from monitor.core.metrics import DataPoint

KEPT_MS = 15 * 60_000
"""A verdict that is so much older than the newest one is told no more: its experiment is judged no more."""


class Told(NamedTuple):
    """The newest value of a figure of a check: the metric, its tags, the value, and the final minute's end."""

    name: str
    tags: dict[str, str]
    value: float
    at_ms: int


class Looks:
    """The verdicts that were written last, and when the last look succeeded; made when the watcher starts."""

    def __init__(self, now_ms: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        self._now_ms, self._clock = now_ms, clock
        self._succeeded_s = clock()
        self._told: dict[tuple[str, str], list[Told]] = {}
        """By tenant and experiment: so many as are configured."""
        self._lock = threading.Lock()

    def wrote(self, points: Sequence[DataPoint]) -> None:
        """Takes in the points of an experiment's verdicts, in place of its earlier ones."""
        told = [_told(point) for point in points]
        with self._lock:
            if told:
                self._told[told[0].tags["tenant"], told[0].tags["experiment"]] = told

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
        newest_ms = max((one.at_ms for one in self._all()), default=None)
        return None if newest_ms is None else (self._now_ms() - newest_ms) / 1_000

    def told(self) -> list[Told]:
        """The verdicts, without those that are out of date."""
        told = self._all()
        newest_ms = max((one.at_ms for one in told), default=0)
        return [one for one in told if one.at_ms > newest_ms - KEPT_MS]

    def _all(self) -> list[Told]:
        with self._lock:
            return [one for of_experiment in self._told.values() for one in of_experiment]


def _told(point: DataPoint) -> Told:
    name, *tags = point.series.split("|")
    return Told(name, dict(tag.split("=", 1) for tag in tags), point.value, point.timestamp_ms)
