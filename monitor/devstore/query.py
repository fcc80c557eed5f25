"""The body of a query, checked and turned into what is to be read and computed.

Checks and messages are those of KairosDB's ``QueryParser`` and its bean validation, as observed on 1.3.0-1.
"""

import json
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, tzinfo
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from monitor.devstore import aggregators, jsontext, timespan
from monitor.devstore.aggregators import Aggregator, ComputeError, Points, Reducer, Stamp
from monitor.devstore.jsontext import JsonObject, Number
from monitor.devstore.values import INT64_MAX, INT64_MIN, StopError, as_text

__all__ = ["MetricQuery", "QueryError", "parse_query"]


class QueryError(Exception):
    """A query that cannot be answered: the status and the messages to answer instead."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class MetricQuery(NamedTuple):
    """One element of a query's ``metrics``; times in ms, both included; ``limit`` 0: none."""

    name: str
    start_ms: int
    end_ms: int
    tags: dict[str, set[str]]
    group_by: Sequence[str] | None
    aggregators: Sequence[Aggregator]
    limit: int
    descending: bool
    exclude_tags: bool


def parse_query(text: str, now_ms: int) -> list[MetricQuery]:
    """What a query asks for, relative times counted from now_ms. Raises QueryError."""
    try:
        query = jsontext.decode(text)
    except json.JSONDecodeError as error:
        raise QueryError(400, f"{error.msg} at line {error.lineno} column {error.colno}") from error
    except RecursionError:
        raise QueryError(400, "The JSON is nested too deeply.") from None
    if not isinstance(query, JsonObject):
        raise QueryError(500, f"Not a JSON Object: {text.strip() or 'null'}")
    try:
        return _query(query, now_ms)
    except StopError as stop:
        raise QueryError(400, stop.message) from stop
    except OverflowError as error:
        raise QueryError(400, f"A time is beyond the calendar: {error}") from error


def _query(query: JsonObject, now_ms: int) -> list[MetricQuery]:
    start_ms, end_ms = _time(query, "start", now_ms), _time(query, "end", now_ms)
    zone = _zone(query.get("time_zone"))
    if _integer(query.get("cache_time", Number("0"))) < 0:
        raise QueryError(400, "cache_time must be greater than or equal to 0")
    metrics = query.get("metrics")
    if metrics is None:
        raise QueryError(400, "query.metric[] must have a size of at least 1")
    return [
        _metric(metric, f"query.metric[{index}]", start_ms, end_ms, zone)
        for index, metric in enumerate(_array(metrics))
    ]


def _metric(metric: Any, context: str, start_ms: int | None, end_ms: int | None, zone: tzinfo) -> MetricQuery:
    if not isinstance(metric, JsonObject):
        raise QueryError(400, f"Not a JSON Object: {_shown(metric)}")
    tags = _tags(metric.get("tags", JsonObject([])), context)
    name = _name(metric, context)
    if start_ms is None:
        raise QueryError(400, f"{context}.start_time relative or absolute time must be set")
    if end_ms is not None and end_ms < start_ms:
        raise QueryError(400, f"{context}.end_time must be greater than the start time")
    order = as_text(metric["order"]).lower() if "order" in metric else "asc"
    if order not in ("asc", "desc"):
        raise QueryError(400, f"{context}.order must be either 'asc' or 'desc'")
    return MetricQuery(
        name=name,
        start_ms=start_ms,
        end_ms=INT64_MAX if end_ms is None else end_ms,
        tags=tags,
        group_by=_group_by(metric.get("group_by", []), f"{context}.group_by"),
        aggregators=_aggregators(metric.get("aggregators", []), f"{context}.aggregators", start_ms, zone),
        limit=max(0, _integer(metric.get("limit", Number("0")), status=500)),
        descending=order == "desc",
        exclude_tags=_boolean(metric.get("exclude_tags", False)),
    )


# --- times ----------------------------------------------------------------------------------------


def _time(query: JsonObject, which: str, now_ms: int) -> int | None:
    absolute = query.get(f"{which}_absolute")
    if absolute is not None:
        return _integer(absolute)
    relative = query.get(f"{which}_relative")
    if relative is None:
        return None
    value, unit = _span(relative, f"{which}_relative", "query")
    return timespan.earlier(now_ms, value, unit)


def _span(span: Any, field: str, unit_context: str) -> tuple[int, str]:
    """The value, 0 or more, and the unit of ``{"value": 1, "unit": "minutes"}``."""
    if not isinstance(span, JsonObject):
        raise QueryError(400, f"Expected BEGIN_OBJECT but was {jsontext.kind(span)} for {field}")
    value = _integer(span.get("value", Number("0")))
    unit = None if span.get("unit") is None else _unit(span["unit"], unit_context)
    if value < 0:
        raise QueryError(400, f"{field}.value must be greater than or equal to 0")
    if unit is None:
        raise QueryError(400, f"{field}.unit may not be null")
    return value, unit


def _unit(value: Any, context: str) -> str:
    unit = as_text(value).upper()
    if unit not in timespan.UNITS:
        units = ",".join(timespan.UNITS)
        raise QueryError(400, f"{context}.{as_text(value)} is not a valid time unit, must be one of {units}")
    return unit


def _zone(value: Any) -> tzinfo:
    name = "UTC" if value is None else as_text(value) or "UTC"
    if name == "UTC":
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        names = ", ".join(sorted(zoneinfo.available_timezones()))
        raise QueryError(400, f"query.{name} is not a valid time zone, must be one of [{names}]") from None


# --- what is read ---------------------------------------------------------------------------------


def _name(metric: JsonObject, context: str) -> str:
    if "name" not in metric:
        raise QueryError(400, f"{context}.name may not be null")
    if metric["name"] is None:
        raise QueryError(500, f"{context}.name may not be null")
    name = as_text(metric["name"])
    if not name:
        raise QueryError(400, f"{context}.name may not be empty")
    return name


def _tags(tags: Any, context: str) -> dict[str, set[str]]:
    """The values wanted of every tag; a tag without any is not a condition."""
    if not isinstance(tags, JsonObject):
        raise QueryError(400, f"Not a JSON Object: {_shown(tags)}")
    wanted = {}
    for position, (name, listed) in enumerate(tags.items()):
        if not name:
            raise QueryError(400, f"{context}.tags[{position}] name must not be empty")
        values = listed if isinstance(listed, list) else [listed]
        if any(value is None or value == "" for value in values):
            raise QueryError(400, f"{context}.tags[{position}].{name} value must not be null or empty")
        if values:
            wanted[name] = {as_text(value) for value in values}
    return wanted


def _group_by(group_bys: Any, context: str) -> Sequence[str] | None:
    """The tags to group by; of several groupings by tag KairosDB takes the first."""
    found = None
    for position, group_by in enumerate(_array(group_bys)):
        name = _processor_name(group_by, f"{context}[{position}]")
        if name != "tag":
            raise QueryError(400, f"{context}[{position}].{name} invalid group_by name")
        _refuse_unknown(group_by, {"tags"}, "core.groupby.TagGroupBy")
        tags = group_by.get("tags")
        if tags is None or tags == []:
            raise QueryError(400, f"{context}[{position}].tags may not be {'null' if tags is None else 'empty'}")
        if not isinstance(tags, list):
            raise QueryError(400, f"Expected BEGIN_ARRAY but was {jsontext.kind(tags)} for tags")
        found = found or [as_text(tag) for tag in tags]
    return found


# --- what is computed -----------------------------------------------------------------------------

_RANGE_PROPERTIES = {"sampling", "align_sampling", "align_start_time", "align_end_time", "trim"}
_KEEP_TYPE = {"first", "last"}
_TAKE_TEXT = {"count"} | _KEEP_TYPE


class _Context(NamedTuple):
    place: str
    start_ms: int
    zone: tzinfo


def _aggregators(aggregators: Any, place: str, start_ms: int, zone: tzinfo) -> list[Aggregator]:
    built = []
    for position, aggregator in enumerate(_array(aggregators)):
        context = _Context(f"{place}[{position}]", start_ms, zone)
        name = _processor_name(aggregator, context.place)
        if name not in _AGGREGATORS:
            raise QueryError(400, f"{context.place}.{name} invalid aggregators name")
        properties, class_name, build = _AGGREGATORS[name]
        _refuse_unknown(aggregator, properties, f"core.aggregator.{class_name}Aggregator")
        built.append(Aggregator(build(aggregator, context), name in _TAKE_TEXT, name not in _KEEP_TYPE))
    return built


def _ranged(reducer: Reducer, aggregator: JsonObject, context: _Context) -> Callable[[Points], Points]:
    value, unit = 1, "MILLISECONDS"
    if "sampling" in aggregator:
        value, unit = _span(aggregator["sampling"], f"{context.place}.sampling", context.place)
    if value == 0:
        return _divided_by_zero
    origin_ms = context.start_ms
    if _boolean(aggregator.get("align_sampling", True)):
        origin_ms = timespan.ranges_origin(origin_ms, unit, context.zone)
    stamp: Stamp = "last" if aggregator["name"] == "last" else "first"
    if _boolean(aggregator.get("align_start_time", False)):
        stamp = "start"
    elif _boolean(aggregator.get("align_end_time", False)):
        stamp = "end"
    return aggregators.ranged(reducer, timespan.ranges(origin_ms, value, unit, context.zone), stamp)


def _divided_by_zero(points: Points) -> Points:
    if points:
        message = "/ by zero"
        raise ComputeError(message)
    return points


def _plain(aggregator: JsonObject, context: _Context) -> Callable[[Points], Points]:
    return _ranged(aggregators.REDUCERS[aggregator["name"]], aggregator, context)


def _percentile(aggregator: JsonObject, context: _Context) -> Callable[[Points], Points]:
    quantile = _double(aggregator, "percentile", context)
    if quantile == 0:
        raise QueryError(400, f"{context.place}.percentile may not be zero")
    return _ranged(aggregators.percentile(quantile), aggregator, context)


def _deviation(aggregator: JsonObject, context: _Context) -> Callable[[Points], Points]:
    return_type = as_text(aggregator.get("return_type", "value")).upper()
    count = _integer(aggregator.get("dev_count", Number("1")))
    return _ranged(aggregators.deviation(return_type, count), aggregator, context)


def _rate(aggregator: JsonObject, context: _Context) -> Callable[[Points], Points]:
    value, unit = 1, "MILLISECONDS"
    if "sampling" in aggregator:
        value, unit = _span(aggregator["sampling"], f"{context.place}.sampling", context.place)
    if "unit" in aggregator:
        value, unit = 1, _unit(aggregator["unit"], context.place)
    return aggregators.rate(value, unit, context.zone)


def _diff(_aggregator: JsonObject, _context: _Context) -> Callable[[Points], Points]:
    return aggregators.diff


def _div(aggregator: JsonObject, context: _Context) -> Callable[[Points], Points]:
    divisor = _double(aggregator, "divisor", context)
    if divisor == 0:
        raise QueryError(400, f"{context.place}.m_divisor may not be zero")
    return aggregators.scaled(lambda value: value / divisor)


def _scale(aggregator: JsonObject, context: _Context) -> Callable[[Points], Points]:
    factor = _double(aggregator, "factor", context)
    return aggregators.scaled(lambda value: value * factor)


_Build = Callable[[JsonObject, _Context], Callable[[Points], Points]]
_AGGREGATORS: Mapping[str, tuple[set[str], str, _Build]] = {
    **{name: (_RANGE_PROPERTIES, name.capitalize(), _plain) for name in aggregators.REDUCERS},
    "percentile": (_RANGE_PROPERTIES | {"percentile"}, "Percentile", _percentile),
    "dev": (_RANGE_PROPERTIES | {"return_type", "dev_count"}, "Std", _deviation),
    "rate": ({"sampling", "unit"}, "Rate", _rate),
    "diff": (set(), "Diff", _diff),
    "div": ({"divisor"}, "Divide", _div),
    "scale": ({"factor"}, "Scale", _scale),
}
"""Name of an aggregator: the properties it takes, its class in KairosDB (for messages), and how it is built."""


# --- JSON values, read as Gson reads them ---------------------------------------------------------


def _array(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise QueryError(500, "This is not a JSON Array.")
    return value


def _processor_name(processor: Any, place: str) -> str:
    if not isinstance(processor, JsonObject):
        raise QueryError(500, f"Not a JSON Object: {_shown(processor)}")
    name = processor.get("name")
    if name is None or name == "":
        raise QueryError(400, f"{place} must have a name")
    return as_text(name)


def _refuse_unknown(processor: JsonObject, properties: set[str], class_name: str) -> None:
    for name in processor:
        if name != "name" and name not in properties:
            message = (
                f"Property '{name}' was specified for object '{processor['name']}' "
                f"but no matching setter was found on 'class org.kairosdb.{class_name}'"
            )
            raise QueryError(400, message)


def _integer(value: Any, status: int = 400) -> int:
    """A 64-bit integer from a number or text; a fraction is cut off, as Gson does it in a tree."""
    try:
        number = Decimal(as_text(value))
        if number.adjusted() < 20 and INT64_MIN <= number <= INT64_MAX:
            return int(number)
    except (InvalidOperation, ValueError):
        pass
    raise QueryError(status, f'For input string: "{as_text(value)}"')


def _double(aggregator: JsonObject, name: str, context: _Context) -> float:
    value = as_text(aggregator.get(name, Number("0")))
    try:
        return float(value)
    except ValueError:
        raise QueryError(400, f'{context.place}.{name} For input string: "{value}"') from None


def _boolean(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.lower() == "true")


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, Number) else json.dumps(value, ensure_ascii=False)
