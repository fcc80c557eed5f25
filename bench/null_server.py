"""A KairosDB that answers 204 to everything, in a process of its own; keeps the requests in a file, if it is told one.

Prints its base URL, then serves until its standard input ends.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import BinaryIO

STOP_S = 10.0
_VERSION = b'{"version": "KairosDB 1.3.0-null"}'


@contextmanager
def running(keep: Path | None = None) -> Iterator[str]:
    """The base URL of a server that is stopped at the end; `keep`: where its requests go, a length before each."""
    command = [sys.executable, "-m", "bench.null_server", *([str(keep)] if keep is not None else [])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().decode().strip()
            process.stdin.close()
            process.wait(STOP_S)
        finally:
            process.kill()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    kept: BinaryIO | None = None
    lock = Lock()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(_VERSION)))
        self.end_headers()
        self.wfile.write(_VERSION)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.kept is not None:
            with self.lock:
                self.kept.write(len(body).to_bytes(8, "big") + body)
        self.wfile.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def main() -> None:
    """Serves until standard input ends."""
    if len(sys.argv) > 1:
        _Handler.kept = Path(sys.argv[1]).open("wb")  # noqa: SIM115 - closed below
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    sys.stdin.buffer.read()
    server.shutdown()
    if _Handler.kept is not None:
        with _Handler.lock:
            _Handler.kept.close()


if __name__ == "__main__":
    main()
