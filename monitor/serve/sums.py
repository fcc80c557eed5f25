"""Sums of metrics over minutes with their data centers; final hours are cached in memory.

The key of an hour holds the moment since which it has been final in its data center. If that job loses its state and
writes the hour again, the moment changes, and the hour is queried again. Of a final hour that a range cuts, all minutes
are queried and cached, so that a range that moves on with the present does not query it again.
"""

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from cachetools import LRUCache

from monitor.core.codes import MINUTE_MS
from monitor.kairosdb.reader import Ask, Row
from monitor.serve.failover import Evidence, Stretch
from monitor.serve.spans import HOUR_MS
from monitor.serve.store import Store


class SumQuery(NamedTuple):
    """Sums, or maxima, of metrics with these tags, for each combination of `by`, in parts of at most an hour."""

    names: tuple[str, ...]
    tags: tuple[tuple[str, tuple[str, ...]], ...]
    by: tuple[str, ...]
    sampling_ms: int
    aggregator: Literal["sum", "max"] = "sum"


CUT_NAMES_MAX = 500
"""Of a final hour that a range cuts, a query of more metrics, or by several tags, reads only what it needs."""

Key = tuple[SumQuery | str, str, int, int]
"""(query, data center, start of the hour, moment since which it is final)."""


class SumCache:
    """The rows of final hours, `values_max` values at most; the least recently used are evicted. Thread-safe."""

    def __init__(self, values_max: int) -> None:
        self._hours: LRUCache[Key, tuple[Row, ...]] = LRUCache(values_max, getsizeof=lambda rows: len(rows) + 1)
        self._lock = threading.Lock()

    def get(self, key: Key) -> tuple[Row, ...] | None:
        """The rows of an hour, if they are cached."""
        with self._lock:
            return self._hours.get(key)

    def put(self, key: Key, rows: tuple[Row, ...]) -> None:
        """Caches the rows of an hour, unless they alone exceed the bound."""
        with self._lock:
            if len(rows) + 1 <= self._hours.maxsize:
                self._hours[key] = rows

    def __len__(self) -> int:
        with self._lock:
            return round(self._hours.currsize)


class Piece(NamedTuple):
    """A part of an hour of one data center; `key` if that hour is final and cached as a whole.

    What is queried is from `asked_start_ms` to `asked_end_ms`: the whole hour by minutes, where the range cuts it.
    """

    start_ms: int
    end_ms: int
    dc: str
    query: SumQuery
    key: Key | None
    asked_start_ms: int
    asked_end_ms: int

    def rows(self, rows: Iterable[Row]) -> tuple[Row, ...]:
        """Those of its own minutes."""
        return tuple(row for row in rows if self.start_ms <= row.at_ms < self.end_ms)


class Job(NamedTuple):
    """A query, and the data centers of the minutes of its range."""

    query: SumQuery
    served: Sequence[Stretch]


Sums = Counter[tuple[str, tuple[str, ...], int]]
"""(name, group, start of a part) -> sum or maximum over the minutes, each from its data center only."""


def sums(store: Store, cache: SumCache, evidence: Evidence, jobs: Sequence[Job]) -> list[Sums]:
    """The sums of each job. All jobs share requests to the store. Raises ProblemError."""
    of_jobs: list[Sums] = [Counter() for _ in jobs]
    missing: list[tuple[int, list[Piece]]] = []
    for number, job in enumerate(jobs):
        for piece in _pieces(evidence, job):
            cached = cache.get(piece.key) if piece.key is not None else None
            if cached is not None:
                _add(of_jobs[number], piece.rows(cached), piece.query)
            elif missing and _follows(missing[-1], number, piece):
                missing[-1][1].append(piece)
            else:
                missing.append((number, [piece]))
    asks = [_ask(pieces) for _, pieces in missing]
    for (number, pieces), rows in zip(missing, store.rows(asks), strict=True):
        # Parts of an hour may begin before the first piece; only minutes can be more than what the pieces need.
        is_exact = pieces[0].query.sampling_ms > MINUTE_MS
        own = rows if is_exact else (row for piece in pieces for row in piece.rows(rows))
        _add(of_jobs[number], own, pieces[0].query)
        for piece in pieces:
            if piece.key is not None:
                asked = range(piece.asked_start_ms, piece.asked_end_ms)
                cache.put(piece.key, tuple(row for row in rows if row.at_ms in asked))
    return of_jobs


def _pieces(evidence: Evidence, job: Job) -> Iterator[Piece]:
    for stretch in job.served:
        start_ms = stretch.start_ms
        while start_ms < stretch.end_ms:
            hour_ms = start_ms // HOUR_MS * HOUR_MS
            end_ms = min(hour_ms + HOUR_MS, stretch.end_ms)
            yield _piece(evidence, job.query, stretch.dc, start_ms, end_ms)
            start_ms = end_ms


def _piece(evidence: Evidence, query: SumQuery, dc: str, start_ms: int, end_ms: int) -> Piece:
    hour_ms = start_ms // HOUR_MS * HOUR_MS
    is_whole = end_ms - start_ms == HOUR_MS
    since_ms = evidence.final_since_ms(dc, hour_ms + HOUR_MS) if is_whole or _is_small(query) else None
    if since_ms is None:
        return Piece(start_ms, end_ms, dc, query, None, start_ms, end_ms)
    asked = query if is_whole else query._replace(sampling_ms=MINUTE_MS)
    return Piece(start_ms, end_ms, dc, asked, (asked, dc, hour_ms, since_ms), hour_ms, hour_ms + HOUR_MS)


def _is_small(query: SumQuery) -> bool:
    """True if the minutes of an hour are few enough to be kept."""
    return len(query.names) <= CUT_NAMES_MAX and len(query.by) <= 1


def _follows(before: tuple[int, list[Piece]], number: int, piece: Piece) -> bool:
    last = before[1][-1]
    is_next = last.dc == piece.dc and last.asked_end_ms == piece.asked_start_ms
    return before[0] == number and is_next and last.query == piece.query


def _ask(pieces: Sequence[Piece]) -> Ask:
    query, first, last = pieces[0].query, pieces[0], pieces[-1]
    tags: Mapping[str, Sequence[str]] = {"dc": (first.dc,), **dict(query.tags)}
    span = first.asked_start_ms, last.asked_end_ms
    return Ask(query.names, *span, tags, query.by, query.aggregator, query.sampling_ms)


def _add(into: Sums, rows: Iterable[Row], query: SumQuery) -> None:
    for row in rows:
        key = row.name, row.group, row.at_ms
        into[key] = into[key] + row.value if query.aggregator == "sum" else max(into[key], row.value)
