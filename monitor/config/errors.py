"""Errors of a configuration: each with its place, the rule, and the value that broke it."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

from pydantic_core import ErrorDetails, PydanticCustomError

from monitor.runtime.errors import MonitorError

VALUE_CHARACTERS_MAX = 60
"""Longer values are shortened in messages."""

_RULES = {
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "list_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "literal_error": "must be {expected}",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
}
"""The rules that pydantic checks, by its type of error, in our words; `{...}` is of the error's context."""
_KINDS_OF_VALUE = ("string_type", "list_type")
"""Errors for which an example of a right value helps."""


class SettingError(NamedTuple):
    """One error: the setting (dotted path; empty for the whole file), and the rule with the value."""

    place: str
    message: str


class ConfigError(MonitorError):
    """The configuration cannot be used; `errors` has every reason."""

    def __init__(self, source: str, errors: Iterable[SettingError]) -> None:
        self.source = source
        self.errors = list(errors)
        count = "1 error" if len(self.errors) == 1 else f"{len(self.errors)} errors"
        lines = [f"  {place}: {message}" if place else f"  {message}" for place, message in self.errors]
        super().__init__("\n".join([f"{source}: {count}", *lines]))


def broken(rule: str) -> PydanticCustomError:
    """The exception that a check of our own raises when its rule is broken."""
    return PydanticCustomError("rule", "{rule}", {"rule": rule})


def setting_error(error: ErrorDetails, data: Mapping[str, Any], siblings: Sequence[str], example: str) -> SettingError:
    """A pydantic error in our words.

    `siblings`: the settings that exist in its table, for a suggestion. `example`: a right value in TOML, or nothing.
    """
    place = ".".join(str(step) for step in path_in(data, error["loc"]))
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    match kind:
        case "rule":
            return SettingError(place, context["rule"])
        case "missing":
            return SettingError(".".join(filter(None, (place, str(error["loc"][-1])))), "is required")
        case "extra_forbidden":
            close = get_close_matches(str(error["loc"][-1]), siblings, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"there are {names(siblings)}" if siblings else ""
            return SettingError(place, f"is not a setting{'; ' + hint if hint else ''}")
        case _ if kind in _RULES:
            rule = _RULES[kind].format_map({key: _plain(bound) for key, bound in context.items()})
            such_as = f", such as {example}" if example and kind in _KINDS_OF_VALUE else ""
            return SettingError(place, f"{rule}{such_as}; got {shown(value)}")
        case _:
            return SettingError(place, f"{error['msg']}; got {shown(value)}")


def _plain(bound: object) -> object:
    """A bound without the `.0` of a whole number."""
    return int(bound) if isinstance(bound, float) and bound.is_integer() else bound


def path_in(data: Any, location: Sequence[int | str]) -> list[int | str]:
    """The steps of an error's location that are in the data; pydantic puts names of union cases between them."""
    path: list[int | str] = []
    for step in location:
        if isinstance(data, Mapping) and step in data:
            data = data[str(step)]
        elif isinstance(data, Sequence) and not isinstance(data, str) and isinstance(step, int) and step < len(data):
            data = data[step]
        else:
            continue
        path.append(step)
    return path


def names(of: Iterable[str]) -> str:
    """Names for a message."""
    return ", ".join(of) or "none"


def shown(value: object) -> str:
    """A value for a message, shortened."""
    if isinstance(value, int) and value.bit_length() > VALUE_CHARACTERS_MAX:
        return f"an integer of {value.bit_length()} bits"
    try:
        text = "true" if value is True else "false" if value is False else repr(value)
    except ValueError:  # Python refuses to write out integers of thousands of digits
        text = f"a {type(value).__name__} with a very large number in it"
    return text if len(text) <= VALUE_CHARACTERS_MAX else text[: VALUE_CHARACTERS_MAX - 3] + "..."
