"""A proxy between two programs that counts requests of HTTP, and can be cut off or go silent."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

PIECE_BYTES = 65_536
REQUEST = re.compile(rb"(?:GET|POST|PUT|DELETE) /[^ ]* HTTP/1\.1\r\n")


class Proxy:
    """Listens on a port of its own and hands everything on to another one."""

    def __init__(self, target: str) -> None:
        address = urlsplit(target)
        assert address.hostname is not None
        assert address.port is not None
        self._target = address.hostname, address.port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._port = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._goes_on = threading.Event()
        self._goes_on.set()
        self._is_cut = False
        self._is_ending = False
        self.requests = 0
        """The requests that were handed on."""
        self.url = f"http://127.0.0.1:{self._port}"
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def cut(self) -> None:
        """Closes all connections, and each new one at once."""
        self._is_cut = True
        self._close_all()

    def silence(self) -> None:
        """Hands on nothing any more, and closes nothing."""
        self._goes_on.clear()

    def mend(self) -> None:
        """Works again; connections of before are closed."""
        self._close_all()
        self._is_cut = False
        self._goes_on.set()

    def close(self) -> None:
        """Ends all threads."""
        self._is_ending = True
        self._goes_on.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._close_all()
        self._thread.join()

    def _accept(self) -> None:
        threads = []
        while not self._is_ending:
            try:
                here, _ = self._listener.accept()
            except OSError:
                break
            try:
                there = None if self._is_cut else socket.create_connection(self._target)
            except OSError:
                there = None
            if there is None:
                here.close()
                continue
            with self._lock:
                self._open += [here, there]
            for source, sink, is_counted in ((here, there, True), (there, here, False)):
                threads.append(threading.Thread(target=self._pipe, args=(source, sink, is_counted)))
                threads[-1].start()
        self._close_all()
        for thread in threads:
            thread.join()

    def _pipe(self, source: socket.socket, sink: socket.socket, is_counted: bool) -> None:
        with suppress(OSError):
            while piece := source.recv(PIECE_BYTES):
                self._goes_on.wait()
                if is_counted:
                    self.requests += len(REQUEST.findall(piece))
                sink.sendall(piece)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _close_all(self) -> None:
        with self._lock:
            ends, self._open = self._open, []
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def between(target: str) -> Iterator[Proxy]:
    """A proxy before the server at this URL, for as long as the block lasts."""
    proxy = Proxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
