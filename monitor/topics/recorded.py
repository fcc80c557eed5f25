"""The recorded log: messages of a topic as a file, one JSON object a line, gzipped if the name ends in `.gz`.

    {"partition": 0, "offset": 12, "timestamp": 1795491061234, "key": "s-1", "value": "{...the value's text...}"}

`timestamp` is Kafka's own, in milliseconds (-1: the message has none). `key` and `value` are null where the message has
none. Bytes that are not UTF-8 text stand, in standard base64, in `keyBase64` or `valueBase64`, and `key` or `value` is
absent then; so every message survives to the byte. Other fields are ignored.
"""

from __future__ import annotations

import gzip
from base64 import b64decode, b64encode
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from json import JSONDecoder
from pathlib import Path
from re import compile as pattern
from typing import IO, Annotated, Any, NamedTuple
from zlib import error as ZlibError

import msgspec

from monitor.runtime.errors import MonitorError

LINE_BYTES_MAX = 64 * 1024 * 1024
"""A longer line is a fault of the file: Kafka's largest messages are far smaller."""

_GZIP_LEVEL = 1
_TIME_END = 2**53
_SEPARATORS = pattern(r"[\s,:]*")
_NATURAL = Annotated[int, msgspec.Meta(ge=0)]


class RecordedLogError(MonitorError):
    """A file that is no recorded log; the message names the file and the line."""


class Record(NamedTuple):
    """One message of a topic; `timestamp_ms` is Kafka's own."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


class Survey(NamedTuple):
    """What a log holds: how many messages, from when to when (0 and 0 if empty), and the highest partition (-1)."""

    messages: int
    first_ms: int
    last_ms: int
    partition_max: int


def read(path: Path) -> Iterator[Record]:
    """The messages of a recorded log, in the order of the file.

    Raises RecordedLogError at a malformed line, and OSError where the file cannot be read.
    """
    with _opened(path, "rb") as file:
        number = 0
        try:
            while line := file.readline(LINE_BYTES_MAX + 1):
                number += 1
                yield _record(line)
        except (msgspec.DecodeError, ValueError, EOFError, gzip.BadGzipFile, ZlibError) as fault:
            at = number + 1 if isinstance(fault, EOFError | OSError | ZlibError) else number
            message = f"{path}: line {at}: not a message of a recorded log: {fault}"
            raise RecordedLogError(message) from fault


def write(path: Path, records: Iterable[Record]) -> int:
    """Writes messages to a file, replacing it, and returns their number. Equal messages give equal bytes."""
    return sum(1 for _ in tee(path, records))


def tee(path: Path, records: Iterable[Record]) -> Generator[Record, None, None]:
    """Hands messages on and writes each to a file on the way; the file is complete once this ends or is closed."""
    with _opened(path, "wb") as file:
        for record in records:
            file.write(line_of(record))
            yield record


def line_of(record: Record) -> bytes:
    """A message as a line of a recorded log."""
    fields = {"partition": record.partition, "offset": record.offset, "timestamp": record.timestamp_ms}
    return msgspec.json.encode(fields | _text("key", record.key) | _text("value", record.value)) + b"\n"


def survey(records: Iterable[Record]) -> Survey:
    """The extent of some messages."""
    count, first_ms, last_ms, partition_max = 0, 0, 0, -1
    for record in records:
        first_ms = record.timestamp_ms if count == 0 else min(first_ms, record.timestamp_ms)
        last_ms = max(last_ms, record.timestamp_ms)
        partition_max = max(partition_max, record.partition)
        count += 1
    return Survey(count, first_ms, last_ms, partition_max)


def shift_for_replay(log: Survey, now_ms: int, speed: float) -> int:
    """By how many milliseconds to move a log so that, replayed from now on at this speed, it ends as it is sent.

    At speed 1 each message has the time of its sending; faster (infinitely fast: `math.inf`), the log reaches back. A
    whole number of minutes, so that every minute keeps its events; the log may so end up to a minute early.
    """
    span_ms = log.last_ms - log.first_ms
    return (now_ms + round(span_ms / speed) - log.last_ms) // 60_000 * 60_000


def shifted(record: Record, by_ms: int) -> Record:
    """A message moved in time: its timestamp, and the `time` of the event that it holds, by the same amount.

    Every other byte of the value stays. A value that is not a JSON object with a valid event time stays as it is; so do
    timestamps that are -1.
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
        # Neither name nor time in the header: the same messages are the same file.
        with gzip.GzipFile(filename="", mode=mode, compresslevel=_GZIP_LEVEL, fileobj=plain, mtime=0) as zipped:
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
    """Where the number of the member `time` stands in the text of a JSON object; None if it is no valid event time.

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
