"""The audit trail of verdicts: the state of each check, an evidence bundle for every change, and every delivery of one.

One SQLite file. A bundle holds all that a verdict follows from, so that anybody can compute it again.
"""

import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from monitor.alerts.outbox import Attempt
from monitor.runtime.errors import MonitorError
from monitor.verdicts.judge import State

CHANGES_MAX = 1_000_000
"""Changes that are kept; beyond, the oldest are deleted."""
USED_BYTES = 1 << 30
"""The size of what the file holds; beyond, the oldest changes are deleted."""
CHANGES_PER_CUT = 100
"""So many changes are deleted at once until the size is below its bound."""
DELIVERIES_MAX = 1_000_000
"""Deliveries that are kept; beyond, the oldest are deleted."""
BUSY_S = 10.0
"""The longest wait for another process that has the file locked."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS latest (
    tenant TEXT, experiment TEXT, name TEXT, phase_ms INTEGER, state TEXT, ln_e_max REAL,
    PRIMARY KEY (tenant, experiment, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS changes (
    number INTEGER PRIMARY KEY, id TEXT UNIQUE, at_ms INTEGER, tenant TEXT, experiment TEXT, name TEXT,
    previous TEXT, state TEXT, bundle TEXT
);
CREATE INDEX IF NOT EXISTS changes_at ON changes (at_ms);
CREATE TABLE IF NOT EXISTS deliveries (
    number INTEGER PRIMARY KEY, at_ms INTEGER, tenant TEXT, experiment TEXT, target TEXT, key TEXT, attempt INTEGER,
    verdict TEXT, text TEXT, changes TEXT, UNIQUE (target, key, attempt, at_ms)
);
CREATE INDEX IF NOT EXISTS deliveries_at ON deliveries (at_ms);
"""
_CHANGE = "id, at_ms, tenant, experiment, name, previous, state, bundle"
_DELIVERY = "target, key, attempt, at_ms, verdict, text, tenant, experiment, changes"
_WITHIN = """WHERE at_ms >= :start_ms AND at_ms < :end_ms AND (:tenant IS NULL OR tenant = :tenant)
    AND (:experiment IS NULL OR experiment = :experiment) ORDER BY at_ms, number"""


class AuditError(MonitorError):
    """The file cannot be used; the message says why."""


class Latest(NamedTuple):
    """What is known of a check: its phase, its state, and the largest ln E in the phase so far."""

    phase_ms: int
    state: State
    ln_e_max: float


class Recorded(NamedTuple):
    """A change of a state, with its evidence bundle as JSON."""

    id: str
    at_ms: int
    tenant: str
    experiment: str
    name: str
    previous: State
    state: State
    bundle: str


class Filter(NamedTuple):
    """What is asked of the trail: from a moment to before another, in ms, of a tenant and an experiment, or of all."""

    start_ms: int = 0
    end_ms: int = 2**62
    tenant: str | None = None
    experiment: str | None = None


ALL = Filter()
"""The whole trail."""


class Audit:
    """The file. Raises AuditError where it cannot be opened, and if it `must_exist` and does not."""

    def __init__(self, path: Path, *, must_exist: bool = False) -> None:
        if must_exist and not path.is_file():
            message = f"there is no audit trail {path}: name the folder of a `monitor watch`"
            raise AuditError(message)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            message = f"the audit trail {path} cannot be opened: {error}"
            raise AuditError(message) from error

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def latest(self, tenant: str, experiment: str) -> dict[str, Latest]:
        """The checks of an experiment by name."""
        rows = self._connection.execute(
            "SELECT name, phase_ms, state, ln_e_max FROM latest WHERE tenant = ? AND experiment = ?",
            (tenant, experiment),
        )
        return {name: Latest(phase_ms, State(state), ln_e_max) for name, phase_ms, state, ln_e_max in rows}

    def record(
        self, tenant: str, experiment: str, latest: Iterable[tuple[str, Latest]], changes: Sequence[Recorded]
    ) -> None:
        """Takes in the checks of an experiment and what has changed, all or nothing; a change with a known id once."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._connection.execute("DELETE FROM latest WHERE tenant = ? AND experiment = ?", (tenant, experiment))
            self._connection.executemany(
                "INSERT INTO latest VALUES (?, ?, ?, ?, ?, ?)",
                [(tenant, experiment, name, *of) for name, of in latest],
            )
            self._connection.executemany(
                "INSERT OR IGNORE INTO changes VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(*of[:-1], zlib.compress(of.bundle.encode())) for of in changes],
            )
            if changes:
                self._connection.execute(
                    "DELETE FROM changes WHERE number <= (SELECT max(number) FROM changes) - ?", (CHANGES_MAX,)
                )
                self._cut()
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def take_deliveries(self, attempts: Sequence[Attempt]) -> None:
        """Takes in attempts to deliver changes, each once."""
        rows = [
            (of.at_ms, of.tenant, of.experiment, of.target, of.key, of.attempt, of.verdict, of.text, changes)
            for of in attempts
            for changes in [msgspec.json.encode(of.changes).decode()]
        ]
        into = "INSERT OR IGNORE INTO deliveries VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._connection.executemany(into, rows)
            most = "SELECT max(number) FROM deliveries"
            self._connection.execute(f"DELETE FROM deliveries WHERE number <= ({most}) - ?", (DELIVERIES_MAX,))
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def delivered_ms(self) -> int:
        """When the newest delivery that was taken in was made; 0 without any."""
        (at_ms,) = self._connection.execute("SELECT max(at_ms) FROM deliveries").fetchone()
        return at_ms or 0

    def changes(self, asked: Filter = ALL) -> Iterator[Recorded]:
        """Changes in order of the minutes that were judged, then as they were recorded."""
        for row in self._connection.execute(f"SELECT {_CHANGE} FROM changes {_WITHIN}", asked._asdict()):
            yield _recorded(*row)

    def change(self, identity: str) -> Recorded | None:
        """The change with an id."""
        row = self._connection.execute(f"SELECT {_CHANGE} FROM changes WHERE id = ?", (identity,)).fetchone()
        return None if row is None else _recorded(*row)

    def deliveries(self, asked: Filter = ALL) -> Iterator[Attempt]:
        """Deliveries in order of time."""
        rows = self._connection.execute(f"SELECT {_DELIVERY} FROM deliveries {_WITHIN}", asked._asdict())
        for *row, changes in rows:
            yield msgspec.convert([*row, msgspec.json.decode(changes)], Attempt)

    def _cut(self) -> None:
        """Deletes the oldest changes while the file holds more than its bound."""
        while self._used_bytes() > USED_BYTES:
            oldest = "SELECT number FROM changes ORDER BY number LIMIT ?"
            if not self._connection.execute(
                f"DELETE FROM changes WHERE number IN ({oldest})", (CHANGES_PER_CUT,)
            ).rowcount:
                break

    def _used_bytes(self) -> int:
        pages, free, size = (
            self._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)


def _recorded(
    identity: str, at_ms: int, tenant: str, experiment: str, name: str, previous: str, state: str, bundle: bytes | str
) -> Recorded:
    # earlier versions wrote bundles as text
    text = bundle if isinstance(bundle, str) else zlib.decompress(bundle).decode()
    return Recorded(identity, at_ms, tenant, experiment, name, State(previous), State(state), text)
