"""The dead letters: points that KairosDB rejects permanently, kept in a file with the reason, for a person to read."""

import errno
import json
import logging
import math
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from threading import Lock
from typing import NamedTuple, NoReturn

import structlog

from monitor.core.metrics import DataPoint
from monitor.runtime.errors import MonitorError

FILE_BYTES_MAX = 16 * 1024 * 1024
OLD_FILES_KEPT = 4
"""So at most 80 MiB. A rotation at the bound deletes the oldest letters; every rotation is logged."""

_log = structlog.get_logger(__name__)


class DeadLetter(NamedTuple):
    """A point that was given up.

    `reason` is the rule that it broke or the status that came; `server_text` is KairosDB's own message, empty for a
    point that was not sent; `attempts` counts the refused requests of the search that ended with this point.
    """

    point: DataPoint
    reason: str
    server_text: str = ""
    attempts: int = 0


class DeadLettersUnwritable(MonitorError):
    """The file cannot be opened for appending; the message says which and why."""


class DeadLetters:
    """Appends dead letters as JSON lines to a file that the first one makes; shared by writers, thread-safe.

    One line: `{"series", "name", "tags", "timestamp", "value", "reason", "server_text", "attempts", "at"}`; a value
    that is no finite number, which JSON does not have, is written as text. Rotates at `bytes_max`: FILE.1 is the
    youngest of `old_files`.
    Two processes must not share a file: each would rotate the other's away.

    Raises DeadLettersUnwritable at once if the file could not be opened, and OSError later if a write fails.
    """

    def __init__(self, path: Path | str, bytes_max: int = FILE_BYTES_MAX, old_files: int = OLD_FILES_KEPT) -> None:
        self.path = Path(path)
        try:
            _check(self.path)
        except OSError as error:
            msg = f"the dead-letter file must be writable; got {error} (kairosdb.dead_letters)"
            raise DeadLettersUnwritable(msg) from error
        self._file = _File(self.path, maxBytes=bytes_max, backupCount=old_files, encoding="utf-8", delay=True)
        self._lock = Lock()
        self._unsynced = False

    def write(self, letters: Iterable[DeadLetter]) -> None:
        """Appends letters; they are safe only after `sync`."""
        with self._lock:
            for letter in letters:
                self._unsynced = True
                self._file.emit(logging.makeLogRecord({"msg": _line(letter)}))

    def sync(self) -> None:
        """Returns when all letters written before are on the disk."""
        with self._lock:
            if self._unsynced:
                self._file.sync()
                self._unsynced = False

    def close(self) -> None:
        """Puts all on the disk and closes the file."""
        try:
            self.sync()
        finally:
            self._file.close()


class _File(RotatingFileHandler):
    """A rotating file, used as a file: a failed write reaches the writer, and all is on the disk before a rotation.

    It is made, with its folder, when it is first written to.
    """

    def sync(self) -> None:
        if self.stream is not None:
            self.stream.flush()
            os.fsync(self.stream.fileno())

    def _open(self) -> TextIOWrapper:
        Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
        return super()._open()

    def doRollover(self) -> None:
        self.sync()
        super().doRollover()
        _log.warning(
            "dead_letters_rotated", path=self.baseFilename, old_files=self.backupCount, bytes_max=self.maxBytes
        )

    def handleError(self, record: logging.LogRecord) -> NoReturn:
        # logging prints and forgets what fails in emit(); it calls this from its except clause
        raise


def _check(path: Path) -> None:
    """Raises OSError if the file could not be opened for appending, without making it or its folder."""
    if path.exists():
        path.open("ab").close()
        return
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def _line(letter: DeadLetter) -> str:
    series, timestamp_ms, value = letter.point
    name, *tags = series.split("|")
    return json.dumps(
        {
            "series": series,
            "name": name,
            "tags": {key: text for key, _, text in (tag.partition("=") for tag in tags)},
            "timestamp": _number(timestamp_ms),
            "value": _number(value),
            "reason": letter.reason,
            "server_text": letter.server_text,
            "attempts": letter.attempts,
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
    )


def _number(value: object) -> object:
    is_json = type(value) is int or (type(value) is float and math.isfinite(value))
    return value if is_json else repr(value)
