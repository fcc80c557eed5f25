"""A KairosDB that fails as its script says, on a free loopback port: what a writer must survive.

    with FaultyServer() as server:
        server.script(refuse(503, retry_after="1"), HANG, LOST)   # the next three requests; after them all is well
        server.poison(lambda point: point.value < 0, "named")      # and these points are refused, always
        ...
        assert server.cells() == {("m|tag=a", 1795491060000): 7}

It stores as KairosDB does: the last write of (name, tags, timestamp, type) wins.
"""

import gzip
import json
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Event, Thread
from typing import Any, Literal, NamedTuple, Self

VERSION = "KairosDB 1.3.0-faulty"
DATAPOINTS = "/api/v1/datapoints"
CONDITION_TIMEOUT_S = 20.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Answer(NamedTuple):
    """The answer to one request. `stores`: whether its points are kept; `delay_s`: seconds before the answer.

    `ending`: "whole", "cut" (half an answer), "reset" (none, the connection is reset), "hang" (none until `release`).
    """

    status: int = 204
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    stores: bool = True
    delay_s: float = 0.0
    ending: Literal["whole", "cut", "reset", "hang"] = "whole"


ACCEPT = Answer()
HANG = Answer(stores=False, ending="hang")
RESET = Answer(stores=False, ending="reset")
LOST = Answer(ending="reset")
"""All is stored, but the answer does not arrive."""
CUT = Answer(ending="cut")
"""All is stored, but half an answer arrives."""


def slow(delay_s: float) -> Answer:
    """204, late."""
    return Answer(delay_s=delay_s)


def refuse(status: int, text: str = "", retry_after: str | None = None) -> Answer:
    """An error that stores nothing."""
    headers = (("Retry-After", retry_after),) if retry_after is not None else ()
    return Answer(status, json.dumps({"errors": [text]}), headers, stores=False)


class Stored(NamedTuple):
    """A point as it came, without the tag dc in `series`: `name|tag=value|...`, tags in the order sent."""

    series: str
    timestamp_ms: int
    value: int


class Received(NamedTuple):
    """A request as it came, at `at_s` (monotonic clock); `raw` is its text, `metrics` the JSON of one that writes."""

    at_s: float
    method: str
    path: str
    headers: Mapping[str, str]
    raw: str
    metrics: list[dict[str, Any]]

    @property
    def points(self) -> list[Stored]:
        """Its points."""
        return [stored(metric) for metric in self.metrics]


Key = tuple[str, tuple[tuple[str, str], ...], int, str]
"""Name, tags (dc too, sorted), timestamp, type."""
Says = Literal["named", "misnamed", "unnamed", "500"]


class FaultyServer:
    """The server; a context manager. Everything that tests read is complete once the client has its answer."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.stored: dict[Key, Stored] = {}
        """The last point written of those that are the same for KairosDB, by what makes them the same."""
        self.refusals: list[int] = []
        """The statuses of the answers that poison gave."""
        self._script: deque[Answer] = deque()
        self._poison: tuple[Callable[[Stored], bool], Says] | None = None
        self._changed = Condition()
        self._released = Event()
        self._server: _Server | None = None
        self._port = 0

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    @property
    def url(self) -> str:
        """The base URL; stays the same over `down` and `up`."""
        return f"http://127.0.0.1:{self._port}"

    def script(self, *answers: Answer) -> None:
        """The answers to the next requests, one each, after those scripted before."""
        with self._changed:
            self._script.extend(answers)

    def poison(self, is_bad: Callable[[Stored], bool], says: Says) -> None:
        """Refuses these points in every request that is not scripted.

        "named": 400 that names each as metric[i], all others are stored, as KairosDB validates.
        "misnamed": the same, but i is one too high.
        "unnamed": 400, only what comes before the first is stored, as at a syntax error.
        "500": the same with a 500, as at a conversion error.
        """
        with self._changed:
            self._poison = is_bad, says

    def cells(self) -> dict[tuple[str, int], int]:
        """(series as it was sent, without dc; timestamp) -> the value stored last."""
        with self._changed:
            return {(series, timestamp_ms): value for series, timestamp_ms, value in self.stored.values()}

    def clear(self) -> None:
        """Forgets requests, points, script and poison, and lets what hangs go."""
        with self._changed:
            self.requests.clear()
            self.stored.clear()
            self.refusals.clear()
            self._script.clear()
            self._poison = None
        self.release()

    def wait_for_requests(self, count: int) -> None:
        """Returns when so many requests have arrived since the last `clear`."""
        with self._changed:
            arrived = self._changed.wait_for(lambda: len(self.requests) >= count, CONDITION_TIMEOUT_S)
        assert arrived, f"{count} requests must arrive; got {len(self.requests)}"

    def release(self) -> None:
        """Ends the requests that hang, by a reset."""
        released, self._released = self._released, Event()
        released.set()

    def up(self) -> None:
        """Listens, again on the same port."""
        assert self._server is None, "it is up"
        self._server = _Server(("127.0.0.1", self._port), self)
        self._port = self._server.server_address[1]
        Thread(target=self._server.serve_forever, args=(0.01,), name="faulty-server", daemon=True).start()

    def down(self) -> None:
        """Closes the port and every connection, in the middle of a request too."""
        if self._server is not None:
            server, self._server = self._server, None
            server.shutdown()
            self.release()
            server.disconnect()
            server.server_close()

    def _take(self, received: Received) -> tuple[Answer, Event]:
        """Journals a request, stores what is to be stored, and says how to answer."""
        with self._changed:
            released = self._released
            points = received.points
            answer, taken = (self._script.popleft(), set(points)) if self._script else self._judge(points)
            if answer.stores:
                for metric, point in zip(received.metrics, points, strict=True):
                    if point in taken:
                        self.stored[_key(metric)] = point
            self.requests.append(received)
            self._changed.notify_all()
            return answer, released

    def _judge(self, points: Sequence[Stored]) -> tuple[Answer, set[Stored]]:
        """The answer that poison asks for, and which points it lets in."""
        if self._poison is None:
            return ACCEPT, set(points)
        is_bad, says = self._poison
        bad = [index for index, point in enumerate(points) if is_bad(point)]
        if not bad:
            return ACCEPT, set(points)
        self.refusals.append(500 if says == "500" else 400)
        if says == "500":
            return Answer(500, json.dumps({"errors": ['For input string: "abc"']})), set(points[: bad[0]])
        if says == "unnamed":
            return Answer(400, json.dumps({"errors": ["Invalid json."]})), set(points[: bad[0]])
        shift = 1 if says == "misnamed" else 0
        errors = [
            f"metric[{index + shift}](name={points[index].series.partition('|')[0]}).value may not be empty."
            for index in bad
        ]
        return Answer(400, json.dumps({"errors": errors})), set(points) - {points[index] for index in bad}


def stored(metric: Mapping[str, Any]) -> Stored:
    """A metric of a request's JSON as a point."""
    tags = [f"{key}={value}" for key, value in metric["tags"].items() if key != "dc"]
    return Stored("|".join([metric["name"], *tags]), metric["timestamp"], metric["value"])


def _key(metric: Mapping[str, Any]) -> Key:
    return metric["name"], tuple(sorted(metric["tags"].items())), metric["timestamp"], metric["type"]


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close waits for them
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], faulty: FaultyServer) -> None:
        super().__init__(address, _Handler)
        self.faulty = faulty
        self.connections: set[socket.socket] = set()
        self.to_reset: set[socket.socket] = set()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        if request in self.to_reset:
            self.to_reset.discard(request)
            request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def disconnect(self) -> None:
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                self.connections.discard(connection)  # the client was first

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Reports what is not just a client that has gone."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._answer(b"[]", "/api/v1/version", Answer(200, json.dumps({"version": VERSION})))

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        zipped = "application/gzip" in (self.headers["Content-Type"], self.headers.get("Content-Encoding"))
        self._answer(gzip.decompress(data) if zipped else data, DATAPOINTS, ACCEPT)

    def _answer(self, data: bytes, path: str, well: Answer) -> None:
        raw = data.decode()
        metrics = json.loads(raw) if self.path == DATAPOINTS else []
        answer, released = self.server.faulty._take(
            Received(time.monotonic(), self.command, self.path, dict(self.headers), raw, metrics)
        )
        if answer.status == ACCEPT.status:
            status, body = (well.status, well.body) if self.path == path else (404, json.dumps({"errors": [""]}))
            answer = answer._replace(status=status, body=body)
        if answer.delay_s:
            released.wait(answer.delay_s)
        if answer.ending == "hang":
            released.wait(CONDITION_TIMEOUT_S)
        if answer.ending in ("hang", "reset"):
            self.close_connection = True
            self.server.to_reset.add(self.connection)
        elif answer.ending == "cut":
            self.close_connection = True
            self.wfile.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 100\r\n\r\n{")
        else:
            self._write(answer)

    def _write(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(answer.body.encode())))
        self.end_headers()
        self.wfile.write(answer.body.encode())

    def log_message(self, *_: object) -> None:
        """Tests read `requests` instead."""
