"""The outbox: messages on their way, what each target was told, and every attempt, in one SQLite file.

A message is there before `tell` returns, and stays until its target has accepted it, or it was given up: so it is
delivered at least once, over restarts and failures of the machine. A change is put there once for each target. Of the
messages of one experiment only the oldest is due, so that no alarm overtakes the news that it is over.

At `UNDELIVERED_MAX` the oldest messages are given up. What is done with is deleted after `KEPT_MS`.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from monitor.alerts.changes import Change, Message
from monitor.alerts.outcomes import Outcome, Verdict
from monitor.alerts.routes import UNKNOWN, Standing
from monitor.runtime.errors import MonitorError
from monitor.runtime.file_lock import locked_for_one_process

KEPT_MS = 30 * 86_400_000
"""How long delivered messages, attempts and resolved checks are kept."""
UNDELIVERED_MAX = 10_000
"""Messages that wait, for all targets together; at the bound the oldest are given up."""
DELIVERIES_MAX = 200_000
"""Attempts that are kept; at the bound the oldest are deleted."""
STANDINGS_MAX = 200_000
"""Checks whose standing is kept, for all targets together; at the bound the oldest are forgotten."""
AHEAD_MS_MAX = 2 * 3_600_000
"""A time for the next attempt that is further ahead was noted by a clock that was set back since: it is due."""
BUSY_TIMEOUT_S = 5.0

_SCHEMA_VERSION = 1
_SCHEMA = f"""
    CREATE TABLE messages (
        id INTEGER PRIMARY KEY AUTOINCREMENT, target TEXT NOT NULL, tenant TEXT NOT NULL, experiment TEXT NOT NULL,
        key TEXT NOT NULL, message BLOB NOT NULL, created_ms INTEGER NOT NULL, next_ms INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0, done_ms INTEGER, verdict TEXT
    );
    CREATE INDEX waiting ON messages (target, tenant, experiment, id) WHERE done_ms IS NULL;
    CREATE INDEX done ON messages (done_ms) WHERE done_ms IS NOT NULL;
    CREATE TABLE told (
        change_id TEXT NOT NULL, target TEXT NOT NULL, message_id INTEGER NOT NULL, PRIMARY KEY (change_id, target)
    ) WITHOUT ROWID;
    CREATE INDEX told_by ON told (message_id);
    CREATE TABLE standings (
        target TEXT NOT NULL, tenant TEXT NOT NULL, experiment TEXT NOT NULL, check_name TEXT NOT NULL,
        told INTEGER NOT NULL, told_ms INTEGER NOT NULL, newest_ms INTEGER NOT NULL,
        PRIMARY KEY (target, tenant, experiment, check_name)
    ) WITHOUT ROWID;
    CREATE TABLE targets (target TEXT PRIMARY KEY, rests_until_ms INTEGER NOT NULL, failures INTEGER NOT NULL);
    CREATE TABLE deliveries (
        id INTEGER PRIMARY KEY AUTOINCREMENT, target TEXT NOT NULL, message_id INTEGER NOT NULL, key TEXT NOT NULL,
        attempt INTEGER NOT NULL, at_ms INTEGER NOT NULL, verdict TEXT NOT NULL, text TEXT NOT NULL
    );
    CREATE INDEX deliveries_at ON deliveries (at_ms);
    PRAGMA user_version = {_SCHEMA_VERSION};
"""
_HEADS = "SELECT min(id) FROM messages WHERE target = ? AND done_ms IS NULL GROUP BY tenant, experiment"


class OutboxError(MonitorError):
    """The outbox cannot be used; the message names the file and the cause."""


class Waiting(NamedTuple):
    """A message that is to be delivered."""

    id: int
    message: Message
    created_ms: int
    attempts: int
    """Those before."""


class Attempt(NamedTuple):
    """An attempt to deliver a message, as the audit has it; attempt 0: it was given up without one."""

    target: str
    key: str
    attempt: int
    at_ms: int
    verdict: str
    """`accepted`, `failed`, `refused` or `given_up`."""
    text: str
    """The status and the beginning of the answer, or the error."""
    tenant: str
    experiment: str
    changes: list[str]
    """The ids of the message's changes."""


class Outbox:
    """The file at `path`, for one process at a time; its methods may be called from any thread. Raises OutboxError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        # two processes would deliver each message twice
        self._lock_file = locked_for_one_process(path, "the outbox", OutboxError, 0o600)
        try:
            self._connection = _connect(path)
        except (sqlite3.Error, OutboxError) as error:
            os.close(self._lock_file)
            message = f"cannot open the outbox {path}: {error}"
            raise OutboxError(message) from error
        self._is_open = True

    def close(self) -> None:
        """Closes the file; what is called afterwards raises OutboxError."""
        with self._lock:
            if self._is_open:
                self._is_open = False
                self._connection.close()
                os.close(self._lock_file)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is done in the block is on the disk at its end, or nothing of it."""
        with self._lock:
            if not self._is_open:
                message = f"the outbox {self._path} is closed"
                raise OutboxError(message)
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield
                self._connection.execute("COMMIT")
            except BaseException as error:
                with suppress(sqlite3.Error):  # a full disk may have ended it already
                    self._connection.execute("ROLLBACK")
                if not isinstance(error, sqlite3.Error):
                    raise
                message = f"the outbox {self._path} cannot be written: {error}"
                raise OutboxError(message) from error

    def was_put(self, change_id: str, target: str) -> bool:
        """Whether the change was put for the target before; within a transaction, as are the next three."""
        query = "SELECT 1 FROM told WHERE change_id = ? AND target = ?"
        return self._connection.execute(query, (change_id, target)).fetchone() is not None

    def standing(self, target: str, change: Change) -> Standing:
        """What the target knows of the change's check."""
        query = """SELECT told, told_ms, newest_ms FROM standings
            WHERE target = ? AND tenant = ? AND experiment = ? AND check_name = ?"""
        row = self._connection.execute(query, (target, change.tenant, change.experiment, change.check)).fetchone()
        return UNKNOWN if row is None else Standing(*row)

    def stand(self, target: str, change: Change, standing: Standing) -> None:
        """Keeps what the target knows of the change's check from now on."""
        row = (target, change.tenant, change.experiment, change.check, *standing)
        self._connection.execute("INSERT OR REPLACE INTO standings VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def put(self, target: str, message: Message, now_ms: int) -> None:
        """Adds a message, due at once."""
        row = (target, message.tenant, message.experiment, message.key, msgspec.json.encode(message), now_ms, now_ms)
        into = "messages (target, tenant, experiment, key, message, created_ms, next_ms)"
        number = self._connection.execute(f"INSERT INTO {into} VALUES (?, ?, ?, ?, ?, ?, ?)", row).lastrowid
        rows = [(change.id, target, number) for change in message.changes]
        self._connection.executemany("INSERT INTO told VALUES (?, ?, ?)", rows)

    def due(self, target: str, now_ms: int) -> Waiting | None:
        """The message that is to be sent now: of those that are the oldest of their experiment the longest due."""
        query = f"""SELECT id, message, created_ms, attempts FROM messages
            WHERE id IN ({_HEADS}) AND next_ms NOT BETWEEN ? AND ? ORDER BY next_ms, id LIMIT 1"""
        not_yet = now_ms + 1, now_ms + AHEAD_MS_MAX
        with self.transaction():
            if not_yet[0] <= self._rest(target)[0] <= not_yet[1]:
                return None
            row = self._connection.execute(query, (target, *not_yet)).fetchone()
        return None if row is None else Waiting(row[0], msgspec.json.decode(row[1], type=Message), row[2], row[3])

    def next_ms(self, target: str) -> int | None:
        """When the next message of a target is due; None if none waits."""
        query = f"SELECT min(next_ms) FROM messages WHERE id IN ({_HEADS})"
        with self.transaction():
            (next_ms,) = self._connection.execute(query, (target,)).fetchone()
            return None if next_ms is None else max(next_ms, self._rest(target)[0])

    def failures(self, target: str) -> int:
        """How often in a row the target itself has failed."""
        with self.transaction():
            return self._rest(target)[1]

    def settle(
        self, target: str, waiting: Waiting, outcome: Outcome, now_ms: int, next_ms: int | None, rests_until_ms: int
    ) -> None:
        """Keeps an attempt, when the next one is due (None: the message is done with), and until when none is."""
        is_given_up = next_ms is None and outcome.verdict is not Verdict.ACCEPTED
        verdict = "given_up" if is_given_up else outcome.verdict.value
        audit = (target, waiting.id, waiting.message.key, waiting.attempts + 1, now_ms)
        with self.transaction():
            self._audit(*audit, outcome.verdict.value, outcome.text)
            if next_ms is None:
                update = "UPDATE messages SET attempts = attempts + 1, done_ms = ?, verdict = ? WHERE id = ?"
                self._connection.execute(update, (now_ms, verdict, waiting.id))
            else:
                update = "UPDATE messages SET attempts = attempts + 1, next_ms = ? WHERE id = ?"
                self._connection.execute(update, (next_ms, waiting.id))
            failures = self._rest(target)[1] + 1 if outcome.is_of_target else 0
            row = (target, rests_until_ms, failures)
            self._connection.execute("INSERT OR REPLACE INTO targets VALUES (?, ?, ?)", row)

    def give_up_excess(self, now_ms: int) -> list[tuple[str, str]]:
        """(target, key) of the oldest messages, which are given up because too many wait."""
        oldest = """SELECT id, target, key FROM messages WHERE done_ms IS NULL ORDER BY id
            LIMIT max(0, (SELECT count(*) FROM messages WHERE done_ms IS NULL) - ?)"""
        with self.transaction():
            rows = self._connection.execute(oldest, (UNDELIVERED_MAX,)).fetchall()
            for number, target, key in rows:
                update = "UPDATE messages SET done_ms = ?, verdict = 'given_up' WHERE id = ?"
                self._connection.execute(update, (now_ms, number))
                self._audit(target, number, key, 0, now_ms, "given_up", f"more than {UNDELIVERED_MAX:,} messages wait")
        return [(target, key) for _, target, key in rows]

    def purge(self, now_ms: int) -> None:
        """Deletes what is old, and what is beyond the bounds."""
        old_ms = now_ms - KEPT_MS
        with self.transaction():
            self._connection.execute(
                "DELETE FROM told WHERE message_id IN (SELECT id FROM messages WHERE done_ms < ?)", (old_ms,)
            )
            self._connection.execute("DELETE FROM messages WHERE done_ms < ?", (old_ms,))
            self._connection.execute("DELETE FROM deliveries WHERE at_ms < ?", (old_ms,))
            self._connection.execute("DELETE FROM standings WHERE told = 0 AND newest_ms < ?", (old_ms,))
            newest = "SELECT id FROM deliveries ORDER BY id DESC LIMIT 1 OFFSET ?"
            self._connection.execute(f"DELETE FROM deliveries WHERE id <= ({newest})", (DELIVERIES_MAX,))
            newest = "SELECT newest_ms FROM standings ORDER BY newest_ms DESC LIMIT 1 OFFSET ?"
            self._connection.execute(f"DELETE FROM standings WHERE newest_ms <= ({newest})", (STANDINGS_MAX,))

    def waiting(self) -> dict[str, tuple[int, int]]:
        """Target -> how many messages wait, and since when the oldest does; targets without any are left out."""
        query = "SELECT target, count(*), min(created_ms) FROM messages WHERE done_ms IS NULL GROUP BY target"
        with self.transaction():
            return {target: (count, since_ms) for target, count, since_ms in self._connection.execute(query)}

    def attempts(self, since_ms: int = 0) -> list[Attempt]:
        """The audit of the attempts from a moment on, the oldest first."""
        ids = "SELECT json_group_array(change_id) FROM told WHERE told.message_id = deliveries.message_id"
        of = "coalesce(tenant, ''), coalesce(experiment, '')"
        query = f"""SELECT deliveries.target, deliveries.key, attempt, at_ms, deliveries.verdict, text, {of}, ({ids})
            FROM deliveries LEFT JOIN messages ON messages.id = deliveries.message_id
            WHERE at_ms >= ? ORDER BY deliveries.id"""
        with self.transaction():
            rows = self._connection.execute(query, (since_ms,)).fetchall()
        return [msgspec.convert([*row, msgspec.json.decode(changes)], Attempt) for *row, changes in rows]

    def _rest(self, target: str) -> tuple[int, int]:
        """Until when the target is left alone, and how often in a row it has failed."""
        query = "SELECT rests_until_ms, failures FROM targets WHERE target = ?"
        row: tuple[int, int] | None = self._connection.execute(query, (target,)).fetchone()
        return row or (0, 0)

    def _audit(self, *row: str | int) -> None:
        into = "deliveries (target, message_id, key, attempt, at_ms, verdict, text)"
        self._connection.execute(f"INSERT INTO {into} VALUES (?, ?, ?, ?, ?, ?, ?)", row)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a message that was put survives a failure of the machine
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            connection.executescript(f"BEGIN;{_SCHEMA}COMMIT;")
        elif version != _SCHEMA_VERSION:
            message = f"it is of version {version}, and this program's is {_SCHEMA_VERSION}"
            raise OutboxError(message)
    except BaseException:
        connection.close()
        raise
    return connection
