"""The meeting of a job's processes in their recovery directory: nobody changes it before all are there."""

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from monitor.flow import recovery_meeting, recovery_prepare
from monitor.flow.recovery_meeting import Seat
from monitor.runtime.errors import JobError

SHORT_S, LONG_S = 0.3, 30.0


def test_one_process_waits_for_nobody(tmp_path: Path) -> None:
    """At once, with what an earlier start has left there."""
    (tmp_path / ".worker-0").write_text("")
    (tmp_path / ".worker-1").write_text('["old", {"0": "older"}]')
    assert Seat(tmp_path, "0").meet(1, patience_s=0)


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_of_one_start_meet(tmp_path: Path, processes: int) -> None:
    """Whoever comes last; each goes on when it has met all others, and they need not be there any more."""
    with ThreadPoolExecutor(processes) as pool:
        seats = [Seat(tmp_path, str(number)) for number in range(processes)]
        assert all(pool.map(lambda seat: seat.meet(processes, LONG_S), seats))
    assert seats[-1].meet(processes, patience_s=0)


def test_a_directory_for_each_process_is_refused(tmp_path: Path) -> None:
    """Each process waits in vain, and says what the rule is."""
    for number in (0, 1):
        (tmp_path / str(number)).mkdir()
        with pytest.raises(JobError, match=f"process {number} of 2 has not met process {1 - number} .*share one"):
            Seat(tmp_path / str(number), str(number)).meet(2, SHORT_S)


def test_a_copy_of_the_other_directory_does_not_help(tmp_path: Path) -> None:
    """What the seats say was true of an earlier start only."""
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    with ThreadPoolExecutor(2) as pool:
        seats = [Seat(first, "0"), Seat(first, "1")]
        assert all(pool.map(lambda seat: seat.meet(2, LONG_S), seats))
    shutil.copytree(first, second)
    with pytest.raises(JobError, match="has not met process 1"):
        Seat(second, "0").meet(2, SHORT_S)


def test_a_process_of_an_earlier_start_is_not_met(tmp_path: Path) -> None:
    """It has its seat still, writes still, and knows nothing of the new one: that waits until it has gone."""
    with ThreadPoolExecutor(2) as pool:
        old = [Seat(tmp_path, "0"), Seat(tmp_path, "1")]
        assert all(pool.map(lambda seat: seat.meet(2, LONG_S), old))
    ends(old[0])
    new = Seat(tmp_path, "0")
    with pytest.raises(JobError, match="has not met process 1"):
        new.meet(2, SHORT_S)
    ends(old[1])
    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(lambda seat: seat.meet(2, LONG_S), [new, Seat(tmp_path, "1")]))


def test_a_process_that_the_job_no_longer_has_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a job that had more processes: it may still write. The wait is logged."""
    monkeypatch.setattr(recovery_meeting, "TELL_S", 0.0)
    left = Seat(tmp_path, "10")
    with capture_logs() as logs, pytest.raises(JobError, match="has not met process 10"):
        Seat(tmp_path, "0").meet(1, SHORT_S)
    assert logs[0]["event"] == "processes_waiting"
    ends(left)


def test_a_stop_ends_the_wait(tmp_path: Path) -> None:
    """SIGTERM is heard while the others are missing."""
    stopping = threading.Event()
    stopping.set()
    assert not Seat(tmp_path, "0").meet(2, LONG_S, stopping)


def test_a_seat_that_is_taken_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a moment, in which an old process may end."""
    monkeypatch.setattr(recovery_meeting, "LOCK_S", 0.1)
    first = Seat(tmp_path, "0")
    with pytest.raises(JobError, match="another job uses the recovery directory"):
        Seat(tmp_path, "0")
    ends(first)
    Seat(tmp_path, "0")


def test_nothing_is_deleted_before_they_have_met(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process that is alone would delete may be the good state of another one."""
    deleted: list[Path] = []
    monkeypatch.setattr(recovery_prepare, "_delete_unfinished", lambda directory, _epoch: deleted.append(directory))
    prepared = recovery_prepare.prepare(tmp_path, {}, worker="0")
    with pytest.raises(JobError, match="has not met"):
        recovery_prepare.begin(prepared, processes=2, patience_s=SHORT_S)
    assert deleted == []
    assert recovery_prepare.begin(prepared, processes=1)
    assert deleted == [tmp_path]


def ends(seat: Seat) -> None:
    """Lets a seat go, as the end of its process does."""
    os.close(seat._file)
