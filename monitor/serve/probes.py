"""What probes and other machines ask: whether the process is there, whether it can answer, and requests of HEAD."""

from fastapi import FastAPI
from pydantic import BaseModel, Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monitor.serve.problems import MEDIA_TYPE, Problem
from monitor.serve.service import Service

ANSWERED_S = 1.0
"""A store that has answered since is not asked again."""


class Alive(BaseModel):
    """The answer to a probe."""

    status: str = Field(description="ok")


def add_probes(app: FastAPI, service: Service) -> None:
    """Adds `/healthz` and `/readyz`."""

    @app.get("/healthz", response_model=Alive)
    def healthz() -> Alive:
        """200 while the process serves; it asks nothing of the store."""
        return Alive(status="ok")

    @app.get(
        "/readyz",
        response_model=Alive,
        responses={
            502: {"model": Problem, "content": {MEDIA_TYPE: {}}, "description": "The store answers with an error"},
            503: {"model": Problem, "content": {MEDIA_TYPE: {}}, "description": "The store does not answer"},
        },
    )
    def readyz() -> Alive:
        """200 if the store answers, so that questions can be answered; otherwise 502 or 503 with the reason."""
        if service.store.silent_s() > ANSWERED_S:
            service.store.is_answering()
        return Alive(status="ok")


class HeadAsGet:
    """An ASGI application in front of another one: it answers HEAD as GET, without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET"}, receive, send_without_body)
