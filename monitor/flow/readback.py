"""Reading back: what KairosDB holds of a final minute is compared with its totals before these are forgotten.

KairosDB answers 204 before it writes, and even if the write fails. So a thread of each process asks for the points of
each final minute some seconds after they were written; those that differ at a second look too are written again, by the
flow and so through the writer of their series. Nothing waits for it, and none of its errors reaches the flow. What is
not read back yet is a part of the state: after a stop or crash it is read back by the next run.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from threading import Condition, Event, Thread
from typing import Any

import structlog

from monitor.core.codes import MINUTE_MS
from monitor.core.ledger import Ledger
from monitor.core.metrics import DataPoint, Series
from monitor.flow.keys import METRIC_GROUPS
from monitor.flow.telemetry import TELEMETRY, Telemetry
from monitor.kairosdb.errors import KairosDbError, Unreachable
from monitor.kairosdb.reader import Ask, Reader

LOOK_AFTER_S = 10.0
"""Between the writing of a point, or a look at it, and the next look: KairosDB writes after it has answered."""
QUERY_TIMEOUT_S = 30.0
QUERY_TRIES = 3
"""Questions that KairosDB refuses or cannot answer; then the minute counts as not read back."""
REPAIRS_MAX = 5
"""Of a minute; then it counts as not read back."""
UNREAD_MINUTES_MAX = 60
"""Of a metric key group; beyond it, and beyond its share of the points, the oldest counts as not read back."""

_PACE_S = 60.0
_log = structlog.get_logger(__name__)


class Question:
    """Points that KairosDB must hold. `wrong` is None until it is known which of them it does not."""

    def __init__(self, points: Sequence[DataPoint], due_s: float) -> None:
        self.points = points
        self.due_s = due_s
        self.wrong: list[DataPoint] | None = None
        self.is_unreadable = False
        """KairosDB answers no question about them."""
        self.is_dropped = False
        """Nobody wants to know any more."""
        self.failures = 0
        self.has_differed = False


class Readback:
    """The thread that reads back, started by the first question; a daemon, which nobody waits for.

    It reads at most `points_a_minute` points a minute, on average.
    """

    def __init__(self, url: str, dc: str, points_a_minute: int, look_after_s: float = LOOK_AFTER_S) -> None:
        assert points_a_minute > 0, "without points there is nothing to read back"
        self.points_a_minute = points_a_minute
        self._url, self._dc, self._look_after_s = url, dc, look_after_s
        self._changed = Condition()
        self._waiting: list[Question] = []
        """Bounded by who asks: UNREAD_MINUTES_MAX for each metric key group."""
        self._thread: Thread | None = None
        self._closed = Event()

    def close(self) -> None:
        """Ends the thread soon; nobody waits for an answer to its last question."""
        self._closed.set()
        with self._changed:
            self._changed.notify()

    def ask(self, points: Sequence[DataPoint]) -> Question:
        """Points of one minute that were just handed to the sink, to be looked at after a while."""
        question = Question(points, time.monotonic() + self._look_after_s)
        with self._changed:
            self._waiting.append(question)
            if self._thread is None:
                self._thread = Thread(target=self._work, name="readback", daemon=True)
                self._thread.start()
            self._changed.notify()
        return question

    def _work(self) -> None:
        with Reader(self._url, QUERY_TIMEOUT_S) as reader:
            while questions := self._next():
                points = [point for question in questions for point in question.points]
                try:
                    wrong = set(differing(reader, self._dc, points))
                except Unreachable:
                    self._later(questions)  # the writers say that they wait for KairosDB
                except KairosDbError as error:
                    _log.warning("minute_not_read_back", reason=str(error))
                    self._failed(questions)
                except Exception:  # an error of ours must not end the thread: the minutes count as unread
                    _log.exception("readback_failed_internally")
                    self._failed(questions)
                else:
                    self._looked(questions, wrong)
                self._closed.wait(_PACE_S * len(points) / self.points_a_minute)

    def _next(self) -> list[Question]:
        """The questions that are due and about the same minute as the one that is due first; none once it is closed."""
        with self._changed:
            while not self._closed.is_set():
                self._waiting = [question for question in self._waiting if not question.is_dropped]
                first = min(self._waiting, key=lambda question: question.due_s, default=None)
                now_s = time.monotonic()
                if first is not None and first.due_s <= now_s:
                    minute_ms = first.points[0].timestamp_ms
                    taken = [
                        question
                        for question in self._waiting
                        if question.due_s <= now_s and question.points[0].timestamp_ms == minute_ms
                    ]
                    self._waiting = [question for question in self._waiting if question not in taken]
                    return taken
                self._changed.wait(None if first is None else first.due_s - now_s)
        return []

    def _looked(self, questions: Iterable[Question], wrong: set[DataPoint]) -> None:
        for question in questions:
            found = [point for point in question.points if point in wrong]
            if found and not question.has_differed:
                question.has_differed = True  # it may be on its way: another look decides
                self._later([question])
            else:
                question.wrong = found

    def _failed(self, questions: Iterable[Question]) -> None:
        for question in questions:
            question.failures += 1
            if question.failures < QUERY_TRIES:
                self._later([question])
            else:
                question.is_unreadable = True

    def _later(self, questions: Iterable[Question]) -> None:
        with self._changed:
            for question in questions:
                question.due_s = time.monotonic() + self._look_after_s
                self._waiting.append(question)


class FinalMinutes:
    """The final minutes of one metric key group whose totals are not read back yet.

    Where the job has more than `points_a_minute` totals a minute, only every 2nd, 4th, ... minute is read back. Without
    a `readback` minutes are forgotten as soon as they are final.
    """

    def __init__(
        self,
        ledger: Ledger,
        readback: Readback | None,
        unread: Mapping[int, dict[Series, int]],
        telemetry: Telemetry = TELEMETRY,
    ) -> None:
        self._ledger, self._readback, self._telemetry = ledger, readback, telemetry
        self._unread: dict[int, dict[Series, int]] = {}
        self._questions: dict[int, Question] = {}
        self._repairs: dict[int, int] = {}
        self.add(unread)

    def add(self, final: Mapping[int, dict[Series, int]]) -> None:
        """Minutes that have become final, with their totals, which were handed to the sink."""
        if self._readback is None:
            return
        for minute, totals in sorted(final.items()):
            if minute % self._share(len(totals)) == 0:
                self._unread[minute] = totals
                self._repairs[minute] = 0
                self._questions[minute] = self._readback.ask(self._ledger.points_of(minute, totals))
            else:
                self._telemetry.count("unread", len(totals))
        points_max = self._readback.points_a_minute // METRIC_GROUPS
        while len(self._unread) > UNREAD_MINUTES_MAX or (len(self._unread) > 1 and self._size() > points_max):
            self._forget_unread(min(self._unread))

    def repairs(self) -> list[DataPoint]:
        """The points that KairosDB has lost, to be written again; forgets the minutes of which it has all."""
        lost: list[DataPoint] = []
        for minute, question in list(self._questions.items()):
            if question.is_unreadable:
                self._forget_unread(minute)
            elif question.wrong == []:
                self._forget(minute)
            elif question.wrong is not None:
                lost += self._repaired(minute, question.wrong)
        return lost

    @property
    def are_all_read(self) -> bool:
        """Whether no minute waits."""
        return not self._questions

    def state(self) -> dict[int, dict[Series, int]]:
        """The totals that are not read back, by minute, for a snapshot."""
        return dict(self._unread)  # final totals never change

    def _repaired(self, minute: int, wrong: list[DataPoint]) -> list[DataPoint]:
        assert self._readback is not None, "only a readback answers"
        if self._repairs[minute] >= REPAIRS_MAX:
            self._forget_unread(minute)
            return []
        self._repairs[minute] += 1
        self._telemetry.count("repaired", len(wrong))
        _log.warning("minute_written_again", minute_ms=minute * MINUTE_MS, points=len(wrong), first=wrong[0].series)
        self._questions[minute] = self._readback.ask(wrong)
        return wrong

    def _share(self, totals: int) -> int:
        """Every how many minutes one is read back; series are spread evenly over the metric key groups."""
        assert self._readback is not None, "asked only where minutes are read back"
        needed = -(-totals * METRIC_GROUPS // self._readback.points_a_minute)
        return 1 << max(0, needed - 1).bit_length()  # powers of two, so that groups agree on their minutes

    def _size(self) -> int:
        return sum(map(len, self._unread.values()))

    def _forget_unread(self, minute: int) -> None:
        self._telemetry.count("unread", len(self._unread[minute]))
        self._questions[minute].is_dropped = True
        self._forget(minute)

    def _forget(self, minute: int) -> None:
        del self._unread[minute], self._questions[minute], self._repairs[minute]


def differing(reader: Reader, dc: str, points: Sequence[DataPoint]) -> Iterator[DataPoint]:
    """The points of one minute of which the store holds another value, or none though it is not 0."""
    start_ms = points[0].timestamp_ms
    by_name: dict[str, set[str]] = {}
    tagged = []
    for point in points:
        name, *parts = point.series.split("|")
        tags = dict(part.split("=") for part in parts)
        by_name.setdefault(name, set()).update(tags)
        tagged.append((point, name, tags))
    by = {name: tuple(sorted(tags)) for name, tags in by_name.items()}
    names: dict[tuple[str, ...], list[str]] = {}
    for name, tags_of in by.items():
        names.setdefault(tags_of, []).append(name)
    asks = [
        Ask(tuple(some), start_ms, start_ms + MINUTE_MS, {"dc": [dc]}, tags_of, aggregator=None)
        for tags_of, some in names.items()
    ]
    stored: dict[tuple[str, tuple[str, ...]], list[Any]] = {}
    for group in reader.groups(asks):
        stored.setdefault((group.name, group.tags), []).extend(value for _, value in group.points)
    for point, name, tags in tagged:
        values = stored.get((name, tuple(tags.get(tag, "") for tag in by[name])), [0])
        if not any(_is_same(name, point.value, value) for value in values):
            yield point


def _is_same(name: str, written: int | float, stored: Any) -> bool:
    """Exactly, or for a sum of squares, which may be rounded to a double, as doubles."""
    if written == stored:
        return True
    return name.endswith(".sumsq") and isinstance(stored, int | float) and float(written) == float(stored)
