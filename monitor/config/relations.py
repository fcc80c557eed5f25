"""The rules between settings, such as a control that must be a variation.

They are checked on the raw tables, not on validated ones, so that their errors are reported together with those of
single settings: a table with one wrong value would otherwise hide what is wrong between the others. A value that is
not of its type is left to the check of single settings.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import PydanticCustomError

from monitor.config.alert_relations import errors_between_alerts
from monitor.config.errors import SettingError, names, shown
from monitor.config.guard_relations import errors_between_checks
from monitor.config.settings import DEFAULT_MAXIMUM, LimitsTable, TimeTable
from monitor.config.values import moment_ms
from monitor.core.codes import TAGS_BITS
from monitor.core.metrics import SIXTEENTHS, sixteenth_name

SUM_END = 2**63
"""A visit's sum of values has to fit KairosDB's long."""
TAG_COMBINATIONS_MAX = 2**TAGS_BITS
RESERVED_TAGS = ("dc", "experiment")
RESERVED_POINTS = ("beta", "sum", "sumsq")
RESERVED_VARIATIONS = tuple(sixteenth_name(sixteenth) for sixteenth in range(SIXTEENTHS))


def errors_between_settings(data: Mapping[str, Any]) -> Iterator[SettingError]:
    """All errors between settings of the parsed file."""
    yield from _time_errors(_table(data, "time"))
    events = _table(data, "limits").get("events_per_visit")
    events_max = events if _is_number(events) and isinstance(events, int) else LimitsTable().events_per_visit
    for name, tenant in _table(data, "tenants").items():
        place = f"tenants.{name}"
        yield from _tag_errors(_table(tenant, "tags"), place)
        points, experiments = _table(tenant, "points"), _table(tenant, "experiments")
        yield from _point_errors(points, events_max, place)
        yield from _experiment_errors(experiments, points, place)
    yield from errors_between_checks(_table(data, "guard"))
    yield from errors_between_alerts(_table(data, "alerts"), _table(data, "tenants"))


def _time_errors(time: Mapping[str, Any]) -> Iterator[SettingError]:
    defaults = TimeTable()
    lateness_s = time.get("allowed_lateness_s", defaults.allowed_lateness_s)
    gap_s = time.get("session_gap_s", defaults.session_gap_s)
    if _is_number(lateness_s) and _is_number(gap_s) and lateness_s > gap_s:
        rule = f"must not exceed session_gap_s; got {shown(lateness_s)} and {shown(gap_s)}"
        yield SettingError("time.allowed_lateness_s", rule)


def _tag_errors(tags: Mapping[str, Any], tenant: str) -> Iterator[SettingError]:
    if math.prod(len(_values(tag)) + 2 for tag in tags.values()) > TAG_COMBINATIONS_MAX:  # + 2: other, unknown
        rule = f"must not make more than {TAG_COMBINATIONS_MAX:,} combinations of values"
        yield SettingError(f"{tenant}.tags", rule)
    for tag in RESERVED_TAGS:
        if tag in tags:
            rule = f"must not be one of {names(RESERVED_TAGS)}: those are set by the monitor"
            yield SettingError(f"{tenant}.tags.{tag}", rule)


def _point_errors(points: Mapping[str, Any], events_max: int, tenant: str) -> Iterator[SettingError]:
    for point, table in points.items():
        place = f"{tenant}.points.{point}"
        if point in RESERVED_POINTS:
            yield SettingError(place, f"must not be one of {names(RESERVED_POINTS)}: they end metric names")
        value = _table(table, "value")
        value_max = value.get("max", DEFAULT_MAXIMUM)
        if value and isinstance(value_max, int) and value_max * events_max >= SUM_END:
            rule = "times limits.events_per_visit must stay below 2^63, KairosDB's range"
            yield SettingError(f"{place}.value.max", f"{rule}; got {shown(value_max)} and {shown(events_max)}")


def _experiment_errors(
    experiments: Mapping[str, Any], points: Mapping[str, Any], tenant: str
) -> Iterator[SettingError]:
    yield from _name_errors(experiments, tenant)
    for experiment, table in experiments.items():
        place = f"{tenant}.experiments.{experiment}"
        variations = _table(table, "variations")
        for variation in RESERVED_VARIATIONS:
            if variation in variations:
                rule = f"must not be one of {RESERVED_VARIATIONS[0]} to {RESERVED_VARIATIONS[-1]}: they name live A/A"
                yield SettingError(f"{place}.variations.{variation}", rule)
        control = table.get("control") if isinstance(table, dict) else None
        if variations and isinstance(control, str) and control not in variations:
            rule = f"must be one of the variations {names(variations)}; got {shown(control)}"
            yield SettingError(f"{place}.control", rule)
        goal = table.get("goal") if isinstance(table, dict) else None
        if isinstance(goal, str) and goal not in points:
            rule = f"must be a point of the tenant; got {shown(goal)}, there are {names(points)}"
            yield SettingError(f"{place}.goal", rule)
        for alias, variation in _table(table, "aliases").items():
            if alias in variations:
                yield SettingError(
                    f"{place}.aliases.{alias}", "must not be a variation: an alias is another text of one"
                )
            if isinstance(variation, str) and variations and variation not in variations:
                rule = f"must be one of the variations {names(variations)}; got {shown(variation)}"
                yield SettingError(f"{place}.aliases.{alias}", rule)
        yield from _phase_errors(table, variations, place)
        for setting, point in _point_references(_table(table, "qualified_when"), f"{place}.qualified_when"):
            if point not in points:
                rule = f"must be a point of the tenant; got {shown(point)}, there are {names(points)}"
                yield SettingError(setting, rule)


def _phase_errors(table: Any, variations: Mapping[str, Any], place: str) -> Iterator[SettingError]:
    """Phases have the experiment's variations, and follow each other in time."""
    phases = table.get("phases") if isinstance(table, dict) else None
    before = table.get("started") if isinstance(table, dict) else None
    for i, phase in enumerate(phases if isinstance(phases, list) else ()):
        weights = _table(phase, "weights")
        if weights and variations and set(weights) != set(variations):
            rule = f"must have a weight for each of the variations {names(variations)}; got {names(weights)}"
            yield SettingError(f"{place}.phases.{i}.weights", rule)
        begins = phase.get("from") if isinstance(phase, dict) else None
        try:
            is_later = before is None or moment_ms(begins) > moment_ms(before)
        except PydanticCustomError:
            continue  # its own error
        if not is_later:
            yield SettingError(f"{place}.phases.{i}.from", f"must be after the phase before it; got {shown(begins)}")
        before = begins


def _name_errors(experiments: Mapping[str, Any], tenant: str) -> Iterator[SettingError]:
    """An event's assignment must belong to one experiment, whichever of its names it uses."""
    owners = {name: name for name in experiments}
    for experiment, table in experiments.items():
        further = table.get("names") if isinstance(table, dict) else None
        for i, name in enumerate(further if isinstance(further, list) else ()):
            if not isinstance(name, str):
                continue  # its own error
            if name in owners:
                rule = f"must be unique among the tenant's experiments; {shown(name)} is a name of {owners[name]}"
                yield SettingError(f"{tenant}.experiments.{experiment}.names.{i}", rule)
            owners.setdefault(name, experiment)


def _point_references(rule: Any, place: str) -> Iterator[tuple[str, object]]:
    """(place, point name) of each `{ point = ... }` in a rule."""
    if not isinstance(rule, dict):
        return
    if isinstance(rule.get("point"), str):
        yield f"{place}.point", rule["point"]
    for case in ("all", "any"):
        parts = rule.get(case)
        for i, part in enumerate(parts if isinstance(parts, list) else ()):
            yield from _point_references(part, f"{place}.{case}.{i}")


def _table(table: Any, key: str) -> dict[str, Any]:
    """A table in a table; an empty one if it is not there, or is none."""
    inner = table.get(key) if isinstance(table, dict) else None
    return inner if isinstance(inner, dict) else {}


def _values(tag: Any) -> list[Any]:
    values = tag.get("values") if isinstance(tag, dict) else tag
    return values if isinstance(values, list) else []


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
