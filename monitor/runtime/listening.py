"""An HTTP server on a socket that is bound before anything else starts; it serves until a signal."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from monitor.runtime.errors import MonitorError


class ListenError(MonitorError):
    """An address cannot be listened on; the message names it and the cause."""


@contextmanager
def listening(host: str, port: int, backlog: int) -> Iterator[socket.socket]:
    """A listening socket, closed at the end of the block; port 0 takes any free one.

    `backlog`: connections that may wait to be accepted; the kernel refuses more. Raises ListenError.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(backlog)
        except OSError as error:
            message = f"cannot listen on {host}:{port}: {error}"
            raise ListenError(message) from error
        yield listener


def serve_until_signal(server: uvicorn.Server, listener: socket.socket) -> None:
    """Serves until SIGTERM or SIGINT, then ends cleanly and returns. From the main thread only."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    # uvicorn takes the signals over while it runs and raises them again at its end, which would kill the process
    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.run(sockets=[listener])
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
