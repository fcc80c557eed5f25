"""The configuration: one TOML file and the environment, checked whole, so that all errors are reported together.

Environment: `MONITOR_CONFIG` names the file, `MONITOR_DC` and `MONITOR_<SECTION>__<KEY>` override what is in it (text
settings literally, all others in TOML's notation).
"""

import codecs
import hashlib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from monitor.config.alerts import AlertsEmailTable, AlertsKafkaTable, WebhookTable
from monitor.config.errors import ConfigError, SettingError, setting_error, shown
from monitor.config.guard import HighestTable, SharesTable, ThresholdsTable
from monitor.config.relations import errors_between_settings
from monitor.config.settings import ExperimentTable, PointTable, Settings, TenantTable

FILE_VARIABLE = "MONITOR_CONFIG"
LINE_CHARACTERS_MAX = 120
"""Of a line with a syntax error, more is not shown."""


def load(path: str | Path | None = None, environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings from a file (by default the one that MONITOR_CONFIG names) and the environment.

    Raises ConfigError with every error.
    """
    source = str(path or environment.get(FILE_VARIABLE) or "")
    if not source:
        raise ConfigError(FILE_VARIABLE, [SettingError("", "is not set: it names the configuration file")])
    try:
        content = Path(source).read_bytes()
    except OSError as error:
        raise ConfigError(source, [SettingError("", f"cannot be read: {error.strerror}")]) from None
    return parse(_toml(content, source), source, environment)


def config_hash(settings: Settings) -> str:
    """12 hex digits that are equal where the configuration is.

    `kafka.options`, which hold secrets, the dead-letter file, which each process has for itself, and who is told of
    alerts do not count.
    """
    kafka = settings.kafka.model_copy(update={"options": {}})
    kairosdb = settings.kairosdb.model_copy(update={"dead_letters": ""})
    text = repr(settings.model_copy(update={"kafka": kafka, "kairosdb": kairosdb, "alerts": None}))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]


def parse(data: dict[str, Any], source: str = "configuration", environment: Mapping[str, str] = {}) -> Settings:
    """The settings from parsed TOML; raises ConfigError with every error."""
    try:
        return _parse(data, source, environment)
    except RecursionError:
        raise ConfigError(source, [SettingError("", "is nested too deeply")]) from None


def _toml(content: bytes, source: str) -> dict[str, Any]:
    """The tables of a file; raises ConfigError if it is not TOML."""
    if content.startswith(codecs.BOM_UTF8):
        rule = "begins with a byte order mark (BOM), which TOML does not allow: save the file as UTF-8 without BOM"
        raise ConfigError(source, [SettingError("", rule)])
    try:
        text = content.decode()
        return tomllib.loads(text)
    except UnicodeDecodeError as error:
        rule = f"is not UTF-8: {error.reason} at byte {error.start}"
    except RecursionError:
        rule = "is nested too deeply"
    except ValueError as error:  # TOMLDecodeError, or an integer of thousands of digits
        rule = f"is not TOML: {error}{_line_of(str(error), text)}"
    raise ConfigError(source, [SettingError("", rule)])


def _line_of(message: str, text: str) -> str:
    """The line that a syntax error is in, with a mark below its column; nothing if the message names no line."""
    place = re.search(r"\(at line (\d+), column (\d+)\)$", message)
    if place is None:
        return ""
    line = text.splitlines()[int(place[1]) - 1].expandtabs(1)
    mark = f"\n    {' ' * (int(place[2]) - 1)}^" if int(place[2]) <= LINE_CHARACTERS_MAX else ""
    return f"\n    {line[:LINE_CHARACTERS_MAX]}{mark}"


def _parse(data: dict[str, Any], source: str, environment: Mapping[str, str]) -> Settings:
    errors = []
    for setting, text in _overrides(environment):
        errors += _override(data, setting, text)
    settings = None
    try:
        settings = Settings.model_validate(data)
    except ValidationError as invalid:
        for error in invalid.errors(include_url=False):
            location = error["loc"]
            errors.append(setting_error(error, data, _names_at(location[:-1]), _example_at(location)))
    errors += errors_between_settings(data)
    if errors or settings is None:
        raise ConfigError(source, dict.fromkeys(errors))
    return settings


_SECTIONS = [name for name in Settings.model_fields if name not in ("dc", "tenants")]


def _overrides(environment: Mapping[str, str]) -> Iterator[tuple[list[str], str]]:
    """The variables that override settings, as paths with their texts; other variables are not the monitor's."""
    for variable, text in sorted(environment.items()):
        place = variable.removeprefix("MONITOR_").lower().split("__")
        is_section = len(place) == 2 and place[0] in _SECTIONS
        if variable.startswith("MONITOR_") and (is_section or place == ["dc"]):
            yield place, text


def _override(data: dict[str, Any], place: list[str], text: str) -> list[SettingError]:
    """Puts an environment variable's value into the data."""
    for step in place[:-1]:
        data = data.setdefault(step, {})
        if not isinstance(data, dict):
            return []  # that is an error of its own
    field = _field_at(place)
    is_text = field is None or _is_text(field.annotation)
    plain = text.lower() if text.lower() in ("true", "false") else text
    try:
        data[place[-1]] = text if is_text else tomllib.loads(f"value = {plain}")["value"]
    except (ValueError, RecursionError):
        variable = "MONITOR_" + "__".join(place).upper()
        rule = f'{variable} must be a TOML value, such as 10, true or ["a"]; got {shown(text)}'
        return [SettingError(".".join(place), rule)]
    return []


def _is_text(annotation: Any) -> bool:
    """Whether a setting's value is a text, or absent."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _is_text(parts[0])
    if origin in (Union, UnionType):
        return all(part is NoneType or _is_text(part) for part in parts)
    return annotation is str or origin is Literal


def _field_at(place: list[str]) -> FieldInfo | None:
    """The definition of `dc` or of a setting of a section."""
    model: Any = Settings
    for step in place[:-1]:
        field = model.model_fields.get(step)
        model = None if field is None else field.annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return None
    fields: dict[str, FieldInfo] = model.model_fields
    return fields.get(place[-1])


def _example_at(location: tuple[int | str, ...]) -> str:
    """A right value for a setting of a section, in TOML: its example, else its default if that is text or a list."""
    field = _field_at([str(step) for step in location])
    if field is None:
        return ""
    value = field.examples[0] if field.examples else field.get_default()
    return json.dumps(value) if isinstance(value, str | list) and value else ""


_TABLES: dict[str, type[BaseModel]] = {
    "points": PointTable,
    "experiments": ExperimentTable,
    "tenants": TenantTable,
    "webhooks": WebhookTable,
}
"""The tables that have names of their own, by the name of the table that holds them."""
_INNER: dict[tuple[int | str, ...], type[BaseModel]] = {
    ("alerts", "email"): AlertsEmailTable,
    ("alerts", "kafka"): AlertsKafkaTable,
    ("guard", "thresholds"): ThresholdsTable,
    ("guard", "shares"): SharesTable,
    ("guard", "highest"): HighestTable,
}


def _names_at(location: tuple[int | str, ...]) -> list[str]:
    """The settings that exist in the table at a place, for a hint."""
    if not location:
        return list(Settings.model_fields)
    if len(location) == 1:
        field = Settings.model_fields.get(str(location[0]))
        model = field.annotation if field is not None else None
    else:
        model = _INNER.get(location) or _TABLES.get(str(location[-2]))
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return []
    return [field.alias or name for name, field in model.model_fields.items()]
