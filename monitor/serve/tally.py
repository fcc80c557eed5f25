"""The counts of one phase, cumulative at moments: by the hour, and every ten minutes of the last hours. Pure.

These are the moments at which the plan of restarts begins anew, so nothing else is needed of the past. A part between
two moments that was counted again replaces what it had before: nothing is ever added twice.
"""

import threading
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from monitor.serve.spans import HOUR_MS, Span
from monitor.serve.verdict_models import CheckAnswer
from monitor.verdicts.judge import Course, Known, Place
from monitor.verdicts.restarts import LIFE_MS, TEN_MINUTES_MS

MOMENTS_MAX = 9_000
"""Moments that are kept of a phase: those of a year. Of a longer one the oldest are dropped, not their counts."""

Series = tuple[str, tuple[str, ...]]
"""A metric by its configured name, and the values of the tags."""
Part = Mapping[Series, float]
"""The counts between two moments."""
Finality = tuple[int | None, ...]
"""The moment since which the minutes before another one are final, by data center; None: they are not."""


def moments(start_ms: int, sealed_ms: int) -> list[int]:
    """The moments after the start of a phase up to the end of its final minutes, in order."""
    recent_ms = max(start_ms, recent_from_ms(sealed_ms))
    hours = range((start_ms // HOUR_MS + 1) * HOUR_MS, recent_ms + 1, HOUR_MS)
    tens = range((recent_ms // TEN_MINUTES_MS + 1) * TEN_MINUTES_MS, sealed_ms + 1, TEN_MINUTES_MS)
    return [*hours, *tens]


def recent_from_ms(sealed_ms: int) -> int:
    """The hour from which on moments are ten minutes apart."""
    return (sealed_ms - LIFE_MS) // HOUR_MS * HOUR_MS


class Row(NamedTuple):
    """The counts of a phase before a moment, in the order of the series; those that it lacks are 0."""

    at_ms: int
    counts: list[float]


class Tally:
    """The counts of a phase from `start_ms` on. `tags`: the order of the values in its series."""

    def __init__(self, identity: str, start_ms: int, tags: Sequence[str]) -> None:
        self.identity, self.start_ms, self.tags = identity, start_ms, tuple(tags)
        self.known: Known = {}
        """The evidence of each test at the last look."""
        self.traffic: list[CheckAnswer] | None = None
        """What the checks of traffic say of these counts; None: they were not asked since the counts changed."""
        self.looked_ms = self.counted_ms = 0
        """The moments of the last look, and of the last one that counted all that the store holds."""
        self.changed_ms = start_ms
        """The counts before all moments up to here are in the file."""
        self._dropped_ms = start_ms
        """The moments before this one were dropped, or there are none."""
        self._series: dict[Series, int] = {}
        self._rows: list[Row] = []
        self._final: dict[int, Finality] = {}
        self._open: dict[int, float] = {}
        self._sealed_ms = start_ms
        self._of_cells: dict[tuple[tuple[str, ...], Place], tuple[int, list[list[int]]]] = {}
        self._before: dict[tuple[tuple[str, ...], Place], dict[int, tuple[float, ...]]] = {}

    @property
    def series(self) -> list[Series]:
        """All series, in the order of a row's counts."""
        return list(self._series)

    def rows(self, after_ms: int = 0) -> list[Row]:
        """The rows of the moments after another one, in order."""
        return self._rows[bisect_left(self._rows, after_ms + 1, key=lambda row: row.at_ms) :]

    def restore(self, series: Sequence[Series], rows: Iterable[Row]) -> None:
        """Takes in what a file holds: equal series are added, since tags may have gone."""
        places = [self._place(of) for of in series]
        for row in rows:
            counts: list[float] = [0] * len(self._series)
            for place, count in zip(places, row.counts, strict=False):
                counts[place] += count
            self._rows.append(Row(row.at_ms, counts))
        if self._rows and self._rows[0].at_ms - self.start_ms > HOUR_MS:
            self._dropped_ms = self._rows[0].at_ms

    def is_whole(self, until_ms: int) -> bool:
        """True if no hour is missing up to a moment, so that what is counted after it makes the phase complete."""
        marks = [self._dropped_ms, *(row.at_ms for row in self._rows if row.at_ms < until_ms + HOUR_MS)]
        return marks[-1] >= until_ms and all(after - before <= HOUR_MS for before, after in pairwise(marks))

    def is_settled(self, until_ms: int) -> bool:
        """True if all up to a moment was final in all data centers at the last look."""
        if self.start_ms >= until_ms:
            return True
        if not self._rows or self._rows[-1].at_ms < until_ms:
            return False
        return all(None not in self._final.get(row.at_ms, ()) for row in self._rows if row.at_ms <= until_ms)

    def recount(self) -> None:
        """Makes the next look count all again that the store holds."""
        self._final.clear()
        self.looked_ms = self.counted_ms = 0

    def lacking(self, sealed_ms: int, finality: Mapping[int, Finality], held_ms: int) -> Iterator[Span]:
        """The parts to be counted: those that are new, and those whose minutes became final anew.

        None of minutes before `held_ms`, which the store may have deleted.
        """
        for start_ms, end_ms in self.parts(sealed_ms):
            is_settled = end_ms in self._final and self._final[end_ms] == finality[end_ms]
            if start_ms >= max(held_ms, self._dropped_ms) and not is_settled:
                yield Span(start_ms, end_ms)

    def parts(self, sealed_ms: int) -> list[Span]:
        """All parts of the phase between two moments that are final."""
        marks = [self.start_ms, *moments(self.start_ms, sealed_ms)]
        return [Span(*ends) for ends in pairwise(marks)]

    def settled_ms(self, finality: Mapping[int, Finality], held_ms: int) -> int:
        """The moment up to which nothing has to be counted again."""
        until_ms = max(self.start_ms, held_ms)
        for row in self._rows:
            if row.at_ms > held_ms:
                if self._final.get(row.at_ms) != finality.get(row.at_ms, ()):
                    return until_ms
                until_ms = row.at_ms
        return until_ms

    def marks(self) -> list[int]:
        """The moments that it holds."""
        return [row.at_ms for row in self._rows]

    def counted(self, metrics: Collection[str], until_ms: int) -> Iterator[tuple[Span, Part]]:
        """What was counted of metrics between each two moments up to another one; parts that were dropped are not."""
        places = [(of, at) for of, at in self._series.items() if of[0] in metrics]
        start_ms, before = self.start_ms, _zeros(len(self._series))
        for row in self._rows:
            if row.at_ms > until_ms:
                return
            counts = [*row.counts, *_zeros(len(before) - len(row.counts))]
            if row.at_ms > self._dropped_ms:
                part = {of: counts[at] - before[at] for of, at in places if counts[at] != before[at]}
                yield Span(start_ms, row.at_ms), part
            start_ms, before = row.at_ms, counts

    def take(self, sealed_ms: int, parts: Mapping[Span, Part], finality: Mapping[int, Finality], rest: Part) -> None:
        """Takes in parts that were counted, and the rest: what was counted after the last moment."""
        wanted = set(moments(self.start_ms, sealed_ms))
        self._forget({row.at_ms for row in self._rows if row.at_ms not in wanted})
        for span, part in sorted(parts.items()):
            self._put(span, part)
            self._final[span.end_ms] = finality[span.end_ms]
        opened = {self._place(of): count for of, count in rest.items()}
        if parts or (sealed_ms, opened) != (self._sealed_ms, self._open):
            self.traffic = None
        self._sealed_ms, self._open = sealed_ms, opened
        if (excess := len(self._rows) - MOMENTS_MAX) > 0:
            self._dropped_ms = self._rows[excess].at_ms
            self._forget({row.at_ms for row in self._rows[:excess]})

    def course(self, metrics: tuple[str, ...], place: Place, marks: Sequence[int]) -> Course:
        """The cumulative counts of metrics within a slice, or of all visits: in all, and before each mark."""
        cells = self._cells(metrics, place)
        before = self._before.get((metrics, place), {})
        if list(before) != marks:
            rows = {row.at_ms: row.counts for row in self._rows}
            before = {
                mark: before[mark] if mark in before else _of_cells(cells, rows[mark]) for mark in marks if mark in rows
            }
            self._before[metrics, place] = before
        last = _of_cells(cells, self._rows[-1].counts if self._rows else [])
        more = tuple(sum([self._open.get(at, 0) for at in cell]) for cell in cells)
        return Course(tuple(count + of_open for count, of_open in zip(last, more, strict=True)), before)

    def _cells(self, metrics: tuple[str, ...], place: Place) -> list[list[int]]:
        """For each metric the places of its series within a slice."""
        number, cells = self._of_cells.get((metrics, place), (-1, []))
        if number != len(self._series):
            wanted = [(self.tags.index(tag), value) for tag, value in place]
            cells = [
                [
                    at
                    for (name, group), at in self._series.items()
                    if name == metric and all(group[i] == value for i, value in wanted)
                ]
                for metric in metrics
            ]
            self._of_cells[metrics, place] = len(self._series), cells
        return cells

    def _place(self, of: Series) -> int:
        return self._series.setdefault(of, len(self._series))

    def _put(self, span: Span, part: Part) -> None:
        """Replaces what is counted between two moments; all later moments change by the difference."""
        at = bisect_left(self._rows, span.end_ms, key=lambda row: row.at_ms)
        before = self._rows[at - 1].counts if at else []
        counts: list[float] = [*before, *[0] * (len(self._series) - len(before))]
        for of, count in part.items():
            place = self._place(of)
            counts += [0] * (place + 1 - len(counts))
            counts[place] += count
        if at == len(self._rows):
            self._rows.append(Row(span.end_ms, counts))
        elif self._rows[at].at_ms != span.end_ms:
            self._rows.insert(at, Row(span.end_ms, counts))
        elif (old := self._rows[at].counts) != counts:
            changes = [count - (old[i] if i < len(old) else 0) for i, count in enumerate(counts)]
            for row in self._rows[at:]:
                row.counts.extend([0] * (len(changes) - len(row.counts)))
                row.counts[: len(changes)] = [count + more for count, more in zip(row.counts, changes, strict=False)]
            self._rows[at].counts[: len(counts)] = counts
            self._before.clear()
        else:
            return
        self.changed_ms = min(self.changed_ms, span.start_ms)

    def _forget(self, marks: set[int]) -> None:
        if marks:
            self._rows = [row for row in self._rows if row.at_ms not in marks]
            for mark in marks:
                self._final.pop(mark, None)
            self._before.clear()


class Tallies:
    """The counts of the running phases of all experiments, one by experiment; what uses them holds the lock."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._tallies: dict[tuple[str, str], Tally] = {}

    def get(self, tenant: str, experiment: str, identity: str) -> Tally | None:
        """Those of a phase, if they are known."""
        tally = self._tallies.get((tenant, experiment))
        return tally if tally is not None and tally.identity == identity else None

    def put(self, tenant: str, experiment: str, tally: Tally) -> None:
        """Keeps them in place of those of an earlier phase."""
        self._tallies[tenant, experiment] = tally


def _zeros(number: int) -> list[float]:
    return [0] * number


def _of_cells(cells: Sequence[Sequence[int]], counts: Sequence[float]) -> tuple[float, ...]:
    length = len(counts)
    return tuple([sum([counts[at] for at in cell if at < length]) for cell in cells])
