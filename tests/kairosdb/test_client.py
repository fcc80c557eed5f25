"""Each answer of KairosDB means one thing to the client; no message shows a password; no wait is without an end."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor import devstore
from monitor.kairosdb.client import Client, Refused, check
from monitor.kairosdb.errors import KairosDbError, Misconfigured, QueryFailed, QueryRefused, Unreachable
from monitor.kairosdb.points import Renderer, body
from monitor.runtime.errors import MonitorError
from tests.support.faulty_server import CUT, HANG, LOST, RESET, VERSION, Answer, FaultyServer, refuse
from tests.support.writer_rig import in_thread, points_of

NO_POINTS = body([])
QUERY = {"start_absolute": 0, "end_absolute": 1, "metrics": [{"name": "m"}]}
HANGS_S = 0.1


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer() as server:
        yield server


@pytest.fixture
def client(server: FaultyServer) -> Iterator[Client]:
    with Client(server.url, 1, 5) as client:
        yield client


ANSWERS: list[tuple[Answer, type[KairosDbError]]] = [
    *((refuse(status), Unreachable) for status in (429, 501, 502, 503, 504, 599)),
    *((fault, Unreachable) for fault in (RESET, LOST, CUT)),
    *((refuse(status), Misconfigured) for status in (200, 201, 301, 401, 403, 404, 405, 413)),
]
"""To a write and to a query alike."""


@pytest.mark.parametrize(("answer", "error"), ANSWERS)
def test_answers_to_a_write(server: FaultyServer, client: Client, answer: Answer, error: type[KairosDbError]) -> None:
    """204 is accepted, 400 and 500 are about the points, others say whether another try may help."""
    server.script(answer, refuse(400, "bad"), refuse(500, "trouble"))
    with pytest.raises(error):
        client.post(NO_POINTS)
    assert client.post(NO_POINTS) == Refused(400, json.dumps({"errors": ["bad"]}))
    assert client.post(NO_POINTS) == Refused(500, json.dumps({"errors": ["trouble"]}))
    assert client.post(NO_POINTS) is None


@pytest.mark.parametrize(
    ("answer", "error"),
    [*ANSWERS, (refuse(400), QueryRefused), (refuse(500), QueryFailed)],
)
def test_answers_to_a_query(server: FaultyServer, client: Client, answer: Answer, error: type[KairosDbError]) -> None:
    """Anything but 200 and its JSON is an error of the one family, and an error that a person can act on."""
    for ask in (lambda: client.query(QUERY), lambda: client.metric_names("m"), lambda: client.tag_names(["m"])):
        server.script(answer)
        with pytest.raises(error, match="KairosDB must answer") as caught:
            ask()
        assert isinstance(caught.value, KairosDbError)
        assert isinstance(caught.value, MonitorError)


@pytest.mark.parametrize("queries", [[], [{}, {}], [3], {}])
def test_a_query_is_answered_metric_by_metric(server: FaultyServer, client: Client, queries: object) -> None:
    """Another number of answers than of metrics, or another shape, comes from something else than KairosDB."""
    server.script(Answer(200, json.dumps({"queries": queries})))
    with pytest.raises(Misconfigured):
        client.query(QUERY)


def test_a_redirect_is_never_followed(server: FaultyServer, client: Client) -> None:
    """A POST that becomes a GET would be answered 200, and its points would be lost."""
    server.script(Answer(302, "", (("Location", f"{server.url}/api/v1/version"),)))
    with pytest.raises(Misconfigured, match=rf"Location: {server.url}/api/v1/version"):
        client.post(NO_POINTS)
    assert len(server.requests) == 1


def test_no_message_shows_the_password(server: FaultyServer) -> None:
    """Neither of an answer nor of none; the server gets user and password."""
    with Client(server.url.replace("//", "//me:secret@"), 1, 5) as client:
        assert client.url == server.url
        for answer in (refuse(401), refuse(503), RESET, refuse(500)):
            server.script(answer)
            with pytest.raises(KairosDbError) as caught:
                client.query(QUERY)
            assert "secret" not in str(caught.value)
    assert all(request.headers["Authorization"].startswith("Basic ") for request in server.requests)


def test_cut_ends_every_request_in_progress(server: FaultyServer) -> None:
    """Requests of several threads fail at once, and the client can be used again."""
    server.script(HANG, HANG, HANG)
    with Client(server.url, 5, 60, connections=3) as client:
        ends = [in_thread(lambda: client.post(NO_POINTS)) for _ in range(3)]
        server.wait_for_requests(3)
        start_s = time.monotonic()
        client.cut()
        assert all(isinstance(end(), Unreachable) for end in ends)
        assert time.monotonic() - start_s < 5
        server.release()
        assert client.post(NO_POINTS) is None


def test_names_of_metrics_and_tags(tmp_path: Path) -> None:
    """Of metrics those with the prefix, of tags all that a metric's series have; sorted."""
    rendered, _ = Renderer("dal", 60).render([*points_of(600), *points_of(1)])
    with devstore.running(tmp_path / "store.sqlite3") as url, Client(url, 5, 30) as client:
        assert client.post(body(rendered)) is None
        assert client.metric_names("m.") == ["m.0", "m.1"]
        assert client.metric_names("other") == []
        assert client.tag_names(["m.0", "none", "m.1"]) == [["dc", "tag"], [], ["dc", "tag"]]


def test_check_gives_the_version(server: FaultyServer) -> None:
    """The version as KairosDB says it; a slash at the end of the URL does no harm."""
    assert check(server.url) == check(server.url + "/") == VERSION


def test_check_of_a_closed_port_says_what_to_do() -> None:
    """One message: what was tried, what came, what to look at; no password in it."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(KairosDbError) as caught:
        check(f"http://me:secret@127.0.0.1:{port}")
    message = str(caught.value)
    assert f"GET http://127.0.0.1:{port}/api/v1/version" in message
    assert "Connection refused" in message
    assert "MONITOR_KAIROSDB__URL" in message
    assert "secret" not in message


def test_check_refuses_what_is_not_a_kairosdb(server: FaultyServer) -> None:
    """An error, half an answer, another path and another program are not taken for KairosDB."""
    for answer in (refuse(503, "starting"), refuse(200, "I am something else"), CUT):
        server.script(answer)
        with pytest.raises(KairosDbError):
            check(server.url)
    with pytest.raises(KairosDbError, match="got 404"):
        check(server.url + "/api/v1")


def test_check_does_not_wait_for_ever(server: FaultyServer) -> None:
    """A server that accepts and says nothing is unreachable after the time-out."""
    server.script(HANG)
    start_s = time.monotonic()
    with pytest.raises(KairosDbError, match="timed out"):
        check(server.url, timeout_s=0.1)
    assert time.monotonic() - start_s < 5
