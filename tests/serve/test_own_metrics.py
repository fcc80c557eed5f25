"""The query service's own metrics: a KairosDB that does not take them holds up neither the service nor its end."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from monitor import devstore
from monitor.kairosdb.errors import Misconfigured, Unreachable
from monitor.serve import own_metrics, point_delivery
from monitor.serve.own_metrics import Watch
from monitor.serve.service import Service
from tests.support import served
from tests.support.faulty_server import HANG, Answer, FaultyServer, refuse
from tests.support.served import DCS, HOUR_MS, MINUTE_MS, serving
from tests.support.writer_rig import until

DAL, CDC = DCS
ENDS_S = 5.0


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    """The store that is written to."""
    with FaultyServer() as server:
        yield server


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service over a store in which the preferred data center went silent half an hour ago: there is a switch."""
    case = served.served()
    with devstore.running(tmp_path / "store.sqlite3") as url, serving(url, case) as client:
        served.report(url, DAL, case.now_ms - 3 * HOUR_MS, case.now_ms - 30 * MINUTE_MS)
        served.report(url, CDC, case.now_ms - 3 * HOUR_MS, case.now_ms)
        yield client.service


def test_retries_are_bounded_and_the_next_look_writes_the_same(
    server: FaultyServer, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look ends at the bound of its retries; once the store is back, its points are written."""
    monkeypatch.setattr(point_delivery, "RETRY_MAX_S", 0.1)
    server.script(*[refuse(503)] * 100)
    watch = Watch(service, server.url)
    start_s = time.monotonic()
    with pytest.raises(Unreachable):
        watch.once()
    assert time.monotonic() - start_s < ENDS_S
    assert len(server.requests) >= 1
    server.clear()
    points = watch.once()
    assert 1 <= points == len(server.cells())
    assert all(series.startswith("monitor.failover|") for series, _ in server.cells())


def test_a_short_fault_is_retried_in_the_same_look(server: FaultyServer, service: Service) -> None:
    """One answer of 503 costs a try and no point."""
    server.script(refuse(503))
    points = Watch(service, server.url).once()
    assert len(server.cells()) == points >= 1


def test_a_wrong_url_is_an_error_at_once(server: FaultyServer, service: Service) -> None:
    """What no retry can change is sent once."""
    server.script(refuse(404))
    with pytest.raises(Misconfigured):
        Watch(service, server.url).once()
    assert len(server.requests) == 1


def test_a_point_that_is_refused_is_logged(server: FaultyServer, service: Service) -> None:
    """Without a dead-letter file the log says which point, and why."""
    server.poison(lambda point: True, "named")
    with capture_logs() as logs:
        assert Watch(service, server.url).once() >= 1
    assert {log["event"] for log in logs} == {"points_given_up"}
    assert logs[0]["first"].startswith("monitor.failover|")
    assert logs[0]["server_text"]
    assert server.cells() == {}


@pytest.mark.parametrize("answer", [refuse(503, retry_after="60"), HANG], ids=["503", "hang"])
def test_the_service_ends_at_once_while_it_retries(server: FaultyServer, service: Service, answer: Answer) -> None:
    """Neither a back-off nor a request that hangs holds up the end."""
    server.script(*[answer] * 100)
    with Watch(service, server.url):
        server.wait_for_requests(1)
        start_s = time.monotonic()
    assert time.monotonic() - start_s < ENDS_S


def test_a_look_that_fails_is_logged_and_the_next_one_follows(
    server: FaultyServer, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread outlives a store that refuses."""
    monkeypatch.setattr(own_metrics, "EVERY_S", 0.01)
    server.script(refuse(401))
    with capture_logs() as logs, Watch(service, server.url):
        until(lambda: bool(server.cells()))
    assert logs[0]["event"] == "own_metrics_not_written"
    assert "got 401" in logs[0]["reason"]
