"""One Kafka and one KairosDB for all processes of a test session, each started when it is first asked for.

The session's main process owns them in a `ServerPool`; it alone starts and stops them, so that they end with it,
however it ends. The workers of pytest-xdist ask the pool, at the address that they are given, by `shared`.
"""

import tempfile
import threading
from contextlib import ExitStack, suppress
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import TypeVar

from tests.support.jars import ServerError
from tests.support.servers import Kafka, KairosDB, Server

S = TypeVar("S", bound=Server)
KINDS: tuple[type[Server], ...] = (Kafka, KairosDB)
CLOSE = "close"
"""The request that ends the pool's thread."""


class ServerPool:
    """The session's servers; `address` is a Unix socket in a temporary folder, which is removed by `close`."""

    def __init__(self, kinds: tuple[type[Server], ...] = KINDS) -> None:
        self._kinds = {kind.name: kind for kind in kinds}
        self._servers: dict[str, Server] = {}
        self._stack = ExitStack()
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="monitor-tests-")))
        self.address = str(self._folder / "pool")
        self._listener = self._stack.enter_context(Listener(self.address, family="AF_UNIX"))
        self._thread = threading.Thread(target=self._answer, name="server pool", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops the servers that were started."""
        with Client(self.address) as pool:
            pool.send(CLOSE)
        self._thread.join()
        self._stack.close()

    def _answer(self) -> None:
        """Answers a request for a server with its ports, or with the reason that there are none; one at a time."""
        while True:
            # a worker that has died since needs no answer, and must not keep the others from theirs
            with suppress(EOFError, OSError), self._listener.accept() as asking:
                name = asking.recv()
                if name == CLOSE:
                    return
                try:
                    answer: tuple[int, ...] | str = self._started(name).ports
                except Exception as error:  # the one who asks raises it
                    answer = str(error)
                asking.send(answer)

    def _started(self, name: str) -> Server:
        if name not in self._servers:
            server = self._kinds[name](self._folder / name)
            self._servers[name] = self._stack.enter_context(server)
        return self._servers[name]


def shared(kind: type[S], address: str) -> S:
    """The session's server of this kind, started if nobody has asked for it; ServerError if it does not start."""
    with Client(address) as pool:
        pool.send(kind.name)
        answer = pool.recv()
    if isinstance(answer, str):
        raise ServerError(answer)
    return kind(Path(address).with_name(kind.name), answer)
