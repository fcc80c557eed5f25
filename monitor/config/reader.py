"""Configuration.

the one reader of files and environment. One TOML file, checked whole; all faults are reported together.

`load` gives `Settings`. Environment: `MONITOR_CONFIG` names the file, `MONITOR_DC` and `MONITOR_<SECTION>__<KEY>`
override what is in it (text settings literally, all others in TOML's notation).
"""

import math
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_origin

from pydantic import BaseModel, ValidationError

from monitor.config.errors import ConfigError, SettingError, names, setting_error, shown
from monitor.config.settings import DEFAULT_MAXIMUM, ExperimentTable, LimitsTable, PointTable, Settings, TenantTable
from monitor.core.codes import TAGS_BITS

FILE_VARIABLE = "MONITOR_CONFIG"
SUM_END = 2**63
"""A visit's sum of values has to fit KairosDB's long."""
TAG_COMBINATIONS_MAX = 2**TAGS_BITS
RESERVED_TAGS = ("dc", "experiment")
RESERVED_POINTS = ("beta", "sum", "sumsq")


def load(path: str | Path | None = None, environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings from a file (by default the one that MONITOR_CONFIG names) and the environment.

    Raises ConfigError with every fault.
    """
    source = str(path or environment.get(FILE_VARIABLE) or "")
    if not source:
        raise ConfigError(FILE_VARIABLE, [SettingError("", "is not set: it names the configuration file")])
    try:
        data = tomllib.loads(Path(source).read_bytes().decode())
    except OSError as error:
        raise ConfigError(source, [SettingError("", f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        raise ConfigError(source, [SettingError("", f"is not UTF-8: {error.reason} at byte {error.start}")]) from None
    except RecursionError:
        raise ConfigError(source, [SettingError("", "is nested too deeply")]) from None
    except ValueError as error:  # TOMLDecodeError, or an integer of thousands of digits
        raise ConfigError(source, [SettingError("", f"is not TOML: {error}")]) from None
    return parse(data, source, environment)


def parse(data: dict[str, Any], source: str = "configuration", environment: Mapping[str, str] = {}) -> Settings:
    """The settings from parsed TOML; raises ConfigError with every fault."""
    try:
        return _parse(data, source, environment)
    except RecursionError:
        raise ConfigError(source, [SettingError("", "is nested too deeply")]) from None


def _parse(data: dict[str, Any], source: str, environment: Mapping[str, str]) -> Settings:
    faults = []
    for setting, text in _overrides(environment):
        faults += _override(data, setting, text)
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        wrong = error.errors(include_url=False)
        faults += [setting_error(e, data, _names_at(e["loc"][:-1])) for e in wrong]
        settings = None
    faults += _cross_faults(data.get("tenants"), data.get("limits"))
    if faults or settings is None:
        raise ConfigError(source, dict.fromkeys(faults))
    return settings


_SECTIONS = [name for name in Settings.model_fields if name not in ("dc", "tenants")]


def _overrides(environment: Mapping[str, str]) -> Iterator[tuple[list[str], str]]:
    """The variables that override settings: `MONITOR_DC` and MONITOR_<SECTION>__<KEY>; others may be anyone's."""
    for variable, text in sorted(environment.items()):
        place = variable.removeprefix("MONITOR_").lower().split("__")
        is_section = len(place) == 2 and place[0] in _SECTIONS
        if variable.startswith("MONITOR_") and (is_section or place == ["dc"]):
            yield place, text


def _override(data: dict[str, Any], place: list[str], text: str) -> list[SettingError]:
    """Puts an environment variable's value into the data."""
    model: type[BaseModel] = Settings
    for step in place[:-1]:
        model = model.model_fields[step].annotation  # type: ignore[assignment]
        data = data.setdefault(step, {})
        if not isinstance(data, dict):
            return []  # that is a fault of its own
    field = model.model_fields.get(place[-1])
    is_text = field is None or field.annotation is str or get_origin(field.annotation) is Literal
    plain = text.lower() if text.lower() in ("true", "false") else text
    try:
        data[place[-1]] = text if is_text else tomllib.loads(f"value = {plain}")["value"]
    except (ValueError, RecursionError):
        variable = "MONITOR_" + "__".join(place).upper()
        return [
            SettingError(
                ".".join(place), f'{variable} must be a TOML value, such as 10, true or ["a"]; got {shown(text)}'
            )
        ]
    return []


_TABLES: dict[str, type[BaseModel]] = {"points": PointTable, "experiments": ExperimentTable, "tenants": TenantTable}


def _names_at(location: tuple[int | str, ...]) -> list[str]:
    """The settings that exist in the table at a place, for a hint."""
    if not location:
        return list(Settings.model_fields)
    if len(location) == 1:
        field = Settings.model_fields.get(str(location[0]))
        model = field.annotation if field is not None else None
    else:
        model = _TABLES.get(str(location[-2]))
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _cross_faults(tenants: Any, limits: Any) -> Iterator[SettingError]:
    """Faults between parts of one tenant; looks at the raw data, so that they are found beside faults of shape."""
    events = limits.get("events_per_visit") if isinstance(limits, dict) else None
    events = events if isinstance(events, int) else LimitsTable().events_per_visit
    for name, tenant in tenants.items() if isinstance(tenants, dict) else ():
        points, experiments, tags = (_tables(tenant, part) for part in ("points", "experiments", "tags"))
        if math.prod(len(_values(table)) + 2 for table in tags.values()) > TAG_COMBINATIONS_MAX:
            yield SettingError(
                f"tenants.{name}.tags", f"must not make more than {TAG_COMBINATIONS_MAX:,} combinations of values"
            )
        for tag in RESERVED_TAGS:
            if tag in tags:
                yield SettingError(
                    f"tenants.{name}.tags.{tag}",
                    f"must not be one of {names(RESERVED_TAGS)}: those are set by the monitor",
                )
        for point, table in points.items():
            place = f"tenants.{name}.points.{point}"
            if point in RESERVED_POINTS:
                yield SettingError(place, f"must not be one of {names(RESERVED_POINTS)}: they end metric names")
            value = _tables(table, "value")
            maximum = value.get("max", DEFAULT_MAXIMUM)
            if value and isinstance(maximum, int) and maximum * events >= SUM_END:
                yield SettingError(
                    f"{place}.value.max",
                    f"times limits.events_per_visit must stay below 2^63, KairosDB's range; got {maximum} and {events}",
                )
        used: dict[str, str] = {}
        for experiment, table in experiments.items():
            place = f"tenants.{name}.experiments.{experiment}"
            for variation in _tables(table, "variations"):
                if variation in used:
                    yield SettingError(
                        f"{place}.variations.{variation}",
                        f"must be unique within the tenant, it is part of metric names; also in {used[variation]}",
                    )
                used[variation] = experiment
            for where, wanted in _point_references(_tables(table, "qualified_when"), f"{place}.qualified_when"):
                if wanted not in points:
                    yield SettingError(
                        where, f"must be a point of the tenant; got {shown(wanted)}, there are {names(points)}"
                    )


def _tables(table: Any, part: str) -> dict[str, Any]:
    found = table.get(part) if isinstance(table, dict) else None
    return found if isinstance(found, dict) else {}


def _values(tag: Any) -> list[Any]:
    found = tag.get("values") if isinstance(tag, dict) else tag
    return found if isinstance(found, list) else []


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
