"""The HTTP client of KairosDB: the only module that opens connections to it. Each request is sent once.

| answer                          | writing: `post`                       | reading: all other methods   |
| ------------------------------- | ------------------------------------- | ---------------------------- |
| 204, or 200 when reading        | None                                  | the answer's JSON            |
| 400                             | `Refused`                             | raises QueryRefused          |
| 500                             | `Refused`                             | raises QueryFailed           |
| none, 429, any other 5xx        | raises Unreachable                    | raises Unreachable           |
| anything else, redirects too    | raises Misconfigured                  | raises Misconfigured         |

Retries of writes are in delivery.py. User and password of the URL are sent, and never shown in a message.
"""

import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from threading import Lock
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

import msgspec
import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection

from monitor.kairosdb.errors import KairosDbError, Misconfigured, QueryFailed, QueryRefused, Unreachable
from monitor.kairosdb.points import TIMESTAMP_MS_MAX
from monitor.runtime.retry_after import parse_retry_after_s

T = TypeVar("T")

VERSION_TIMEOUT_S = 5.0
SERVER_TEXT_CHARACTERS_MAX = 1_000
"""How much of a server's answer is quoted in messages and dead letters."""

_POST_HEADERS = {"Content-Type": "application/gzip"}
"""Taken by every KairosDB since 1.0; `Content-Encoding: gzip` only since 1.3."""

_NO_ANSWER = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)
"""Raised by requests when no answer came, or only a part of one; its other exceptions are about the request itself."""

_HINTS = {
    401: "Check user and password in kairosdb.url (MONITOR_KAIROSDB__URL) and what the proxy before KairosDB wants.",
    403: "Check what the proxy before KairosDB wants, and that kairosdb.server.type includes INGEST and QUERY.",
    404: "Check kairosdb.url (MONITOR_KAIROSDB__URL): it must be the base URL, without /api.",
    405: "Check kairosdb.url (MONITOR_KAIROSDB__URL): something else answers there.",
    413: "Check the proxy before KairosDB: it must let bodies of 1 MiB through.",
}
_HINT = "Check kairosdb.url (MONITOR_KAIROSDB__URL): KairosDB itself never gives this answer."
_UNREACHABLE_HINT = (
    "Check kairosdb.url (MONITOR_KAIROSDB__URL), and that KairosDB is up and reachable from this machine."
)
_QUERY_FAILED_HINT = "Ask for a shorter range or fewer tags, or check KairosDB's log."


class Refused(NamedTuple):
    """400 or 500 to a write: KairosDB rejects at least one of the points; each of the others may be stored or not."""

    status: int
    text: str


class Client:
    """Kept-alive connections to the KairosDB, or a store that speaks its API, at base URL `url`.

    At most `connections` stay open. With one connection it must be used by one thread at a time; `cut` may be called
    from any thread. The time-outs bound connecting, and each wait for bytes of the answer, in seconds.
    """

    def __init__(self, url: str, connect_timeout_s: float, read_timeout_s: float, connections: int = 1) -> None:
        self.url = without_password(url.rstrip("/"))
        """The base URL without user and password, for messages."""
        self._api = f"{url.rstrip('/')}/api/v1/"
        self._datapoints = f"{self._api}datapoints"
        self._timeouts_s = connect_timeout_s, read_timeout_s
        self._adapter = _CuttableAdapter(connections)
        self._session = requests.Session()
        self._session.mount("http://", self._adapter)
        self._session.mount("https://", self._adapter)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def post(self, body: bytes) -> Refused | None:
        """Sends one body of points (`points.body`); None if all of them are accepted."""
        answer = self._send("POST", self._datapoints, body, _POST_HEADERS)
        status = answer.status_code
        if status == requests.codes.no_content:
            return None
        if status in (400, 500):
            return Refused(status, answer.content.decode("utf-8", "replace"))
        raise _error(answer, "204")

    def query(self, query: Mapping[str, Any]) -> list[dict[str, Any]]:
        """KairosDB's answer to each of the query's `metrics`, in their order."""
        return self._queries("datapoints/query", query)

    def tag_names(self, names: Sequence[str]) -> list[list[str]]:
        """The sorted tag names of each metric; empty for a metric without points."""
        query = {"start_absolute": 0, "end_absolute": TIMESTAMP_MS_MAX, "metrics": [{"name": name} for name in names]}
        answers = self._queries("datapoints/query/tags", query)
        return [sorted({tag for result in answer["results"] for tag in result["tags"]}) for answer in answers]

    def metric_names(self, prefix: str) -> list[str]:
        """The sorted names of the metrics that start with `prefix`."""
        names = self._json("GET", f"metricnames?prefix={quote(prefix)}", None, "results", list[str])
        return sorted(name for name in names if name.startswith(prefix))  # KairosDB before 1.2 ignores the prefix

    def version(self) -> str:
        """KairosDB's version, for example `KairosDB 1.3.0-1.20210808220820`."""
        return self._json("GET", "version", None, "version", str)

    def was_dropped(self) -> bool:
        """Whether the server has ended a connection without a word, so that a new one was made; asked again: no more.

        An answer with `Connection: close` is a word.
        """
        return self._adapter.was_dropped()

    def cut(self) -> None:
        """Makes the requests that are in progress in other threads fail at once."""
        self._adapter.cut()

    def close(self) -> None:
        """Closes the connections."""
        self._session.close()

    def _queries(self, path: str, query: Mapping[str, Any]) -> list[dict[str, Any]]:
        answers = self._json("POST", path, msgspec.json.encode(query), "queries", list[dict[str, Any]])
        if len(answers) != len(query["metrics"]):
            msg = (
                f"KairosDB must answer each metric of POST {without_password(self._api)}{path}; "
                f"asked for {len(query['metrics'])}, got {len(answers)}. {_HINT}"
            )
            raise Misconfigured(msg)
        return answers

    def _json(self, method: str, path: str, body: bytes | None, key: str, form: type[T]) -> T:
        """The value of `key` in the JSON object that answers; `form` is the type that it must have."""
        expected = f"200 and JSON with {key!r}"
        answer = self._send(method, self._api + path, body)
        if answer.status_code != requests.codes.ok:
            raise _error(answer, expected)
        try:
            value = msgspec.json.decode(answer.content, type=dict[str, Any])[key]
            return msgspec.convert(value, form)
        except (msgspec.MsgspecError, UnicodeDecodeError, KeyError) as error:
            raise _error(answer, expected) from error

    def _send(
        self, method: str, address: str, body: bytes | None, headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        try:
            # A redirect that is followed would turn a POST into a GET, and its 200 would hide the loss of the points.
            return self._session.request(
                method, address, data=body, headers=headers, timeout=self._timeouts_s, allow_redirects=False
            )
        except _NO_ANSWER as error:
            rule = f"KairosDB must answer {method} {without_password(address)}"
            msg = f"{rule}; got {_root_cause(error)}. {_UNREACHABLE_HINT}"
            raise Unreachable(msg) from error
        except requests.RequestException as error:
            msg = f"{method} {without_password(address)} cannot be sent; got {_root_cause(error)}. {_HINTS[404]}"
            raise Misconfigured(msg) from error


def check(url: str, timeout_s: float = VERSION_TIMEOUT_S) -> str:
    """The version of the KairosDB at this base URL; raises KairosDbError if there is none."""
    with Client(url, timeout_s, timeout_s) as client:
        return client.version()


def without_password(url: str) -> str:
    """The URL without user and password, as it may be shown."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _error(answer: requests.Response, expected: str) -> KairosDbError:
    """The error that an answer stands for, as in the table above."""
    status, request = answer.status_code, answer.request
    location = f" (Location: {answer.headers['Location']})" if "Location" in answer.headers else ""
    text = answer.content[:SERVER_TEXT_CHARACTERS_MAX].decode("utf-8", "replace")
    asked = f"{request.method} {without_password(request.url or '')}"
    msg = f"KairosDB must answer {asked} with {expected}; got {status}{location} {text!r}"
    if status == requests.codes.too_many_requests or status > 500:
        retry_after_s = parse_retry_after_s(answer.headers.get("Retry-After"), datetime.now(UTC))
        is_busy = status == requests.codes.too_many_requests
        return Unreachable(f"{msg}. {_UNREACHABLE_HINT}", retry_after_s, is_busy)
    if status == requests.codes.bad_request:
        return QueryRefused(msg)
    if status == requests.codes.server_error:
        return QueryFailed(f"{msg}. {_QUERY_FAILED_HINT}")
    return Misconfigured(f"{msg}. {_HINTS.get(status, _HINT)}")


def _root_cause(error: BaseException) -> str:
    """The innermost cause: `ConnectionRefusedError: [Errno 111] Connection refused`."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return f"{type(error).__name__}: {error}"


class _CuttableAdapter(HTTPAdapter):
    """Remembers the connections that it makes, so that another thread can shut their sockets down.

    The pool opens a connection anew under the same object after it was closed, so the list grows to the size of the
    pool; connections beyond it, which a pool makes while all of its own are in use, are dropped from the list first.
    """

    def __init__(self, connections: int) -> None:
        super().__init__(pool_connections=1, pool_maxsize=connections)
        self._connections_max = connections
        self._connections: list[HTTPConnection] = []
        self._lock = Lock()
        self._was_dropped = False

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        # The pool replaces such a connection silently. What was accepted over it may be lost with the server's queue.
        with self._lock:
            if any(connection.sock is not None and not connection.is_connected for connection in self._connections):
                self._was_dropped = True
        return super().send(*args, **kwargs)

    def was_dropped(self) -> bool:
        with self._lock:
            was_dropped, self._was_dropped = self._was_dropped, False
            return was_dropped

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        connection_class = type(pool).ConnectionCls

        def connection(*args: Any, **kwargs: Any) -> HTTPConnection:
            made: HTTPConnection = connection_class(*args, **kwargs)
            with self._lock:
                self._connections = [*self._connections, made][-self._connections_max :]
            return made

        pool.ConnectionCls = connection
        return pool

    def cut(self) -> None:
        with self._lock:
            sockets = [connection.sock for connection in self._connections]
        for sock in sockets:
            if sock is not None:
                with suppress(OSError):  # the connection has just ended by itself
                    sock.shutdown(socket.SHUT_RDWR)
