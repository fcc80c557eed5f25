"""Outages of KairosDB as its writers notice them, and what was accepted before one, to be written again after it.

KairosDB answers 204 before it writes, and forgets what is in its queue when it stops, in order too. So whatever was
accepted shortly before an outage may be lost. An outage is a request that failed, or a connection that the server ended
without a word, as one does that has begun anew between two requests; 429 is none.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock
from typing import NamedTuple

from monitor.core.metrics import DataPoint, Series

Listener = Callable[[float, float], None]
"""Called with the moment before which the server was well, and the moment at which it answered again."""


class Outages:
    """The outages that the writers of a process have noticed; thread-safe. One outage is told once, to all of them."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._told_s = float("-inf")
        self._listeners: list[Listener] = []
        """Bounded by the writers."""

    def listen(self, listener: Listener) -> None:
        """Calls it at the end of each outage, in the thread of the writer that noticed it; it must be short."""
        with self._lock:
            self._listeners.append(listener)

    def ended(self, well_s: float, noticed_s: float, now_s: float) -> bool:
        """Tells of an outage, unless the end of one was told after this one was noticed: then they are the same.

        When this returns, all writers have been told of it; True: by this call.
        """
        with self._lock:
            if self._told_s > noticed_s:
                return False
            self._told_s = now_s
            for listener in self._listeners:
                listener(well_s, now_s)
            return True


class Watch:
    """What one writer sees of the server; used by one thread."""

    def __init__(self, outages: Outages) -> None:
        self._outages = outages
        self._well_s = time.monotonic()
        self._failed_s: float | None = None

    def failed(self) -> None:
        """A request had no answer, or one that says that the server is not there."""
        if self._failed_s is None:
            self._failed_s = time.monotonic()

    def answered(self, sent_s: float, was_dropped: bool) -> float:
        """A request was answered; `was_dropped`: over a new connection, since the server had ended the one before.

        Returns a moment: outages that end after it put the request into doubt. It is `sent_s`, since the server may be
        gone again before this writer goes on; but the outage whose end this very answer shows is over.
        """
        now_s, well_s, noticed_s = time.monotonic(), self._well_s, self._failed_s
        if noticed_s is None and was_dropped:
            noticed_s = well_s
        self._well_s, self._failed_s = now_s, None
        is_told = noticed_s is not None and self._outages.ended(well_s, noticed_s, now_s)
        return now_s if is_told else sent_s


class _Batch(NamedTuple):
    doubt_s: float
    """Outages that end after it put the batch into doubt."""
    accepted_s: float
    points: Sequence[DataPoint]
    characters: int


class Accepted:
    """The points that a writer's requests carried in the last `keep_s` seconds; used by one thread.

    At most `points_max`, and `characters_max` of series; beyond them the oldest request is forgotten first.
    """

    def __init__(self, keep_s: float, points_max: int, characters_max: int) -> None:
        self._keep_s, self._points_max, self._characters_max = keep_s, points_max, characters_max
        self._batches: deque[_Batch] = deque()
        self._points = self._characters = 0
        self._forgotten_s = float("-inf")

    def add(self, points: Sequence[DataPoint], doubt_s: float) -> None:
        """Remembers what a request carried that was accepted now; `doubt_s`: see `Watch.answered`."""
        if self._keep_s > 0:
            batch = _Batch(doubt_s, time.monotonic(), points, sum([len(point[0]) for point in points]))
            self._batches.append(batch)
            self._points += len(points)
            self._characters += batch.characters
            while self._points > self._points_max or self._characters > self._characters_max:
                self._forgotten_s = self._batches[0].accepted_s
                self._forget_oldest()

    def forget_old(self) -> None:
        """Forgets what was accepted longer ago than `keep_s`; not to be called while an outage is not settled."""
        oldest_s = time.monotonic() - self._keep_s
        while self._batches and self._batches[0].accepted_s < oldest_s:
            self._forget_oldest()

    def between(self, well_s: float, ended_s: float) -> list[DataPoint]:
        """The last value of each point that an outage put into doubt, from `keep_s` before `well_s` on."""
        latest: dict[tuple[Series, int], tuple[_Batch, DataPoint]] = {}
        for batch in self._batches:
            for point in batch.points:
                latest[point[:2]] = batch, point
        first_s = well_s - self._keep_s
        return [point for batch, point in latest.values() if first_s <= batch.accepted_s and batch.doubt_s < ended_s]

    def has_forgotten(self, well_s: float) -> bool:
        """Whether a bound has made it forget a part of what `between` would give."""
        return self._forgotten_s >= well_s - self._keep_s

    def __len__(self) -> int:
        return self._points

    def _forget_oldest(self) -> None:
        batch = self._batches.popleft()
        self._points -= len(batch.points)
        self._characters -= batch.characters
