"""Totals, and a digest of them all: whoever has done the same work has the same digest.

A total is known by its metric name, its minute (since the epoch), and its tags besides dc as text, sorted by name:
`device=mobile|experiment=button_color|login=true`.
"""

import gzip
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

import msgspec

Key: TypeAlias = tuple[str, int, str]
"""Name, minute, tags."""
Totals: TypeAlias = dict[Key, int]
MINUTE_MS = 60_000


def digest(totals: Mapping[Key, int]) -> str:
    """The number of totals that are not 0, and a hash of them: name, minute, tags and value of each."""
    lines = sorted(f"{name} {minute} {tags} {value}" for (name, minute, tags), value in totals.items() if value)
    return f"{len(lines)}:{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()[:16]}"


def tags_text(tags: Mapping[str, str]) -> str:
    """Tags as the text that a key holds."""
    return "|".join(f"{name}={tags[name]}" for name in sorted(tags) if name != "dc")


def of_points(points: Iterable[tuple[str, int, int | float]]) -> Totals:
    """The last value of each point (series, timestamp in ms, value) of a visit metric."""
    keys: dict[str, tuple[str, str]] = {}
    found: Totals = {}
    for series, timestamp_ms, value in points:
        if series not in keys:
            name, *tags = series.split("|")
            keys[series] = name, "|".join(sorted(tags))
        name, tags_of = keys[series]
        if ".visit." in name:
            found[name, timestamp_ms // MINUTE_MS, tags_of] = int(value)
    return found


def of_requests(path: Path) -> Totals:
    """The totals that a job has sent to `bench.null_server`, which has kept its requests in this file."""
    decode = msgspec.json.Decoder().decode
    keys: dict[str, tuple[str, str]] = {}
    found: Totals = {}
    for body in _bodies(path):
        for point in decode(body):
            name = point["name"]
            if ".visit." in name:
                tags = point["tags"]
                text = keys.setdefault("|".join(tags.values()) + name, (name, tags_text(tags)))[1]
                found[name, point["timestamp"] // MINUTE_MS, text] = point["value"]
    return found


def _bodies(path: Path) -> Iterable[bytes]:
    with path.open("rb") as file:
        while head := file.read(8):
            body = file.read(int.from_bytes(head, "big"))
            yield gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body
