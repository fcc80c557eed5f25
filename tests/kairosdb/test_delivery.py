"""Every point gets into KairosDB whatever fails; only the points that it rejects permanently are given up."""

import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from threading import Event

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from structlog.testing import capture_logs

from monitor.core.metrics import DataPoint
from monitor.kairosdb.client import Client
from monitor.kairosdb.delivery import Delivery
from monitor.kairosdb.errors import Unreachable
from monitor.kairosdb.points import Renderer
from monitor.kairosdb.stats import WriterStats
from monitor.kairosdb.writer import WriterStopped
from monitor.runtime.retry_after import parse_retry_after_s
from tests.support.faulty_server import CUT, HANG, LOST, RESET, Answer, FaultyServer, Says, refuse, slow
from tests.support.writer_rig import PATIENT, QUICK, T_MS, Rig, cells_of, in_thread, points_of, rigged, until


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer() as server:
        yield server


@pytest.fixture
def rig(server: FaultyServer, tmp_path: Path) -> Iterator[Rig]:
    """A writer that sends at a flush, or when a request is full."""
    with rigged(server, tmp_path / "dead.jsonl", PATIENT) as rig:
        yield rig


@pytest.mark.parametrize(
    "fault",
    [refuse(429), refuse(502), refuse(503), refuse(504), refuse(507), refuse(500), RESET, LOST, CUT],
    ids=["429", "502", "503", "504", "507", "500", "reset", "answer lost", "answer cut"],
)
def test_a_passing_fault_is_retried(server: FaultyServer, rig: Rig, fault: Answer) -> None:
    """Four in a row lose nothing and give nothing up; the retries are counted."""
    server.script(*[fault] * 4)
    points = points_of(10)
    rig.writer.put(points)
    rig.writer.flush()
    assert server.cells() == cells_of(points)
    assert rig.given_up() == []
    taken = rig.stats.take()
    assert (taken["points_written"], taken["retries"], taken["dead_letters"]) == (10, 4, 0)


def test_an_answer_that_does_not_come_is_a_time_out(server: FaultyServer, tmp_path: Path) -> None:
    """A full queue of KairosDB shows only as a hang: it is cut by the time-out and sent again."""
    server.script(HANG)
    with rigged(server, tmp_path / "dead.jsonl", replace(PATIENT, read_timeout_s=0.1)) as rig:
        rig.writer.put([DataPoint("m", T_MS, 1)])
        rig.writer.flush()
    assert server.cells() == {("m", T_MS): 1}


def test_nothing_is_lost_when_the_server_dies_in_a_request_and_comes_back(server: FaultyServer, rig: Rig) -> None:
    """Killed with a request under way, closed for many tries, up again: every point is there, and the log says so."""
    points = points_of(100)
    server.script(HANG)
    with capture_logs() as logs:
        rig.writer.put(points)
        end = in_thread(rig.writer.flush)
        server.wait_for_requests(1)
        server.down()
        until(lambda: rig.stats.take()["retries"] > 0)
        server.up()
        assert end() is None
    assert server.cells() == cells_of(points)
    assert [log["event"] for log in logs] == ["kairosdb_waiting", "kairosdb_recovered"]
    assert logs[0]["url"] == server.url
    assert logs[0]["pending"] == 100
    assert logs[0]["came"]


def test_the_log_tells_a_long_wait_seldom(server: FaultyServer, tmp_path: Path) -> None:
    """Every try is counted, but only the first is logged until log_every_s has passed."""
    with rigged(server, tmp_path / "dead.jsonl", replace(PATIENT, log_every_s=0)) as rig, capture_logs() as often:
        server.script(*[refuse(503, "busy")] * 30)
        rig.writer.put([DataPoint("m", T_MS, 1)])
        rig.writer.flush()
    with rigged(server, tmp_path / "dead.jsonl", PATIENT) as rig, capture_logs() as seldom:
        server.script(*[refuse(503, "busy")] * 30)
        rig.writer.put([DataPoint("m", T_MS, 1)])
        rig.writer.flush()
    assert [log["event"] for log in often] == ["kairosdb_waiting"] * 30 + ["kairosdb_recovered"]
    assert [log["event"] for log in seldom] == ["kairosdb_waiting", "kairosdb_recovered"]
    assert "503" in seldom[0]["came"]
    assert "busy" in seldom[0]["came"]


@pytest.mark.parametrize(
    ("asked", "waits_s"),
    [
        ("1", 0.4),
        ("Wed, 21 Oct 2099 07:28:00 GMT", 0.4),
        ("0", 0.2),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.2),
        ("soon", None),
    ],
)
def test_retry_after_is_obeyed_within_bounds(server: FaultyServer, asked: str, waits_s: float | None) -> None:
    """The server's wish replaces the back-off, between the first back-off and a cap; an unreadable one is none."""
    bounds = replace(PATIENT, backoff_first_s=0.2, backoff_max_s=0.001, retry_after_max_s=0.4)
    server.script(refuse(503, retry_after=asked))
    waits = _Waits()
    with Client(server.url, 1, 5) as client:
        Delivery(client, Renderer("dal", 60), None, WriterStats(), bounds, waits).deliver([DataPoint("m", T_MS, 1)])
    (wait_s,) = waits.asked_s
    assert wait_s == waits_s if waits_s is not None else wait_s <= 0.001
    assert server.cells() == {("m", T_MS): 1}


class _Waits(Event):
    """Notes for how long it is waited for, and lets nobody wait."""

    def __init__(self) -> None:
        super().__init__()
        self.asked_s: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None, "nothing is waited for without a bound"
        self.asked_s.append(timeout)
        return False


NOW = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        (None, None),
        ("120", 120.0),
        (" 7 ", 7.0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0.0),
        ("Tue, 24 Nov 2026 08:00:30 -0000", 30.0),
        ("-5", None),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_in_its_forms(header: str | None, wait_s: float | None) -> None:
    """Seconds or an HTTP date, never negative; anything else counts as absent."""
    assert parse_retry_after_s(header, NOW) == wait_s


def requests_max(bad: int, points: int) -> int:
    """One request, and log2(n) + 1 more for each bad point."""
    return 1 + bad * (math.ceil(math.log2(points)) + 1)


@pytest.mark.parametrize("says", ["named", "misnamed", "unnamed"])
@pytest.mark.parametrize("bad", [{0}, {1_999}, {0, 1, 777, 1_999}])
def test_a_400_costs_the_bad_points_and_few_requests(server: FaultyServer, rig: Rig, says: Says, bad: set[int]) -> None:
    """Exactly the bad of 2,000 points become dead letters, at log2(n) + 1 requests each; the others are stored."""
    points = points_of(2_000)
    bad_series = {points[index].series for index in bad}
    server.poison(lambda point: point.series in bad_series, says)
    rig.writer.put(points)
    rig.writer.flush()
    assert {letter["series"] for letter in rig.given_up()} == bad_series
    assert len(rig.given_up()) == len(bad)
    assert server.cells() == cells_of([point for point in points if point.series not in bad_series])
    assert all(request.points for request in server.requests)
    # a wrong index costs one request to find out, and one for those that it accused
    assert len(server.requests) <= requests_max(len(bad), 2_000) + (2 if says == "misnamed" else 0)
    if says == "named":
        assert len(server.requests) == 2
    taken = rig.stats.take()
    assert (taken["points_written"], taken["dead_letters"]) == (2_000 - len(bad), len(bad))


@pytest.mark.parametrize("bad", [{0}, {1_999}, {0, 1_000}])
def test_a_500_costs_the_bad_points_after_some_tries(server: FaultyServer, rig: Rig, bad: set[int]) -> None:
    """Given up is what a working server refuses alone; it costs log2(n) + 2 requests and two rounds of tries."""
    points = points_of(2_000)
    bad_series = {points[index].series for index in bad}
    server.poison(lambda point: point.series in bad_series, "500")
    rig.writer.put(points)
    rig.writer.flush()
    assert {letter["series"] for letter in rig.given_up()} == bad_series
    assert len(rig.given_up()) == len(bad)
    assert server.cells() == cells_of([point for point in points if point.series not in bad_series])
    per_point = math.ceil(math.log2(2_000)) + 2 + 2 * QUICK.tries_on_500
    assert len(server.requests) <= 1 + len(bad) * per_point


def test_a_server_in_trouble_makes_no_dead_letters(server: FaultyServer, rig: Rig) -> None:
    """A server that answers 500 to everything, far beyond the tries, costs time but no point."""
    server.script(*[refuse(500, "out of memory")] * 60)
    points = points_of(20)
    rig.writer.put(points)
    rig.writer.flush()
    assert server.cells() == cells_of(points)
    assert rig.given_up() == []


@pytest.mark.parametrize("status", [200, 301, 401, 403, 404, 405, 413])
def test_a_wrong_configuration_stops_the_writer_loudly(server: FaultyServer, rig: Rig, status: int) -> None:
    """flush and put raise with the URL, the status, the server's text and what to check; nothing is retried."""
    elsewhere = (("Location", f"{server.url}/api/v1/version"),)
    server.script(refuse(status, "go away")._replace(headers=elsewhere))
    rig.writer.put([DataPoint("m", T_MS, 1)])
    for use in (rig.writer.flush, rig.writer.flush, lambda: rig.writer.put([DataPoint("m", T_MS, 1)])):
        with pytest.raises(WriterStopped) as caught:
            use()
        for part in (f"{server.url}/api/v1/datapoints", f"got {status}", "go away", "Check "):
            assert part in str(caught.value)
    assert len(server.requests) == 1


def test_a_caller_that_is_held_back_learns_that_the_writer_has_stopped(server: FaultyServer, tmp_path: Path) -> None:
    """put, blocked at the bound, raises when the writer stops, and does not wait for ever."""
    server.script(slow(0.05)._replace(status=401))
    with rigged(server, tmp_path / "dead.jsonl", replace(QUICK, points_max=5, pending_max=5)) as rig:
        end = in_thread(lambda: rig.writer.put(points_of(100)))
        assert isinstance(end(), WriterStopped)


FAULTS = st.sampled_from(
    [
        refuse(429),
        refuse(500, "trouble"),
        refuse(502),
        refuse(503, retry_after="1"),
        refuse(504, retry_after="Wed, 21 Oct 2099 07:28:00 GMT"),
        RESET,
        LOST,
        CUT,
        Answer(500, "half of it stored"),
    ]
)
BATCHES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2), st.integers(-2, 9)), max_size=12)


@pytest.fixture(scope="module")
def shared_server() -> Iterator[FaultyServer]:
    with FaultyServer() as server:
        yield server


@pytest.fixture(scope="module")
def shared_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("writers") / "dead.jsonl"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    puts=st.lists(st.tuples(BATCHES, st.lists(FAULTS, max_size=8), st.booleans()), max_size=5),
    says=st.sampled_from(["named", "misnamed", "unnamed", "500"]),
    seed=st.integers(0, 2**16),
)
def test_after_any_faults_the_store_holds_the_last_values(
    shared_server: FaultyServer,
    shared_path: Path,
    puts: list[tuple[list[tuple[int, int, int]], list[Answer], bool]],
    says: Says,
    seed: int,
) -> None:
    """After any faults and refusals, every series that is not bad ends with its last values."""
    server = shared_server
    server.clear()
    server.poison(lambda point: point.series in ("s0", "s4"), says)
    shared_path.unlink(missing_ok=True)
    expected: dict[tuple[str, int], int | float] = {}
    random.seed(seed)
    quick = replace(QUICK, points_max=4, backoff_first_s=0.0001, backoff_max_s=0.0002, retry_after_max_s=0.0002)
    with rigged(server, shared_path, quick) as rig:
        for batch, faults, flushes in puts:
            points = [DataPoint(f"s{series}", T_MS + minute, value) for series, minute, value in batch]
            server.script(*faults)
            rig.writer.put(points)
            expected |= cells_of(points)
            if flushes:
                rig.writer.flush()
        rig.writer.flush()
        bad = {cell for cell in expected if cell[0] in ("s0", "s4")}
        good = {cell: value for cell, value in expected.items() if cell not in bad}
        assert {cell: value for cell, value in server.cells().items() if cell[0] not in ("s0", "s4")} == good
        given_up = {(letter["series"], letter["timestamp"]) for letter in rig.given_up()}
        assert given_up <= bad


@pytest.mark.parametrize("answer", [refuse(503, "busy"), refuse(500, "trouble"), RESET], ids=["503", "500", "reset"])
def test_a_bounded_delivery_ends_without_a_dead_letter(server: FaultyServer, answer: Answer) -> None:
    """At `retry_max_s` what came is raised; nothing is given up, and the same points can be delivered later."""
    server.script(*[answer] * 1_000)
    bounds = replace(QUICK, retry_max_s=0.05)
    stats = WriterStats()
    points = points_of(3)
    with Client(server.url, 1, 5) as client, capture_logs() as logs:
        delivery = Delivery(client, Renderer("dal", 60), None, stats, bounds, Event())
        with pytest.raises(Unreachable):
            delivery.deliver(points)
        assert "points_given_up" not in {log["event"] for log in logs}
        server.clear()
        delivery.deliver(points)
    assert server.cells() == cells_of(points)
    assert stats.take()["dead_letters"] == 0


@pytest.mark.parametrize(("says", "attempts"), [("named", 1), ("unnamed", 3)])
def test_a_dead_letter_counts_the_refused_requests_of_its_search(
    server: FaultyServer, rig: Rig, says: Says, attempts: int
) -> None:
    """A point that is named costs one; the first of four costs the batch, its half, and itself."""
    server.poison(lambda point: point.series == points[0].series, says)
    points = points_of(4)
    for _ in range(2):
        rig.writer.put(points)
        rig.writer.flush()
    assert [letter["attempts"] for letter in rig.given_up()] == [attempts] * 2
