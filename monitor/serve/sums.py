"""Sums of metrics over minutes with their data centers; final hours are cached in memory.

The key of an hour holds the moment since which it has been final in its data center. If that job loses its state and
writes the hour again, the moment changes, and the hour is queried again.
"""

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from cachetools import LRUCache

from monitor.kairosdb.reader import Ask, Row
from monitor.serve.failover import Evidence, Stretch
from monitor.serve.spans import HOUR_MS
from monitor.serve.store import Store


class SumQuery(NamedTuple):
    """Sums of metrics with these tags, for each combination of `by`, in parts of at most an hour."""

    names: tuple[str, ...]
    tags: tuple[tuple[str, tuple[str, ...]], ...]
    by: tuple[str, ...]
    sampling_ms: int


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
    """A part of an hour of one data center; `key` if it is a whole hour that is final."""

    start_ms: int
    end_ms: int
    dc: str
    key: Key | None


class Job(NamedTuple):
    """A query, and the data centers of the minutes of its range."""

    query: SumQuery
    served: Sequence[Stretch]


Sums = Counter[tuple[str, tuple[str, ...], int]]
"""(name, group, start of a part) -> sum over the minutes, each from its data center only."""


def sums(store: Store, cache: SumCache, evidence: Evidence, jobs: Sequence[Job]) -> list[Sums]:
    """The sums of each job. Raises ProblemError."""
    of_jobs: list[Sums] = [Counter() for _ in jobs]
    missing: list[tuple[int, list[Piece]]] = []
    for number, job in enumerate(jobs):
        for piece in _pieces(evidence, job):
            cached = cache.get(piece.key) if piece.key is not None else None
            if cached is not None:
                _add(of_jobs[number], cached)
            elif missing and _follows(missing[-1], number, piece):
                missing[-1][1].append(piece)
            else:
                missing.append((number, [piece]))
    asks = [_ask(jobs[number].query, pieces) for number, pieces in missing]
    for (number, pieces), rows in zip(missing, store.rows(asks), strict=True):
        _add(of_jobs[number], rows)
        for piece in pieces:
            if piece.key is not None:
                cache.put(piece.key, tuple(row for row in rows if piece.start_ms <= row.at_ms < piece.end_ms))
    return of_jobs


def _pieces(evidence: Evidence, job: Job) -> Iterator[Piece]:
    for stretch in job.served:
        start_ms = stretch.start_ms
        while start_ms < stretch.end_ms:
            end_ms = min((start_ms // HOUR_MS + 1) * HOUR_MS, stretch.end_ms)
            since_ms = evidence.final_since_ms(stretch.dc, end_ms) if end_ms - start_ms == HOUR_MS else None
            key = (job.query, stretch.dc, start_ms, since_ms) if since_ms is not None else None
            yield Piece(start_ms, end_ms, stretch.dc, key)
            start_ms = end_ms


def _follows(before: tuple[int, list[Piece]], number: int, piece: Piece) -> bool:
    last = before[1][-1]
    return before[0] == number and last.dc == piece.dc and last.end_ms == piece.start_ms


def _ask(query: SumQuery, pieces: Sequence[Piece]) -> Ask:
    tags: Mapping[str, Sequence[str]] = {"dc": (pieces[0].dc,), **dict(query.tags)}
    return Ask(query.names, pieces[0].start_ms, pieces[-1].end_ms, tags, query.by, sampling_ms=query.sampling_ms)


def _add(into: Sums, rows: Iterable[Row]) -> None:
    for row in rows:
        into[row.name, row.group, row.at_ms] += row.value
