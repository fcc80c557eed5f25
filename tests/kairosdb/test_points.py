"""Points become KairosDB's JSON exactly; what it would store wrongly is never sent; the check at start is clear."""

import gzip
import json
import socket
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.metrics import DataPoint
from monitor.kairosdb.points import (
    INT64_MAX,
    INT64_MIN,
    SERIES_CHARACTERS_MAX,
    TIMESTAMP_MS_MAX,
    TIMESTAMP_MS_MIN,
    KairosUnreachable,
    Rendered,
    Renderer,
    batches,
    body,
    check,
)
from tests.support.faulty_server import CUT, HANG, VERSION, FaultyServer, refuse

SERIES = "uswm.visit.fm.red.item_page.beta|experiment=button_color|device=mobile|login=true"
T_MS = 1_795_491_060_000


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer() as server:
        yield server


def test_a_point_is_the_json_of_the_specification() -> None:
    """Name, explicit type, ttl, tags with dc first, timestamp, value; the body is a gzip JSON array."""
    valid, invalid = Renderer("dal", 2_592_000).render(
        [DataPoint(SERIES, T_MS, 10_000), DataPoint("monitor.sessions", T_MS, -3)]
    )
    assert invalid == []
    first, second = json.loads(gzip.decompress(body(valid)))
    assert first == {
        "name": "uswm.visit.fm.red.item_page.beta",
        "timestamp": T_MS,
        "value": 10_000,
        "type": "long",
        "ttl": 2_592_000,
        "tags": {"dc": "dal", "experiment": "button_color", "device": "mobile", "login": "true"},
    }
    assert list(first["tags"]) == ["dc", "experiment", "device", "login"]
    assert (second["tags"], second["value"]) == ({"dc": "dal"}, -3)


PARTS = st.text("abzAZ09._/-", min_size=1, max_size=8)


@given(
    name=PARTS,
    tags=st.dictionaries(PARTS.filter(lambda name: name != "dc"), PARTS, max_size=4),
    timestamp_ms=st.integers(TIMESTAMP_MS_MIN, TIMESTAMP_MS_MAX),
    value=st.integers(INT64_MIN, INT64_MAX),
)
def test_any_valid_point_survives_the_json(name: str, tags: dict[str, str], timestamp_ms: int, value: int) -> None:
    """Whatever passes the checks is read back from the JSON as it was."""
    series = "|".join([name, *(f"{key}={text}" for key, text in tags.items())])
    [one], invalid = Renderer("dal", 1).render([DataPoint(series, timestamp_ms, value)])
    assert invalid == []
    assert json.loads(one.text) == {
        "name": name,
        "type": "long",
        "ttl": 1,
        "tags": {"dc": "dal", **tags},
        "timestamp": timestamp_ms,
        "value": value,
    }


@pytest.mark.parametrize(
    ("series", "rule"),
    [
        ("", "metric name"),
        ("|a=b", "metric name"),
        ("a name", "metric name"),
        ("näme", "metric name"),
        ('a"b', "metric name"),
        ("m|a=", "a tag must be NAME=VALUE"),
        ("m|=b", "a tag must be NAME=VALUE"),
        ("m|a", "a tag must be NAME=VALUE"),
        ("m|", "a tag must be NAME=VALUE"),
        ("m|a=b=c", "a tag must be NAME=VALUE"),
        ("m|a=b c", "a tag must be NAME=VALUE"),
        ("m|a=b:c", "a tag must be NAME=VALUE"),
        ("m|a=b\n", "a tag must be NAME=VALUE"),
        ("m|a=b|a=c", "must occur once"),
        ("m|dc=dal", "dc is added by the writer"),
        ("m" * (SERIES_CHARACTERS_MAX + 1), "at most"),
    ],
)
def test_a_series_that_kairosdb_would_garble_is_never_sent(series: str, rule: str) -> None:
    """Each fault of a name or tag is given back with the rule, at the first point and at later ones."""
    renderer = Renderer("dal", 60)
    for _ in range(2):
        valid, [fault] = renderer.render([DataPoint(series, T_MS, 1)])
        assert valid == []
        assert rule in fault.reason


@pytest.mark.parametrize(
    ("timestamp_ms", "value", "sent"),
    [
        (TIMESTAMP_MS_MIN, 0, True),
        (TIMESTAMP_MS_MIN - 1, 0, False),
        (TIMESTAMP_MS_MAX, 0, True),
        (TIMESTAMP_MS_MAX + 1, 0, False),
        (T_MS // 1000, 0, False),
        (T_MS * 1000, 0, False),
        (float(T_MS), 0, False),
        (T_MS, INT64_MAX, True),
        (T_MS, INT64_MAX + 1, False),
        (T_MS, INT64_MIN, True),
        (T_MS, INT64_MIN - 1, False),
        (T_MS, 1.0, False),
        (T_MS, float("nan"), False),
        (T_MS, float("inf"), False),
        (T_MS, True, False),
        (T_MS, "7", False),
        (T_MS, None, False),
    ],
)
def test_numbers_that_kairosdb_would_store_wrongly_are_never_sent(timestamp_ms: int, value: int, sent: bool) -> None:
    """Both sides of each bound: milliseconds that look like another unit, values that are no 64-bit integers."""
    valid, invalid = Renderer("dal", 60).render([DataPoint("m", timestamp_ms, value)])
    assert (len(valid), len(invalid)) == ((1, 0) if sent else (0, 1))
    if not sent:
        number = repr(value) if timestamp_ms == T_MS and type(timestamp_ms) is int else repr(timestamp_ms)
        assert invalid[0].reason.endswith(f"got {number}")


@pytest.mark.parametrize("ttl_s", [0, -5, 630_720_001, 1.5, True])
def test_a_ttl_that_kairosdb_would_take_silently_is_a_fault(ttl_s: int) -> None:
    """KairosDB answers 204 to a ttl of -5; the renderer does not begin with one."""
    with pytest.raises(ValueError, match="ttl_s must be an integer from 1 to 630720000; got"):
        Renderer("dal", ttl_s)


@pytest.mark.parametrize("dc", ["", "dal east", 'd"', "d|e"])
def test_a_dc_that_is_no_tag_value_is_a_fault(dc: str) -> None:
    """The tag of every point is checked before the first."""
    with pytest.raises(ValueError, match="dc must be of"):
        Renderer(dc, 60)


@given(sizes=st.lists(st.integers(1, 30), max_size=30), points_max=st.integers(1, 5), bytes_max=st.integers(10, 60))
def test_requests_keep_both_bounds_and_lose_nothing(sizes: list[int], points_max: int, bytes_max: int) -> None:
    """Batches, put together, are what went in; each is within the points and bytes, or a single point."""
    rendered = [Rendered(DataPoint("m", T_MS, index), "x" * size) for index, size in enumerate(sizes)]
    cut = list(batches(rendered, points_max, bytes_max))
    assert [one for batch in cut for one in batch] == rendered
    for batch in cut:
        size = len(gzip.decompress(body(batch)))
        assert 1 <= len(batch) <= points_max
        assert size <= bytes_max or len(batch) == 1


def test_check_gives_the_version(server: FaultyServer) -> None:
    """The version as KairosDB says it; a slash at the end of the URL does no harm."""
    assert check(server.url) == check(server.url + "/") == VERSION


def test_check_of_a_closed_port_says_what_to_do() -> None:
    """One message: what was tried, what came, what to look at; no password in it."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(KairosUnreachable) as caught:
        check(f"http://me:secret@127.0.0.1:{port}")
    message = str(caught.value)
    assert f"GET http://127.0.0.1:{port}/api/v1/version" in message
    assert "Connection refused" in message
    assert "MONITOR_KAIROSDB__URL" in message
    assert "secret" not in message


def test_check_refuses_what_is_not_a_kairosdb(server: FaultyServer) -> None:
    """An error, half an answer, another path and another program are told apart from KairosDB."""
    for answer in (refuse(503, "starting"), refuse(200, "I am something else"), CUT):
        server.script(answer)
        with pytest.raises(KairosUnreachable):
            check(server.url)
    with pytest.raises(KairosUnreachable, match="got 404"):
        check(server.url + "/api/v1")


def test_check_does_not_wait_for_ever(server: FaultyServer) -> None:
    """A server that accepts and says nothing is unreachable after the time-out."""
    server.script(HANG)
    start_s = time.monotonic()
    with pytest.raises(KairosUnreachable, match="timed out"):
        check(server.url, timeout_s=0.1)
    assert time.monotonic() - start_s < 5
