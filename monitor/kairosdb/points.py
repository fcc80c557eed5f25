"""KairosDB's protocol: points to JSON, what must never be sent, and the check at start.

KairosDB refuses little: it wraps integers beyond 64 bits, takes seconds for milliseconds and a ttl of -5, and answers
204. So a point is checked here, once per series and with a few comparisons per point, before it is sent.
"""

import gzip
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

import requests

from monitor.core.metrics import DataPoint, Series

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

TIMESTAMP_MS_MIN, TIMESTAMP_MS_MAX = 10**11, 10**14 - 1
"""1973 to 5138. The same span in seconds lies wholly below it, in microseconds wholly above it."""

TTL_S_MAX = 630_720_000
"""20 years, the most that Cassandra takes."""

SERIES_CHARACTERS_MAX = 8_192
"""Cassandra's keys end at 64 KiB; a series of this length is a fault long before."""

SERIES_CACHED_MAX = 65_536
"""Series whose JSON is kept ready, about 20 MB; the least recently used one makes room."""

CHECK_TIMEOUT_S = 5.0
SERVER_TEXT_CHARACTERS_MAX = 1_000

_GZIP_LEVEL = 1  # four times as fast as the default of 9, for a body one tenth larger
_PART = re.compile(r"[A-Za-z0-9._/-]+")


class Invalid(NamedTuple):
    """A point that must not be sent, and the rule that it breaks."""

    point: DataPoint
    reason: str


class Rendered(NamedTuple):
    """A point and its JSON object."""

    point: DataPoint
    text: str


class Renderer:
    """Writes points as KairosDB's JSON; may be shared by threads.

    `dc` becomes the first tag of every point, `ttl_s` (seconds from the write) is when KairosDB forgets it.
    Raises ValueError if either cannot be sent.

    >>> Renderer("dal", 60).render([Point("monitor.lag|topic=t", 1795491060000, 7)])[0][0].text
    '{"name":"monitor.lag","type":"long","ttl":60,"tags":{"dc":"dal","topic":"t"},"timestamp":1795491060000,"value":7}'
    """

    def __init__(self, dc: str, ttl_s: int) -> None:
        if not _PART.fullmatch(dc):
            msg = f"dc must be of [A-Za-z0-9._/-] and not empty; got {dc!r}"
            raise ValueError(msg)
        if type(ttl_s) is not int or not 1 <= ttl_s <= TTL_S_MAX:
            msg = f"ttl_s must be an integer from 1 to {TTL_S_MAX}; got {ttl_s!r}"
            raise ValueError(msg)
        self._dc = dc
        self._ttl_s = ttl_s
        self._head = lru_cache(SERIES_CACHED_MAX)(self._render_head)

    def render(self, points: Iterable[DataPoint]) -> tuple[list[Rendered], list[Invalid]]:
        """The points that may be sent, each with its JSON object, and the points that may not, each with the reason."""
        valid: list[Rendered] = []
        invalid: list[Invalid] = []
        for point in points:
            series, timestamp_ms, value = point
            head, fault = self._head(series)
            if (
                fault is None
                and type(timestamp_ms) is int
                and TIMESTAMP_MS_MIN <= timestamp_ms <= TIMESTAMP_MS_MAX
                and type(value) is int
                and INT64_MIN <= value <= INT64_MAX
            ):
                valid.append(Rendered(point, f'{head}{timestamp_ms},"value":{value}}}'))
            else:
                invalid.append(Invalid(point, fault or _number_fault(timestamp_ms, value)))
        return valid, invalid

    def _render_head(self, series: Series) -> tuple[str, str | None]:
        """The JSON up to the timestamp, or the fault. All parts are plain ASCII: nothing needs escaping."""
        fault = _series_fault(series)
        if fault is not None:
            return "", fault
        name, *tags = series.split("|")
        pairs = [f'"dc":"{self._dc}"', *('"{}":"{}"'.format(*tag.split("=")) for tag in tags)]
        return f'{{"name":"{name}","type":"long","ttl":{self._ttl_s},"tags":{{{",".join(pairs)}}},"timestamp":', None


def batches(rendered: Sequence[Rendered], points_max: int, bytes_max: int) -> Iterator[list[Rendered]]:
    """Cuts into requests of at most so many points and bytes of JSON; a point that is larger alone goes alone."""
    batch: list[Rendered] = []
    size = 1
    for one in rendered:
        length = len(one.text) + 1
        if batch and (len(batch) == points_max or size + length > bytes_max):
            yield batch
            batch, size = [], 1
        batch.append(one)
        size += length
    if batch:
        yield batch


def body(rendered: Iterable[Rendered]) -> bytes:
    """The body of a request: a JSON array, gzip."""
    text = f"[{','.join([one.text for one in rendered])}]"
    return gzip.compress(text.encode("ascii"), _GZIP_LEVEL, mtime=0)


class KairosUnreachable(Exception):
    """KairosDB does not answer as it should; the message says what was tried, what came, and what to do."""


def check(url: str, timeout_s: float = CHECK_TIMEOUT_S) -> str:
    """The version of the KairosDB at this base URL, for example `KairosDB 1.3.0-1.20210808220820`.

    Raises KairosUnreachable if there is none. `timeout_s` bounds the connecting and the waiting, each.
    """
    address = endpoint(url, "version")
    try:
        answer = requests.get(address, timeout=timeout_s, allow_redirects=False)
    except requests.RequestException as error:
        raise KairosUnreachable(_unreachable(address, root_cause(error))) from error
    text = answer.text[:SERVER_TEXT_CHARACTERS_MAX]
    try:
        version = answer.json()["version"]
    except (ValueError, LookupError, TypeError):
        version = None
    if answer.status_code != requests.codes.ok or not isinstance(version, str):
        raise KairosUnreachable(_unreachable(address, f"{answer.status_code} {text!r}"))
    return version


def endpoint(url: str, name: str) -> str:
    """The address of a part of KairosDB's API, from the base URL."""
    return f"{url.rstrip('/')}/api/v1/{name}"


def without_password(url: str) -> str:
    """The URL as it may be shown: without user and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def root_cause(error: BaseException) -> str:
    """What went wrong at the bottom: `ConnectionRefusedError: [Errno 111] Connection refused`."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return f"{type(error).__name__}: {error}"


def _unreachable(address: str, came: str) -> str:
    return (
        f"KairosDB must answer GET {without_password(address)} with 200 and its version; got {came}. "
        "Check kairosdb.url (MONITOR_KAIROSDB__URL) and that KairosDB is up and to be reached from this machine."
    )


def _series_fault(series: Series) -> str | None:
    if len(series) > SERIES_CHARACTERS_MAX:
        return f"a series must have at most {SERIES_CHARACTERS_MAX} characters; got {len(series)}"
    name, *tags = series.split("|")
    if not _PART.fullmatch(name):
        return f"a metric name must be of [A-Za-z0-9._/-] and not empty; got {name!r}"
    seen = {"dc"}
    for tag in tags:
        key, equals, value = tag.partition("=")
        if not (equals and _PART.fullmatch(key) and _PART.fullmatch(value)):
            return f"a tag must be NAME=VALUE, both of [A-Za-z0-9._/-] and not empty; got {tag!r}"
        if key in seen:
            return f"a tag must occur once, and dc is added by the writer; got {tag!r}"
        seen.add(key)
    return None


def _number_fault(timestamp_ms: object, value: object) -> str:
    if type(timestamp_ms) is not int or not TIMESTAMP_MS_MIN <= timestamp_ms <= TIMESTAMP_MS_MAX:
        return (
            f"a timestamp must be integer milliseconds from {TIMESTAMP_MS_MIN} to {TIMESTAMP_MS_MAX} "
            f"(not seconds, not microseconds); got {timestamp_ms!r}"
        )
    return f"a value must be an integer of 64 bits; got {value!r}"
