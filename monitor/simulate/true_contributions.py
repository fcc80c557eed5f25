"""The contributions of one visit, over all minutes and tags, written as directly as the definition.

The measurement definitions come as the plain tables of the TOML file.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard
from zlib import crc32

Table = Mapping[str, Any]

_CLIPPED_AT = 1_000_000_000_000
"""Where the value of a point has no `max`."""


class CountedEvent(NamedTuple):
    """One accepted event; `assignments` are texts. Attributes that are no string, number or boolean are left out.

    `delay_ms`: message timestamp less event time.
    """

    time_ms: int
    delay_ms: int
    name: str
    assignments: Mapping[str, str]
    attributes: Mapping[str, str | float | bool]


Visit = Sequence[CountedEvent]
"""All accepted events of a visit in order: by time, then by event id."""

Hits = Mapping[str, list[CountedEvent]]
"""The events of the visit that count for each point."""


def contributions(tenant: str, definitions: Table, session_id: str, visit: Visit, tardy_ms: int) -> Counter[str]:
    """The amount that a session's visit adds to each metric of its tenant, by metric name.

    Experiments that share a variation's name add to the same metrics, as they do in a sum over the tag `experiment`.
    """
    sixteenth = f"aa-{crc32(session_id.encode()) % 16:02d}"
    hits = {name: _hits(point, visit) for name, point in definitions.get("points", {}).items()}
    added: Counter[str] = Counter()
    for name, experiment in definitions.get("experiments", {}).items():
        carried = _carried(name, experiment, visit)
        if not carried:
            continue
        assigned_ms, variation = carried[0]
        rule_ms = _rule_ms(experiment["qualified_when"], visit, hits)
        has_aa = experiment.get("aa", definitions.get("aa", False))
        for scope, since_ms in (("assigned", assigned_ms), ("fm", rule_ms)):
            if since_ms is None:
                continue
            counted = _of_scope(definitions, hits, max(assigned_ms, since_ms))
            added.update({f"{tenant}.visit.{scope}.{variation}.{part}": amount for part, amount in counted.items()})
            unique = [part for part in counted if has_aa and part.endswith("beta")]
            added.update(f"{tenant}.visit.{scope}.{sixteenth}.{part}" for part in unique)
        if any(other != variation for _, other in carried):
            added[f"{tenant}.visit.crossed.{variation}.beta"] += 1
        if any(event.time_ms >= assigned_ms and event.delay_ms > tardy_ms for event in visit):
            added[f"{tenant}.visit.tardy.{variation}.beta"] += 1
    return added


def _carried(name: str, experiment: Table, visit: Visit) -> list[tuple[int, str]]:
    """The (time, variation) of each event that carries a known one: of the experiment's names, the first decides."""
    known_as = (name, *experiment.get("names", ()))
    meanings = {variation: variation for variation in experiment["variations"]} | experiment.get("aliases", {})
    carried = []
    for event in visit:
        texts = [event.assignments[key] for key in known_as if key in event.assignments]
        known = [meanings[text] for text in texts if text in meanings]
        carried += [(event.time_ms, variation) for variation in known[:1]]
    return carried


def _of_scope(definitions: Table, hits: Hits, since_ms: int) -> Counter[str]:
    """What a visit adds in a scope, by the end of the metric's name."""
    added = Counter({"beta": 1})
    for name, point in definitions.get("points", {}).items():
        counted = [event for event in hits[name] if event.time_ms >= since_ms]
        if not counted:
            continue
        added[name] = len(counted)
        added[f"{name}.beta"] = 1
        if "value" in point:
            total = sum(_value(point["value"], event) for event in counted)
            added[f"{name}.sum"] = total
            added[f"{name}.sumsq"] = total**2
    return added


def _value(value: Table, event: CountedEvent) -> int:
    amount, scale = event.attributes.get(value["attribute"]), value.get("scale", 1)
    limit: int = value.get("max", _CLIPPED_AT)
    if not _is_number(amount) or abs(amount) == math.inf:
        return 0
    try:
        scaled: float = amount * scale
    except OverflowError:  # an integer beyond every double, times a double
        scaled = math.inf if (amount > 0) == (scale > 0) else -math.inf
    return round(max(-limit, min(limit, scaled)))


def _hits(point: Table, visit: Visit) -> list[CountedEvent]:
    matching = [event for event in visit if _matches(point, event)]
    nth = point.get("nth")
    return matching if nth is None else matching[nth - 1 : nth]


def _rule_ms(rule: Table, visit: Visit, hits: Hits) -> int | None:
    """The time at which a visit meets a rule; None if it does not."""
    if "all" in rule:
        times = [_rule_ms(part, visit, hits) for part in rule["all"]]
        met = [time for time in times if time is not None]
        return max(met) if len(met) == len(times) else None
    if "any" in rule:
        times = [_rule_ms(part, visit, hits) for part in rule["any"]]
        return min((time for time in times if time is not None), default=None)
    meeting = hits[rule["point"]] if "point" in rule else [event for event in visit if _matches(rule, event)]
    return meeting[0].time_ms if meeting else None


def _matches(predicate: Table, event: CountedEvent) -> bool:
    names = predicate.get("event", event.name)
    if event.name not in ([names] if isinstance(names, str) else names):
        return False
    where = predicate.get("where", {})
    return all(_holds(condition, event.attributes.get(attribute)) for attribute, condition in where.items())


def _holds(condition: Any, value: str | float | bool | None) -> bool:
    """True if an attribute's value (None: absent) meets a condition."""
    if not isinstance(condition, dict):
        return _is_one_of(value, condition)
    return (
        ("not" not in condition or (value is not None and not _is_one_of(value, condition["not"])))
        and ("exists" not in condition or (value is not None) == condition["exists"])
        and ("min" not in condition or (_is_number(value) and value >= condition["min"]))
        and ("max" not in condition or (_is_number(value) and value <= condition["max"]))
    )


def _is_one_of(value: str | float | bool | None, one_or_more: Any) -> bool:
    options = one_or_more if isinstance(one_or_more, list) else [one_or_more]
    return any(value == option and isinstance(value, bool) == isinstance(option, bool) for option in options)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
