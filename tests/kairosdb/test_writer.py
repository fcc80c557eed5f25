"""A writer sends in order, within its bounds, and ends when asked to; it raises when it cannot deliver any more."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from monitor.core.metrics import DataPoint
from monitor.kairosdb.stats import WriterStats
from monitor.kairosdb.writer import WriterSettings, WriterStopped
from tests.support.faulty_server import CUT, HANG, LOST, RESET, FaultyServer, Stored, refuse, slow
from tests.support.writer_rig import PATIENT, QUICK, T_MS, TIMEOUT_S, Rig, cells_of, in_thread, points_of, rigged, until


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer() as server:
        yield server


@pytest.fixture
def rig(server: FaultyServer, tmp_path: Path) -> Iterator[Rig]:
    """A writer that sends at a flush, or when a request is full."""
    with rigged(server, tmp_path / "dead.jsonl", PATIENT) as rig:
        yield rig


def test_flush_returns_when_all_is_stored(server: FaultyServer, rig: Rig) -> None:
    """A full request goes at once, the rest at the flush; each is gzip with KairosDB's old content type."""
    points = points_of(2_500)
    rig.writer.put(points)
    server.wait_for_requests(1)
    rig.writer.flush()
    assert server.cells() == cells_of(points)
    assert [len(request.metrics) for request in server.requests] == [2_000, 500]
    assert {request.headers["Content-Type"] for request in server.requests} == {"application/gzip"}
    assert {kind for *_, kind in server.stored} == {"long"}
    assert rig.writer.pending == 0
    assert rig.given_up() == []


def test_points_do_not_wait_longer_than_the_linger(server: FaultyServer, tmp_path: Path) -> None:
    """Without a flush and far from a full request, a point is sent all the same."""
    with rigged(server, tmp_path / "dead.jsonl", QUICK) as rig:
        rig.writer.put(points_of(1))
        server.wait_for_requests(1)


def test_requests_keep_the_bound_of_bytes(server: FaultyServer, tmp_path: Path) -> None:
    """JSON beyond bytes_max goes in more requests."""
    points = points_of(40)
    with rigged(server, tmp_path / "dead.jsonl", replace(PATIENT, bytes_max=1_000)) as rig:
        rig.writer.put(points)
        rig.writer.flush()
    assert all(len(request.raw) <= 1_000 for request in server.requests)
    assert len(server.requests) > 4
    assert server.cells() == cells_of(points)


def test_of_a_point_that_waits_the_last_value_is_sent_once(server: FaultyServer, rig: Rig) -> None:
    """Updates of one (series, timestamp) are merged; other timestamps of the series are other points."""
    rig.writer.put([DataPoint("m", T_MS, 1), DataPoint("m", T_MS + 1, 5), DataPoint("m", T_MS, 2)])
    rig.writer.put([DataPoint("m", T_MS, 3)])
    assert rig.writer.pending == 2
    rig.writer.flush()
    assert [request.points for request in server.requests] == [[Stored("m", T_MS, 3), Stored("m", T_MS + 1, 5)]]


def test_a_point_that_is_in_flight_is_sent_again_after_it(server: FaultyServer, rig: Rig) -> None:
    """An update that comes while its point is in flight follows it, and wins."""
    server.script(slow(0.1))
    rig.writer.put([DataPoint("m", T_MS, 1)])
    end = in_thread(rig.writer.flush)
    server.wait_for_requests(1)
    rig.writer.put([DataPoint("m", T_MS, 2)])
    rig.writer.flush()
    assert end() is None
    assert [request.points for request in server.requests] == [[Stored("m", T_MS, 1)], [Stored("m", T_MS, 2)]]


def test_order_holds_while_threads_put_and_the_server_fails(server: FaultyServer, tmp_path: Path) -> None:
    """Per series, values arrive in the order put, though repeated ones may; the last one stays."""
    server.script(*[refuse(503), RESET, LOST, slow(0.01), CUT] * 4)
    rounds = 200
    with rigged(server, tmp_path / "dead.jsonl", replace(QUICK, points_max=5, linger_s=0.001)) as rig:

        def put(name: str) -> None:
            for value in range(rounds):
                rig.writer.put([DataPoint(name, T_MS, value)])

        ends = [in_thread(lambda name=name: put(name)) for name in ("a", "b", "c")]  # type: ignore[misc]
        assert [end() for end in ends] == [None] * 3
        rig.writer.flush()
    for name in ("a", "b", "c"):
        arrived = [point.value for request in server.requests for point in request.points if point.series == name]
        assert arrived == sorted(arrived)
    assert set(server.cells().values()) == {rounds - 1}


def test_flush_waits_for_its_points_and_not_for_later_ones(server: FaultyServer, rig: Rig) -> None:
    """A flush under way when more is put returns, and the later points keep their own time."""
    server.script(HANG)
    rig.writer.put([DataPoint("m", T_MS, 1)])
    end = in_thread(rig.writer.flush)
    server.wait_for_requests(1)
    rig.writer.put([DataPoint("late", T_MS, 1)])
    assert server.cells() == {}
    server.release()
    assert end() is None
    assert server.cells() == {("m", T_MS): 1}
    assert rig.writer.pending == 1


def test_put_blocks_at_the_bound_and_goes_on_when_there_is_room(server: FaultyServer, tmp_path: Path) -> None:
    """A KairosDB that hangs holds the caller back with bounded memory; when it answers, nothing is missing."""
    points = points_of(50)
    server.script(HANG)
    with rigged(server, tmp_path / "dead.jsonl", replace(PATIENT, points_max=10, pending_max=20)) as rig:
        end = in_thread(lambda: rig.writer.put(points))
        server.wait_for_requests(1)
        until(lambda: rig.writer.pending == 30)  # 20 wait, 10 are in flight, 20 are still with the caller
        rig.writer.put([points[15]])  # a point that waits needs no room
        server.release()
        assert end() is None
        rig.writer.flush()
    assert server.cells() == cells_of(points)


@pytest.mark.parametrize("fault", ["closed port", "hang", "503"])
def test_close_ends_an_endless_retry_at_once(server: FaultyServer, tmp_path: Path, fault: str) -> None:
    """Neither a long back-off nor a request that hangs holds up a shutdown; a flush under way learns of it."""
    long = WriterSettings(linger_s=0.001, backoff_first_s=100, backoff_max_s=100, close_wait_s=TIMEOUT_S)
    server.script(*[HANG if fault == "hang" else refuse(503, retry_after="60")] * 3)
    if fault == "closed port":
        server.down()
    with rigged(server, tmp_path / "dead.jsonl", long) as rig:
        rig.writer.put([DataPoint("m", T_MS, 1)])
        end = in_thread(rig.writer.flush)
        if fault == "closed port":
            until(lambda: rig.stats.take()["retries"] > 0)
        else:
            server.wait_for_requests(1)
        start = datetime.now(UTC)
        rig.writer.close()
        assert datetime.now(UTC) - start < timedelta(seconds=2)
        assert isinstance(end(), WriterStopped)
        with pytest.raises(WriterStopped, match="closed; 1 points were dropped"):
            rig.writer.put([DataPoint("m", T_MS, 2)])


def test_close_without_use_and_twice_leaves_no_thread(server: FaultyServer, tmp_path: Path) -> None:
    """The thread ends with the writer, used or not."""
    with rigged(server, tmp_path / "dead.jsonl", WriterSettings()) as rig:
        rig.writer.close()
        rig.writer.close()
    assert server.requests == []


def test_stats_give_each_count_once() -> None:
    """take() returns what came since the last take(); threads lose nothing, and fractions of a millisecond add up."""
    stats = WriterStats()

    def count() -> None:
        for _ in range(1_000):
            stats.add(points_written=2, write_ns=300_000, retries=1, dead_letters=3, rewritten=1)

    ends = [in_thread(count) for _ in range(4)]
    taken = [stats.take() for _ in range(50)]
    assert [end() for end in ends] == [None] * 4
    taken.append(stats.take())
    total = {name: sum(one[name] for one in taken) for name in taken[0]}
    assert total == {
        "points_written": 8_000,
        "write_ms": 1_200,
        "retries": 4_000,
        "dead_letters": 12_000,
        "rewritten": 4_000,
    }
    assert set(stats.take().values()) == {0}
    stats.add(write_ns=1_600_000)
    assert stats.take()["write_ms"] == 1
    stats.add(write_ns=400_000)
    assert stats.take()["write_ms"] == 1
