"""Points that KairosDB rejects permanently are kept: whole lines, on the disk, bounded; an unwritable file is loud."""

import json
import os
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from monitor.core.metrics import DataPoint
from monitor.kairosdb.dead_letters import DeadLetter, DeadLetters, DeadLettersUnwritable
from monitor.kairosdb.writer import WriterStopped
from tests.support.faulty_server import FaultyServer
from tests.support.writer_rig import PATIENT, T_MS, Rig, in_thread, rigged


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer() as server:
        yield server


@pytest.fixture
def rig(server: FaultyServer, tmp_path: Path) -> Iterator[Rig]:
    """A writer that sends at a flush, or when a request is full."""
    with rigged(server, tmp_path / "dead.jsonl", PATIENT) as rig:
        yield rig


def test_a_dead_letter_says_all(server: FaultyServer, rig: Rig) -> None:
    """The point, the reason, the server's message, the tries and the time, in one line of JSON."""
    server.poison(lambda point: point.value < 0, "named")
    with capture_logs() as logs:
        rig.writer.put([DataPoint("ok", T_MS, 1), DataPoint("m|a=b|c=d", T_MS, -1)])
        rig.writer.flush()
    [letter] = rig.given_up()
    at = datetime.fromisoformat(letter.pop("at"))
    assert abs(datetime.now(UTC) - at) < timedelta(minutes=1)
    assert letter == {
        "series": "m|a=b|c=d",
        "name": "m",
        "tags": {"a": "b", "c": "d"},
        "timestamp": T_MS,
        "value": -1,
        "reason": "KairosDB refuses it with 400",
        "server_text": "metric[1](name=m).value may not be empty.",
        "attempts": 1,
    }
    assert [(log["event"], log["points"], log["first"]) for log in logs] == [("points_given_up", 1, "m|a=b|c=d")]


@pytest.mark.parametrize(
    ("value", "written"),
    [(7, 7), (10_000.0, 10_000.0), (0.1, 0.1), (2**63, 2**63), (float("nan"), "nan"), (float("-inf"), "-inf")],
)
def test_the_value_of_a_dead_letter_is_a_number_of_its_type(tmp_path: Path, value: float, written: object) -> None:
    """A sum of squares too, so that a letter can be sent again as it is; JSON has no others than finite numbers."""
    with closing(DeadLetters(tmp_path / "dead.jsonl")) as letters:
        letters.write([DeadLetter(DataPoint("m", T_MS, value), "reason")])
        letters.sync()
    found = json.loads((tmp_path / "dead.jsonl").read_text())["value"]
    assert (found, type(found)) == (written, type(written))


def test_an_invalid_point_never_reaches_the_server(server: FaultyServer, rig: Rig) -> None:
    """A point that breaks a rule becomes a dead letter without a request; the others are sent."""
    rig.writer.put([("m|a=", T_MS, 1), ("m", T_MS // 1000, 1), ("m", T_MS, 2**63), ("m", T_MS + 1, 1)])
    rig.writer.flush()
    assert server.cells() == {("m", T_MS + 1): 1}
    letters = rig.given_up()
    assert [(letter["attempts"], letter["server_text"]) for letter in letters] == [(0, "")] * 3
    assert [letter["reason"].partition(" must")[0] for letter in letters] == ["a tag", "a timestamp", "a value"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
def test_dead_letters_that_cannot_be_written_stop_the_writer(server: FaultyServer) -> None:
    """flush does not say that a point is safe when its dead letter is not on the disk."""
    rig = Rig(server, Path("/dev/full"), PATIENT)
    with closing(rig.writer):
        rig.writer.put([DataPoint("m|a=", T_MS, 1)])
        with pytest.raises(WriterStopped, match="No space left on device"):
            rig.writer.flush()
    with pytest.raises(OSError, match="No space left on device"):
        rig.letters.close()


def test_an_unwritable_file_is_a_clear_error_at_start(tmp_path: Path) -> None:
    """The message names the file, the cause and the setting."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "dead.jsonl", tmp_path):
        with pytest.raises(DeadLettersUnwritable, match=r"must be writable; got .*kairosdb\.dead_letters") as caught:
            DeadLetters(path)
        assert str(tmp_path) in str(caught.value)


def test_the_file_is_made_by_the_first_letter(tmp_path: Path) -> None:
    """With its folder; a job without dead letters leaves no empty file where it was started."""
    path = tmp_path / "sub" / "dead.jsonl"
    with closing(DeadLetters(path)) as letters:
        letters.sync()
        assert list(tmp_path.iterdir()) == []
        letters.write([DeadLetter(DataPoint("m", T_MS, 1), "reason")])
        letters.sync()
        assert path.stat().st_size > 0


def test_dead_letters_rotate_within_their_bound(tmp_path: Path) -> None:
    """Threads write together: lines stay whole, files small, the youngest letters are kept, a rotation is logged."""
    letters = DeadLetters(tmp_path / "sub" / "dead.jsonl", bytes_max=5_000, old_files=2)

    def write() -> None:
        for value in range(50):
            letters.write([DeadLetter(DataPoint("m", T_MS, value), "reason")])

    with closing(letters), capture_logs() as logs:
        ends = [in_thread(write) for _ in range(4)]
        assert [end() for end in ends] == [None] * 4
        letters.sync()
    files = sorted((tmp_path / "sub").iterdir())
    assert [file.name for file in files] == ["dead.jsonl", "dead.jsonl.1", "dead.jsonl.2"]
    assert all(file.stat().st_size <= 5_000 for file in files)
    values = [json.loads(line)["value"] for file in files for line in file.read_text().splitlines()]
    assert len(values) > 50
    assert 49 in values
    assert {log["event"] for log in logs} == {"dead_letters_rotated"}


def test_a_dead_letter_is_on_the_disk_when_flush_returns(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is synced as long as it is, after the last letter and before flush returns."""
    synced: list[int] = []
    fsync = os.fsync

    def recorded(descriptor: int) -> None:
        fsync(descriptor)
        synced.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fsync", recorded)
    rig.writer.put([DataPoint("m|a=", T_MS, 1)])
    rig.writer.flush()
    assert synced[-1] == rig.letters.path.stat().st_size > 0


def test_a_rotation_that_fails_loses_no_letter_silently(tmp_path: Path) -> None:
    """A letter that could not be written raises, whatever the cause."""
    (tmp_path / "dead.jsonl.1").mkdir()
    with closing(DeadLetters(tmp_path / "dead.jsonl", bytes_max=300, old_files=1)) as letters:
        letters.write([DeadLetter(DataPoint("m", T_MS, 1), "reason")])
        with pytest.raises(OSError, match=r"dead\.jsonl\.1"):
            letters.write([DeadLetter(DataPoint("m", T_MS, 2), "reason")])
