"""Queries of many metrics give what each ask wants, whatever the size of a request and whoever else asks."""

from collections.abc import Iterator

import pytest

from monitor import devstore
from monitor.core.codes import MINUTE_MS
from monitor.core.metrics import DataPoint
from monitor.kairosdb import reader as reading
from monitor.kairosdb.client import Client
from monitor.kairosdb.errors import QueryFailed, Unreachable
from monitor.kairosdb.points import Renderer, body
from monitor.kairosdb.reader import Ask, Group, Reader, Row, chunks
from tests.support.faulty_server import FaultyServer, refuse
from tests.support.reading import write

T_MS = 1_795_491_060_000
METRICS = tuple(f"m.{number}" for number in range(7))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A store with two series of each metric, three minutes each."""
    with devstore.running(tmp_path_factory.mktemp("store") / "store.sqlite3") as url:
        write(
            url,
            [
                (name, T_MS + minute * MINUTE_MS, {"dc": dc}, 100 * number + 10 * minute + (dc == "cdc"))
                for number, name in enumerate(METRICS)
                for minute in range(3)
                for dc in ("dal", "cdc")
            ],
        )
        yield url


@pytest.mark.parametrize("metrics_per_request", [1, 2, 3, 100])
@pytest.mark.parametrize("parallel", [1, 4])
def test_rows_come_in_the_order_of_the_asks(
    url: str, monkeypatch: pytest.MonkeyPatch, metrics_per_request: int, parallel: int
) -> None:
    """Asks of one range share requests, others do not; the bounds of requests show nowhere."""
    monkeypatch.setattr(reading, "METRICS_PER_REQUEST", metrics_per_request)
    whole = Ask(METRICS, T_MS, T_MS + 3 * MINUTE_MS, {"dc": ["dal"]}, aggregator=None)
    first = Ask(METRICS[:2], T_MS, T_MS + MINUTE_MS, {"dc": ["dal", "cdc"]}, ("dc", "none"))
    total = Ask(METRICS[:1], T_MS, T_MS + 3 * MINUTE_MS, {}, aggregator="sum", sampling_ms=None)
    none = Ask(("nothing",), T_MS, T_MS + 3 * MINUTE_MS, {})
    with Reader(url, 30, parallel) as reader:
        of_whole, of_first, of_total, of_none = reader.rows([whole, first, total, none])
    assert of_whole == [
        Row(name, (), T_MS + minute * MINUTE_MS, 100 * number + 10 * minute)
        for number, name in enumerate(METRICS)
        for minute in range(3)
    ]
    assert sorted(of_first) == [
        Row(name, (dc, ""), T_MS, 100 * number + (dc == "cdc"))
        for number, name in enumerate(METRICS[:2])
        for dc in ("cdc", "dal")
    ]
    assert [row.value for row in of_total] == [63]
    assert of_none == []


@pytest.mark.parametrize("store", ["embedded", "real"])
def test_doubles_and_longs_of_one_minute_are_added(request: pytest.FixtureRequest, url: str, store: str) -> None:
    """A metric that was long and became double is read as one; a value that is no integer is not rounded."""
    at = url if store == "embedded" else request.getfixturevalue("real_kairosdb")
    renderer = Renderer(f"dc-{store}", 60)
    squares = 9.61e18
    points = [DataPoint("d.sumsq|v=a", T_MS, 5), DataPoint("d.sumsq|v=b", T_MS, squares), DataPoint("d.x", T_MS, 0.25)]
    rendered, _ = renderer.render(points)
    with Client(at, 30, 30) as client:
        assert client.post(body(rendered)) is None
    tags = {"dc": [f"dc-{store}"]}
    asks = [Ask((name,), T_MS, T_MS + MINUTE_MS, tags) for name in ("d.sumsq", "d.x")]
    with Reader(at, 30) as reader:
        (both,), (part,) = reader.rows(asks)
    assert (both.value, type(both.value)) == (int(squares + 5), int)
    assert part.value == 0.25


def test_only_the_oldest_or_the_newest(url: str) -> None:
    """One point of each series."""
    ask = Ask(METRICS[:1], 0, reading.END_MS, {"dc": ["dal"]}, aggregator=None, only="oldest")
    with Reader(url, 30) as reader:
        oldest, newest = reader.groups([ask, ask._replace(only="newest")])
    assert [tuple(point) for point in oldest.points] == [(T_MS, 0)]
    assert [tuple(point) for point in newest.points] == [(T_MS + 2 * MINUTE_MS, 20)]


def test_groups_keep_values_as_they_are(url: str) -> None:
    """The end of a range is excluded; a group has the values of its tags in the order asked."""
    ask = Ask(METRICS[1:2], T_MS, T_MS + 2 * MINUTE_MS, {}, ("none", "dc"), aggregator=None)
    with Reader(url, 30) as reader:
        groups = sorted(reader.groups([ask]))
        assert reader.names("m.") == sorted(METRICS)
        assert reader.tag_names(["m.0", "nothing"]) == {"m.0": ("dc",), "nothing": ()}
    assert groups == [
        Group("m.1", ("", "cdc"), [[T_MS, 101], [T_MS + MINUTE_MS, 111]]),  # type: ignore[list-item]
        Group("m.1", ("", "dal"), [[T_MS, 100], [T_MS + MINUTE_MS, 110]]),  # type: ignore[list-item]
    ]


def test_a_request_that_fails_fails_the_question() -> None:
    """No part of an answer is left out without an error."""
    ask = Ask(METRICS, T_MS, T_MS + MINUTE_MS, {})
    with FaultyServer() as server, Reader(server.url, 5) as reader:
        server.script(refuse(503), refuse(500))
        with pytest.raises(Unreachable):
            reader.rows([ask])
        with pytest.raises(QueryFailed):
            list(reader.groups([ask]))


def test_chunks_are_as_long_as_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """All names, in their order."""
    monkeypatch.setattr(reading, "METRICS_PER_REQUEST", 3)
    assert [list(some) for some in chunks(METRICS)] == [list(METRICS[:3]), list(METRICS[3:6]), list(METRICS[6:])]
    assert list(chunks(())) == []
