"""A writer: one ordered connection to KairosDB, with a bounded queue and a thread of its own.

The job has a few writers, and a series always goes to the same one: two updates of one point (series and timestamp)
are never in flight together. After an outage of KairosDB that any of them noticed, each writes again what was accepted
shortly before it: see outages.py.
"""

import time
from collections.abc import Iterable
from itertools import islice
from threading import Condition, Event, Thread

import structlog

from monitor.core.metrics import DataPoint, Series
from monitor.kairosdb.client import Client
from monitor.kairosdb.dead_letters import DeadLetters
from monitor.kairosdb.delivery import Closed, Delivery, DeliverySettings
from monitor.kairosdb.outages import Accepted, Outages, Watch
from monitor.kairosdb.points import Renderer
from monitor.kairosdb.stats import WriterStats
from monitor.runtime.errors import MonitorError

_JOIN_POLL_S = 0.05
_log = structlog.get_logger(__name__)


class WriterSettings(DeliverySettings, frozen=True):
    """The bounds of a writer. Production uses the defaults; tests make them small."""

    linger_s: float = 0.1
    """The longest that a point waits for others."""
    pending_max: int = 50_000
    """Points that wait, about 250 bytes each; at the bound `put` blocks."""
    close_wait_s: float = 2.0
    """The longest that `close` waits for the thread."""
    rewrite_s: float = 60.0
    """What was accepted so long before an outage is written again; 0: nothing."""
    rewrite_points_max: int = 100_000
    """Accepted points that are remembered for that, about 250 bytes each; at the bound the oldest are forgotten."""
    rewrite_characters_max: int = 32 * 1024 * 1024
    """Of their series; likewise."""
    rewrite_rest: float = 4.0
    """The rest between two rewritings, in durations of the first: a server that fails all the time is not flooded."""


class WriterStopped(MonitorError):
    """The writer delivers no more: it was closed, or failed in a way that no retry helps; the message says which."""


class Writer:
    """Delivers points to the KairosDB at base URL `url`, in order, each until it is accepted or a dead letter.

    `renderer`, `dead_letters`, `stats` and `outages` may be shared with other writers. All methods may be called from
    any thread. The thread starts at once, is a daemon, and ends with `close`.
    """

    def __init__(
        self,
        url: str,
        renderer: Renderer,
        dead_letters: DeadLetters,
        stats: WriterStats,
        settings: WriterSettings | None = None,
        outages: Outages | None = None,
    ) -> None:
        self._settings = settings or WriterSettings()
        self._changed = Condition()
        self._closing = Event()
        self._failure: BaseException | None = None
        self._pending: dict[tuple[Series, int], int | float] = {}
        self._pending_since_s = 0.0
        self._entered = 0
        self._left = 0
        self._flush_until = 0
        self._owed: tuple[float, float] | None = None
        """The moments (well, ended) of the outages after which nothing was written again yet."""
        self._owed_number = self._paid_number = 0
        self._rest_until_s = 0.0
        self._stats = stats
        settings = self._settings
        self._accepted = Accepted(settings.rewrite_s, settings.rewrite_points_max, settings.rewrite_characters_max)
        outages = outages or Outages()
        outages.listen(self._owe)
        self._client = Client(url, self._settings.connect_timeout_s, self._settings.read_timeout_s)
        self._delivery = Delivery(
            self._client,
            renderer,
            dead_letters,
            stats,
            settings,
            self._closing,
            lambda: self.pending,
            Watch(outages),
            self._accepted.add,
        )
        self._thread = Thread(target=self._work, name=f"kairosdb-writer-{id(self):x}", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """The points handed over that are neither accepted nor dead letters yet, those in flight included."""
        return self._entered - self._left

    def put(self, points: Iterable[tuple[Series, int, int | float]]) -> None:
        """Hands over points (series, timestamp_ms, value); a value that waits for the same is replaced.

        Blocks while `pending_max` points wait, so that a slow KairosDB slows the job. Raises WriterStopped.
        """
        with self._changed:
            self._raise_if_stopped()
            for series, timestamp_ms, value in points:
                key = series, timestamp_ms
                if key not in self._pending:
                    self._wait_for_room()
                if key not in self._pending:  # asked again: another thread may have put it during the wait
                    if not self._pending:
                        self._pending_since_s = time.monotonic()
                    self._entered += 1
                self._pending[key] = value
            self._changed.notify_all()

    def flush(self) -> None:
        """Returns when every point handed over before is accepted, or safe in the dead-letter file.

        What an outage before that has put into doubt is then written again, too.
        Raises WriterStopped if that cannot be any more.
        """
        with self._changed:
            goal = self._entered
            self._flush_until = max(self._flush_until, goal)
            self._rest_until_s = 0.0
            self._changed.notify_all()
            owed = self._owed_number
            while self._left < goal or self._paid_number < owed:
                self._raise_if_stopped()
                self._changed.wait()

    def close(self) -> None:
        """Stops the thread without waiting for KairosDB: a request in progress is cut, what is pending is dropped.

        A connection that is just being made cannot be cut: then the thread outlives this, at most by the time-out.
        """
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        until_s = time.monotonic() + self._settings.close_wait_s
        while self._thread.is_alive() and time.monotonic() < until_s:
            self._client.cut()
            self._thread.join(_JOIN_POLL_S)

    def _wait_for_room(self) -> None:
        while len(self._pending) >= self._settings.pending_max:
            self._raise_if_stopped()
            self._changed.notify_all()
            self._changed.wait()

    def _raise_if_stopped(self) -> None:
        if self._failure is not None:
            raise WriterStopped(str(self._failure)) from self._failure
        if self._closing.is_set():
            msg = f"the writer is closed; {self.pending} points were dropped"
            raise WriterStopped(msg)

    def _work(self) -> None:
        try:
            while (points := self._next_batch()) is not None:
                if points:
                    self._delivery.deliver(points)
                self._rewrite()
                with self._changed:
                    self._left += len(points)
                    self._changed.notify_all()
        except Closed:
            pass
        except BaseException as failure:
            self._failure = failure  # whatever it is, those who wait must learn of it
        finally:
            self._client.close()
            with self._changed:
                self._changed.notify_all()

    def _owe(self, well_s: float, ended_s: float) -> None:
        with self._changed:
            self._owed = (well_s, ended_s) if self._owed is None else (min(self._owed[0], well_s), ended_s)
            self._owed_number += 1
            self._changed.notify_all()

    def _rewrite(self) -> None:
        """Writes again what outages have put into doubt, unless it is too early for that."""
        with self._changed:
            owed, number = self._owed, self._owed_number
            if owed is None:
                self._accepted.forget_old()
                return
            if self._rewrites_in_s() > 0:
                return
            self._owed = None
        start_s = time.monotonic()
        if points := self._accepted.between(*owed):
            self._stats.add(rewritten=len(points))
            is_complete = not self._accepted.has_forgotten(owed[0])
            _log.info("points_written_again", url=self._client.url, points=len(points), is_complete=is_complete)
            self._delivery.deliver(points)
        now_s = time.monotonic()
        with self._changed:
            self._paid_number = number
            self._rest_until_s = now_s + self._settings.rewrite_rest * (now_s - start_s)
            self._changed.notify_all()

    def _rewrites_in_s(self) -> float:
        return self._rest_until_s - time.monotonic()

    def _next_batch(self) -> list[DataPoint] | None:
        """The oldest pending points, when it is time to send them; [] to write again; None when the writer closes."""
        with self._changed:
            while not self._closing.is_set():
                waits_s = []
                if self._pending:
                    waits_s.append(self._due_in_s())
                    if waits_s[0] <= 0:
                        return self._take()
                if self._owed is not None:
                    waits_s.append(self._rewrites_in_s())
                    if waits_s[-1] <= 0:
                        return []
                self._changed.wait(min(waits_s, default=None))
            return None

    def _due_in_s(self) -> float:
        if len(self._pending) >= self._settings.points_max or self._left < self._flush_until:
            return 0.0
        return self._pending_since_s + self._settings.linger_s - time.monotonic()

    def _take(self) -> list[DataPoint]:
        keys = list(islice(self._pending, self._settings.points_max))
        points = [DataPoint(*key, self._pending.pop(key)) for key in keys]
        self._changed.notify_all()
        return points
