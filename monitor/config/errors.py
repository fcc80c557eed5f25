"""Faults of a configuration: each with its place, the rule, and what came."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

from pydantic_core import ErrorDetails, PydanticCustomError

SHOWN_MAX = 60
"""Longer values are shortened in messages."""


class SettingError(NamedTuple):
    """One fault: the setting it is about (dotted; empty for the whole) and the rule with what came."""

    place: str
    message: str


class ConfigError(Exception):
    """The configuration cannot be used; `faults` has every reason."""

    def __init__(self, source: str, faults: Iterable[SettingError]) -> None:
        self.source = source
        self.faults = list(faults)
        count = "1 fault" if len(self.faults) == 1 else f"{len(self.faults)} faults"
        lines = [
            f"  {setting_error.place}: {setting_error.message}" if setting_error.place else f"  {setting_error.message}"
            for setting_error in self.faults
        ]
        super().__init__("\n".join([f"{source}: {count} in the configuration", *lines]))


def broken(rule: str) -> PydanticCustomError:
    """The error for a rule that a model's own check finds broken."""
    return PydanticCustomError("rule", "{rule}", {"rule": rule})


def setting_error(error: ErrorDetails, data: Mapping[str, Any], known: Sequence[str]) -> SettingError:
    """A pydantic error in our words; `known`: the names that would have been right at its place."""
    place = ".".join(str(step) for step in path_in(data, error["loc"]))
    value, context = error["input"], error.get("ctx", {})
    match error["type"]:
        case "rule":
            return SettingError(place, context["rule"])
        case "missing":
            return SettingError(".".join(filter(None, (place, str(error["loc"][-1])))), "is required")
        case "extra_forbidden":
            close = get_close_matches(str(error["loc"][-1]), known, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"there are {names(known)}" if known else ""
            return SettingError(place, f"is not a setting{'; ' + hint if hint else ''}")
        case "string_pattern_mismatch":
            return SettingError(place, f"must match {context['pattern']}; got {shown(value)}")
        case "too_short":
            return SettingError(place, "must not be empty")
        case _:
            message = error["msg"].removeprefix("Input should be ").removeprefix("Value should have ")
            return SettingError(place, f"must be {message}; got {shown(value)}")


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
    """A value for a message."""
    if isinstance(value, int) and value.bit_length() > SHOWN_MAX:
        return f"an integer of {value.bit_length()} bits"
    try:
        text = "true" if value is True else "false" if value is False else repr(value)
    except ValueError:  # Python refuses to write out integers of thousands of digits
        text = f"a {type(value).__name__} with a very large number in it"
    return text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 3] + "..."
