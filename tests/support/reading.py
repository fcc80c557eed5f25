"""Every point of a KairosDB, read back for comparisons with what should be there, and points written to it."""

import gzip
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from monitor.kairosdb.client import Client
from monitor.kairosdb.reader import Ask, Reader

PointKey: TypeAlias = tuple[str, int, tuple[tuple[str, str], ...]]
"""The identity of a point in the store: metric name, timestamp in ms, tags as sorted pairs."""

Number: TypeAlias = int | float

END_MS = 2**53
"""Beyond every timestamp that the monitor accepts."""
POINTS_PER_REQUEST = 5_000
REQUEST_TIMEOUT_S = 60.0


class StoredPoint(NamedTuple):
    """A point with its tags; `dc` is one of them."""

    name: str
    timestamp_ms: int
    tags: dict[str, str]
    value: Any


def points(url: str, prefix: str = "") -> dict[PointKey, Number | str]:
    """Every point of every metric whose name starts with `prefix`, from the epoch to the end of time.

    `url` is the server's base, such as `http://127.0.0.1:8080`. Raises ValueError where one point has two values, as it
    has after writing one metric with two types, and KairosDbError where the server does not answer as it must.
    """
    values: dict[PointKey, Number | str] = {}
    with reader_of(url) as reader:
        for name, timestamp_ms, tags, value in stored_points(reader, reader.names(prefix)):
            key = name, timestamp_ms, tuple(sorted(tags.items()))
            if key in values:
                msg = f"one value per cell expected; got {values[key]!r} and {value!r} for {key}"
                raise ValueError(msg)
            values[key] = value
    return values


def reader_of(url: str) -> Reader:
    """A reader, to be closed."""
    return Reader(url, REQUEST_TIMEOUT_S)


def stored_points(reader: Reader, names: Sequence[str], **tags: str) -> Iterator[StoredPoint]:
    """Every point of these metrics whose tags have these values, with all of its tags."""
    by_name = {name: by for name, by in reader.tag_names(names).items() if by}  # the others have no points
    chosen = {tag: [value] for tag, value in tags.items()}
    asks = [Ask((name,), 0, END_MS, chosen, by, aggregator=None) for name, by in by_name.items()]
    for group in reader.groups(asks):
        # A tag that a series does not have is "" here, which no tag that was written can be.
        its = {tag: value for tag, value in zip(by_name[group.name], group.tags, strict=True) if value}
        for timestamp_ms, value in group.points:
            yield StoredPoint(group.name, timestamp_ms, its, value)


def write(url: str, written: Iterable[tuple[str, int, dict[str, str], Number]]) -> None:
    """Writes points (name, timestamp in ms, tags, value), over those that are there: a float as double, as the job."""
    metrics = [
        {
            "name": name,
            "timestamp": timestamp_ms,
            "tags": tags,
            "value": value,
            "type": "double" if isinstance(value, float) else "long",
        }
        for name, timestamp_ms, tags, value in written
    ]
    with Client(url, REQUEST_TIMEOUT_S, REQUEST_TIMEOUT_S) as client:
        for first in range(0, len(metrics), POINTS_PER_REQUEST):
            refused = client.post(gzip.compress(json.dumps(metrics[first : first + POINTS_PER_REQUEST]).encode()))
            assert refused is None, refused
