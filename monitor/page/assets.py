"""Scripts and styles from memory: each is read and compressed once, so that no new browser waits for it."""

from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FOLDER = "/_nicegui/"
"""A file below it never changes under its name, which contains the version or a hash."""
CACHE_BYTES_MAX = 16 * 1024 * 1024
"""NiceGUI's files for these pages are a tenth of that; beyond it, files are read and compressed each time."""


class Asset(NamedTuple):
    """An answer: its beginning, and all of its body."""

    start: Message
    body: bytes


class CachedAssets:
    """An ASGI application in front of another one, whose answers below FOLDER it caches."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._cache: dict[tuple[str, str], Asset] = {}
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request from memory, or passes it on."""
        if scope["type"] != "http" or scope["method"] != "GET" or not scope["path"].startswith(FOLDER):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        key = scope["path"], headers.get("accept-encoding", "")
        cached = self._cache.get(key)
        if cached is None or "range" in headers or "if-none-match" in headers:
            await self._app(scope, receive, self._caching(key, send))
            return
        await send(cached.start)
        await send({"type": "http.response.body", "body": cached.body})

    def _caching(self, key: tuple[str, str], send: Send) -> Send:
        """Passes an answer on, and caches it if it is complete and may be cached."""
        start: Message = {}
        parts: list[bytes] = []

        async def cache(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            elif message["type"] == "http.response.body" and start["status"] == 200:
                parts.append(message.get("body", b""))
                if not message.get("more_body", False):
                    self._put(key, Asset(dict(start), b"".join(parts)))
            await send(message)

        return cache

    def _put(self, key: tuple[str, str], answer: Asset) -> None:
        may_be_cached = b"immutable" in dict(answer.start["headers"]).get(b"cache-control", b"")
        if may_be_cached and key not in self._cache and self._bytes + len(answer.body) <= CACHE_BYTES_MAX:
            self._cache[key] = answer
            self._bytes += len(answer.body)
