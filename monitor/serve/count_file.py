"""The counts of running phases in one small SQLite file, which outlive the ttl of the store's points.

`monitor watch` writes it, and the query service may read it. While the store holds a phase's points, they alone count:
what the file has of them is written over, so the file can be deleted, and is then made anew. Only of hours that the
store may have deleted is it the one source. A row has the counts of a phase before a moment (`tally`), of all series.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from monitor.runtime.errors import MonitorError
from monitor.serve.spans import HOUR_MS
from monitor.serve.tally import Row, Series, Tally, recent_from_ms

APPLICATION_ID = 0x4D4F4E43
"""What SQLite's header says of a file of ours."""
FORMAT = 1
BYTES_MAX = 1 << 30
"""The largest size of the file; beyond, further counts are not written, and a warning says so."""
EXPERIMENTS_MAX = 4_096
"""Experiments of which something is kept; beyond, those that were judged last the longest ago are deleted."""
BUSY_S = 10.0
"""The longest wait for the process that is writing."""
INTEGER_BITS = 63
"""Whole numbers of at most so many bits are written as such."""
_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS beginnings (
        tenant TEXT, experiment TEXT, beginning TEXT, at_ms INTEGER, PRIMARY KEY (tenant, experiment)
    ) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS phases (
        number INTEGER PRIMARY KEY, tenant TEXT, experiment TEXT, identity TEXT, series TEXT,
        UNIQUE (tenant, experiment)
    )""",
    """CREATE TABLE IF NOT EXISTS counts (
        phase INTEGER, at_ms INTEGER, counts BLOB, PRIMARY KEY (phase, at_ms)
    ) WITHOUT ROWID""",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {FORMAT}",
)


class CountFileError(MonitorError):
    """The file cannot be used; the message says why, and what to do."""


class NotWrittenError(Exception):
    """The counts could not be written now: the disk or the file is full, or another process has the file."""


class Beginning(NamedTuple):
    """What is known of the beginning of an experiment's phase.

    `first_ms`: the first minute with a visit. `configured_ms`: the start that was configured, 0 without one.
    `since_ms`: from when on the definitions hold, if they were changed without a configured start; 0 otherwise.
    `definitions`: a hash of each of them. `is_reweighted`: true if their change at `since_ms` was one of the weights.
    """

    first_ms: int
    configured_ms: int
    since_ms: int
    is_reweighted: bool
    definitions: dict[str, str]


class CountFile:
    """The file; a writer makes it. Raises CountFileError where it is damaged or another program's."""

    def __init__(self, path: Path, *, is_writer: bool) -> None:
        self.path, self.is_writer = path, is_writer
        self._known: dict[tuple[str, str], Beginning] | None = None
        self._known_of: tuple[int, ...] = ()
        """The file at the moment when it was read."""
        if is_writer:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with self._writing() as connection:
                    for statement in _SCHEMA:
                        connection.execute(statement)
            except (OSError, NotWrittenError) as error:
                message = f"the file of counts {path} cannot be made: {error}"
                raise CountFileError(message) from error

    def beginning(self, tenant: str, experiment: str) -> Beginning | None:
        """What is known of the beginning of an experiment's phase, if the file is there and knows it."""
        if self._known is None or self._known_of != self._stamp():
            self._known_of = self._stamp()
            with self._reading() as connection:
                rows = connection.execute("SELECT tenant, experiment, beginning FROM beginnings") if connection else ()
                self._known = {of[:2]: msgspec.json.decode(of[2], type=Beginning) for of in rows}
        return self._known.get((tenant, experiment))

    def begin(self, tenant: str, experiment: str, beginning: Beginning, now_ms: int) -> None:
        """Keeps what is known of a beginning. Raises NotWrittenError."""
        with self._writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO beginnings VALUES (?, ?, ?, ?)",
                (tenant, experiment, msgspec.json.encode(beginning).decode(), now_ms),
            )
            old = connection.execute(
                "SELECT tenant, experiment FROM beginnings ORDER BY at_ms DESC LIMIT -1 OFFSET ?", (EXPERIMENTS_MAX,)
            ).fetchall()
            for of in old:
                connection.execute("DELETE FROM beginnings WHERE tenant = ? AND experiment = ?", of)
                _delete(connection, *of)
        self._known = None

    def restore(self, tenant: str, experiment: str, tally: Tally) -> None:
        """Gives a new tally what the file has of its phase."""
        with self._reading() as connection:
            phase = (
                connection
                and connection.execute(
                    "SELECT number, series FROM phases WHERE tenant = ? AND experiment = ? AND identity = ?",
                    (tenant, experiment, tally.identity),
                ).fetchone()
            )
            if connection and phase:
                rows = connection.execute("SELECT at_ms, counts FROM counts WHERE phase = ? ORDER BY at_ms", phase[:1])
                tally.restore(
                    [_series_of(name, tags, tally.tags) for name, tags in msgspec.json.decode(phase[1])],
                    (Row(at_ms, _unpacked(counts)) for at_ms, counts in rows),
                )

    def keep(self, tenant: str, tallies: Mapping[str, Tally], sealed: Mapping[str, int]) -> None:
        """Writes the rows of tallies that changed, by experiment, all or nothing. Raises NotWrittenError."""
        changed = {name: tally for name, tally in tallies.items() if tally.rows(tally.changed_ms)}
        if not changed:
            return
        with self._writing() as connection:
            for name, tally in changed.items():
                _write(connection, tenant, name, tally, sealed[name])
        for tally in changed.values():
            tally.changed_ms = tally.marks()[-1]

    def _stamp(self) -> tuple[int, ...]:
        """What changes with the file; empty while there is none."""
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return ()
        return stat.st_ino, stat.st_size, stat.st_mtime_ns

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        """A connection that only reads; None while there is no file."""
        if not self.path.exists():
            yield None
            return
        address = f"{self.path.resolve().as_uri()}?mode=ro"
        try:
            with self._explained(), closing(sqlite3.connect(address, BUSY_S, uri=True)) as connection:
                _check(connection)
                yield connection
        except sqlite3.OperationalError as error:
            message = f"the file of counts {self.path} cannot be read: {error}"
            raise CountFileError(message) from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A connection with a transaction, which is taken back where it fails."""
        assert self.is_writer, self.path
        try:
            with self._explained(), closing(sqlite3.connect(self.path, BUSY_S, isolation_level=None)) as connection:
                _check(connection)
                (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
                connection.execute(f"PRAGMA max_page_count = {BYTES_MAX // page_bytes}")
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            message = f"the file of counts {self.path} cannot be written: {error}"
            raise NotWrittenError(message) from error

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raises CountFileError for what is no file of counts."""
        try:
            yield
        except sqlite3.OperationalError:
            raise
        except (sqlite3.DatabaseError, msgspec.MsgspecError, _ForeignError) as error:
            fix = "delete it: it is made anew from what the store holds"
            message = f"{self.path} is damaged or no file of counts ({error}); {fix}"
            raise CountFileError(message) from error


class _ForeignError(Exception):
    """The file is another program's, or of another format."""


def _check(connection: sqlite3.Connection) -> None:
    """Raises _ForeignError unless the file is new or ours; sqlite3.DatabaseError where it is no database."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (written_as,) = connection.execute("PRAGMA user_version").fetchone()
    if (application_id, written_as) != (APPLICATION_ID, FORMAT):
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables or application_id:
            message = f"its application id and format are {application_id} and {written_as}"
            raise _ForeignError(message)


def _phase(connection: sqlite3.Connection, tenant: str, experiment: str, identity: str) -> int:
    """The number of a phase, which takes the place of an earlier one of its experiment."""
    wanted = tenant, experiment, identity
    of_phase = "SELECT number FROM phases WHERE tenant = ? AND experiment = ? AND identity = ?"
    if (found := connection.execute(of_phase, wanted).fetchone()) is None:
        _delete(connection, tenant, experiment)
        connection.execute("INSERT INTO phases VALUES (NULL, ?, ?, ?, '[]')", wanted)
        found = connection.execute(of_phase, wanted).fetchone()
    return int(found[0])


def _write(connection: sqlite3.Connection, tenant: str, experiment: str, tally: Tally, sealed_ms: int) -> None:
    """Writes what has changed of a tally, and deletes the moments that it no longer has."""
    number = _phase(connection, tenant, experiment, tally.identity)
    series = [(name, dict(zip(tally.tags, group, strict=True))) for name, group in tally.series]
    connection.execute("UPDATE phases SET series = ? WHERE number = ?", (msgspec.json.encode(series).decode(), number))
    connection.execute(
        f"DELETE FROM counts WHERE phase = ? AND (at_ms > ? OR at_ms < ? OR (at_ms < ? AND at_ms % {HOUR_MS}))",
        (number, tally.changed_ms, tally.marks()[0], recent_from_ms(sealed_ms)),
    )
    rows = [(number, row.at_ms, _packed(row.counts)) for row in tally.rows(tally.changed_ms)]
    connection.executemany("INSERT INTO counts VALUES (?, ?, ?)", rows)
    judged = sealed_ms, tenant, experiment
    connection.execute("UPDATE beginnings SET at_ms = ? WHERE tenant = ? AND experiment = ?", judged)


def _packed(counts: Sequence[float]) -> bytes:
    """MessagePack has no whole numbers beyond 64 bits: larger ones, such as sums of squares, are written as text."""
    small = [str(count) if isinstance(count, int) and count.bit_length() > INTEGER_BITS else count for count in counts]
    return msgspec.msgpack.encode(small)


def _unpacked(counts: bytes) -> list[float]:
    """Raises msgspec.MsgspecError for what are no counts."""
    found = msgspec.msgpack.decode(counts, type=list[int | float | str])
    try:
        return [int(count) if isinstance(count, str) else count for count in found]
    except ValueError as error:
        raise msgspec.DecodeError(str(error)) from error


def _delete(connection: sqlite3.Connection, tenant: str, experiment: str) -> None:
    """Deletes the counts of an experiment."""
    of = "(SELECT number FROM phases WHERE tenant = ? AND experiment = ?)"
    connection.execute(f"DELETE FROM counts WHERE phase IN {of}", (tenant, experiment))
    connection.execute("DELETE FROM phases WHERE tenant = ? AND experiment = ?", (tenant, experiment))


def _series_of(name: str, tags: dict[str, str], order: Sequence[str]) -> Series:
    """A series with the tags of the present configuration."""
    return name, tuple(tags.get(tag, "") for tag in order)
