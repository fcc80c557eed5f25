"""`monitor serve`: the query service and its page, in the foreground."""

import socket
from pathlib import Path
from typing import Annotated

import structlog
import typer
import uvicorn
from fastapi import FastAPI

from monitor.commands.options import EXAMPLE, ConfigFile, KairosDbUrl
from monitor.config.reader import load
from monitor.page import site
from monitor.runtime import logs
from monitor.runtime.console import ERR
from monitor.runtime.listening import listening, serve_until_signal
from monitor.serve.app import create_app
from monitor.serve.count_file import CountFile
from monitor.serve.own_metrics import Watch
from monitor.serve.service import Service, open_service

log = structlog.get_logger(__name__)

BACKLOG = 128
"""Connections that wait to be accepted; the kernel refuses more."""
CONNECTIONS_MAX = 1_000
"""Open connections and requests in progress, open pages included; a further one is answered 503."""
STOP_S = 10
"""How long requests in progress may take to end when the server stops."""


def serve(
    config: ConfigFile = EXAMPLE,
    host: Annotated[str | None, typer.Option(help="The address to listen on. Default: serve.host.")] = None,
    port: Annotated[int | None, typer.Option(help="The port to listen on. Default: serve.port.")] = None,
    url: KairosDbUrl = None,
    counts: Annotated[
        Path | None, typer.Option(help="The file counts.sqlite3 of `monitor watch`, for phases longer than the ttl.")
    ] = None,
    notice: Annotated[str, typer.Option(help="A line to show on top of every page, such as: staging.")] = "",
) -> None:
    """Needs the configuration and the store only, not the job. Ctrl-C stops it."""
    settings = load(config)
    address = host or settings.serve.host, settings.serve.port if port is None else port
    store_url = url or settings.kairosdb.url
    file = None if counts is None else CountFile(counts, is_writer=False)
    logs.set_up()
    with (
        listening(*address, BACKLOG) as listener,
        open_service(settings, store_url, counts=file) as service,
        Watch(service, store_url),
    ):
        at = "http://{}:{}".format(*listener.getsockname()[:2])
        _announce(at)
        _run(_app(service, notice), listener)


def _announce(at: str) -> None:
    """Says where the page is: to people on a terminal, else as the first line of the log."""
    if ERR.is_terminal:
        ERR.print(f"page {at}, API described at {at}/docs; Ctrl-C stops", markup=False, highlight=False, soft_wrap=True)
    else:
        log.info("page_ready", page=at, api=f"{at}/docs")


def _app(service: Service, notice: str) -> FastAPI:
    """The API, and the page at every other path."""
    app = create_app(service)
    site.mount(app, service, notice)
    return app


def _run(served: FastAPI, listener: socket.socket) -> None:
    """Serves until SIGTERM or SIGINT."""
    server = uvicorn.Server(
        uvicorn.Config(
            served,
            access_log=False,
            log_config=None,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_graceful_shutdown=STOP_S,
        )
    )
    serve_until_signal(server, listener)
