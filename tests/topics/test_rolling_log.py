"""The recorded log of a run: it holds what was appended, within its bounds, and goes on exactly where it was cut."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.topics import rolling_log
from monitor.topics.recorded import Record, RecordedLogError, parts_of, read
from monitor.topics.rolling_log import Arrived, RollingLog

SECONDS = st.lists(st.lists(st.binary(max_size=3) | st.none(), max_size=4), max_size=8)


def sent(second: int, values: Sequence[bytes | None]) -> list[Arrived]:
    """The messages of a second."""
    return [(b"k", value, 1_000 * second + n) for n, value in enumerate(values)]


@given(seconds=SECONDS, resumed=st.integers(0, 8), again=SECONDS)
def test_a_log_goes_on_where_its_run_does(
    tmp_path_factory: pytest.TempPathFactory,
    seconds: list[list[bytes | None]],
    resumed: int,
    again: list[list[bytes | None]],
) -> None:
    """What was recorded after the snapshot is forgotten; offsets have no gap and no repetition."""
    folder = tmp_path_factory.mktemp("run")
    log = RollingLog(folder, None, first_offset=0)
    for second, values in enumerate(seconds):
        log.append(sent(second, values))
    log = RollingLog(folder, 1_000 * resumed, first_offset=0)
    for second, values in enumerate(again, resumed):
        log.append(sent(second, values))
    wanted = [m for second, values in enumerate(seconds[:resumed]) for m in sent(second, values)]
    wanted += [m for second, values in enumerate(again, resumed) for m in sent(second, values)]
    held = list(read(folder)) if parts_of(folder) else []
    assert held == [Record(0, offset, at, key, value) for offset, (key, value, at) in enumerate(wanted)]


def test_the_oldest_part_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes are bounded; what is left is whole, in order, and tells by its offsets that its beginning is missing."""
    monkeypatch.setattr(rolling_log, "PART_BYTES_MAX", 1_000)
    monkeypatch.setattr(rolling_log, "LOG_BYTES_MAX", 5_000)
    log = RollingLog(tmp_path, None, first_offset=0)
    for second in range(60):
        log.append(sent(second, [os.urandom(100)] * 2))
        assert sum(part.stat().st_size for part in parts_of(tmp_path)) <= 5_000 + 1_000
    offsets = [record.offset for record in read(tmp_path)]
    assert offsets[0] > 0
    assert offsets == list(range(offsets[0], 120))


def test_a_part_that_is_too_old_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However small it is."""
    monkeypatch.setattr(rolling_log, "PART_BYTES_MAX", 1)
    log = RollingLog(tmp_path, None, first_offset=0)
    for second in range(3):
        log.append(sent(second, [b"x"]))
    first, second_part, _ = parts_of(tmp_path)
    for part, age_s in ((first, rolling_log.KEPT_S_MAX + 60), (second_part, 60)):
        written_s = part.stat().st_mtime - age_s
        os.utime(part, (written_s, written_s))
    log.append(sent(3, [b"x"]))
    assert [record.offset for record in read(tmp_path)] == [1, 2, 3]


def test_another_traffic_begins_a_new_log(tmp_path: Path) -> None:
    """Nothing of the old one stays; the offset says whether there are numbers from before."""
    RollingLog(tmp_path, None, first_offset=0).append(sent(0, [b"a"]))
    RollingLog(tmp_path, None, first_offset=1).append(sent(9, [b"b"]))
    assert list(read(tmp_path)) == [Record(0, 1, 9_000, b"k", b"b")]


@pytest.mark.parametrize("left", [0.02, 0.2, 0.6])
def test_a_part_cut_off_in_the_middle_ends_there(tmp_path: Path, left: float) -> None:
    """By a kill, or read while it is written: what is whole is read; the next run goes on from it."""
    log = RollingLog(tmp_path, None, first_offset=0)
    log.append(sent(0, [b"a"]))
    (part,) = parts_of(tmp_path)
    whole = part.stat().st_size
    log.append(sent(1, [os.urandom(500)]))
    os.truncate(part, whole + int((part.stat().st_size - whole) * left))
    assert [record.value for record in read(tmp_path)] == [b"a"]
    RollingLog(tmp_path, 2_000, first_offset=0).append(sent(2, [b"b"]))
    assert [(record.offset, record.value) for record in read(tmp_path)] == [(0, b"a"), (1, b"b")]


def test_a_damaged_earlier_part_and_an_empty_folder_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the last part may end early; a folder without parts is no log."""
    with pytest.raises(RecordedLogError, match="there is no recorded log in this folder"):
        list(read(tmp_path))
    monkeypatch.setattr(rolling_log, "PART_BYTES_MAX", 1)
    log = RollingLog(tmp_path, None, first_offset=0)
    log.append(sent(0, [b"a"]))
    log.append(sent(1, [b"b"]))
    first = parts_of(tmp_path)[0]
    os.truncate(first, first.stat().st_size - 3)
    with pytest.raises(RecordedLogError, match=first.name):
        list(read(tmp_path))
