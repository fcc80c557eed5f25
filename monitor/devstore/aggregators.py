"""KairosDB's aggregators over the points of one group, with its arithmetic: doubles, added up in order."""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import tzinfo
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from monitor.devstore.timespan import RangeOf, duration_ms
from monitor.devstore.values import Value

__all__ = [
    "REDUCERS",
    "Aggregator",
    "ComputeError",
    "Points",
    "Reducer",
    "Stamp",
    "deviation",
    "diff",
    "percentile",
    "ranged",
    "rate",
    "scaled",
]

Points = Sequence[tuple[int, Any]]
"""(timestamp in ms, value), sorted by both, descending if the query says so; values are all numbers or all text."""
Reducer = Callable[[list[Any]], Value]
Stamp = Literal["first", "last", "start", "end"]
"""Which time a range's result has: its first or last point's, the range's start, or the next range's start."""


class ComputeError(Exception):
    """What was asked cannot be computed from the points; KairosDB answers 500."""


class Aggregator(NamedTuple):
    """One step of a query's pipeline; a step that is not for text leaves groups of text as they are."""

    apply: Callable[[Points], Points]
    takes_text: bool = False
    gives_numbers: bool = True


def ranged(reducer: Reducer, range_of: RangeOf, stamp: Stamp) -> Callable[[Points], Points]:
    """One value for every range that holds points. Points that descend in time all fall into the range of the first:
    KairosDB looks at the ends of ranges only."""

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


def rate(value: int, unit: str, zone: tzinfo) -> Callable[[Points], Points]:
    """Change per that much time, from each point to the next; the stamp is the later point's."""

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


def diff(points: Points) -> Points:
    """The change from each point to the next."""
    return [(later_ms, float(after) - float(before)) for (_, before), (later_ms, after) in pairwise(points)]


def scaled(scale: Callable[[float], float]) -> Callable[[Points], Points]:
    """Every value through one function."""
    return lambda points: [(at_ms, scale(float(value))) for at_ms, value in points]


def percentile(quantile: float) -> Reducer:
    """The quantile by linear interpolation at q * (n + 1). KairosDB looks at a random sample of 1,028 of the values
    where a range holds more; here all count."""

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


def deviation(return_type: str | None, dev_count: int) -> Reducer:
    """The sample standard deviation by KairosDB's running formula, 0 for a single value; with ``POS_SD`` or ``NEG_SD``
    the average plus or minus dev_count of them."""

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
    for value in values:  # not sum(): from Python 3.12 on it makes up for rounding, which KairosDB does not
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


REDUCERS: Mapping[str, Reducer] = {
    "sum": _sum,
    "avg": _avg,
    "min": _min,
    "max": _max,
    "count": len,
    "first": _first,
    "last": _last,
}
"""The range aggregators without properties of their own."""
