"""HTTP bodies: size bounds, gzip of requests and responses, KairosDB's headers and its form of errors."""

import zlib
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

__all__ = [
    "BODY_BYTES_MAX",
    "TransferError",
    "accepts_gzip",
    "error_response",
    "json_response",
    "read_body",
    "unpacked",
]

BODY_BYTES_MAX = 64 * 1024 * 1024
"""Size of a request's body, as sent and, separately, when unpacked; a larger one is answered 413."""
COMPRESS_BYTES_MIN = 500
GZIP_LEVEL = 1

_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_GZIP_MAGIC = b"\x1f\x8b"
_HEADERS = {"Access-Control-Allow-Origin": "*", "Pragma": "no-cache", "Cache-Control": "no-cache", "Expires": "0"}


class TransferError(Exception):
    """A body that is refused: the status and the message to answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


async def read_body(request: Request) -> bytes:
    """The body as sent. Raises TransferError(413) as soon as it is larger than BODY_BYTES_MAX."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > BODY_BYTES_MAX:
            raise _too_large()
        chunks.append(chunk)
    return b"".join(chunks)


def unpacked(body: bytes, content_type: str, content_encoding: str) -> bytes:
    """The JSON text of a body whose content type or content encoding may be gzip. Raises TransferError.

    A body that is not gzip is answered 400 if the content type names gzip and 500 if the encoding does, as in KairosDB.
    A truncated or damaged body is refused whole; KairosDB stores the part that it can read.
    """
    by_type = content_type.split(";")[0].strip().lower() == "application/gzip"
    if not by_type and content_encoding.strip().lower() != "gzip":
        return body
    if not body.startswith(_GZIP_MAGIC):
        raise TransferError(400 if by_type else 500, "Not in GZIP format")
    parts, size = [], 0
    while body:
        member = zlib.decompressobj(_GZIP_WINDOW)
        try:
            part = member.decompress(body, BODY_BYTES_MAX + 1 - size)
        except zlib.error as error:
            raise TransferError(400, f"The gzip body is damaged: {error}") from error
        size += len(part)
        if size > BODY_BYTES_MAX:
            raise _too_large()
        if not member.eof:
            raise TransferError(400, "The gzip body ends too early.")
        parts.append(part)
        body = member.unused_data
    return b"".join(parts)


def accepts_gzip(request: Request) -> bool:
    """True if the client accepts gzip."""
    return "gzip" in request.headers.get("accept-encoding", "").lower()


def json_response(
    value: Any, *, status: int = 200, compress: bool = False, headers: Mapping[str, str] | None = None
) -> Response:
    """A response with KairosDB's headers; None is an empty body."""
    body = b"" if value is None else msgspec.json.encode(value)
    all_headers = {**_HEADERS, **(headers or {})}
    if body:
        all_headers["Vary"] = "Accept-Encoding"
    if compress and len(body) >= COMPRESS_BYTES_MIN:
        body = zlib.compress(body, GZIP_LEVEL, wbits=_GZIP_WINDOW)
        all_headers["Content-Encoding"] = "gzip"
    return Response(body, status, all_headers, media_type="application/json")


def error_response(status: int, *errors: str, headers: Mapping[str, str] | None = None) -> Response:
    """KairosDB's form of an error."""
    return json_response({"errors": errors}, status=status, headers=headers)


def _too_large() -> TransferError:
    return TransferError(413, f"The body is larger than {BODY_BYTES_MAX} bytes.")
