"""Execution of queries over one snapshot of the store: read, group, aggregate; results are plain values."""

import math
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from monitor.devstore.aggregators import Aggregator, ComputeError, Points
from monitor.devstore.database import Snapshot, StoredSeries, matches
from monitor.devstore.query_fields import QueryError
from monitor.devstore.query_parser import MetricQuery

__all__ = ["QUERY_POINTS_MAX", "answer_query", "answer_tags_query"]

QUERY_POINTS_MAX = 2_000_000
"""Points that one request may read; beyond it the answer is 500, as of a KairosDB that runs out of memory."""

_GROUP_TYPES = {"long": "number", "double": "number", "string": "text"}
_JAVA_DECIMAL_BELOW = 1e7
"""Java writes doubles of this size and above as 1.0E7; below it KairosDB strips ``.0``."""

Row = tuple[StoredSeries, Points]


def answer_query(snapshot: Snapshot, queries: Sequence[MetricQuery]) -> dict[str, Any]:
    """The answer to ``/datapoints/query``. Raises QueryError(500) where KairosDB fails while it computes."""
    budget = QUERY_POINTS_MAX
    answers = []
    for query in queries:
        rows = list(_rows(snapshot, query, budget))
        sample_size = sum(len(points) for _, points in rows)
        budget -= sample_size
        try:
            results = list(_results(query, rows))
        except (ComputeError, OverflowError) as error:
            raise QueryError(500, str(error)) from error
        answers.append({"sample_size": sample_size, "results": results})
    return {"queries": answers}


def answer_tags_query(snapshot: Snapshot, queries: Sequence[MetricQuery]) -> dict[str, Any]:
    """The answer to ``/datapoints/query/tags``: the tags of the matching series, at any time."""
    answers = []
    for query in queries:
        matching = [series for series in snapshot.series(query.name) if matches(series, query.tags)]
        answers.append({"results": [{"name": query.name, "tags": _tags(matching), "values": []}]})
    return {"queries": answers}


def _rows(snapshot: Snapshot, query: MetricQuery, budget: int) -> Iterator[Row]:
    """The matching series that have points, with their points; QueryError(500) if these exceed the budget."""
    for series in snapshot.series(query.name):
        if not matches(series, query.tags):
            continue
        limit = min(query.limit or budget + 1, budget + 1)
        points = snapshot.points(series.id, query.start_ms, query.end_ms, limit=limit, descending=query.descending)
        budget -= len(points)
        if budget < 0:
            raise QueryError(500, f"The query reads more than {QUERY_POINTS_MAX} points; ask for less at once.")
        if points:
            yield series, points


def _results(query: MetricQuery, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    groups: dict[tuple[str, str, tuple[str, ...]], list[Row]] = {}
    for series, points in rows:
        values = tuple(series.tags.get(tag, "") for tag in query.group_by or ())
        order = "".join(tag + value for tag, value in zip(query.group_by or (), values, strict=True))
        groups.setdefault((_GROUP_TYPES[series.type], order, values), []).append((series, points))
    for (group_type, _, values), members in sorted(groups.items(), key=lambda group: group[0]):
        group_by: list[dict[str, Any]] = [{"name": "type", "type": group_type}]
        if query.group_by is not None:
            group = dict(zip(query.group_by, values, strict=True))
            group_by.insert(0, {"name": "tag", "tags": query.group_by, "group": group})
        result: dict[str, Any] = {"name": query.name, "group_by": group_by}
        if not query.exclude_tags:
            result["tags"] = _tags([series for series, _ in members])
        points = _merged([points for _, points in members], descending=query.descending)
        if query.limit:
            points = points[: query.limit]
        result["values"] = _json_points(_aggregated(points, query.aggregators, group_type))
        yield result


def _merged(rows: Sequence[Points], *, descending: bool) -> Points:
    if len(rows) == 1:
        return rows[0]
    return sorted(chain.from_iterable(rows), reverse=descending)


def _aggregated(points: Points, aggregators: Sequence[Aggregator], group_type: str) -> Points:
    for aggregator in aggregators:
        if group_type == "number" or aggregator.takes_text:
            points = aggregator.apply(points)
            group_type = "number" if aggregator.gives_numbers else group_type
    return points


def _tags(series: Sequence[StoredSeries]) -> dict[str, list[str]]:
    values: dict[str, set[str]] = {}
    for stored in series:
        for name, value in stored.tags.items():
            values.setdefault(name, set()).add(value)
    return {name: sorted(values[name]) for name in sorted(values)}


def _json_points(points: Points) -> list[tuple[int, Any]]:
    """Points for JSON, doubles as KairosDB writes them: integral ones without a fraction below 10,000,000."""
    json_points: list[tuple[int, Any]] = []
    for at_ms, value in points:
        if type(value) is float:
            if value.is_integer():
                if -_JAVA_DECIMAL_BELOW < value < _JAVA_DECIMAL_BELOW:
                    value = int(value)
            elif not math.isfinite(value):
                message = f"NaN or Infinity:{value}"
                raise ComputeError(message)
        json_points.append((at_ms, value))
    return json_points
