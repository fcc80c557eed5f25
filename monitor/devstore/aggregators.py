"""KairosDB's aggregators: how each is read from a query's JSON, and its arithmetic over the points of one group.

Sums are of doubles, added in order, as in KairosDB. A new aggregator is a function and a line in `_AGGREGATORS`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import tzinfo
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from monitor.devstore import time_units
from monitor.devstore.datapoint_values import Value, as_text
from monitor.devstore.lossless_json import JsonObject, Number
from monitor.devstore.query_fields import (
    QueryError,
    array_of,
    boolean_of,
    double_of,
    integer_of,
    processor_name,
    refuse_unknown,
    span_of,
    unit_of,
)
from monitor.devstore.time_units import RangeOf, duration_ms

__all__ = ["Aggregator", "ComputeError", "Points", "parse_aggregators"]

Points = Sequence[tuple[int, Any]]
"""(timestamp in ms, value), sorted by both, descending if the query says so; values are all numbers or all text."""
_Reducer = Callable[[list[Any]], Value]
_Stamp = Literal["first", "last", "start", "end"]
"""The timestamp of a range's result: that of its first or last point, the range's start, or the next range's start."""


class ComputeError(Exception):
    """An aggregator cannot be computed from the points; KairosDB answers 500."""


class Aggregator(NamedTuple):
    """One step of a query's pipeline; a step that does not take text leaves groups of text unchanged."""

    apply: Callable[[Points], Points]
    takes_text: bool = False
    gives_numbers: bool = True


def parse_aggregators(aggregators: Any, place: str, start_ms: int, zone: tzinfo) -> list[Aggregator]:
    """The pipeline that a query asks for; `place` is the array's place in it, for messages. Raises QueryError."""
    built = []
    for position, aggregator in enumerate(array_of(aggregators)):
        context = _Context(f"{place}[{position}]", start_ms, zone)
        name = processor_name(aggregator, context.place)
        if name not in _AGGREGATORS:
            raise QueryError(400, f"{context.place}.{name} invalid aggregators name")
        properties, class_name, build = _AGGREGATORS[name]
        refuse_unknown(aggregator, properties, f"core.aggregator.{class_name}Aggregator")
        built.append(Aggregator(build(aggregator, context), name in _TAKE_TEXT, name not in _KEEP_TYPE))
    return built


# --- arithmetic -----------------------------------------------------------------------------------


def _ranged(reducer: _Reducer, range_of: RangeOf, stamp: _Stamp) -> Callable[[Points], Points]:
    """One value for every range that holds points.

    Points in descending order of time all fall into the range of the first, because KairosDB checks only the ends of
    ranges.
    """

    def apply(points: Points) -> Points:
        times, values = [at_ms for at_ms, _ in points], [value for _, value in points]
        result: list[tuple[int, Value]] = []
        position, count = 0, len(points)
        while position < count:
            begin = position
            at_ms = times[begin]
            start_ms, end_ms = range_of(at_ms)
            position += 1
            while position < count and times[position] < end_ms:
                position += 1
            if stamp == "start":
                at_ms = start_ms
            elif stamp == "end":
                at_ms = end_ms
            elif stamp == "last":
                at_ms = times[position - 1]
            result.append((at_ms, reducer(values[begin:position])))
        return result

    return apply


def _rate(value: int, unit: str, zone: tzinfo) -> Callable[[Points], Points]:
    """The change per `value` units of time from each point to the next, at the later point's timestamp."""

    def apply(points: Points) -> Points:
        result = []
        for (at_ms, before), (later_ms, after) in pairwise(points):
            if later_ms == at_ms:
                message = (
                    "The rate aggregator cannot compute rate for data points with the same time stamp.  "
                    "You must precede rate with another aggregator."
                )
                raise ComputeError(message)
            change = float(after) - float(before)
            result.append((later_ms, change / (later_ms - at_ms) * duration_ms(at_ms, value, unit, zone)))
        return result

    return apply


def _diff(points: Points) -> Points:
    """The change from each point to the next."""
    return [(later_ms, float(after) - float(before)) for (_, before), (later_ms, after) in pairwise(points)]


def _scaled(scale: Callable[[float], float]) -> Callable[[Points], Points]:
    """One function applied to every value."""
    return lambda points: [(at_ms, scale(float(value))) for at_ms, value in points]


def _percentile(quantile: float) -> _Reducer:
    """The quantile by linear interpolation at q * (n + 1).

    KairosDB takes a random sample of 1,028 values where a range holds more; this uses all of them.
    """

    def reducer(values: list[Any]) -> float:
        if not 0.0 <= quantile <= 1.0:
            message = f"{quantile} is not in [0..1]"
            raise ComputeError(message)
        ordered = sorted(values)
        rank = quantile * (len(ordered) + 1)
        if rank < 1:
            return float(ordered[0])
        if rank >= len(ordered):
            return float(ordered[-1])
        lower, upper = float(ordered[int(rank) - 1]), float(ordered[int(rank)])
        return lower + (rank - math.floor(rank)) * (upper - lower)

    return reducer


def _deviation(return_type: str | None, dev_count: int) -> _Reducer:
    """The sample standard deviation by KairosDB's running formula, 0 for a single value.

    With ``POS_SD`` or ``NEG_SD`` it is the average plus or minus dev_count standard deviations.
    """

    def reducer(values: list[Any]) -> float:
        average = square_average = 0.0
        for count, value in enumerate(values, start=1):
            number = float(value)
            average += (number - average) / count
            square_average += (number * number - square_average) / count
        count = len(values)
        spread = square_average * count - count * average * average
        standard = math.sqrt(spread / (count - 1)) if count > 1 and spread > 0 else 0.0
        if return_type == "POS_SD":
            return average + standard * dev_count
        if return_type == "NEG_SD":
            return average - standard * dev_count
        return standard

    return reducer


def _sum(values: list[Any]) -> float:
    total = 0.0
    for value in values:  # not sum(): from Python 3.12 on it compensates for rounding, which KairosDB does not
        total += value
    return total


def _avg(values: list[Any]) -> float:
    return _sum(values) / len(values)


def _min(values: list[Any]) -> float:
    return float(min(values))


def _max(values: list[Any]) -> float:
    return float(max(values))


def _first(values: list[Any]) -> Value:
    first: Value = values[0]
    return first


def _last(values: list[Any]) -> Value:
    last: Value = values[-1]
    return last


_REDUCERS: Mapping[str, _Reducer] = {
    "sum": _sum,
    "avg": _avg,
    "min": _min,
    "max": _max,
    "count": len,
    "first": _first,
    "last": _last,
}
"""The range aggregators without properties of their own."""


# --- built from a query's JSON --------------------------------------------------------------------

_RANGE_PROPERTIES = {"sampling", "align_sampling", "align_start_time", "align_end_time", "trim"}
_KEEP_TYPE = {"first", "last"}
_TAKE_TEXT = {"count"} | _KEEP_TYPE


class _Context(NamedTuple):
    place: str
    start_ms: int
    zone: tzinfo


def _build_ranged(reducer: _Reducer, aggregator: JsonObject, context: _Context) -> Callable[[Points], Points]:
    value, unit = 1, "MILLISECONDS"
    if "sampling" in aggregator:
        value, unit = span_of(aggregator["sampling"], f"{context.place}.sampling", context.place)
    if value == 0:
        return _divided_by_zero
    origin_ms = context.start_ms
    if boolean_of(aggregator.get("align_sampling", True)):
        origin_ms = time_units.ranges_origin(origin_ms, unit, context.zone)
    stamp: _Stamp = "last" if aggregator["name"] == "last" else "first"
    if boolean_of(aggregator.get("align_start_time", False)):
        stamp = "start"
    elif boolean_of(aggregator.get("align_end_time", False)):
        stamp = "end"
    return _ranged(reducer, time_units.ranges(origin_ms, value, unit, context.zone), stamp)


def _divided_by_zero(points: Points) -> Points:
    if points:
        message = "/ by zero"
        raise ComputeError(message)
    return points


def _build_plain(aggregator: JsonObject, context: _Context) -> Callable[[Points], Points]:
    return _build_ranged(_REDUCERS[aggregator["name"]], aggregator, context)


def _build_percentile(aggregator: JsonObject, context: _Context) -> Callable[[Points], Points]:
    quantile = double_of(aggregator, "percentile", context.place)
    if quantile == 0:
        raise QueryError(400, f"{context.place}.percentile may not be zero")
    return _build_ranged(_percentile(quantile), aggregator, context)


def _build_deviation(aggregator: JsonObject, context: _Context) -> Callable[[Points], Points]:
    return_type = as_text(aggregator.get("return_type", "value")).upper()
    count = integer_of(aggregator.get("dev_count", Number("1")))
    return _build_ranged(_deviation(return_type, count), aggregator, context)


def _build_rate(aggregator: JsonObject, context: _Context) -> Callable[[Points], Points]:
    value, unit = 1, "MILLISECONDS"
    if "sampling" in aggregator:
        value, unit = span_of(aggregator["sampling"], f"{context.place}.sampling", context.place)
    if "unit" in aggregator:
        value, unit = 1, unit_of(aggregator["unit"], context.place)
    return _rate(value, unit, context.zone)


def _build_diff(_aggregator: JsonObject, _context: _Context) -> Callable[[Points], Points]:
    return _diff


def _build_div(aggregator: JsonObject, context: _Context) -> Callable[[Points], Points]:
    divisor = double_of(aggregator, "divisor", context.place)
    if divisor == 0:
        raise QueryError(400, f"{context.place}.m_divisor may not be zero")
    return _scaled(lambda value: value / divisor)


def _build_scale(aggregator: JsonObject, context: _Context) -> Callable[[Points], Points]:
    factor = double_of(aggregator, "factor", context.place)
    return _scaled(lambda value: value * factor)


_Build = Callable[[JsonObject, _Context], Callable[[Points], Points]]
_AGGREGATORS: Mapping[str, tuple[set[str], str, _Build]] = {
    **{name: (_RANGE_PROPERTIES, name.capitalize(), _build_plain) for name in _REDUCERS},
    "percentile": (_RANGE_PROPERTIES | {"percentile"}, "Percentile", _build_percentile),
    "dev": (_RANGE_PROPERTIES | {"return_type", "dev_count"}, "Std", _build_deviation),
    "rate": ({"sampling", "unit"}, "Rate", _build_rate),
    "diff": (set(), "Diff", _build_diff),
    "div": ({"divisor"}, "Divide", _build_div),
    "scale": ({"factor"}, "Scale", _build_scale),
}
"""Name of an aggregator: the properties it takes, its class in KairosDB (for messages), and how it is built."""
