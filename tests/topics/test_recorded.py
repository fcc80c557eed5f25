"""Recorded logs: every message survives to the byte, a replay moves it as a whole, and Kafka gives back what it got."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from monitor.commands.main import app
from monitor.commands.publishing import paced
from monitor.topics import kafka, recorded
from monitor.topics.recorded import Record, RecordedLogError, Survey

BYTES = st.none() | st.binary() | st.text().map(str.encode)
RECORDS = st.builds(
    Record,
    partition=st.integers(0, 1000),
    offset=st.integers(0, 2**62),
    timestamp_ms=st.integers(-1, 2**53),
    key=BYTES,
    value=BYTES,
)
LINE = '{"partition": 0, "offset": 12, "timestamp": 1795491061234, "key": "s-1", "value": "{\\"time\\": 5}"}'


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def written(folder: Path, name: str, records: list[Record]) -> Path:
    recorded.write(folder / name, records)
    return folder / name


# The file


@pytest.mark.parametrize("name", ["log.ndjson", "log.ndjson.gz"])
@given(records=st.lists(RECORDS, max_size=20))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, name: str, records: list[Record]) -> None:
    """Any bytes, or none, as key and value: read back as they were."""
    path = tmp_path_factory.mktemp("log") / name
    assert recorded.write(path, records) == len(records)
    assert list(recorded.read(path)) == records


def test_a_line_is_as_documented(tmp_path: Path) -> None:
    """Text stands as text, other bytes in base64 under another name, what is absent is null."""
    path = tmp_path / "log"
    path.write_text(LINE + "\n")
    assert list(recorded.read(path)) == [Record(0, 12, 1795491061234, b"s-1", b'{"time": 5}')]
    assert json.loads(recorded.line_of(Record(1, 2, 3, None, b"\xff"))) == {
        "partition": 1,
        "offset": 2,
        "timestamp": 3,
        "key": None,
        "valueBase64": "/w==",
    }


def test_the_same_messages_are_the_same_gzipped_file(tmp_path: Path) -> None:
    """Neither the time nor the name of the file is in it, so that a simulated log can be compared by its checksum."""
    records = [Record(0, 0, 1, b"k", b"v")]
    assert written(tmp_path, "a.gz", records).read_bytes() == written(tmp_path, "b.gz", records).read_bytes()


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[]",
        "{",
        LINE.replace('"partition": 0, ', ""),
        LINE.replace('"partition": 0', '"partition": -1'),
        LINE.replace("1795491061234", '"now"'),
        LINE.replace('"key": "s-1"', '"key": 7'),
        LINE.replace('"key": "s-1", ', ""),
        LINE.replace('"key": "s-1"', '"key": "s-1", "keyBase64": "cw=="'),
        LINE.replace('"key": "s-1"', '"keyBase64": "?"'),
    ],
)
def test_a_malformed_line_is_an_error_with_its_number(tmp_path: Path, line: str) -> None:
    """Whatever is wrong with a line, the message says in which file and line; those before it are read."""
    path = tmp_path / "log"
    path.write_text(f"{LINE}\n{line}\n{LINE}\n")
    records = recorded.read(path)
    assert next(records).offset == 12
    with pytest.raises(RecordedLogError, match=f"{path}: line 2: "):
        next(records)


def test_a_truncated_gzip_is_an_error(tmp_path: Path) -> None:
    """A file that was cut off, or is not gzipped at all, is told apart from a shorter log."""
    path = written(tmp_path, "log.gz", [Record(0, n, n, b"k", b"v") for n in range(100)])
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(RecordedLogError, match="line"):
        list(recorded.read(path))
    path.write_text(LINE)
    with pytest.raises(RecordedLogError, match="line 1: "):
        list(recorded.read(path))


def test_a_log_on_its_way_is_whole_when_closed(tmp_path: Path) -> None:
    """Stopped half-way, as by Ctrl-C, the file holds what went through and is a complete file."""
    passing = recorded.tee(tmp_path / "log.gz", [Record(0, n, n, None, None) for n in range(10)])
    taken = [next(passing) for _ in range(3)]
    passing.close()
    assert list(recorded.read(tmp_path / "log.gz")) == taken
    assert gzip.decompress((tmp_path / "log.gz").read_bytes()).endswith(b"\n")


# Moving in time


@given(
    time=st.integers(1, 2**53 - 1),
    by=st.integers(-(10**12), 10**12),
    before=st.dictionaries(st.text(), st.integers() | st.text() | st.just({"time": 3})),
    after=st.dictionaries(st.text().filter(lambda name: name != "time"), st.booleans() | st.just('"time": 1')),
    separators=st.sampled_from([(",", ":"), (", ", " : "), (",\n\t", ":\r\n")]),
)
def test_shifting_moves_timestamp_and_event_time_alike(
    time: int, by: int, before: dict[str, Any], after: dict[str, Any], separators: tuple[str, str]
) -> None:
    """Only the number of the outermost `time` changes, by as much as the timestamp; all else stays to the byte."""
    first, last = (json.dumps(part, separators=separators)[1:-1] for part in (before, after))
    name = json.dumps("time") + separators[1]

    def text(number: int) -> bytes:
        return ("{" + separators[0].join(part for part in (first, f"{name}{number}", last) if part) + "}").encode()

    moved = recorded.shifted(Record(1, 2, 10**13, b"k", text(time)), by)
    assert moved == Record(1, 2, 10**13 + by, b"k", text(time + by))


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\xff\xfe",
        b"not json",
        b"[1]",
        b'{"time": 5',
        b'{"time": "5"}',
        b'{"time": 5.0}',
        b'{"time": true}',
        b'{"time": 0}',
        b'{"time": -7}',
        b'{"time": 9007199254740992}',
        b'{"attributes": {"time": 5}}',
        b'{"time": 5, "time": null}',
        b"[" * 100_000,
        b'{"time": 5, "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_a_value_without_a_valid_event_time_stays_as_it_is(value: bytes | None) -> None:
    """What was rejected stays the same reject: nothing is repaired on the way."""
    assert recorded.shifted(Record(0, 0, 100, None, value), 60_000) == Record(0, 0, 60_100, None, value)


def test_the_last_of_repeated_times_counts() -> None:
    """As for a decoder, which takes the last of members of one name, however it is written."""
    record = Record(0, 0, -1, None, b'{"time": 5, "t\\u0069me": 7}')
    assert recorded.shifted(record, 10) == record._replace(value=b'{"time": 5, "t\\u0069me": 17}')


@given(
    first=st.integers(0, 2**42),
    span=st.integers(0, 10**9),
    now=st.integers(0, 2**42),
    speed=st.floats(0.01, 1000) | st.just(math.inf),
)
def test_a_shifted_log_ends_as_it_is_sent(first: int, span: int, now: int, speed: float) -> None:
    """Its last message gets the minute of its own sending, less than a minute early, and minutes stay minutes."""
    by = recorded.shift_for_replay(Survey(2, first, first + span, 0), now, speed)
    sent_at = now + (round(span / speed))
    assert by % 60_000 == 0
    assert sent_at - 60_000 < first + span + by <= sent_at


@pytest.mark.parametrize(
    ("wrong", "first_ms", "last_ms"),
    [
        ([], 0, 59_000),
        ([1_795_491_000_000_000, -1, 10**15, 5], 0, 59_000),
        ([3_700_000 + 59_000], 0, 59_000),
        ([1_800_000 + 59_000], 0, 1_859_000),
        ([-7_200_000, -9_000_000], 0, 59_000),
        ([-7_200_000] * 12, -7_200_000, 59_000),
    ],
)
def test_wrong_timestamps_are_not_the_extent_of_a_log(wrong: list[int], first_ms: int, last_ms: int) -> None:
    """Up to a tenth, ahead or behind by more than an hour, or without any; more than that are right."""
    base_ms = 1_795_491_000_000
    stamps = [base_ms + 1_000 * number for number in range(60)]
    strange = [stamp if abs(stamp) < 10 or stamp > 10**13 else base_ms + stamp for stamp in wrong]
    found = recorded.survey(Record(0, number, stamp, None, None) for number, stamp in enumerate([*strange, *stamps]))
    assert found == Survey(len(strange) + 60, base_ms + first_ms, base_ms + last_ms, 0)


def test_a_message_from_the_year_58879_is_not_waited_for() -> None:
    """It is sent at once, wherever it stands."""
    stamps = [1_000, 1_000_000_000_000_000, 1_010]
    records = [Record(0, number, stamp, None, None) for number, stamp in enumerate(stamps)]
    assert list(paced(records, 1_000, 1_010, 1.0)) == records


# Commands


def test_simulate_writes_the_same_log_again(tmp_path: Path) -> None:
    """Without --start the log is a function of its options; the truth beside it is JSON and counts all of it."""
    for name in ("a.gz", "b.gz"):
        done = run("simulate", "--messages", 500, "--log", tmp_path / name, "--truth-json", tmp_path / "truth.json")
        assert done.exit_code == 0, done.output
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    truth = json.loads((tmp_path / "truth.json").read_bytes())
    assert sum(truth["accepted"].values()) + sum(truth["rejected"].values()) == 500
    assert [record.offset for record in recorded.read(tmp_path / "a.gz") if record.partition == 0][:3] == [0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["simulate", "--incident", "boom"], "payment_broken"),
        (["simulate", "--rate", "many"], "must be max"),
        (["simulate", "--start", "noon"], "ISO 8601"),
        (["simulate", "--minutes", 1, "--truth", "--config", "/nowhere.toml"], "/nowhere.toml"),
        (["simulate", "--minutes", 1, "--log", "/nowhere/log"], "/nowhere/log"),
        (["replay", "/nowhere.log", "--topic", "t"], "does not exist"),
        (["record", "t", "--out", "/nowhere/log", "--until-end", "--seconds", 1], "either"),
    ],
)
def test_a_fault_of_the_input_is_told_and_ends_with_status_2(arguments: list[object], says: str) -> None:
    """No traceback: what is wrong, and exit status 2."""
    done = run(*arguments)
    assert done.exit_code == 2
    assert says in " ".join(done.output.replace("│", " ").split())
    assert isinstance(done.exception, SystemExit)


def test_an_unreachable_broker_is_told_and_ends_with_status_2(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that names the brokers."""
    monkeypatch.setattr("monitor.topics.kafka.ANSWER_S", 0.3)
    done = run("simulate", "--minutes", 1, "--topic", "t", "--brokers", "127.0.0.1:1")
    assert (done.exit_code, done.output.count("\n")) == (2, 1)
    assert "no Kafka broker answers at 127.0.0.1:1" in done.output


def test_a_topic_gets_and_gives_back_a_log(tmp_path: Path, real_kafka: Any) -> None:
    """simulate to Kafka and to a file, record, replay and record: the same messages each time, in order of time."""
    real_kafka.create_topic("made", partitions=3, config={})
    real_kafka.create_topic("again", partitions=4, config={})
    kafka = ["--brokers", real_kafka.bootstrap]
    made, back, again = tmp_path / "made.gz", tmp_path / "back", tmp_path / "again"
    assert run("simulate", "--rate", "max", "--minutes", 0.4, "--topic", "made", "--log", made, *kafka).exit_code == 0
    assert run("record", "made", "--out", back, *kafka).exit_code == 0
    assert run("replay", back, "--topic", "again", "--at-once", *kafka).exit_code == 0
    assert run("record", "again", "--out", again, *kafka).exit_code == 0
    original = list(recorded.read(made))
    assert len(original) > 1000
    assert list(recorded.read(back)) == sorted(original, key=lambda r: (r.timestamp_ms, r.partition, r.offset))
    assert again.read_bytes() == back.read_bytes()
    assert sum(real_kafka.end_offsets("again").values()) == len(original)
    some = tmp_path / "some"
    assert run("record", "again", "--out", some, "--seconds", 1, *kafka).exit_code == 0
    assert set(recorded.read(some)) <= set(recorded.read(again)), "as far as one second permits"


def test_replay_needs_the_topic_and_its_partitions(tmp_path: Path, real_kafka: Any) -> None:
    """A topic that is missing, or too narrow, is told before anything is written."""
    real_kafka.create_topic("narrow", partitions=1, config={})
    log = written(tmp_path, "log", [Record(0, 0, 1000, None, b"a"), Record(2, 0, 2000, None, b"b")])
    narrow = run("replay", log, "--topic", "narrow", "--brokers", real_kafka.bootstrap)
    missing = run("replay", log, "--topic", "missing", "--brokers", real_kafka.bootstrap)
    assert (narrow.exit_code, missing.exit_code) == (2, 2)
    assert "has 1 partitions" in narrow.output
    assert "no topic 'missing'" in missing.output
    assert sum(real_kafka.end_offsets("narrow").values()) == 0


def test_replay_keeps_the_pace_and_moves_to_now(tmp_path: Path, real_kafka: Any) -> None:
    """Ten seconds at twenty times the speed take half a second; times move together; keys and odd bytes stay."""
    real_kafka.create_topic("moved", partitions=2, config={})
    values = [b'{"time":1795491061000,"x":1}', b"\xff", None]
    log = [Record(n % 2, n // 2, 1795491061000 + 5000 * n, b"\xfe" if n else None, v) for n, v in enumerate(values)]
    path, out = written(tmp_path, "log", log), tmp_path / "out"
    kafka = ["--brokers", real_kafka.bootstrap]
    done = run("replay", path, "--topic", "moved", "--shift-to-now", "--speed", 20, *kafka)
    assert done.exit_code == 0, done.output
    assert run("record", "moved", "--out", out, "--until-end", *kafka).exit_code == 0
    by_ms = next(recorded.read(out)).timestamp_ms - log[0].timestamp_ms
    assert by_ms % 60_000 == 0
    assert list(recorded.read(out)) == [recorded.shifted(record, by_ms) for record in log]


def test_merged_messages_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one partition is behind, another's messages wait only up to MERGED_BYTES."""
    monkeypatch.setattr(kafka, "MERGED_BYTES", 10)
    merge = kafka._Merge({0, 1})
    for offset in range(4):
        merge.add(Record(0, offset, offset, b"k", b"four"))
    assert [record.offset for record in merge.ready()] == [0, 1]
    assert [record.offset for record in merge.rest()] == [2, 3]
