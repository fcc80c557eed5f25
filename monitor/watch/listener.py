"""The small HTTP server of the guard: its figures, and whether it is there; in a thread beside the looks."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from monitor.runtime.exposition import PATH, exposed
from monitor.runtime.listening import listening

CONNECTIONS_MAX = 32
"""Open connections; a further one is answered 503."""
BACKLOG = 32
"""Connections that wait to be accepted; the kernel refuses more."""
STOP_S = 2
"""How long requests in progress may take to end when the server stops."""


@contextmanager
def listener(registry: CollectorRegistry, host: str, port: int) -> Iterator[str]:
    """Serves `/metrics` and `/healthz` for as long as the block lasts, and gives its address. Raises ListenError."""
    with listening(host, port, BACKLOG) as socket:
        config = uvicorn.Config(
            _app(registry),
            access_log=False,
            log_config=None,
            ws="none",
            limit_concurrency=CONNECTIONS_MAX,
            timeout_graceful_shutdown=STOP_S,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([socket],), name="watch-listener")
        thread.start()
        try:
            yield "http://{}:{}".format(*socket.getsockname()[:2])
        finally:
            server.should_exit = True
            thread.join()


def _app(registry: CollectorRegistry) -> Starlette:
    def metrics(request: Request) -> Response:
        body, media_type = exposed(registry, request.headers.get("accept"))
        return Response(body, headers={"Cache-Control": "no-store", "Content-Type": media_type})

    def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return Starlette(routes=[Route(PATH, metrics), Route("/healthz", healthz)])
