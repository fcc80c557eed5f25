"""Definitions in words: what a visit has to do. Pure."""

from collections.abc import Iterable, Mapping

from monitor.core.definitions import All, AnyOf, Condition, MeasurementPoint, PointMet, Predicate, Rule, Scalar


def rule(of: Rule, points: Mapping[str, MeasurementPoint]) -> str:
    """When a visit is qualified, as the rest of a sentence that begins with "A visit is qualified once it has ..."."""
    match of:
        case PointMet(name):
            return f"{point(points[name])} (the point {name})" if name in points else f"reached the point {name}"
        case Predicate():
            return predicate(of)
        case All(parts):
            return _combined("both", "all of these", " and ", parts, points)
        case AnyOf(parts):
            return _combined("either", "any of these", " or ", parts, points)


def point(of: MeasurementPoint) -> str:
    """What counts for a point."""
    ordinal = "" if of.nth is None else f", for the {_ordinal(of.nth)} time in the visit"
    return predicate(of.predicate) + ordinal


def predicate(of: Predicate) -> str:
    """Which events are meant: "a page_view where page is home"."""
    names = "any event" if of.events is None else _listed([_with_article(name) for name in of.events], "or")
    if not of.where:
        return names
    return f"{names} where {_listed([condition(name, asked) for name, asked in of.where], 'and')}"


def condition(attribute: str, asked: Condition) -> str:
    """What one attribute has to be."""
    said = []
    if asked.any_of is not None:
        said.append(f"is {_listed([_shown(value) for value in asked.any_of], 'or')}")
    if asked.none_of is not None:
        said.append(
            f"is neither {_listed([_shown(v) for v in asked.none_of], 'nor')}"
            if len(asked.none_of) > 1
            else f"is there and not {_shown(asked.none_of[0])}"
        )
    if asked.exists is not None:
        said.append("is there" if asked.exists else "is not there")
    if asked.minimum is not None:
        said.append(f"is {_shown(asked.minimum)} or more")
    if asked.maximum is not None:
        said.append(f"is {_shown(asked.maximum)} or less")
    return f"{attribute} {_listed(said, 'and')}" if said else f"{attribute} is anything"


def _combined(
    two: str, more: str, between: str, parts: tuple[Rule, ...], points: Mapping[str, MeasurementPoint]
) -> str:
    if len(parts) == 1:
        return rule(parts[0], points)
    texts = [
        f"({text})" if isinstance(part, All | AnyOf) else text
        for part, text in ((part, rule(part, points)) for part in parts)
    ]
    return f"{two} {between.join(texts)}" if len(parts) == 2 else f"{more}: {'; '.join(texts)}"


def _listed(texts: Iterable[str], last: str) -> str:
    *before, end = texts
    return f"{', '.join(before)} {last} {end}" if before else end


def _with_article(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _ordinal(number: int) -> str:
    teen = number % 100 in (11, 12, 13)
    return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def _shown(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else f"{value:g}"
