"""`monitor verify` at its limits: long runs, jobs that have gone on, idle partitions, lost messages, hostile names."""

import json
import math
import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from monitor import devstore
from monitor.commands.main import app
from monitor.core.metrics import DataPoint
from monitor.devstore import query_executor
from monitor.kairosdb.client import Client
from monitor.kairosdb.points import Renderer, body
from monitor.topics import recorded
from monitor.topics.kafka import Publisher
from monitor.topics.recorded import Record
from monitor.verify import stored
from tests.support import oracle, reading
from tests.support.messages import BASE_MS, MINUTE_MS, message, shop
from tests.support.oracle import Message
from tests.support.servers import Kafka
from tests.support.strategies import to_toml

MIN = MINUTE_MS
RED_ITEM = "uswm.visit.assigned.red.item_page"
TAGS = {"experiment": "button_color", "device": "unknown", "login": "unknown"}
Point = tuple[str, int, dict[str, str], float]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The embedded store, shared: each test has a dc of its own."""
    with devstore.running(tmp_path_factory.mktemp("store") / "store.sqlite") as url:
        yield url


@pytest.fixture
def dc() -> str:
    """A dc that no other test writes to."""
    return f"dc-{uuid.uuid4().hex}"


def numbered(log: Sequence[Message], first: int = 0) -> list[Message]:
    """The messages with offsets, from `first` on in each partition."""
    seen = Counter[int]()
    found = []
    for each in log:
        found.append(each._replace(offset=first + seen[each.partition]))
        seen[each.partition] += 1
    return found


def visits_log() -> list[Message]:
    """A visit of two minutes, and a later event, which seals them."""
    return numbered([message(0, "home"), message(MIN, "item"), message(40 * MIN, "item", sessionId="late one")])


def write(url: str, points: Sequence[Point], dc: str) -> None:
    """Writes points as the sink does."""
    reading.write(url, ((name, at_ms, tags | {"dc": dc}, value) for name, at_ms, tags, value in points))


def fill(url: str, dc: str, log: Sequence[Message]) -> int:
    """Writes what the oracle says of a log; the number of points."""
    totals = oracle.answer(shop(), log).totals
    points = [(name, at, {tag: text for tag, text in tags if tag != "dc"}, n) for (name, at, tags), n in totals.items()]
    write(url, points, dc)
    return len(totals)


def sealed(url: str, dc: str, until_ms: int) -> None:
    """Writes a watermark as a job of this dc does."""
    write(url, [("monitor.watermark_s", BASE_MS, {}, until_ms // 1_000)], dc)


def run(folder: Path, url: str, log: Sequence[Message] | None, *options: str, **tables: Any) -> Result:
    """`monitor verify` over a recorded log, or without one."""
    file = folder / "monitor.toml"
    file.write_text(to_toml(shop() | tables))
    arguments = ["verify", "--config", str(file), "--url", url]
    if log is not None:
        recorded.write(folder / "log.ndjson", (Record(*each) for each in log))
        arguments += ["--log", str(folder / "log.ndjson")]
    return CliRunner().invoke(app, [*arguments, *options])


def told(result: Result) -> dict[str, Any]:
    """What was found, from `--json`."""
    assert result.exit_code in (0, 1), result.output
    found: dict[str, Any] = json.loads(result.stdout)
    assert bool(found["differing"]) == (result.exit_code == 1)
    return found


def test_a_long_run_is_read_in_parts(tmp_path: Path, server: str, dc: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that refuses to read so many points at once is asked for less at once, for totals and for counters."""
    monkeypatch.setattr(query_executor, "QUERY_POINTS_MAX", 50)
    monkeypatch.setattr(stored, "COUNTED_MS", MIN)
    log = numbered([message(at * MIN, "home", sessionId=f"s-{at}") for at in range(60)])
    points = fill(server, dc, log)
    write(server, [("monitor.events", BASE_MS + at * MIN, {"tenant": "uswm"}, 1) for at in range(60)], dc)
    found = told(run(tmp_path, server, log, "--dc", dc, "--json"))
    assert (found["differing"], found["compared"]) == (0, points)
    assert [(count["wanted"], count["stored"]) for count in found["counts"]] == [(60, 60)]


def test_a_job_that_has_gone_on_is_no_difference(tmp_path: Path, server: str, dc: str) -> None:
    """Where the store has more messages than a recorded log, minutes that these can change are left out, and told."""
    log = visits_log()
    fill(server, dc, [*log, message(40 * MIN + 1, "item", sessionId="late one")])
    sealed(server, dc, BASE_MS + 35 * MIN)
    result = run(tmp_path, server, log, "--dc", dc)
    assert result.exit_code == 0, result.output
    assert "left out: not final yet" in result.stdout
    assert told(run(tmp_path, server, log, "--dc", dc, "--json"))["end_ms"] == BASE_MS + 30 * MIN
    write(server, [(RED_ITEM, BASE_MS + MIN, TAGS, 9)], dc)
    assert told(run(tmp_path, server, log, "--dc", dc, "--json"))["differing"] == 1


def test_a_store_that_has_the_whole_log_is_compared_whole(tmp_path: Path, server: str, dc: str) -> None:
    """Where the job has counted exactly the log's messages, nothing more can come: unsealed minutes are compared."""
    log = visits_log()
    points = fill(server, dc, log)
    sealed(server, dc, BASE_MS + 30 * MIN)
    write(server, [("monitor.events", BASE_MS, {"tenant": "uswm"}, len(log))], dc)
    assert told(run(tmp_path, server, log, "--dc", dc, "--json"))["compared"] == points
    write(server, [(RED_ITEM, BASE_MS + 40 * MIN, TAGS, 9)], dc)
    assert told(run(tmp_path, server, log, "--dc", dc, "--json"))["differing"] == 1


def test_lost_messages_can_be_ahead_of_their_time(tmp_path: Path, server: str, dc: str) -> None:
    """A message that is lost may hold an event up to the tolerance later than its own timestamp."""
    lost = message(61_000, "home", arrives_ms=2_000, sessionId="lost")
    kept = [message(2_000, "item"), message(50 * MIN, "item", sessionId="new")]
    fill(server, dc, [lost, *kept])
    assert told(run(tmp_path, server, numbered(kept, first=1), "--dc", dc, "--json"))["differing"] == 0


@pytest.mark.parametrize("store", ["embedded", "real"])
def test_a_sum_of_squares_is_compared_as_the_double_that_it_was_rounded_to(
    tmp_path: Path, dc: str, store: str, request: pytest.FixtureRequest
) -> None:
    """The exact integer, rounded once, is what the store must hold; the next double is a difference, and names it."""
    url = request.getfixturevalue("server" if store == "embedded" else "real_kairosdb")
    tables: Any = shop()
    tables["tenants"]["uswm"]["points"]["item_page"]["value"] = {"attribute": "total", "max": 2**42}
    amount = 2**31 + 12_345  # its square is no double
    log = numbered([message(0, "item", attributes={"page": "item", "total": amount})])
    points = oracle.answer(tables, log).totals
    squares = f"{RED_ITEM}.sumsq"
    tags = {tag: text for (name, _, of), _ in points.items() if name == squares for tag, text in of if tag != "dc"}
    assert amount**2 != int(float(amount**2))
    renderer = Renderer(dc, 60)

    def put(value: int | float, name: str, at_ms: int, tags: dict[str, str]) -> None:
        series = "|".join([name, *(f"{tag}={text}" for tag, text in sorted(tags.items(), key=by_name))])
        (rendered,), _ = renderer.render([DataPoint(series, at_ms, value)])
        with Client(url, 30, 30) as client:
            assert client.post(body([rendered])) is None

    for (name, at_ms, of), total in points.items():
        value = float(total) if name.endswith(".sumsq") else total
        put(value, name, at_ms, {tag: text for tag, text in of if tag != "dc"})
    options = "--dc", dc, "--json"
    assert told(run(tmp_path, url, log, *options, tenants=tables["tenants"]))["differing"] == 0
    put(math.nextafter(float(amount**2), math.inf), squares, BASE_MS, tags)
    (found,) = told(run(tmp_path, url, log, *options, tenants=tables["tenants"]))["differences"]
    assert (found["metric"], found["wanted"]) == (squares, str(amount**2))


def by_name(pair: tuple[str, str]) -> tuple[bool, str]:
    """The order of tags in a series: the experiment's first."""
    return pair[0] != "experiment", pair[0]


RENAMED: Any = {
    "checkout_color": {
        "control": "blue",
        "variations": {"blue": 50, "crimson": 50},
        "qualified_when": {"point": "home_page"},
        "names": ["button_color", "Button colour"],
        "aliases": {"red": "crimson", "rosé": "crimson"},
    }
}


@pytest.mark.parametrize("store", ["embedded", "real"])
def test_a_rename_is_no_difference(tmp_path: Path, dc: str, store: str, request: pytest.FixtureRequest) -> None:
    """What an experiment and a variation had under their names of before is added to what they have now.

    Either may be negative; what is 0 together is no total; a sum of squares is as exact as its two parts.
    """
    url = request.getfixturevalue("server" if store == "embedded" else "real_kairosdb")
    tenant: Any = shop()["tenants"]["uswm"]
    log = numbered(
        [
            message(0, "home"),
            message(1_000, None, event="order", attributes={"total": 9_999.99}),
            message(2_000, None, event="order", eventId="o-2", attributes={"total": 1_234.5}),
            message(MIN, "item", sessionId="s-2"),
        ]
    )
    write_renamed(url, dc, log)
    tables = {"tenants": {"uswm": tenant | {"experiments": RENAMED}}}
    found = told(run(tmp_path, url, log, "--dc", dc, "--json", **tables))
    assert (found["differing"], found["differences"]) == (0, [])
    assert found["compared"] == len(oracle.answer(shop() | tables, log).totals)
    stale = {**TAGS, "device": "desktop"}
    write(url, [("uswm.visit.assigned.red.beta", BASE_MS + MIN, stale, 4)], dc)
    (difference,) = told(run(tmp_path, url, log, "--dc", dc, "--json", **tables))["differences"]
    assert (difference["metric"], difference["stored"]) == ("uswm.visit.assigned.crimson.beta", "4")
    assert difference["tags"]["experiment"] == "checkout_color"


def write_renamed(url: str, dc: str, log: Sequence[Message]) -> None:
    """Part of each total under the names of before, the rest under those of now; and some that are 0 together."""
    points: list[Point] = []
    for number, ((name, at_ms, of), total) in enumerate(oracle.answer(shop(), log).totals.items()):
        kind = float if name.endswith(".sumsq") else int
        old = {tag: text for tag, text in of if tag != "dc"}
        new = {**old, "experiment": "checkout_color"}
        first = (total, total + 7, -3 * total, total // 3)[number % 4]
        points.append((name, at_ms, old, kind(first)))
        if first != total:
            points.append((name.replace(".red.", ".crimson."), at_ms, new, kind(total - first)))
    gone = {**TAGS, "device": "mobile"}
    points.append((f"{RED_ITEM}.beta", BASE_MS, gone, 2))
    points.append(
        (f"{RED_ITEM}.beta".replace(".red.", ".crimson."), BASE_MS, {**gone, "experiment": "checkout_color"}, -2)
    )
    write(url, points, dc)


def test_no_name_steers_the_terminal(tmp_path: Path, server: str, dc: str) -> None:
    """A sessionId is whatever a client sent: it is shown with its strange characters escaped."""
    result = run(tmp_path, server, numbered([message(0, "item", sessionId="\x1b[2Jx")]), "--dc", dc)
    assert result.exit_code == 1
    assert "\x1b[2J" not in result.stdout


def test_what_answers_is_not_kairosdb(tmp_path: Path, server: str, dc: str) -> None:
    """Another server's answers are one message and status 2, without the password in the URL."""

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"hello": "there"}')

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Keeps stderr clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        try:
            result = run(tmp_path, f"http://127.0.0.1:{other.server_port}", visits_log(), "--dc", dc)
        finally:
            other.shutdown()
            thread.join()
    assert result.exit_code == 2
    assert "there" in result.stderr
    elsewhere = server.replace("http://", "http://user:secret@") + "/elsewhere"
    result = run(tmp_path, elsewhere, visits_log(), "--dc", dc)
    assert result.exit_code == 2
    assert "404" in result.stderr
    assert "secret" not in result.stderr


def test_mirrors_in_json(tmp_path: Path, server: str, dc: str) -> None:
    """Which of two mirrors is more complete is in the JSON too; a data center is no mirror of itself."""
    fill(server, dc, visits_log())
    fill(server, f"{dc}-2", visits_log()[:2])
    whole = "--dc", dc, "--from", "2000-01-01", "--to", "2090-01-01"
    assert told(run(tmp_path, server, None, *whole, "--against", f"{dc}-2", "--json"))["more_complete"] == dc
    assert run(tmp_path, server, None, *whole, "--against", dc).exit_code == 2


def test_nothing_to_compare(tmp_path: Path, server: str, dc: str) -> None:
    """To compare nothing is not to be equal."""
    result = run(tmp_path, server, visits_log(), "--dc", dc, "--from", "2030-01-01", "--to", "2029-01-01")
    assert result.exit_code == 2
    assert "no minute to compare" in result.stderr


def test_an_idle_partition_holds_nothing_back(tmp_path: Path, real_kafka: Kafka, real_kairosdb: str, dc: str) -> None:
    """Of topics, all is compared that the job has sealed, though the last message of a partition may be far older."""
    topic = f"verify-{uuid.uuid4().hex}"
    real_kafka.create_topic(topic, partitions=2)
    old = message(-1_000 * MIN, "item", sessionId="old")._replace(partition=1)
    log = numbered([old, *visits_log()])
    with Publisher(real_kafka.bootstrap, topic, {}) as publisher:
        for each in log:
            publisher.send(Record(*each))
    points = fill(real_kairosdb, dc, log)
    sealed(real_kairosdb, dc, BASE_MS + 41 * MIN)
    kafka = {"brokers": real_kafka.bootstrap, "topics": [topic]}
    found = told(run(tmp_path, real_kairosdb, None, "--dc", dc, "--json", kafka=kafka))
    assert (found["differing"], found["compared"], found["messages"]) == (0, points, len(log))
    write(real_kairosdb, [(RED_ITEM, BASE_MS + MIN, TAGS, 9)], dc)
    (found,) = told(run(tmp_path, real_kairosdb, None, "--dc", dc, "--json", kafka=kafka))["differences"]
    assert (found["metric"], found["stored"], found["wanted"]) == (RED_ITEM, "9", "1")
