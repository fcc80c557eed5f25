"""Scripts and styles from memory: each is read and compressed once, so that a cold browser does not wait for that."""

from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FOLDER = "/_nicegui/"
"""What is below it never changes under its name, which holds the version or a hash."""
KEPT_BYTES_MAX = 16 * 1024 * 1024
"""All that NiceGUI has for these pages is a tenth of that; beyond it, files are read and compressed each time."""


class Asset(NamedTuple):
    """An answer: its beginning, and all of its body."""

    start: Message
    body: bytes


class KeptAssets:
    """An ASGI application in front of another one, whose answers below FOLDER it keeps."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._kept: dict[tuple[str, str], Asset] = {}
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request from memory, or has it answered."""
        if scope["type"] != "http" or scope["method"] != "GET" or not scope["path"].startswith(FOLDER):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        key = scope["path"], headers.get("accept-encoding", "")
        kept = self._kept.get(key)
        if kept is None or "range" in headers or "if-none-match" in headers:
            await self._app(scope, receive, self._keeping(key, send))
            return
        await send(kept.start)
        await send({"type": "http.response.body", "body": kept.body})

    def _keeping(self, key: tuple[str, str], send: Send) -> Send:
        """Hands an answer on, and keeps it if it is a whole one that may be kept."""
        start: Message = {}
        parts: list[bytes] = []

        async def keep(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            elif message["type"] == "http.response.body" and start["status"] == 200:
                parts.append(message.get("body", b""))
                if not message.get("more_body", False):
                    self._keep(key, Asset(dict(start), b"".join(parts)))
            await send(message)

        return keep

    def _keep(self, key: tuple[str, str], answer: Asset) -> None:
        may_be_kept = b"immutable" in dict(answer.start["headers"]).get(b"cache-control", b"")
        if may_be_kept and key not in self._kept and self._bytes + len(answer.body) <= KEPT_BYTES_MAX:
            self._kept[key] = answer
            self._bytes += len(answer.body)
