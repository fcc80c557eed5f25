"""The recorded log: messages of a topic as a file, one JSON object a line, gzipped if the name ends in `.gz`.

    {"partition": 0, "offset": 12, "timestamp": 1795491061234, "key": "s-1", "value": "{...the value's text...}"}

`timestamp` is Kafka's own, in milliseconds (-1: the message has none). `key` and `value` are null where the message has
none. Bytes that are not UTF-8 are in `keyBase64` or `valueBase64`, in standard base64, and `key` or `value` is then
absent; so every message keeps every byte. Other fields are ignored.

msgspec reads and writes the lines. To move an event in time, `_time_span` finds the number of the member `time` with
the standard library's decoder: no library in use gives the position of a value, and encoding the message anew would
change its other bytes, on which its derived event id and its rejection depend.
"""

from __future__ import annotations

import gzip
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from json import JSONDecoder
from pathlib import Path
from re import compile as pattern
from typing import IO, Annotated, Any, NamedTuple
from zlib import error as ZlibError

import msgspec

from monitor.runtime.errors import MonitorError

LINE_BYTES_MAX = 64 * 1024 * 1024
"""A longer line is an error: Kafka's largest messages are far smaller."""

PART_SUFFIX = ".ndjson.gz"
"""The end of the name of a part of a recorded log in a folder."""
GZIP_LEVEL = 1
MINUTE_MS = 60_000
WRONG_DIVISOR = 10
"""One of so many timestamps at either end of a log may be wrong."""
GAP_MINUTES = 60
"""A gap before the first, or behind the last, right timestamp that tells wrong ones from the rest."""
_TIME_END = 2**53
_SEPARATORS = pattern(r"[\s,:]*")
_NATURAL = Annotated[int, msgspec.Meta(ge=0)]


class RecordedLogError(MonitorError):
    """A file is not a recorded log; the message names the file and the line."""


class Record(NamedTuple):
    """One message of a topic; `timestamp_ms` is Kafka's own."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


class Survey(NamedTuple):
    """The extent of a log: messages, first and last timestamp (0 if it is empty), highest partition (-1 if empty)."""

    messages: int
    first_ms: int
    last_ms: int
    partition_max: int


def read(path: Path) -> Iterator[Record]:
    """The messages of a recorded log, in the order of the file; of a folder, those of its parts, in order of names.

    The last part may be one that is being written: then it ends with its last whole message. Raises RecordedLogError
    at a malformed line, and OSError where a file cannot be read.
    """
    if not path.is_dir():
        yield from _of_file(path)
        return
    parts = parts_of(path)
    if not parts:
        message = f"{path}: there is no recorded log in this folder (*{PART_SUFFIX})"
        raise RecordedLogError(message)
    for part in parts[:-1]:
        yield from _of_file(part)
    yield from read_part(parts[-1])


def read_part(path: Path) -> Iterator[Record]:
    """The messages of a part that may end in the middle of what was written last."""
    return _of_file(path, is_growing=True)


def parts_of(folder: Path) -> list[Path]:
    """The parts of a recorded log in a folder, in order."""
    return sorted(folder.glob(f"*{PART_SUFFIX}"))


def _of_file(path: Path, *, is_growing: bool = False) -> Iterator[Record]:
    with _opened(path, "rb") as file:
        number = 0
        try:
            while line := file.readline(LINE_BYTES_MAX + 1):
                number += 1
                yield _record(line)
        except (msgspec.DecodeError, ValueError, EOFError, gzip.BadGzipFile, ZlibError) as error:
            if is_growing and isinstance(error, EOFError):
                return
            at = number + 1 if isinstance(error, EOFError | OSError | ZlibError) else number
            message = f"{path}: line {at}: not a message of a recorded log: {error}"
            raise RecordedLogError(message) from error


def write(path: Path, records: Iterable[Record]) -> int:
    """Writes messages to a file, replacing it, and returns their number. Equal messages give equal bytes."""
    return sum(1 for _ in tee(path, records))


def tee(path: Path, records: Iterable[Record]) -> Generator[Record, None, None]:
    """Yields messages and writes each to a file; the file is complete once the generator ends or is closed."""
    with _opened(path, "wb") as file:
        for record in records:
            file.write(line_of(record))
            yield record


def line_of(record: Record) -> bytes:
    """A message as a line of a recorded log."""
    fields = {"partition": record.partition, "offset": record.offset, "timestamp": record.timestamp_ms}
    return msgspec.json.encode(fields | _text("key", record.key) | _text("value", record.value)) + b"\n"


def survey(records: Iterable[Record]) -> Survey:
    """The extent of some messages.

    Up to a tenth of the timestamps at either end may be wrong: those behind a gap of an hour do not count.
    """
    count, partition_max, minutes = 0, -1, Counter[int]()
    extremes: dict[int, tuple[int, int]] = {}
    for record in records:
        partition_max = max(partition_max, record.partition)
        count += 1
        if record.timestamp_ms >= 0:
            minute = record.timestamp_ms // MINUTE_MS
            minutes[minute] += 1
            low, high = extremes.get(minute, (record.timestamp_ms, record.timestamp_ms))
            extremes[minute] = min(low, record.timestamp_ms), max(high, record.timestamp_ms)
    if not minutes:
        return Survey(count, 0, 0, partition_max)
    first, last = _edge(minutes, sorted(minutes)), _edge(minutes, sorted(minutes, reverse=True))
    return Survey(count, extremes[first][0], extremes[last][1], partition_max)


def _edge(messages: Counter[int], minutes: list[int]) -> int:
    """The first of these minutes, apart from those behind a gap that hold a tenth of the messages at most."""
    edge, passed = minutes[0], 0
    for minute, following in pairwise(minutes):
        passed += messages[minute]
        if passed > messages.total() // WRONG_DIVISOR:
            break
        if abs(following - minute) > GAP_MINUTES:
            edge = following
    return edge


def shift_for_replay(log: Survey, now_ms: int, speed: float) -> int:
    """The milliseconds by which to move a log so that, replayed from now on at this speed, it ends with the replay.

    At speed 1 each message gets the time of its sending; at a higher speed (`math.inf`: at once) the log begins in the
    past. It is a whole number of minutes, so that every minute keeps its events; the log may end up to a minute early.
    """
    span_ms = log.last_ms - log.first_ms
    return (now_ms + round(span_ms / speed) - log.last_ms) // MINUTE_MS * MINUTE_MS


def shifted(record: Record, by_ms: int) -> Record:
    """A message moved in time: its timestamp and the `time` of its event change by the same amount.

    Every other byte of the value stays. A value that is not a JSON object with a valid event time stays unchanged, and
    so does a timestamp of -1.
    """
    timestamp_ms = record.timestamp_ms + by_ms if record.timestamp_ms >= 0 else record.timestamp_ms
    return record._replace(timestamp_ms=timestamp_ms, value=_shifted_value(record.value, by_ms))


class _Line(msgspec.Struct):
    partition: _NATURAL
    offset: _NATURAL
    timestamp: Annotated[int, msgspec.Meta(ge=-1)]
    key: str | msgspec.UnsetType | None = msgspec.UNSET
    value: str | msgspec.UnsetType | None = msgspec.UNSET
    keyBase64: str | None = None
    valueBase64: str | None = None


_LINE = msgspec.json.Decoder(_Line)
_JSON = JSONDecoder()


def _record(line: bytes) -> Record:
    if len(line) > LINE_BYTES_MAX:
        message = f"longer than {LINE_BYTES_MAX} bytes"
        raise ValueError(message)
    fields = _LINE.decode(line)
    key = _bytes("key", fields.key, fields.keyBase64)
    value = _bytes("value", fields.value, fields.valueBase64)
    return Record(fields.partition, fields.offset, fields.timestamp, key, value)


def _bytes(name: str, text: str | msgspec.UnsetType | None, encoded: str | None) -> bytes | None:
    if (encoded is None) == (text is msgspec.UNSET):
        message = f"exactly one of `{name}` and `{name}Base64` must be there"
        raise ValueError(message)
    if encoded is not None:
        return b64decode(encoded, validate=True)
    return text.encode() if isinstance(text, str) else None


def _text(name: str, content: bytes | None) -> dict[str, str | None]:
    try:
        return {name: None if content is None else content.decode()}
    except UnicodeDecodeError:
        assert content is not None
        return {f"{name}Base64": b64encode(content).decode()}


@contextmanager
def _opened(path: Path, mode: str) -> Iterator[IO[bytes] | gzip.GzipFile]:
    with path.open(mode) as plain:
        if path.suffix != ".gz":
            yield plain
            return
        # No name or time in the header, so that equal messages give equal files.
        with gzip.GzipFile(filename="", mode=mode, compresslevel=GZIP_LEVEL, fileobj=plain, mtime=0) as zipped:
            yield zipped


def _shifted_value(value: bytes | None, by_ms: int) -> bytes | None:
    if value is None:
        return None
    try:
        text = value.decode()
        span = _time_span(text) if isinstance(msgspec.json.decode(value), dict) else None
    except (ValueError, RecursionError):  # not JSON, or none that could be an event
        return value
    if span is None:
        return value
    start, end = span
    return f"{text[:start]}{int(text[start:end]) + by_ms}{text[end:]}".encode()


def _time_span(text: str) -> tuple[int, int] | None:
    """The start and end of the number of the member `time` in a JSON object's text; None if it is no valid event time.

    Of repeated members the last one counts, as it does for a decoder.
    """
    span = None
    position = _after_separators(text, text.index("{") + 1)
    while text[position] != "}":
        name, position = _decoded(text, position)
        value, end = _decoded(text, start := _after_separators(text, position))
        if name == "time":
            span = (start, end) if type(value) is int and 0 < value < _TIME_END else None
        position = _after_separators(text, end)
    return span


def _decoded(text: str, position: int) -> tuple[Any, int]:
    return _JSON.raw_decode(text, position)


def _after_separators(text: str, position: int) -> int:
    match = _SEPARATORS.match(text, position)
    assert match is not None
    return match.end()
