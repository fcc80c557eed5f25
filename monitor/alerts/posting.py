"""One POST at a time, over connections that another thread can cut: a time limit for all of it, not for each wait."""

import socket
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from threading import Lock
from typing import Any, NamedTuple

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection

from monitor.alerts.outcomes import deadline
from monitor.runtime.retry_after import parse_retry_after_s

ANSWER_BYTES_MAX = 2_000
"""How much of an answer is read; the rest is left unread."""


class Answer(NamedTuple):
    """What a server said; `text` is empty if it accepted."""

    status: int
    text: str
    retry_after_s: float | None


class NoAnswer(Exception):
    """No answer came; the message says why."""


class Poster:
    """Posts over `session`, which belongs to it from then on, with a connection for each request.

    Alerts are rare: a connection that is kept would mostly be closed by the server when it is needed.
    """

    def __init__(self, session: requests.Session) -> None:
        self._session = session
        self._adapter = _CuttableAdapter()
        session.mount("http://", self._adapter)
        session.mount("https://", self._adapter)

    def post(self, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> Answer:
        """The answer to one request, without following redirects. Raises NoAnswer."""
        with deadline(timeout_s, self.cut) as is_over:
            try:
                return self._answer(url, body, headers, timeout_s)
            except requests.RequestException as error:
                is_late = is_over.is_set() or isinstance(error, requests.Timeout)
                reason = f"no answer within {timeout_s:g} s" if is_late else _root_cause(error)
                raise NoAnswer(reason) from error

    def cut(self) -> None:
        """Makes the request that is in progress in another thread fail at once."""
        self._adapter.cut()

    def _answer(self, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> Answer:
        headers = {**headers, "Connection": "close"}
        with self._session.post(
            url, data=body, headers=headers, timeout=timeout_s, allow_redirects=False, stream=True
        ) as answer:
            retry_after_s = parse_retry_after_s(answer.headers.get("Retry-After"), datetime.now(UTC))
            # what follows the status of a success cannot take it back
            return Answer(answer.status_code, "" if answer.ok else _text(answer), retry_after_s)


class _CuttableAdapter(HTTPAdapter):
    """Remembers its newest connection, so that another thread can shut its socket down."""

    def __init__(self) -> None:
        super().__init__(pool_connections=1, pool_maxsize=1)
        self._connection: HTTPConnection | None = None
        self._lock = Lock()

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        connection_class = type(pool).ConnectionCls

        def connection(*args: Any, **kwargs: Any) -> HTTPConnection:
            made: HTTPConnection = connection_class(*args, **kwargs)
            with self._lock:
                self._connection = made
            return made

        pool.ConnectionCls = connection
        return pool

    def cut(self) -> None:
        with self._lock:
            connected = None if self._connection is None else self._connection.sock
        if connected is not None:
            with suppress(OSError):  # the connection has just ended by itself
                connected.shutdown(socket.SHUT_RDWR)


def _text(answer: requests.Response) -> str:
    """The beginning of an answer, as far as it comes."""
    with suppress(urllib3.exceptions.HTTPError, OSError):
        data: bytes = answer.raw.read(ANSWER_BYTES_MAX, decode_content=True)
        return data.decode("utf-8", "replace")
    return ""


def _root_cause(error: BaseException) -> str:
    """The innermost cause: `ConnectionRefusedError: [Errno 111] Connection refused`."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return f"{type(error).__name__}: {error}"
