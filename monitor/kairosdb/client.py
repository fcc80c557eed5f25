"""One request to KairosDB at a time, and what its answer means. Nothing is retried here (delivery.py does)."""

import socket
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection

from monitor.kairosdb.points import SERVER_TEXT_CHARACTERS_MAX, endpoint, root_cause, without_password

_HEADERS = {"Content-Type": "application/gzip"}
"""Taken by every KairosDB since 1.0; `Content-Encoding: gzip` only since 1.3."""

_LOST = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)
"""What requests raises for an answer that did not come, or not whole; its other exceptions are about the request."""

_HINTS = {
    401: "Check the user and password in kairosdb.url and what the proxy before KairosDB wants.",
    403: "Check what the proxy before KairosDB wants, and that kairosdb.server.type includes INGEST.",
    404: "Check kairosdb.url: it must be the base URL, without /api.",
    405: "Check kairosdb.url: something else answers there.",
    413: "Check the proxy before KairosDB: it must let bodies of 1 MiB through.",
}
_HINT = "Check kairosdb.url: KairosDB itself never gives this answer."


class Refused(NamedTuple):
    """400 or 500: at least one of the points is not to the server's taste; any of the others may be stored or not."""

    status: int
    text: str
    attempts: int = 1
    """How many requests were refused on the way to this answer."""


class Transient(Exception):
    """No answer, or one that asks to come again; `retry_after_s` is the server's wish, if it has one."""

    def __init__(self, came: str, retry_after_s: float | None = None) -> None:
        super().__init__(came)
        self.retry_after_s = retry_after_s


class Misconfigured(Exception):
    """An answer that no retry can change; the message says what came and what to check."""


class Transport:
    """A kept-alive connection to KairosDB; used by one thread, except for `cut`.

    `url` is KairosDB's base URL. The time-outs bound the connecting and each wait for bytes of the answer.
    """

    def __init__(self, url: str, connect_timeout_s: float, read_timeout_s: float) -> None:
        self._url = endpoint(url, "datapoints")
        self.url = without_password(self._url)
        self._timeouts_s = connect_timeout_s, read_timeout_s
        self._adapter = _Cuttable()
        self._session = requests.Session()
        self._session.mount("http://", self._adapter)
        self._session.mount("https://", self._adapter)

    def post(self, body: bytes) -> Refused | None:
        """Sends one body. None: accepted. Raises Transient or Misconfigured."""
        try:
            # A redirect followed would turn the POST into a GET, and its 200 into a loss.
            answer = self._session.post(
                self._url, body, headers=_HEADERS, timeout=self._timeouts_s, allow_redirects=False
            )
        except _LOST as error:
            raise Transient(root_cause(error)) from error
        status = answer.status_code
        if status == requests.codes.no_content:
            return None
        text = answer.content.decode("utf-8", "replace")
        if status in (400, 500):
            return Refused(status, text)
        if status == requests.codes.too_many_requests or status > 500:
            retry_after_s = parse_retry_after_s(answer.headers.get("Retry-After"), datetime.now(UTC))
            raise Transient(f"{status} {text[:SERVER_TEXT_CHARACTERS_MAX]}".rstrip(), retry_after_s)
        location = f" (Location: {answer.headers['Location']})" if "Location" in answer.headers else ""
        msg = (
            f"KairosDB must answer POST {self.url} with 204; got {status}{location} "
            f"{text[:SERVER_TEXT_CHARACTERS_MAX]!r}. {_HINTS.get(status, _HINT)}"
        )
        raise Misconfigured(msg)

    def cut(self) -> None:
        """Makes a request that is under way in another thread fail at once."""
        self._adapter.cut()

    def close(self) -> None:
        """Closes the connection."""
        self._session.close()


def parse_retry_after_s(header: str | None, now: datetime) -> float | None:
    """How long a `Retry-After` asks to wait, from now, at least 0 s: seconds or an HTTP date (RFC 9110, 10.2.3).

    None if there is none, or none that can be read.
    """
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        at = parsedate_to_datetime(header)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - now).total_seconds())


class _Cuttable(HTTPAdapter):
    """Knows the connection that it made last, the only one in use, since one thread sends one request at a time."""

    def __init__(self) -> None:
        super().__init__(pool_connections=1, pool_maxsize=1)
        self._connection: HTTPConnection | None = None

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        connection_class = type(pool).ConnectionCls

        def connection(*args: Any, **kwargs: Any) -> HTTPConnection:
            made: HTTPConnection = connection_class(*args, **kwargs)
            self._connection = made
            return made

        pool.ConnectionCls = connection
        return pool

    def cut(self) -> None:
        connection = self._connection
        sock = connection.sock if connection is not None else None
        if sock is not None:
            with suppress(OSError):  # it has just ended by itself
                sock.shutdown(socket.SHUT_RDWR)
