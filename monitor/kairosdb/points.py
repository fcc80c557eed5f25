"""Data points as KairosDB's JSON: the rules for what may be sent, the rendering, and the bodies of requests.

KairosDB refuses little: it answers 204 to integers beyond 64 bits, which it wraps, to seconds in place of milliseconds,
and to a ttl of -5. So the series of a point is checked once, and its numbers with a few comparisons each time.
"""

import gzip
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

from monitor.core.metrics import DataPoint, Series

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

TIMESTAMP_MS_MIN, TIMESTAMP_MS_MAX = 10**11, 10**14 - 1
"""1973 to 5138. The same span in seconds lies wholly below it, in microseconds wholly above it."""

TTL_S_MAX = 630_720_000
"""20 years, the most that Cassandra takes."""

SERIES_CHARACTERS_MAX = 8_192
"""Cassandra's keys end at 64 KiB; a series of this length is an error long before."""

SERIES_CACHED_MAX = 65_536
"""Series of each type whose JSON is kept ready, some 30 MB at 100 characters each; the least recently used makes room.
"""

SERIES_CACHED_CHARACTERS_MAX = 32 * 1024 * 1024
"""Of series and their JSON, rendered since the cache was last emptied; beyond it, the cache is emptied.

Without it, 65,536 series of 8,192 characters would take 65,536 * 2 * 8 KiB = 1 GiB. Ordinary series never get there
before the other bound; with them it empties the cache once in some 100,000 that are rendered.
"""

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
    """Writes points as KairosDB's JSON, an int as type `long`, a float as type `double`; may be shared by threads.

    `dc` becomes the first tag of every point, `ttl_s` (seconds from the write) is when KairosDB forgets it.
    Raises ValueError if either cannot be sent.

    >>> Renderer("dal", 60).render([DataPoint("monitor.lag|topic=t", 1795491060000, 7)])[0][0].text
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
        self._long_head = lru_cache(SERIES_CACHED_MAX)(partial(self._render_head, "long"))
        self._double_head = lru_cache(SERIES_CACHED_MAX)(partial(self._render_head, "double"))
        self._rendered_characters = 0

    @property
    def cached(self) -> tuple[int, int]:
        """The series in the caches of both types, and a bound of the characters that they hold."""
        series = sum(cache.cache_info().currsize for cache in (self._long_head, self._double_head))
        return series, self._rendered_characters

    def render(self, points: Iterable[DataPoint]) -> tuple[list[Rendered], list[Invalid]]:
        """The points that may be sent, each with its JSON object, and the points that may not, each with the reason."""
        valid: list[Rendered] = []
        invalid: list[Invalid] = []
        for point in points:
            series, timestamp_ms, value = point
            if type(value) is float:
                head, reason = self._double_head(series)
                is_sound = math.isfinite(value)
            else:
                head, reason = self._long_head(series)
                is_sound = type(value) is int and INT64_MIN <= value <= INT64_MAX
            if (
                reason is None
                and is_sound
                and type(timestamp_ms) is int
                and TIMESTAMP_MS_MIN <= timestamp_ms <= TIMESTAMP_MS_MAX
            ):
                # an f-string writes a float as repr does: the shortest text that is read as the same double
                valid.append(Rendered(point, f'{head}{timestamp_ms},"value":{value}}}'))
            else:
                invalid.append(Invalid(point, reason or _broken_number_rule(timestamp_ms, value)))
        return valid, invalid

    def _render_head(self, kind: str, series: Series) -> tuple[str, str | None]:
        """The JSON up to the timestamp, or the rule that the series breaks."""
        reason = _broken_series_rule(series)
        head = "" if reason is not None else self._head_of(kind, series)
        # Only counted here, where a series is new to the cache: a series that is cached costs nothing. Threads that
        # render at the same moment may leave a count out, never more than one series each.
        characters = len(series) + len(head) + len(reason or "")
        self._rendered_characters += characters
        if self._rendered_characters > SERIES_CACHED_CHARACTERS_MAX:
            self._long_head.cache_clear()
            self._double_head.cache_clear()
            self._rendered_characters = characters
        return head, reason

    def _head_of(self, kind: str, series: Series) -> str:
        """All parts of a valid series are plain ASCII: nothing needs escaping."""
        name, *tags = series.split("|")
        pairs = [f'"dc":"{self._dc}"', *('"{}":"{}"'.format(*tag.split("=")) for tag in tags)]
        return f'{{"name":"{name}","type":"{kind}","ttl":{self._ttl_s},"tags":{{{",".join(pairs)}}},"timestamp":'


def batches(rendered: Sequence[Rendered], points_max: int, bytes_max: int) -> Iterator[list[Rendered]]:
    """The points in requests of at most so many points and bytes of JSON; a point above the bytes goes alone."""
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


def _broken_series_rule(series: Series) -> str | None:
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


def _broken_number_rule(timestamp_ms: object, value: object) -> str:
    if type(timestamp_ms) is not int or not TIMESTAMP_MS_MIN <= timestamp_ms <= TIMESTAMP_MS_MAX:
        return (
            f"a timestamp must be integer milliseconds from {TIMESTAMP_MS_MIN} to {TIMESTAMP_MS_MAX} "
            f"(not seconds, not microseconds); got {timestamp_ms!r}"
        )
    return f"a value must be an integer of 64 bits or a finite float; got {value!r}"
