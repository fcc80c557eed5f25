"""The body of a query, checked and turned into a `MetricQuery` for each metric.

Checks and messages are those of KairosDB's ``QueryParser`` and its bean validation, as observed on 1.3.0-1.
"""

import json
import zoneinfo
from collections.abc import Sequence
from datetime import UTC, tzinfo
from typing import Any, NamedTuple

from monitor.devstore import lossless_json, time_units
from monitor.devstore.aggregators import Aggregator, parse_aggregators
from monitor.devstore.datapoint_values import INT64_MAX, StopError, as_text
from monitor.devstore.lossless_json import JsonObject, Number
from monitor.devstore.query_fields import (
    QueryError,
    array_of,
    boolean_of,
    integer_of,
    json_text,
    processor_name,
    refuse_unknown,
    span_of,
)

__all__ = ["MetricQuery", "parse_query"]


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
    """The metrics that a query asks for; relative times are counted back from now_ms. Raises QueryError."""
    try:
        query = lossless_json.decode(text)
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
    if integer_of(query.get("cache_time", Number("0"))) < 0:
        raise QueryError(400, "cache_time must be greater than or equal to 0")
    metrics = query.get("metrics")
    if metrics is None:
        raise QueryError(400, "query.metric[] must have a size of at least 1")
    return [
        _metric(metric, f"query.metric[{index}]", start_ms, end_ms, zone)
        for index, metric in enumerate(array_of(metrics))
    ]


def _metric(metric: Any, context: str, start_ms: int | None, end_ms: int | None, zone: tzinfo) -> MetricQuery:
    if not isinstance(metric, JsonObject):
        raise QueryError(400, f"Not a JSON Object: {json_text(metric)}")
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
        aggregators=parse_aggregators(metric.get("aggregators", []), f"{context}.aggregators", start_ms, zone),
        limit=max(0, integer_of(metric.get("limit", Number("0")), status=500)),
        descending=order == "desc",
        exclude_tags=boolean_of(metric.get("exclude_tags", False)),
    )


# --- times ----------------------------------------------------------------------------------------


def _time(query: JsonObject, which: str, now_ms: int) -> int | None:
    absolute = query.get(f"{which}_absolute")
    if absolute is not None:
        return integer_of(absolute)
    relative = query.get(f"{which}_relative")
    if relative is None:
        return None
    value, unit = span_of(relative, f"{which}_relative", "query")
    return time_units.earlier(now_ms, value, unit)


def _zone(value: Any) -> tzinfo:
    name = "UTC" if value is None else as_text(value) or "UTC"
    if name == "UTC":
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        names = ", ".join(sorted(zoneinfo.available_timezones()))
        raise QueryError(400, f"query.{name} is not a valid time zone, must be one of [{names}]") from None


# --- series and groups ---------------------------------------------------------------------------------


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
    """The values to match of every tag; a tag with an empty list is no condition."""
    if not isinstance(tags, JsonObject):
        raise QueryError(400, f"Not a JSON Object: {json_text(tags)}")
    conditions = {}
    for position, (name, listed) in enumerate(tags.items()):
        if not name:
            raise QueryError(400, f"{context}.tags[{position}] name must not be empty")
        values = listed if isinstance(listed, list) else [listed]
        if any(value is None or value == "" for value in values):
            raise QueryError(400, f"{context}.tags[{position}].{name} value must not be null or empty")
        if values:
            conditions[name] = {as_text(value) for value in values}
    return conditions


def _group_by(group_bys: Any, context: str) -> Sequence[str] | None:
    """The tags to group by; of several groupings by tag KairosDB takes the first."""
    tag_names = None
    for position, group_by in enumerate(array_of(group_bys)):
        name = processor_name(group_by, f"{context}[{position}]")
        if name != "tag":
            raise QueryError(400, f"{context}[{position}].{name} invalid group_by name")
        refuse_unknown(group_by, {"tags"}, "core.groupby.TagGroupBy")
        tags = group_by.get("tags")
        if tags is None or tags == []:
            raise QueryError(400, f"{context}[{position}].tags may not be {'null' if tags is None else 'empty'}")
        if not isinstance(tags, list):
            raise QueryError(400, f"Expected BEGIN_ARRAY but was {lossless_json.kind(tags)} for tags")
        tag_names = tag_names or [as_text(tag) for tag in tags]
    return tag_names
