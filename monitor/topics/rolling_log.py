"""A recorded log that is written while it grows, in a folder of bounded size: the oldest part is deleted for a new one.

Parts are gzipped and named by the offset of their first message. All messages are of partition 0, with offsets from 0
in order of arrival; a log that lacks its beginning starts at a higher one, which tells its readers so. What is
appended at once is a gzip member of its own, written at once: a process that is killed leaves whole members, or one
that ends in the middle, which readers take for the end.
"""

import gzip
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from monitor.topics.recorded import GZIP_LEVEL, PART_SUFFIX, Record, line_of, parts_of, read_part

LOG_BYTES_MAX = 256 * 1024 * 1024
"""Bytes of all parts; at the bound the oldest part is deleted."""
PART_BYTES_MAX = 4 * 1024 * 1024
"""Bytes of a part, after which the next one begins."""
KEPT_S_MAX = 24 * 3_600
"""A part that has not been written to for longer is deleted when the next one begins."""

Arrived: TypeAlias = tuple[bytes | None, bytes | None, int]
"""Key, value and message timestamp in ms."""
_NAME_DIGITS = 15


class RollingLog:
    """The log in a folder. Raises OSError where it cannot be written."""

    def __init__(self, folder: Path, until_ms: int | None, first_offset: int) -> None:
        """Goes on with the messages before a moment, those from it on are forgotten; with None it begins anew.

        `first_offset`: of the first message, where none is kept.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._next = first_offset
        self._part: Path | None = None
        for part in reversed(parts_of(folder)):
            kept = [] if until_ms is None else _before(part, until_ms)
            if kept:
                _rewrite(part, kept)
                self._next, self._part = kept[-1].offset + 1, part
                return
            part.unlink()

    def append(self, messages: Sequence[Arrived]) -> None:
        """Writes messages, in order of their arrival."""
        if not messages:
            return
        if self._part is None or self._part.stat().st_size >= PART_BYTES_MAX:
            self._make_room()
            self._part = self._folder / f"{self._next:0{_NAME_DIGITS}d}{PART_SUFFIX}"
        records = (
            Record(0, offset, timestamp_ms, key, value)
            for offset, (key, value, timestamp_ms) in enumerate(messages, self._next)
        )
        with self._part.open("ab", buffering=0) as file:
            file.write(_member(records))
        self._next += len(messages)

    def _make_room(self) -> None:
        """Deletes the parts that are too old, and the oldest ones until another part fits."""
        parts = [(part, part.stat()) for part in parts_of(self._folder)]
        size = sum(stat.st_size for _, stat in parts)
        oldest_s = time.time() - KEPT_S_MAX
        for part, stat in parts:
            if size <= LOG_BYTES_MAX - PART_BYTES_MAX and stat.st_mtime >= oldest_s:
                return
            part.unlink()
            size -= stat.st_size


def _before(part: Path, until_ms: int) -> list[Record]:
    """The messages of a part before a moment, which are its first: they are in order of arrival."""
    return [record for record in read_part(part) if record.timestamp_ms < until_ms]


def _rewrite(part: Path, records: Iterable[Record]) -> None:
    """Replaces a part at once by these messages."""
    new = part.with_suffix(".new")
    new.write_bytes(_member(records))
    new.replace(part)


def _member(records: Iterable[Record]) -> bytes:
    return gzip.compress(b"".join(map(line_of, records)), GZIP_LEVEL, mtime=0)
