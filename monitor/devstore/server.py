"""Starts and stops the store: in the foreground until a signal, or in a thread for the length of a `with` block."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn

from monitor.devstore.api import create_app
from monitor.devstore.database import Database, StoreError
from monitor.runtime.listening import listening, serve_until_signal

__all__ = ["running", "serve"]

BACKLOG = 512
"""Connections that may wait to be accepted; the kernel refuses more."""
KEEP_ALIVE_S = 75
SHUTDOWN_S = 10
"""Time that requests in progress have to end once the server is asked to stop."""


def wall_clock_ms() -> int:
    """The time of this machine in ms since the epoch."""
    return time.time_ns() // 1_000_000


def serve(path: Path, host: str, port: int) -> None:
    """Serves the store in a file until SIGTERM or SIGINT, then ends cleanly and returns. From the main thread only.

    Raises StoreError if the file cannot be opened, ListenError if the address cannot be listened on.
    """
    with listening(host, port, BACKLOG) as listener, _open(path, wall_clock_ms) as database:
        server = _server(database, wall_clock_ms, on_ready=lambda: None)
        serve_until_signal(server, listener)


@contextlib.contextmanager
def running(
    path: Path, host: str = "127.0.0.1", port: int = 0, now_ms: Callable[[], int] = wall_clock_ms
) -> Iterator[str]:
    """Runs a store in a thread for the length of the block and gives its base URL; port 0 is any free port.

    now_ms is the clock for ttl and relative times. Raises StoreError or ListenError if it cannot start.
    """
    with listening(host, port, BACKLOG) as listener, _open(path, now_ms) as database:
        ready = threading.Event()
        server = _server(database, now_ms, on_ready=ready.set)
        failures: list[BaseException] = []

        def run() -> None:
            try:
                server.run(sockets=[listener])
            except BaseException as failure:
                failures.append(failure)
            finally:
                ready.set()

        thread = threading.Thread(target=run, name="store-server")
        thread.start()
        try:
            ready.wait()
            if failures:
                message = f"the store {path} did not start: {failures[0]}"
                raise StoreError(message) from failures[0]
            yield f"http://{host}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def _server(database: Database, now_ms: Callable[[], int], on_ready: Callable[[], None]) -> uvicorn.Server:
    config = uvicorn.Config(
        create_app(database, now_ms, on_ready),
        lifespan="on",
        ws="none",
        access_log=False,
        log_config=None,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    return uvicorn.Server(config)


@contextlib.contextmanager
def _open(path: Path, now_ms: Callable[[], int]) -> Iterator[Database]:
    database = Database(path, now_ms)
    try:
        yield database
    finally:
        database.close()
