"""A store that answers 204 and forgets: a proxy before another one that swallows some of what is written."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from urllib.parse import urlsplit

DATAPOINTS = "/api/v1/datapoints"
FORGOTTEN_SHARE = 0.4
TIMEOUT_S = 30


class Forgetful:
    """The proxy's address, and what it has swallowed."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.forgotten = 0
        """Requests."""
        self._is_well = Event()
        self._chance, self._lock = random.Random(12), Lock()

    def get_well(self) -> None:
        """From now on it forgets nothing."""
        self._is_well.set()

    def forgets(self) -> bool:
        """Whether the next request is swallowed."""
        with self._lock:
            forgets = not self._is_well.is_set() and self._chance.random() < FORGOTTEN_SHARE
            self.forgotten += forgets
            return forgets


@contextmanager
def forgetful(url: str) -> Iterator[Forgetful]:
    """A forgetful proxy before the store at this URL, on a free port."""
    behind = urlsplit(url).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path == DATAPOINTS and proxy.forgets():
                self._say(204, b"")
                return
            connection = HTTPConnection(behind, timeout=TIMEOUT_S)
            headers = {name: text for name, text in self.headers.items() if name == "Content-Type"}
            connection.request(self.command, self.path, data, headers)
            answer = connection.getresponse()
            self._say(answer.status, answer.read())
            connection.close()

        do_GET = do_POST = _answer

        def _say(self, status: int, body: bytes) -> None:
            self.send_response(status)
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Keeps stderr clean."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        proxy = Forgetful(f"http://127.0.0.1:{server.server_port}")
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()
