"""Rules, told: an experiment's rule as a tree in words, each clause with the event of a visit that met it. Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec
from msgspec import Struct

from monitor.core.definitions import All, AnyOf, Condition, MeasurementPoint, PointMet, Predicate, Rule
from monitor.core.predicates import holds

AttributeOf: TypeAlias = Callable[[str], Any]


class Moment(Struct, frozen=True, order=True):
    """An event of a visit, as a point in its order; `arrival`: the how manieth message of the session it was."""

    time_ms: int
    event_id: str
    arrival: int


class Happened(NamedTuple):
    """An accepted event, as rules look at it; `attribute` gives None for what counts as absent."""

    moment: Moment
    name: str
    attribute: AttributeOf


class Clause(Struct, frozen=True):
    """A rule or a part of one.

    `kind`: all, any, predicate or point; `words`: what it asks for; `met`: the event that met it, None if none did;
    `matches`: how many events of the visit meet the predicate (of all and any: 0).
    """

    kind: str
    words: str
    met: Moment | None
    nth: int | None = None
    matches: int = 0
    parts: tuple["Clause", ...] = ()


def told(rule: Rule, points: Mapping[str, MeasurementPoint], visit: Sequence[Happened]) -> Clause:
    """A rule with what met it in a visit, whose events are given in order."""
    match rule:
        case All(rules):
            parts = tuple(told(part, points, visit) for part in rules)
            moments = [part.met for part in parts if part.met is not None]
            return Clause("all", "all of", max(moments) if len(moments) == len(parts) else None, parts=parts)
        case AnyOf(rules):
            parts = tuple(told(part, points, visit) for part in rules)
            return Clause("any", "any of", min((p.met for p in parts if p.met is not None), default=None), parts=parts)
        case PointMet(name):
            point = points[name]
            which = "" if point.nth is None else f"{ordinal(point.nth)} "
            words = f"point {name}: {which}{predicate_words(point.predicate)}"
            return _leaf("point", words, point.predicate, point.nth, visit)
        case Predicate():
            return _leaf("predicate", predicate_words(rule), rule, None, visit)


def _leaf(kind: str, words: str, predicate: Predicate, nth: int | None, visit: Sequence[Happened]) -> Clause:
    matching = [event.moment for event in visit if meets(event, predicate)]
    wanted = nth or 1
    met = matching[wanted - 1] if len(matching) >= wanted else None
    return Clause(kind, words, met, nth, len(matching))


def meets(event: Happened, predicate: Predicate) -> bool:
    """Whether an event meets a predicate."""
    if predicate.events is not None and event.name not in predicate.events:
        return False
    return all(holds(condition, event.attribute(name)) for name, condition in predicate.where)


def predicate_words(predicate: Predicate) -> str:
    """A predicate in words: `page_view or click where page is "home" and total is at least 2`."""
    events = "any event" if predicate.events is None else " or ".join(predicate.events)
    conditions = " and ".join(f"{name} {_condition_words(condition)}" for name, condition in predicate.where)
    return f"{events} where {conditions}" if conditions else events


def _condition_words(condition: Condition) -> str:
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
    return msgspec.json.encode(value).decode()


def ordinal(n: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th, 21st, ..."""
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"
