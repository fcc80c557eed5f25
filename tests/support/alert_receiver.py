"""A webhook's receiver that fails as its script says, on a free loopback port.

with AlertReceiver() as receiver:
    receiver.script(answer(503, retry_after="7"), HANG)   # the next two requests; after them all is well
    ...
    receiver.wait_for(3)
    receiver.requests[0].document
"""

import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Event, Thread
from typing import Any, Literal, NamedTuple, Self

WAIT_S = 20.0
DRIP_S = 0.05
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Answer(NamedTuple):
    """The answer to one request.

    `ending`: "whole", "cut" (its body ends early), "twice" (it comes two times), "drip" (a header that never ends),
    "reset" (none, the connection is reset), "hang" (none until the receiver ends).
    """

    status: int = 200
    body: str = "ok"
    headers: tuple[tuple[str, str], ...] = ()
    ending: Literal["whole", "cut", "twice", "drip", "reset", "hang"] = "whole"


WELL = Answer()
HANG, RESET, CUT = Answer(ending="hang"), Answer(ending="reset"), Answer(ending="cut")
TWICE, DRIP = Answer(ending="twice"), Answer(500, ending="drip")


def answer(status: int, body: str = "", retry_after: str | None = None) -> Answer:
    """A whole answer."""
    return Answer(status, body, (("Retry-After", retry_after),) if retry_after is not None else ())


class Received(NamedTuple):
    """A request as it came; `open_with` is how many others were being answered then."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    open_with: int

    @property
    def document(self) -> Any:
        """The JSON of the body."""
        return json.loads(self.body)

    @property
    def key(self) -> str:
        """The key of idempotence."""
        return self.headers["Idempotency-Key"]


class AlertReceiver:
    """The server; a context manager."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self._script: deque[Answer] = deque()
        self._changed = Condition()
        self._open = 0
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
        """An address with a part that nobody may read in a log; it stays the same over `down` and `up`."""
        return f"http://127.0.0.1:{self._port}/hook/TOP-SECRET-PATH"

    @property
    def documents(self) -> list[Any]:
        """The JSON of all requests."""
        return [received.document for received in self.requests]

    @property
    def keys(self) -> list[str]:
        """The keys of idempotence of all requests."""
        return [received.key for received in self.requests]

    def script(self, *answers: Answer) -> None:
        """The answers to the next requests, one each, after those scripted before."""
        with self._changed:
            self._script.extend(answers)

    def forget_script(self) -> None:
        """From now on all is well."""
        with self._changed:
            self._script.clear()

    def wait_for(self, count: int) -> None:
        """Returns when so many requests have come."""
        with self._changed:
            came = self._changed.wait_for(lambda: len(self.requests) >= count, WAIT_S)
        assert came, f"{count} requests must come; got {len(self.requests)}"

    def up(self) -> None:
        """Listens, again on the same port."""
        self._released = Event()
        self._server = _Server(("127.0.0.1", self._port), self)
        self._port = self._server.server_address[1]
        Thread(target=self._server.serve_forever, args=(0.01,), name="alert-receiver", daemon=True).start()

    def down(self) -> None:
        """Closes the port, and lets go what hangs."""
        if self._server is not None:
            server, self._server = self._server, None
            server.shutdown()
            self._released.set()
            server.server_close()

    def take(self, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Notes a request, and says how to answer."""
        with self._changed:
            self.requests.append(Received(path, headers, body, self._open))
            self._open += 1
            self._changed.notify_all()
            return self._script.popleft() if self._script else WELL

    def done(self) -> None:
        """A request is answered."""
        with self._changed:
            self._open -= 1

    def hang(self, seconds: float = WAIT_S) -> bool:
        """Waits; whether the receiver ended meanwhile."""
        return self._released.wait(seconds)


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close waits for them

    def __init__(self, address: tuple[str, int], receiver: AlertReceiver) -> None:
        super().__init__(address, _Handler)
        self.receiver = receiver

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a client that has gone is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        receiver = self.server.receiver
        body = self.rfile.read(int(self.headers["Content-Length"]))
        said = receiver.take(self.path, dict(self.headers), body)
        try:
            self._say(said)
        finally:
            receiver.done()

    def _say(self, said: Answer) -> None:
        match said.ending:
            case "hang" | "reset":
                if said.ending == "hang":
                    self.server.receiver.hang()
                self.close_connection = True
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                self.connection.close()
            case "drip":
                self._drip(said.status)
            case "cut":
                self.close_connection = True
                self.wfile.write(f"HTTP/1.1 {said.status} X\r\nContent-Length: 100\r\n\r\n{{".encode())
            case _:
                for _ in range(2 if said.ending == "twice" else 1):
                    self._write(said)

    def _drip(self, status: int) -> None:
        self.close_connection = True
        self.wfile.write(f"HTTP/1.1 {status} X\r\nX-Slow: ".encode())
        end_s = time.monotonic() + WAIT_S
        while time.monotonic() < end_s and not self.server.receiver.hang(DRIP_S):
            self.wfile.write(b"x")

    def _write(self, said: Answer) -> None:
        self.send_response(said.status)
        for name, value in said.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(said.body.encode())))
        self.end_headers()
        self.wfile.write(said.body.encode())

    def log_message(self, *_: object) -> None:
        """Tests read `requests` instead."""


def threads_of_alerts() -> list[str]:
    """The names of threads that a teller has left."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("alerts-")]
