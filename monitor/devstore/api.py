"""The HTTP side of the store: KairosDB's paths, status codes, headers and error bodies over one Database."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from monitor.devstore import datapoints_parser, http_bodies
from monitor.devstore.database import READERS, Database, Snapshot
from monitor.devstore.datapoint_values import INT64_MAX, INT64_MIN
from monitor.devstore.http_bodies import TransferError, error_response, json_response, read_body, unpacked
from monitor.devstore.query_executor import answer_query, answer_tags_query
from monitor.devstore.query_fields import QueryError
from monitor.devstore.query_parser import MetricQuery, parse_query

__all__ = ["REQUESTS_MAX", "create_app"]

REQUESTS_MAX = 64
"""Requests in progress; another one is answered 503 with Retry-After."""
RETRY_AFTER_S = 1
PURGE_INTERVAL_S = 1.0
VERSION = "KairosDB 1.3.0 (embedded store)"

T = TypeVar("T")
_log = structlog.get_logger(__name__)

_Endpoint = Callable[[Request], Awaitable[Response]]
_Execute = Callable[[Snapshot, Sequence[MetricQuery]], dict[str, Any]]


def create_app(database: Database, now_ms: Callable[[], int], on_ready: Callable[[], None]) -> ASGIApp:
    """The application over an open database, which the caller closes; on_ready is called once the application runs.

    Blocking and computing work runs in threads: one writer, which also unpacks and parses bodies, so that only one
    large body is unpacked at a time, and READERS for queries.
    """
    writer = ThreadPoolExecutor(1, "store-writer")
    readers = ThreadPoolExecutor(READERS, "store-reader")

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        purging = asyncio.create_task(_purge_for_ever(database, writer))
        on_ready()
        yield
        purging.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await purging
        for executor in (writer, readers):
            executor.shutdown()

    routes = [*_write_routes(database, now_ms, writer), *_read_routes(database, now_ms, readers)]
    return _bounded(Starlette(routes=routes, lifespan=lifespan, exception_handlers=_EXCEPTION_HANDLERS))


def _write_routes(database: Database, now_ms: Callable[[], int], writer: ThreadPoolExecutor) -> list[Route]:
    async def write(request: Request) -> Response:
        body = await read_body(request)
        headers = request.headers
        content_type, encoding = headers.get("content-type", ""), headers.get("content-encoding", "")
        return await _in(writer, lambda: _stored(database, body, content_type, encoding))

    async def delete(request: Request) -> Response:
        body = await read_body(request)
        return await _in(writer, lambda: _deleted(database, body, now_ms()))

    async def delete_metric(request: Request) -> Response:
        name = request.path_params["name"]
        await _in(writer, lambda: database.delete(name, {}, INT64_MIN, INT64_MAX))
        return json_response(None, status=204)

    return [
        _route("/datapoints", POST=write),
        _route("/datapoints/delete", POST=delete),
        _route("/metric/{name:path}", DELETE=delete_metric),
    ]


def _read_routes(database: Database, now_ms: Callable[[], int], readers: ThreadPoolExecutor) -> list[Route]:
    async def answered(request: Request, text: bytes, execute: _Execute) -> Response:
        compress = http_bodies.accepts_gzip(request)
        return await _in(readers, lambda: _answered(database, text, now_ms(), execute, compress=compress))

    async def query(request: Request) -> Response:
        return await answered(request, await read_body(request), answer_query)

    async def query_by_url(request: Request) -> Response:
        text = request.query_params.get("query")
        if text is None:
            return error_response(400, "query json must not be null or empty")
        return await answered(request, text.encode(), answer_query)

    async def query_tags(request: Request) -> Response:
        return await answered(request, await read_body(request), answer_tags_query)

    async def metric_names(request: Request) -> Response:
        prefix = request.query_params.get("prefix", "")
        compress = http_bodies.accepts_gzip(request)
        return await _in(readers, lambda: _metric_names(database, prefix, compress=compress))

    async def health_check(_request: Request) -> Response:
        await _in(readers, lambda: _probe(database))
        return json_response(None, status=204)

    async def health_status(_request: Request) -> Response:
        await _in(readers, lambda: _probe(database))
        return json_response(["Datastore-Query: OK"])

    async def version(_request: Request) -> Response:
        return json_response({"version": VERSION})

    return [
        _route("/datapoints/query", POST=query, GET=query_by_url),
        _route("/datapoints/query/tags", POST=query_tags),
        _route("/metricnames", GET=metric_names),
        _route("/version", GET=version),
        _route("/health/check", GET=health_check),
        _route("/health/status", GET=health_status),
    ]


# --- work of the threads ---------------------------------------------------------------------------


def _stored(database: Database, body: bytes, content_type: str, content_encoding: str) -> Response:
    parsed = datapoints_parser.parse(unpacked(body, content_type, content_encoding))
    database.write(parsed.points)
    if parsed.errors:
        return error_response(parsed.status, *parsed.errors)
    return json_response(None, status=204)


def _deleted(database: Database, body: bytes, now_ms: int) -> Response:
    for query in _parsed(body, now_ms):
        database.delete(query.name, query.tags, query.start_ms, query.end_ms)
    return json_response(None, status=204)


def _answered(database: Database, body: bytes, now_ms: int, execute: _Execute, *, compress: bool) -> Response:
    queries = _parsed(body, now_ms)
    with database.snapshot() as snapshot:
        answer = execute(snapshot, queries)
    return json_response(answer, compress=compress)


def _parsed(body: bytes, now_ms: int) -> list[MetricQuery]:
    return parse_query(body.decode("utf-8", "replace"), now_ms)


def _metric_names(database: Database, prefix: str, *, compress: bool) -> Response:
    with database.snapshot() as snapshot:
        names = snapshot.metric_names(prefix)
    return json_response({"results": names}, compress=compress)


def _probe(database: Database) -> None:
    with database.snapshot() as snapshot:
        snapshot.series("")


# --- around every request -------------------------------------------------------------------------


def _route(path: str, **endpoints: _Endpoint) -> Route:
    """One path with an endpoint for each method; OPTIONS is answered for a browser of another origin."""

    async def dispatch(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await endpoints[method](request)

    methods = ", ".join(endpoints)

    async def preflight(request: Request) -> Response:
        allowed = {"Access-Control-Allow-Methods": methods, "Access-Control-Max-Age": "86400"}
        requested = request.headers.get("access-control-request-headers")
        return json_response(
            None, headers={**allowed, **({"Access-Control-Allow-Headers": requested} if requested else {})}
        )

    endpoints["OPTIONS"] = preflight
    return Route(f"/api/v1{path}", dispatch, methods=list(endpoints))


def _bounded(app: ASGIApp) -> ASGIApp:
    """The application with at most REQUESTS_MAX requests in progress."""
    in_progress = 0

    async def bounded(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal in_progress
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        if in_progress >= REQUESTS_MAX:
            message = f"{REQUESTS_MAX} requests are in progress; try again later."
            await error_response(503, message, headers={"Retry-After": str(RETRY_AFTER_S)})(scope, receive, send)
            return
        in_progress += 1
        try:
            await app(scope, receive, send)
        finally:
            in_progress -= 1

    return bounded


async def _in(executor: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(executor, work)


async def _purge_for_ever(database: Database, writer: ThreadPoolExecutor) -> None:
    while True:
        await asyncio.sleep(PURGE_INTERVAL_S)
        try:
            await _in(writer, database.purge)
        except sqlite3.Error:  # a full disk, say: writes report it to their clients, the next purge tries again
            _log.exception("purge_failed")


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, QueryError | TransferError)
    return error_response(error.status, error.message)


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return error_response(error.status_code, error.detail, headers=error.headers)


async def _failed(_request: Request, error: Exception) -> Response:
    return error_response(500, f"{type(error).__name__}: {error}")


_EXCEPTION_HANDLERS: Mapping[Any, Any] = {
    QueryError: _refused,
    TransferError: _refused,
    HTTPException: _http_error,
    sqlite3.Error: _failed,
    Exception: _failed,
}
