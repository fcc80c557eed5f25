"""Definitions in words: predicates, points and rules, for the page, `monitor explain` and Grafana. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from monitor.core.definitions import All, AnyOf, Condition, MeasurementPoint, PointMet, Predicate, Rule


def rule(of: Rule, points: Mapping[str, MeasurementPoint]) -> str:
    """A rule in words: `both page_view where page is "cart" and (either order or click)`.

    Raises KeyError if it names a point that is not among `points`.
    """
    match of:
        case PointMet(name):
            return f"{point(points[name])} (the metric {name})"
        case Predicate():
            return predicate(of)
        case All(parts):
            return _combined("both", "all of", " and ", parts, points)
        case AnyOf(parts):
            return _combined("either", "any of", " or ", parts, points)


def point(of: MeasurementPoint) -> str:
    """The events that count for a measurement point: `2nd page_view where page is "home"`."""
    return predicate(of.predicate) if of.nth is None else f"{ordinal(of.nth)} {predicate(of.predicate)}"


def predicate(of: Predicate) -> str:
    """A predicate in words: `page_view or click where page is "home" and total is at least 2`."""
    events = "any event" if of.events is None else " or ".join(of.events)
    conditions = " and ".join(f"{name} {_condition(condition)}" for name, condition in of.where)
    return f"{events} where {conditions}" if conditions else events


def ordinal(n: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th, 21st, ..."""
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"


def _combined(
    two: str, more: str, between: str, parts: tuple[Rule, ...], points: Mapping[str, MeasurementPoint]
) -> str:
    if len(parts) == 1:
        return rule(parts[0], points)
    words = [f"({rule(part, points)})" if isinstance(part, All | AnyOf) else rule(part, points) for part in parts]
    return f"{two} {between.join(words)}" if len(parts) == 2 else f"{more} {'; '.join(words)}"


def _condition(condition: Condition) -> str:
    return "is " + (" and ".join(_tests(condition)) or "anything")


def _tests(condition: Condition) -> Iterator[str]:
    if condition.exists is not None:
        yield "present" if condition.exists else "absent"
    if condition.any_of is not None:
        yield " or ".join(map(_json, condition.any_of))
    if condition.none_of is not None:
        yield "present and not " + " or ".join(map(_json, condition.none_of))
    if condition.minimum is not None:
        yield f"at least {_json(condition.minimum)}"
    if condition.maximum is not None:
        yield f"at most {_json(condition.maximum)}"


def _json(value: Any) -> str:
    """A value as JSON, which tells the text "1" from the number 1."""
    return msgspec.json.encode(value).decode()
