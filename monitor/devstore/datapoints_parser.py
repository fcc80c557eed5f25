"""The body of ``POST /api/v1/datapoints``, checked and turned into points to store.

Checks, their order and their messages are those of KairosDB's ``DataPointsParser``; the package's docstring lists where
this store refuses values that KairosDB would store damaged.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from monitor.devstore import lossless_json
from monitor.devstore.datapoint_values import (
    INT64_MAX,
    INT64_MIN,
    ErrorScope,
    RefusedError,
    StopError,
    Value,
    as_text,
    emptiness,
    integral,
    timestamp_ms,
    typed,
)
from monitor.devstore.lossless_json import JsonObject

__all__ = ["TTL_S_MAX", "Parsed", "SeriesKey", "StoredPoint", "parse"]

SeriesKey = tuple[str, str, bytes]
"""Metric name, type (``long``, ``double`` or ``string``), tags as canonical JSON text: compact, sorted by name."""
StoredPoint = tuple[SeriesKey, int, Value, int]
"""Series, timestamp in ms, value, ttl in seconds (0: for ever)."""

TTL_S_MAX = 630_720_000
"""Twenty years, Cassandra's limit: a larger ttl makes it drop the point together with its neighbours."""
TAGS_CACHE_MAX = 65_536
"""Distinct texts of valid tags that are remembered; at the bound the cache is cleared."""
TAGS_CACHED_BYTES_MAX = 1_024
"""Length of a text of tags that is remembered; a longer one is parsed each time. So the cache stays below 150 MB."""
END_OF_INPUT = "Invalid json. No content due to end of input."


class Parsed(NamedTuple):
    """The points of a body, which are stored whatever the status, and the answer to it."""

    points: Sequence[StoredPoint]
    status: int
    errors: Sequence[str]


def parse(body: bytes) -> Parsed:
    """The points of a body and the answer to it: 204 without errors, 400 or 500 with them.

    Points are to be stored in all three cases: KairosDB keeps the valid metrics around an invalid one (400) and those
    before a syntax error (400) or a conversion error (500).
    """
    points = _parse_well_formed(body)
    if points is not None:
        return Parsed(points, 204, ())
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return Parsed((), 400, (f"The body is not UTF-8: {error.reason} at byte {error.start}.",))
    return _parse_any(text)


# --- the fast path: nothing but valid points with an explicit type --------------------------------


class _TypedPoint(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(min_length=1)]
    timestamp: Annotated[int, msgspec.Meta(ge=INT64_MIN, le=INT64_MAX)]
    value: Annotated[int, msgspec.Meta(ge=INT64_MIN, le=INT64_MAX)] | float
    tags: msgspec.Raw
    type: Literal["long", "double"]
    ttl: Annotated[int, msgspec.Meta(ge=0, le=TTL_S_MAX)] = 0


_typed_points = msgspec.json.Decoder(list[_TypedPoint])
_canonical_tags: dict[bytes, bytes] = {}


def _parse_well_formed(body: bytes) -> list[StoredPoint] | None:
    """The points of an array of plain, typed, valid objects; None for any other body, which takes the exact path."""
    try:
        metrics = _typed_points.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    points: list[StoredPoint] = []
    cached_tags = _canonical_tags
    for metric in metrics:
        raw_tags = bytes(metric.tags)
        tags = cached_tags.get(raw_tags)
        if tags is None:
            tags = _learn_tags(raw_tags)
            if tags is None:
                return None
        value = metric.value
        if metric.type == "double":
            value = float(value)
        elif type(value) is not int:
            return None
        points.append(((metric.name, metric.type, tags), metric.timestamp, value, metric.ttl))
    return points


def _learn_tags(raw_tags: bytes) -> bytes | None:
    """The canonical text of valid tags, remembered for equal texts; None if they are not valid."""
    try:
        tags = _tags(lossless_json.decode(raw_tags.decode()))
    except (StopError, ValueError, RecursionError):
        return None
    if _tag_errors("", tags):
        return None
    if len(_canonical_tags) >= TAGS_CACHE_MAX:
        _canonical_tags.clear()
    canonical = _canonical(tags)
    if len(raw_tags) <= TAGS_CACHED_BYTES_MAX:
        _canonical_tags[raw_tags] = canonical
    return canonical


# --- the exact path: anything ---------------------------------------------------------------------


def _parse_any(text: str) -> Parsed:
    points: list[StoredPoint] = []
    errors: list[str] = []
    first = text.lstrip(" \t\r\n")[:1]
    if first not in ("[", "{"):
        return Parsed((), 400, ("Invalid start of json." if first else END_OF_INPUT,))
    try:
        for index, element in enumerate(lossless_json.elements(text)):
            for point_or_error in _metric(index, element):
                if isinstance(point_or_error, str):
                    errors.append(point_or_error)
                else:
                    points.append(point_or_error)
    except lossless_json.EndOfInputError:
        errors += [END_OF_INPUT, END_OF_INPUT]  # KairosDB says it twice
    except json.JSONDecodeError as error:
        return Parsed(points, 400, (f"{error.msg} at line {error.lineno} column {error.colno}",))
    except RecursionError:
        return Parsed(points, 400, ("The JSON is nested too deeply.",))
    except StopError as stop:
        return Parsed(points, stop.status, (stop.message,))
    return Parsed(points, 400 if errors else 204, errors)


def _metric(index: int, metric: Any) -> Iterator[StoredPoint | str]:
    """The points of one metric object and the messages of its errors; no points if the metric itself has an error."""
    if not isinstance(metric, JsonObject):
        raise StopError(500 if metric is None else 400, f"Expected BEGIN_OBJECT but was {lossless_json.kind(metric)}")
    name = _text(metric.get("name"))
    timestamp = _integer(metric, "timestamp", INT64_MIN, INT64_MAX)
    time = _integer(metric, "time", INT64_MIN, INT64_MAX)
    timestamp = timestamp if time is None else time
    tags = _tags(metric.get("tags"))
    datapoints = _datapoints(metric.get("datapoints"))
    declared = _text(metric.get("type"))
    ttl_s = _integer(metric, "ttl", -(2**31), 2**31 - 1) or 0

    context = f"metric[{index}](name={name})" if name else f"metric[{index}]"
    errors = [*_name_errors(context, name), *_value_errors(context, metric, timestamp), *_tag_errors(context, tags)]
    if not 0 <= ttl_s <= TTL_S_MAX:
        errors.append(f"{context}.ttl must be between 0 and {TTL_S_MAX}; got {ttl_s}.")
    if errors or name is None:
        yield from errors
        return
    canonical = _canonical(tags)

    def outcome(datapoint: list[Any], place: str) -> StoredPoint | str:
        try:
            type_name, at_ms, value = _datapoint(datapoint, declared)
        except RefusedError as refused:
            return refused.message(context, place)
        return (name, type_name, canonical), at_ms, value, ttl_s

    if timestamp is not None:
        yield outcome([timestamp, metric["value"]], "")
    position = 0
    for datapoint in datapoints:
        point_or_error = outcome(datapoint, f".datapoints[{position}]")
        position += not isinstance(point_or_error, str)  # KairosDB's index does not advance past a bad point
        yield point_or_error


def _datapoint(datapoint: list[Any], declared: str | None) -> tuple[str, int, Value]:
    """Type, timestamp in ms and value of ``[timestamp, value]`` or ``[timestamp, value, type]``."""
    if len(datapoint) < 2:
        raise RefusedError(ErrorScope.VALUE if datapoint else ErrorScope.TIMESTAMP, "cannot be null or empty.")
    if datapoint[0] is None:
        raise RefusedError(ErrorScope.TIMESTAMP, "may not be null.")
    at_ms = datapoint[0] if type(datapoint[0]) is int else timestamp_ms(datapoint[0])
    if len(datapoint) > 2:
        if datapoint[2] is None:
            raise StopError(500, "The type of a data point may not be null.")
        declared = as_text(datapoint[2])
    missing = emptiness(datapoint[1])
    if missing is not None:
        raise RefusedError(ErrorScope.VALUE, missing)
    type_name, value = typed(declared, datapoint[1])
    return type_name, at_ms, value


# --- the fields of a metric object, read as Gson reads them ---------------------------------------


def _text(value: Any) -> str | None:
    return None if value is None else as_text(value)


def _integer(metric: JsonObject, field: str, low: int, high: int) -> int | None:
    value = metric.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str):
        raise StopError(400, f"Expected a long but was {lossless_json.kind(value)} for {field}")
    number = integral(value)
    if number is None or not low <= number <= high:
        raise StopError(400, f"Expected {field} to be an integer from {low} to {high} but was {value!s:.100}")
    return number


def _tags(tags: Any) -> dict[str, str | None]:
    if tags is None:
        return {}
    if not isinstance(tags, JsonObject):
        raise StopError(400, f"Expected BEGIN_OBJECT but was {lossless_json.kind(tags)} for tags")
    if tags.duplicate is not None:
        raise StopError(400, f"duplicate key: {tags.duplicate}")
    return {as_text(name): _text(value) for name, value in tags.items()}


def _datapoints(datapoints: Any) -> list[list[Any]]:
    if datapoints is None:
        return []
    if not isinstance(datapoints, list):
        raise StopError(400, f"Expected BEGIN_ARRAY but was {lossless_json.kind(datapoints)} for datapoints")
    if not all(isinstance(datapoint, list | None) for datapoint in datapoints):
        raise StopError(400, "Expected BEGIN_ARRAY for each of datapoints")
    if None in datapoints:
        raise StopError(500, "A data point may not be null.")
    return datapoints


def _canonical(tags: dict[str, str | None]) -> bytes:
    return msgspec.json.encode(dict(sorted(tags.items())))


# --- errors of a metric object --------------------------------------------------------------------


def _name_errors(context: str, name: str | None) -> Iterator[str]:
    if not name:
        yield f"{context}.name may not be {'null' if name is None else 'empty'}."


def _value_errors(context: str, metric: JsonObject, timestamp: int | None) -> Iterator[str]:
    if timestamp is None:
        if metric.get("value") is not None:
            yield f"{context}.timestamp may not be null."
    elif "value" not in metric:
        yield f"{context}.value may not be null."
    elif (missing := emptiness(metric["value"])) is not None:
        yield f"{context}.value {missing}"


def _tag_errors(context: str, tags: dict[str, str | None]) -> list[str]:
    if not tags:
        return [f"{context}.tags count must be greater than or equal to 1."]
    errors = []
    for position, (name, value) in enumerate(tags.items()):
        if not name:
            errors.append(f"{context}.tag[{position}].name may not be empty.")
        if not value:
            state = "null" if value is None else "empty"
            errors.append(f"{context}.tag[{name or position}].value may not be {state}.")
    return errors
