"""The points on disk: SQLite in WAL mode, one writer, and a few readers that never wait for it."""

import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from monitor.devstore.datapoints_parser import SeriesKey, StoredPoint
from monitor.runtime.errors import MonitorError
from monitor.runtime.file_lock import locked_for_one_process

__all__ = ["READERS", "Database", "Snapshot", "StoreError", "StoredSeries", "matches"]

READERS = 4
"""Read connections; a reader waits for one to be free."""
SERIES_CACHE_MAX = 250_000
"""Series whose ids are cached, about 400 bytes each for a job's metrics; at the bound the cache is cleared."""
SERIES_CACHED_BYTES_MAX = 2_048
"""Length of the name and tags of a series whose id is cached; the id of a longer one is read for each point."""
PURGE_ROWS_MIN, PURGE_ROWS_MAX = 5_000, 200_000
"""Rows that one purge examines: twice the rows written since the last purge, within these bounds."""
BUSY_TIMEOUT_MS = 5_000
PAGE_CACHE_KIB = 65_536
CHECKPOINT_PAGES = 4_000

_SCHEMA_VERSION = 1
_SCHEMA = f"""
    CREATE TABLE series (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, tags TEXT NOT NULL, UNIQUE (name, type, tags)
    );
    CREATE TABLE points (
        series_id INTEGER NOT NULL, timestamp INTEGER NOT NULL, expires_ms INTEGER NOT NULL, value NOT NULL,
        PRIMARY KEY (series_id, timestamp)
    ) WITHOUT ROWID;
    PRAGMA user_version = {_SCHEMA_VERSION};
"""
_NEVER = 0
_ALIVE = f"expires_ms NOT BETWEEN {_NEVER + 1} AND ?"
_UPSERT = "INSERT OR REPLACE INTO points (series_id, timestamp, expires_ms, value) VALUES (?, ?, ?, ?)"
_DROP_EMPTY_SERIES = """
    DELETE FROM series WHERE id BETWEEN ? AND ? AND NOT EXISTS (SELECT 1 FROM points WHERE series_id = series.id)
"""


class StoreError(MonitorError):
    """The store cannot be opened or started; the message says which file or address, and why."""


class StoredSeries(NamedTuple):
    """One combination of metric name, type and tags."""

    id: int
    type: str
    tags: dict[str, str]


class Snapshot:
    """The store at one moment, without the points that had expired by then."""

    def __init__(self, connection: sqlite3.Connection, now_ms: int) -> None:
        self._connection = connection
        self._now_ms = now_ms

    def metric_names(self, prefix: str) -> list[str]:
        """The names of all series, sorted; the name of a metric without points remains until the next purge."""
        rows = self._connection.execute("SELECT DISTINCT name FROM series ORDER BY name")
        return [name for (name,) in rows if name.startswith(prefix)]

    def series(self, name: str) -> list[StoredSeries]:
        """All series of a metric."""
        rows = self._connection.execute("SELECT id, type, tags FROM series WHERE name = ?", (name,))
        return [StoredSeries(series_id, type_name, msgspec.json.decode(tags)) for series_id, type_name, tags in rows]

    def points(
        self, series_id: int, start_ms: int, end_ms: int, *, limit: int, descending: bool = False
    ) -> list[tuple[int, Any]]:
        """(timestamp, value) of a series from start_ms to end_ms, both included, sorted by time; at most `limit`."""
        order = "DESC" if descending else "ASC"
        query = f"""
            SELECT timestamp, value FROM points WHERE series_id = ? AND timestamp BETWEEN ? AND ? AND {_ALIVE}
            ORDER BY timestamp {order} LIMIT ?
        """
        return self._connection.execute(query, (series_id, start_ms, end_ms, self._now_ms, limit)).fetchall()


class Database:
    """The store's file. Methods block and may be called from any thread; writes take turns, reads do not wait for them.

    A write survives a kill of the process from the moment it returns; a failure of the machine may cost the last ones,
    never the file's consistency. One process at a time: a lock file beside the store is held while it is open.
    """

    def __init__(self, path: Path, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._write_lock = threading.Lock()
        self._series_ids: dict[SeriesKey, int] = {}
        self._written_since_purge = 0
        self._purged_up_to = (0, -(2**63))
        self._readers: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        self._lock_file = locked_for_one_process(path, "the store", StoreError, 0o644)
        try:
            self._writer = _connect(path)
            _create_schema(self._writer)
            for _ in range(READERS):
                self._readers.put(_connect(path))
        except sqlite3.Error as error:
            os.close(self._lock_file)
            message = f"cannot open the store {path}: {error}"
            raise StoreError(message) from error

    def close(self) -> None:
        """Waits for the writer and for every reader, then closes the file."""
        with self._write_lock:
            for _ in range(READERS):
                self._readers.get().close()
            self._writer.close()
            os.close(self._lock_file)

    def write(self, points: Sequence[StoredPoint]) -> None:
        """Stores points in one transaction, all or none; of points with one series and timestamp the last one stays."""
        if not points:
            return
        now_ms = self._now_ms()
        with self._write() as connection:
            ids = self._series_ids
            rows = [
                (
                    ids.get(key) or self._learn_id(connection, key),
                    timestamp,
                    now_ms + ttl_s * 1_000 if ttl_s else _NEVER,
                    value,
                )
                for key, timestamp, value, ttl_s in points
            ]
            rows.sort(key=itemgetter(0, 1))  # in the order of the table; stable, so that the last one still wins
            connection.executemany(_UPSERT, rows)
            self._written_since_purge += len(rows)

    def delete(self, name: str, tags: dict[str, set[str]], start_ms: int, end_ms: int) -> None:
        """Deletes a metric's points from start_ms to end_ms, both included, in series with the tags."""
        with self._write() as connection:
            snapshot = Snapshot(connection, self._now_ms())
            for series in snapshot.series(name):
                if matches(series, tags):
                    where = "series_id = ? AND timestamp BETWEEN ? AND ?"
                    connection.execute(f"DELETE FROM points WHERE {where}", (series.id, start_ms, end_ms))
                    self._drop_empty_series(connection, series.id, series.id)

    def purge(self) -> int:
        """Deletes expired points and series left empty, and returns the number of points deleted.

        A call examines the next PURGE_ROWS_MIN to PURGE_ROWS_MAX rows of the table and continues at its begin after its
        end. It takes twice as many rows as were written since the last call, to keep up with the rate of writing.
        """
        with self._write() as connection:
            budget = min(max(PURGE_ROWS_MIN, 2 * self._written_since_purge), PURGE_ROWS_MAX)
            self._written_since_purge = 0
            begin = self._purged_up_to
            beyond = "SELECT series_id, timestamp FROM points WHERE (series_id, timestamp) > (?, ?) LIMIT 1 OFFSET ?"
            end = connection.execute(beyond, (*begin, budget - 1)).fetchone()
            self._purged_up_to = end or (0, -(2**63))
            end = end or (2**63 - 1, 2**63 - 1)
            deleted = connection.execute(
                "DELETE FROM points WHERE (series_id, timestamp) > (?, ?) AND (series_id, timestamp) <= (?, ?) "
                f"AND NOT ({_ALIVE})",
                (*begin, *end, self._now_ms()),
            ).rowcount
            if deleted:
                self._drop_empty_series(connection, begin[0], end[0])
            return deleted

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """A consistent view for as long as the block lasts; waits while READERS others are in use."""
        connection = self._readers.get()
        try:
            connection.execute("BEGIN")
            try:
                yield Snapshot(connection, self._now_ms())
            finally:
                connection.execute("ROLLBACK")
        finally:
            self._readers.put(connection)

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._write_lock:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                self._series_ids.clear()  # it may hold ids of series that were rolled back
                raise

    def _learn_id(self, connection: sqlite3.Connection, key: SeriesKey) -> int:
        name, type_name, tags = key
        columns = (name, type_name, tags.decode())
        row_id = connection.execute(
            "SELECT id FROM series WHERE name = ? AND type = ? AND tags = ?", columns
        ).fetchone()
        if row_id is None:
            row_id = connection.execute(
                "INSERT INTO series (name, type, tags) VALUES (?, ?, ?) RETURNING id", columns
            ).fetchone()
        if len(self._series_ids) >= SERIES_CACHE_MAX:
            self._series_ids.clear()
        series_id: int = row_id[0]
        if len(name) + len(tags) <= SERIES_CACHED_BYTES_MAX:
            self._series_ids[key] = series_id
        return series_id

    def _drop_empty_series(self, connection: sqlite3.Connection, first_id: int, last_id: int) -> None:
        if connection.execute(_DROP_EMPTY_SERIES, (first_id, last_id)).rowcount:
            self._series_ids.clear()


def matches(series: StoredSeries, tags: dict[str, set[str]]) -> bool:
    """True if a series has, for each of these tags, one of its values."""
    return all(series.tags.get(name) in values for name, values in tags.items())


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA cache_size = -{PAGE_CACHE_KIB}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    return connection


def _create_schema(connection: sqlite3.Connection) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 0 and not connection.execute("SELECT 1 FROM sqlite_master").fetchall():
        connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
    elif version != _SCHEMA_VERSION:
        message = f"it is not a store of version {_SCHEMA_VERSION} (user_version is {version})"
        raise sqlite3.DatabaseError(message)
