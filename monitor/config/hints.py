"""Warnings about a valid configuration: what is allowed, and most likely not meant. Pure.

Each is a place and a sentence, as an error is. What several tenants have alike is told once.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from monitor.config.errors import SettingError, names, shown
from monitor.core.definitions import (
    All,
    AnyOf,
    Condition,
    Experiment,
    MeasurementPoint,
    PointMet,
    Predicate,
    Rule,
    Scalar,
    Tenant,
)
from monitor.core.predicates import is_number

TEXT, NUMBER, BOOLEAN = "text", "a number", "true or false"
NAMED_MAX = 8
"""Tenants or places that a warning names; of more it says how many."""


class Use(NamedTuple):
    """A place that takes an attribute for one JSON type, and the value that shows it."""

    attribute: str
    kind: str
    place: str
    value: Scalar | None


def hints(tenants: Sequence[Tenant]) -> list[SettingError]:
    """All warnings, in the order of the file."""
    places: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for tenant in tenants:
        for place, message in _of_tenant(tenant):
            places[place, message].append(tenant.name)
    return [SettingError(_place(of, place), message) for (place, message), of in places.items()]


def _place(tenants: Sequence[str], place: str) -> str:
    first, *others = tenants
    also = f" (also of {_some(others)})" if others else ""
    return f"tenants.{first}{'.' if place else ''}{place}{also}"


def _of_tenant(tenant: Tenant) -> Iterator[tuple[str, str]]:
    predicates = list(_predicates(tenant))
    for place, predicate in predicates:
        for attribute, condition in predicate.where:
            yield from ((f"{place}.where.{attribute}", why) for why in _contradictions(condition))
    yield from _types(list(_uses(tenant, predicates)))
    for experiment in tenant.experiments:
        place = f"experiments.{experiment.name}"
        yield from ((f"{place}.variations", why) for why in _variations(experiment))
        yield from ((f"{place}.qualified_when", why) for why in _points_before(tenant.points, experiment))
    yield from _shared(tenant)


def _predicates(tenant: Tenant) -> Iterator[tuple[str, Predicate]]:
    """All predicates, each with its place below the tenant."""
    for point in tenant.points:
        yield f"points.{point.name}", point.predicate
    for experiment in tenant.experiments:
        yield from _of_rule(experiment.qualified_when, f"experiments.{experiment.name}.qualified_when")


def _of_rule(rule: Rule, place: str) -> Iterator[tuple[str, Predicate]]:
    match rule:
        case Predicate():
            yield place, rule
        case All(rules) | AnyOf(rules):
            case = "all" if isinstance(rule, All) else "any"
            for i, part in enumerate(rules):
                yield from _of_rule(part, f"{place}.{case}.{i}")


def _contradictions(condition: Condition) -> Iterator[str]:
    low, high = condition.minimum, condition.maximum
    if low is not None and high is not None and low > high:
        yield f"can never be met: min {shown(low)} is above max {shown(high)}"
    if condition.exists is False and (condition.none_of is not None or low is not None or high is not None):
        yield "can never be met: the attribute must be absent, and have a value"


def _uses(tenant: Tenant, predicates: Sequence[tuple[str, Predicate]]) -> Iterator[Use]:
    """The places that are met by one JSON type only; one that lists several types is meant so."""
    for point in tenant.points:
        if point.value is not None:
            yield Use(point.value.attribute, NUMBER, f"points.{point.name}.value", None)
    for place, predicate in predicates:
        for attribute, condition in predicate.where:
            where = f"{place}.where.{attribute}"
            if condition.minimum is not None or condition.maximum is not None:
                yield Use(attribute, NUMBER, where, None)
            kinds = {_kind(value): value for value in condition.any_of or ()}
            if len(kinds) == 1:
                ((kind, value),) = kinds.items()
                yield Use(attribute, kind, where, value)


def _kind(value: Scalar) -> str:
    if isinstance(value, bool):
        return BOOLEAN
    return NUMBER if is_number(value) else TEXT


def _types(uses: Sequence[Use]) -> Iterator[tuple[str, str]]:
    """Attributes that are taken for different types; texts that are written like another type."""
    by_attribute: defaultdict[str, dict[str, Use]] = defaultdict(dict)
    for use in uses:
        by_attribute[use.attribute].setdefault(use.kind, use)
    for use in uses:
        others = [other for kind, other in by_attribute[use.attribute].items() if kind != use.kind]
        if others and use.kind == TEXT:
            rule = f"expects {TEXT}, but {others[0].place} expects {others[0].kind} of the same attribute"
            yield use.place, f"{rule}: JSON types must agree, so one of them can never be met"
        elif isinstance(use.value, str) and _written_like(use.value):
            rule = f'is met by the text "{use.value}" only, never by {_written_like(use.value)}'
            yield use.place, f"{rule}: write {use.value} without quotation marks if that is what events carry"


def _written_like(text: str) -> str:
    """The type whose JSON text this is; nothing for a text like any other."""
    if text in ("true", "false"):
        return f"the boolean {text}"
    digits = text.removeprefix("-").replace(".", "", 1)
    return f"the number {text}" if digits.isdecimal() and digits.isascii() else ""


def _variations(experiment: Experiment) -> Iterator[str]:
    weighted = [name for name, weight in experiment.variations if weight > 0]
    if len(experiment.variations) == 1:
        yield f"has only {weighted[0]}: there is nothing to compare it with"
    elif len(weighted) == 1:
        yield f"has all its weight on {weighted[0]}: no visit is expected in the others"


def _points_before(points: Sequence[MeasurementPoint], experiment: Experiment) -> Iterator[str]:
    """Points that come before what the rule needs, if visits meet points in the order of the file."""
    needed = _needed(experiment.qualified_when, points)
    never = [point.name for point in points if _is_over(point, experiment.qualified_when, points)]
    if never:
        yield f"is met only after {_some(never)}: {_zero(never)} for qualified visits"
    before = [point.name for point in points[:needed] if point.name not in never]
    if needed > 0 and before:
        yield (
            f"needs {points[needed].name}, which stands behind {_some(before)}: if visits meet the points in this "
            f"order, {_zero(before)} for qualified visits (scope `assigned` has {'it' if len(before) == 1 else 'them'})"
        )


def _zero(points: Sequence[str]) -> str:
    return "it is always 0" if len(points) == 1 else "they are always 0"


def _needed(rule: Rule, points: Sequence[MeasurementPoint]) -> int:
    """The first place in the list of points at which the rule can be met; -1 if it names no point."""
    match rule:
        case All(rules):
            return max(_needed(part, points) for part in rules)
        case AnyOf(rules):
            return min(_needed(part, points) for part in rules)
        case PointMet(name):
            return _index(points, lambda point: point.name == name)
        case Predicate():
            return _index(points, lambda point: point.nth is None and point.predicate == rule)


def _index(points: Sequence[MeasurementPoint], fits: Callable[[MeasurementPoint], bool]) -> int:
    return next((i for i, point in enumerate(points) if fits(point)), -1)


def _is_over(point: MeasurementPoint, rule: Rule, points: Sequence[MeasurementPoint]) -> bool:
    """Whether the n-th event that the point counts is always before the rule is met: it needs a later one."""
    match rule:
        case All(rules):
            return any(_is_over(point, part, points) for part in rules)
        case AnyOf(rules):
            return all(_is_over(point, part, points) for part in rules)
        case PointMet(name):
            met = points[_index(points, lambda other: other.name == name)]
            is_same = met.predicate == point.predicate
            return is_same and point.nth is not None and met.nth is not None and point.nth < met.nth
    return False


def _shared(tenant: Tenant) -> Iterator[tuple[str, str]]:
    """Variations of several experiments, all in one warning."""
    experiments: defaultdict[str, list[str]] = defaultdict(list)
    for experiment in tenant.experiments:
        for variation, _ in experiment.variations:
            experiments[variation].append(experiment.name)
    shared = [f"{variation} ({names(of)})" for variation, of in experiments.items() if len(of) > 1]
    if shared:
        yield (
            "experiments",
            f"share variations: {_some(shared)}; their metrics have the same names and differ by the tag "
            "`experiment` only, so queries of your own must filter by it",
        )


def _some(of: Sequence[str]) -> str:
    return names(of[:NAMED_MAX]) + (f" and {len(of) - NAMED_MAX} more" if len(of) > NAMED_MAX else "")
