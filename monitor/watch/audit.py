"""The audit trail of verdicts: the state of each check, and an evidence bundle for every change of a state.

One SQLite file. A bundle holds all that a verdict follows from, so that anybody can compute it again.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from monitor.runtime.errors import MonitorError
from monitor.verdicts.judge import State

CHANGES_MAX = 1_000_000
"""Changes that are kept; beyond, the oldest are deleted."""
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
"""


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


class Audit:
    """The file. Raises AuditError where it cannot be opened."""

    def __init__(self, path: Path) -> None:
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
                "INSERT OR IGNORE INTO changes VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)", [tuple(of) for of in changes]
            )
            if changes:
                self._connection.execute(
                    "DELETE FROM changes WHERE number <= (SELECT max(number) FROM changes) - ?", (CHANGES_MAX,)
                )
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def changes(self) -> Iterator[Recorded]:
        """All changes, in the order in which they were recorded."""
        rows = self._connection.execute(
            "SELECT id, at_ms, tenant, experiment, name, previous, state, bundle FROM changes ORDER BY number"
        )
        for identity, at_ms, tenant, experiment, name, previous, state, bundle in rows:
            yield Recorded(identity, at_ms, tenant, experiment, name, State(previous), State(state), bundle)
