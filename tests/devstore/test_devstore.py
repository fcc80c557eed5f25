"""What the embedded store promises beyond the contract: refusals, ttl, bounds, durability, starting and stopping."""

import gzip
import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor import devstore
from monitor.devstore import datapoints_parser
from monitor.devstore.api import REQUESTS_MAX
from monitor.devstore.database import PURGE_ROWS_MIN, Database
from monitor.devstore.http_bodies import BODY_BYTES_MAX
from monitor.runtime.listening import ListenError

T = 1_700_000_000_000
TIMEOUT_S = 30
DEADLINE_S = 20
TAGS = '"tags": {"a": "b"}'


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with devstore.running(tmp_path_factory.mktemp("store") / "points.db") as base_url:
        yield base_url


def write(url: str, body: Any, **headers: str) -> requests.Response:
    data = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
    return requests.post(f"{url}/api/v1/datapoints", data, headers=headers, timeout=TIMEOUT_S)


def point(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "timestamp": T, "value": 1, "type": "long", "tags": {"a": "b"}, **fields}


def values(url: str, name: str) -> list[list[Any]]:
    query = {"start_absolute": 0, "metrics": [{"name": name}]}
    response = requests.post(f"{url}/api/v1/datapoints/query", json=query, timeout=TIMEOUT_S)
    assert response.status_code == 200, response.text
    return [value for result in response.json()["queries"][0]["results"] for value in result["values"]]


def await_true(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


# --- refused instead of stored damaged ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ('"value": 1e-7', 'value 1e-7 has a fraction and cannot be stored as a long; send "type": "double".'),
        ('"value": 1.9, "type": "long"', "value 1.9 has a fraction and cannot be stored as a long"),
        ('"value": 9223372036854775808', "value 9223372036854775808 does not fit into the 64 bits of a long."),
        ('"value": -9223372036854775809, "type": "long"', "does not fit into the 64 bits of a long."),
        ('"value": 1e999999999999, "type": "long"', "does not fit into the 64 bits of a long."),
        ('"value": NaN', "value NaN is not a finite number"),
        ('"value": NaN, "type": "double"', "value NaN is not a finite number"),
        ('"value": "NaN", "type": "double"', "value NaN is not a finite number"),
        ('"value": -Infinity, "type": "double"', "value -Infinity is not a finite number"),
        ('"value": 1e400, "type": "double"', "value 1e400 is beyond the range of a double."),
        ('"value": [1], "type": "long"', " value is an invalid type"),
        ('"value": 1, "type": "long", "ttl": -5', "ttl must be between 0 and 630720000; got -5."),
        ('"value": 1, "type": "long", "ttl": 630720001', "ttl must be between 0 and 630720000; got 630720001."),
    ],
)
def test_what_would_be_stored_damaged_is_refused(url: str, value: str, reason: str) -> None:
    """400 with the reason, nothing of the metric stored, the metrics around it stored."""
    name = f"refused.{value}"
    other = json.dumps(point(f"{name}.other"))
    bad = f'{{"name": {json.dumps(name)}, "timestamp": {T}, {TAGS}, {value}}}'
    response = write(url, f"[{bad}, {other}]")
    assert response.status_code == 400
    (message,) = response.json()["errors"]
    assert message.startswith(f"metric[0](name={name})")
    assert reason in message
    assert (values(url, name), values(url, f"{name}.other")) == ([], [[T, 1]])


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ('"value": 9223372036854775807', 2**63 - 1),
        ('"value": -9223372036854775808, "type": "long"', -(2**63)),
        ('"value": 2.0, "type": "long"', 2),
        ('"value": 1e-7, "type": "double"', 1e-7),
        ('"value": 0e99, "type": "long"', 0),
        ('"value": 1, "type": "long", "ttl": 630720000', 1),
    ],
)
def test_what_can_be_stored_exactly_is_stored(url: str, value: str, stored: float) -> None:
    """The other side of each boundary."""
    name = f"stored.{value}"
    assert write(url, f'{{"name": {json.dumps(name)}, "timestamp": {T}, {TAGS}, {value}}}').status_code == 204
    assert values(url, name) == [[T, stored]]


@pytest.mark.parametrize("timestamp", ["9223372036854775808", "1e400", '"9223372036854775808"'])
def test_a_timestamp_beyond_64_bits_is_refused(url: str, timestamp: str) -> None:
    """KairosDB would store it at another time."""
    assert write(url, f'{{"name": "late", "timestamp": {timestamp}, "value": 1, {TAGS}}}').status_code == 400
    assert write(url, f'{{"name": "late", "datapoints": [[{timestamp}, 1]], {TAGS}}}').status_code in (400, 500)
    assert values(url, "late") == []


@pytest.mark.parametrize(
    "body",
    [
        b'[{"name": "caf\xe9", "timestamp": 1, "value": 1, "tags": {"a": "b"}}]',
        rb'[{"name": "\ud800", "timestamp": 1, "value": 1, "tags": {"a": "b"}}]',
        rb'[{"name": "x", "timestamp": 1, "value": 1, "type": "long", "tags": {"a": "\udfff"}}]',
        b"[{'name': 'x', 'timestamp': 1, 'value': 1, 'tags': {'a': 'b'}}]",
        b"[" * 1_000_000,
        b'{"name": "x", "value": ' + b"[" * 1_000_000,
    ],
)
def test_text_that_is_not_clean_json_is_refused(url: str, body: bytes) -> None:
    """Bytes that are not UTF-8, half a surrogate pair, lenient JSON, nesting without end: 400."""
    response = write(url, body)
    assert response.status_code == 400
    assert len(response.json()["errors"]) >= 1


def test_a_cut_off_or_damaged_gzip_body_stores_nothing(url: str) -> None:
    """400, and also the metrics that could be read are not stored."""
    body = gzip.compress(json.dumps([point("cut", timestamp=T + index) for index in range(1000)]).encode())
    damaged = body[:-8] + b"\0" * 8
    for broken in (body[:-12], body[: len(body) // 2], damaged):
        assert write(url, broken, **{"Content-Type": "application/gzip"}).status_code == 400
    assert values(url, "cut") == []


def test_a_gzip_body_may_have_several_members(url: str) -> None:
    """As RFC 1952 allows it."""
    text = json.dumps([point("members")]).encode()
    body = gzip.compress(text[:10]) + gzip.compress(text[10:])
    assert write(url, body, **{"Content-Encoding": "gzip"}).status_code == 204
    assert values(url, "members") == [[T, 1]]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)
METRICS = st.fixed_dictionaries(
    {
        "name": TEXTS,
        "timestamp": st.integers(-(2**63), 2**63 - 1),
        "value": st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False),
        "type": st.sampled_from(["long", "double"]),
        "tags": st.dictionaries(TEXTS, TEXTS, min_size=1, max_size=3),
    },
    optional={"ttl": st.integers(0, datapoints_parser.TTL_S_MAX)},
)


@settings(max_examples=100, deadline=None)
@given(st.lists(METRICS, max_size=5))
def test_the_fast_path_and_the_exact_path_agree(metrics: list[dict[str, Any]]) -> None:
    """An unknown field makes a body take the exact path: it says and stores the same."""
    fast = datapoints_parser.parse(json.dumps(metrics).encode())
    exact = datapoints_parser.parse(json.dumps([{**metric, "unknown": 1} for metric in metrics]).encode())
    assert (list(fast.points), fast.status, list(fast.errors)) == (list(exact.points), exact.status, list(exact.errors))
    assert [type(value) for _, _, value, _ in fast.points] == [type(value) for _, _, value, _ in exact.points]


# --- ttl ------------------------------------------------------------------------------------------------------------


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_ms = T

    def __call__(self) -> int:
        return self.now_ms


def count(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        found: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        return found


def test_a_point_is_gone_once_its_ttl_is_over(tmp_path: Path) -> None:
    """From the write on, to the millisecond, whatever its timestamp; without a ttl it stays; a rewrite starts anew."""
    clock = Clock()
    with devstore.running(tmp_path / "points.db", now_ms=clock) as url:
        points = [
            point("m", timestamp=T - 10**9, value=1, ttl=10),
            point("m", timestamp=T + 10**9, value=2, ttl=20),
            point("m", timestamp=T, value=3),
        ]
        assert write(url, points).status_code == 204
        clock.now_ms = T + 9_999
        assert [value for _, value in values(url, "m")] == [1, 3, 2]
        clock.now_ms = T + 10_000
        assert [value for _, value in values(url, "m")] == [3, 2]
        assert write(url, points[1:2]).status_code == 204
        clock.now_ms = T + 29_999
        assert [value for _, value in values(url, "m")] == [3, 2]
        clock.now_ms = T + 30_000
        assert [value for _, value in values(url, "m")] == [3]


def test_expired_points_and_their_series_are_deleted_in_the_background(tmp_path: Path) -> None:
    """Without any request; what has not expired stays, and the metric can be written again."""
    clock = Clock()
    path = tmp_path / "points.db"
    with devstore.running(path, now_ms=clock) as url:
        stays = [point("stays", timestamp=T + index) for index in range(3)]
        goes = [point("goes", timestamp=T + index, ttl=1, tags={"n": str(index)}) for index in range(100)]
        assert write(url, stays + goes).status_code == 204
        clock.now_ms = T + 1_000
        await_true(lambda: count(path, "points") == 3)
        assert count(path, "series") == 1
        assert write(url, goes[:1]).status_code == 204
        assert (values(url, "goes"), len(values(url, "stays"))) == ([[T, 1]], 3)


def test_a_purge_looks_at_a_bounded_number_of_rows(tmp_path: Path) -> None:
    """The table is gone through in steps of at least PURGE_ROWS_MIN rows, round and round."""
    clock = Clock()
    rows = 3 * PURGE_ROWS_MIN
    with closing(Database(tmp_path / "points.db", clock)) as database:
        database.write([(("m", "long", b'{"a":"b"}'), index, 1, 1) for index in range(rows)])
        clock.now_ms = T + 1_000
        assert database.purge() == rows  # one step, as it may look at twice as many as were written
        database.write([(("m", "long", b'{"a":"b"}'), index, 1, 1) for index in range(rows)])
        assert database.purge() == 0  # nothing has expired; the round ends
        clock.now_ms = T + 2_000
        assert [database.purge() for _ in range(4)] == [PURGE_ROWS_MIN] * 3 + [0]


# --- bounds ---------------------------------------------------------------------------------------------------------


def test_a_body_that_is_too_large_is_refused(url: str) -> None:
    """413 at BODY_BYTES_MAX, as sent or once unpacked; just below it is taken."""
    padding = b" " * (BODY_BYTES_MAX - 2)
    assert write(url, b"[]" + padding + b" ").status_code == 413
    header = {"Content-Encoding": "gzip"}
    assert write(url, gzip.compress(b"[]" + padding, 1), **header).status_code == 204
    response = write(url, gzip.compress(b"[]" + padding + b" ", 1), **header)
    assert (response.status_code, response.json()) == (
        413,
        {"errors": [f"The body is larger than {BODY_BYTES_MAX} bytes."]},
    )


def test_requests_beyond_the_bound_are_told_to_come_again(url: str) -> None:
    """503 with Retry-After while REQUESTS_MAX are in progress; then the store answers again."""
    host, port = url.removeprefix("http://").split(":")
    pending = [http.client.HTTPConnection(host, int(port), timeout=TIMEOUT_S) for _ in range(REQUESTS_MAX)]
    for connection in pending:
        connection.putrequest("POST", "/api/v1/datapoints")
        connection.putheader("Content-Length", "2")
        connection.endheaders(b"[")
    version = f"{url}/api/v1/version"
    await_true(lambda: requests.get(version, timeout=TIMEOUT_S).status_code == 503)
    refused = requests.get(version, timeout=TIMEOUT_S)
    assert refused.headers["Retry-After"] == "1"
    assert refused.json() == {"errors": [f"{REQUESTS_MAX} requests are in progress; try again later."]}
    for connection in pending:
        connection.send(b"]")
        assert connection.getresponse().status == 204
        connection.close()
    assert requests.get(version, timeout=TIMEOUT_S).status_code == 200


def test_reads_do_not_wait_for_a_write(tmp_path: Path) -> None:
    """While a transaction of the writer is open, queries are answered, from before it."""
    with closing(Database(tmp_path / "points.db", Clock())) as database:
        key = ("m", "long", b'{"a":"b"}')
        database.write([(key, T, 1, 0)])
        written, answered = threading.Event(), threading.Event()

        def points() -> Iterator[datapoints_parser.StoredPoint]:
            yield key, T + 1, 2, 0
            written.set()
            assert answered.wait(DEADLINE_S)

        with ThreadPoolExecutor(1) as writer:
            writing = writer.submit(database.write, _Sequence(points))
            assert written.wait(DEADLINE_S)
            with database.snapshot() as snapshot:
                (series,) = snapshot.series("m")
                assert snapshot.points(series.id, 0, 2 * T, limit=10) == [(T, 1)]
            answered.set()
            writing.result(DEADLINE_S)
        with database.snapshot() as snapshot:
            assert snapshot.points(series.id, 0, 2 * T, limit=10) == [(T, 1), (T + 1, 2)]


class _Sequence(list[datapoints_parser.StoredPoint]):
    """Points that are made while they are written."""

    def __init__(self, make: Callable[[], Iterator[datapoints_parser.StoredPoint]]) -> None:
        super().__init__([(("", "", b""), 0, 0, 0)])
        self._make = make

    def __iter__(self) -> Iterator[datapoints_parser.StoredPoint]:
        return self._make()


def test_a_write_that_fails_stores_nothing_and_later_ones_are_right(tmp_path: Path) -> None:
    """All or none; ids of series that were rolled back are not used again for others."""
    with closing(Database(tmp_path / "points.db", Clock())) as database:
        new, other = ("new", "long", b'{"a":"b"}'), ("other", "long", b'{"a":"b"}')
        with pytest.raises(OverflowError):
            database.write([(new, T, 1, 0), (new, T + 1, 2**63, 0)])
        database.write([(other, T, 5, 0)])
        database.write([(new, T, 7, 0)])
        with database.snapshot() as snapshot:
            found = {
                name: snapshot.points(snapshot.series(name)[0].id, 0, 2 * T, limit=10) for name in ("new", "other")
            }
        assert found == {"new": [(T, 7)], "other": [(T, 5)]}


# --- durability, starting, stopping ---------------------------------------------------------------------------------


def test_a_restart_keeps_the_data(tmp_path: Path) -> None:
    """The same file, another server."""
    path = tmp_path / "new folder" / "points.db"
    with devstore.running(path) as url:
        assert write(url, [point("m"), point("m", timestamp=T + 1, value=2.5, type="double")]).status_code == 204
    with devstore.running(path) as url:
        assert values(url, "m") == [[T, 1], [T + 1, 2.5]]
        assert write(url, [point("m", value=3)]).status_code == 204
        assert values(url, "m") == [[T, 3], [T + 1, 2.5]]


SERVE = """
import sys
from pathlib import Path
from monitor.devstore import serve
serve(Path(sys.argv[1]), "127.0.0.1", int(sys.argv[2]))
"""


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A store in a process of its own, over tmp_path / points.db, and its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(tmp_path / "points.db"), str(port)])
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        assert process.poll() is None
        try:
            return requests.get(f"{url}/api/v1/version", timeout=TIMEOUT_S).ok
        except requests.ConnectionError:
            return False

    try:
        await_true(ready)
        yield process, url
    finally:
        process.kill()
        process.wait()


def test_what_was_accepted_survives_a_kill(serving: tuple[subprocess.Popen[bytes], str], tmp_path: Path) -> None:
    """kill -9 in the midst of writing: everything that was answered 204 is there after a restart."""
    process, url = serving
    accepted = 0
    killer = threading.Timer(0.5, process.kill)
    killer.start()
    try:
        while write(url, [point("m", timestamp=T + accepted, tags={"n": str(accepted)})]).status_code == 204:
            accepted += 1
    except requests.ConnectionError:
        killer.join()
    process.wait()
    with devstore.running(tmp_path / "points.db") as url:
        found = values(url, "m")
    assert accepted > 0
    assert len(found) in (accepted, accepted + 1)  # the last one may have been stored without an answer


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_cleanly(
    serving: tuple[subprocess.Popen[bytes], str], tmp_path: Path, number: signal.Signals
) -> None:
    """Exit status 0, and the file is closed: no write-ahead log is left."""
    process, url = serving
    assert write(url, [point("m")]).status_code == 204
    process.send_signal(number)
    assert process.wait(DEADLINE_S) == 0
    assert not (tmp_path / "points.db-wal").exists()


def test_a_taken_port_is_a_clear_error(tmp_path: Path) -> None:
    """ListenError with the address, at once; and nothing stays open."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ListenError, match=f"cannot listen on 127.0.0.1:{port}"),
            devstore.running(tmp_path / "points.db", port=port),
        ):
            pytest.fail("it started")


def test_a_file_in_use_is_a_clear_error(tmp_path: Path) -> None:
    """One process at a time: a second would not know of the first one's series."""
    path = tmp_path / "points.db"
    with (
        devstore.running(path),
        pytest.raises(devstore.StoreError, match="another process has it open"),
        devstore.running(path),
    ):
        pytest.fail("it started")


@pytest.mark.parametrize("content", [b"this is not a database" * 100, None])
def test_a_path_that_is_no_store_is_a_clear_error(tmp_path: Path, content: bytes | None) -> None:
    """A file of another kind, or a folder."""
    path = tmp_path / "points.db"
    path.mkdir() if content is None else path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(devstore.StoreError, match=r"cannot open the store .*points\.db"), devstore.running(path):
            pytest.fail("it started")


def test_another_database_is_left_alone(tmp_path: Path) -> None:
    """A SQLite file with tables of its own, or of a later version, is not touched."""
    path = tmp_path / "points.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (x)")
    with pytest.raises(devstore.StoreError, match="it is not a store of version 1"), devstore.running(path):
        pytest.fail("it started")
    assert count(path, "mine") == 0


def test_nothing_stays_behind(tmp_path: Path) -> None:
    """No thread and no open file after the block."""
    threads, files = set(threading.enumerate()), set(os.listdir("/proc/self/fd"))
    with devstore.running(tmp_path / "points.db") as url:
        assert write(url, [point("m")]).status_code == 204
        assert values(url, "m") == [[T, 1]]
    assert set(threading.enumerate()) <= threads
    assert set(os.listdir("/proc/self/fd")) <= files


def test_long_tags_and_names_are_not_cached(tmp_path: Path) -> None:
    """Caches are bounded in bytes: a series or a text of tags beyond the length is stored, but not remembered."""
    for tag, is_cached in (("t" * 900, True), ("u" * 3_000, False)):
        body = json.dumps([{"name": "m", "timestamp": 1, "value": 1, "tags": {"t": tag}, "type": "long"}]).encode()
        points = datapoints_parser.parse(body).points
        assert any(tag.encode() in text for text in datapoints_parser._canonical_tags) is is_cached
        with closing(Database(tmp_path / f"{tag[0]}.sqlite", lambda: 1_000)) as database:
            database.write(points)
            assert bool(database._series_ids) is is_cached
            with database.snapshot() as snapshot:
                (series,) = snapshot.series("m")
                assert snapshot.points(series.id, 0, 2, limit=5) == [(1, 1)]
