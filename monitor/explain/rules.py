"""An experiment's rule as a tree of clauses in words, each with the event of a visit that met it. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from msgspec import Struct

from monitor.core import wording
from monitor.core.definitions import All, AnyOf, MeasurementPoint, PointMet, Predicate, Rule
from monitor.core.predicates import holds

AttributeOf: TypeAlias = Callable[[str], Any]


class Moment(Struct, frozen=True, order=True):
    """An event of a visit, as a position in its order; `arrival`: its number among the messages of the session."""

    time_ms: int
    event_id: str
    arrival: int


class Happened(NamedTuple):
    """An accepted event as rules see it; `attribute` gives None for a value that counts as absent."""

    moment: Moment
    name: str
    attribute: AttributeOf


class Clause(Struct, frozen=True):
    """A rule or a part of one.

    `kind`: all, any, predicate or point. `words`: the condition. `met`: the event that met it, None if none did.
    `matches`: the number of events of the visit that meet the predicate (0 for all and any).
    """

    kind: str
    words: str
    met: Moment | None
    nth: int | None = None
    matches: int = 0
    parts: tuple["Clause", ...] = ()


def clause_of(rule: Rule, points: Mapping[str, MeasurementPoint], visit: Sequence[Happened]) -> Clause:
    """A rule as a clause, with the events that met it in a visit, whose events are given in order."""
    match rule:
        case All(rules):
            parts = tuple(clause_of(part, points, visit) for part in rules)
            moments = [part.met for part in parts if part.met is not None]
            return Clause("all", "all of", max(moments) if len(moments) == len(parts) else None, parts=parts)
        case AnyOf(rules):
            parts = tuple(clause_of(part, points, visit) for part in rules)
            return Clause("any", "any of", min((p.met for p in parts if p.met is not None), default=None), parts=parts)
        case PointMet(name):
            point = points[name]
            words = f"point {name}: {wording.point(point)}"
            return _leaf("point", words, point.predicate, point.nth, visit)
        case Predicate():
            return _leaf("predicate", wording.predicate(rule), rule, None, visit)


def _leaf(kind: str, words: str, predicate: Predicate, nth: int | None, visit: Sequence[Happened]) -> Clause:
    matching = [event.moment for event in visit if meets(event, predicate)]
    number = nth or 1
    met = matching[number - 1] if len(matching) >= number else None
    return Clause(kind, words, met, nth, len(matching))


def meets(event: Happened, predicate: Predicate) -> bool:
    """True if an event meets a predicate."""
    if predicate.events is not None and event.name not in predicate.events:
        return False
    return all(holds(condition, event.attribute(name)) for name, condition in predicate.where)
