"""The value of a data point: its type and the stored value by KairosDB's rules, or the reason for refusing it."""

import decimal
import math
import re
from decimal import Decimal
from enum import StrEnum, auto
from typing import Any

from monitor.devstore import lossless_json
from monitor.devstore.lossless_json import JsonObject, Number

__all__ = [
    "INT64_MAX",
    "INT64_MIN",
    "ErrorScope",
    "RefusedError",
    "StopError",
    "Value",
    "as_text",
    "emptiness",
    "integral",
    "timestamp_ms",
    "typed",
]

Value = int | float | str
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
TYPES = ("long", "double", "string")

_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_NUMERIC_TEXT = re.compile(r"[+-]?\d*\.?\d+", re.ASCII)
_NOT_FINITE = re.compile(r"[+-]?(NaN|Infinity)")
_INT64_DIGITS = 19


class StopError(Exception):
    """Ends the whole request with this answer; the points before are stored."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class ErrorScope(StrEnum):
    """The subject of a refusal, which decides how much of its place KairosDB names."""

    REQUEST = auto()
    METRIC = auto()
    TIMESTAMP = auto()
    VALUE = auto()


class RefusedError(Exception):
    """This point cannot be stored as the client meant it; the rest of the request is still read."""

    def __init__(self, scope: ErrorScope, reason: str) -> None:
        super().__init__(reason)
        self.scope = scope
        self.reason = reason

    def message(self, metric: str, place: str) -> str:
        """The reason after its place: the metric, ``metric[0](name=m)``, and the place in it, ``.datapoints[3]``."""
        prefixes = {ErrorScope.REQUEST: "", ErrorScope.METRIC: f"{metric} "}
        return prefixes.get(self.scope, f"{metric}{place}.{self.scope} ") + self.reason


def typed(declared: str | None, value: Any) -> tuple[str, Value]:
    """The type of a point (the declared one, else the one its text has) and the value to store.

    Raises RefusedError for this point, StopError(500) where KairosDB fails in the conversion of a text.
    """
    if isinstance(value, list | JsonObject):
        raise RefusedError(ErrorScope.METRIC, "value is an invalid type")
    type_name = _inferred_type(value) if declared is None else declared
    if type_name not in TYPES:
        raise RefusedError(ErrorScope.REQUEST, f"Unregistered data point type '{type_name}'")
    if type_name == "string":
        return type_name, as_text(value)
    return type_name, _long(value) if type_name == "long" else _double(value)


def timestamp_ms(value: Any) -> int:
    """A timestamp inside ``datapoints``: a fraction is cut off, as KairosDB does it; a text must be an integer."""
    if isinstance(value, Number) and _DECIMAL.fullmatch(value):
        number = _decimal(value)
        if number is None or not INT64_MIN <= int(number) <= INT64_MAX:
            raise RefusedError(ErrorScope.TIMESTAMP, f"must fit into 64 bits; got {value}.")
        return int(number)
    return _long_of_text(value)


def as_text(value: Any) -> str:
    """A string, number or boolean as text; StopError(400) for anything else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        raise StopError(400, f"Expected a string but was {lossless_json.kind(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise StopError(400, "A text holds half of a surrogate pair, which is not a character.") from None
    return str(value)


def emptiness(value: Any) -> str | None:
    """KairosDB's message if a value is null or empty, else None."""
    if value == []:
        return "may not be an empty array."
    return "may not be empty." if value is None or value == "" else None


def integral(text: str) -> int | None:
    """The 64-bit integer that a decimal text is equal to, or None."""
    if not _DECIMAL.fullmatch(text):
        return None
    number = _decimal(text)
    if number is None or number != int(number) or not INT64_MIN <= number <= INT64_MAX:
        return None
    return int(number)


def _inferred_type(value: Any) -> str:
    if isinstance(value, Number) or (isinstance(value, str) and _NUMERIC_TEXT.fullmatch(value)):
        _refuse_not_finite(value)
        return "double" if "." in value else "long"
    return "string"


def _long(value: Any) -> int:
    if not isinstance(value, Number):
        return _long_of_text(value)
    _refuse_not_finite(value)
    number = integral(value)
    if number is not None:
        return number
    exact = _decimal(value)
    if exact is None or exact == int(exact):
        raise RefusedError(ErrorScope.VALUE, f"{value} does not fit into the 64 bits of a long.")
    raise RefusedError(
        ErrorScope.VALUE, f'{value} has a fraction and cannot be stored as a long; send "type": "double".'
    )


def _long_of_text(value: Any) -> int:
    text = as_text(value) if isinstance(value, str | bool) else lossless_json.kind(value)
    if len(text) <= _INT64_DIGITS + 1 and _INTEGER.fullmatch(text):
        number = int(text)
        if INT64_MIN <= number <= INT64_MAX:
            return number
    raise StopError(500, f'For input string: "{text}"')


def _double(value: Any) -> float:
    text = as_text(value)
    _refuse_not_finite(text)
    if not _DECIMAL.fullmatch(text):
        raise StopError(500, f'For input string: "{text}"')
    number = float(text)
    if math.isinf(number):
        raise RefusedError(ErrorScope.VALUE, f"{value} is beyond the range of a double.")
    return number


def _refuse_not_finite(text: str) -> None:
    if isinstance(text, str) and _NOT_FINITE.fullmatch(text):
        raise RefusedError(ErrorScope.VALUE, f"{text} is not a finite number and would make every query over it fail.")


def _decimal(text: str) -> Decimal | None:
    """The exact number of a decimal text; None if it has more digits before the point than 64 bits have."""
    try:
        number = Decimal(text)
    except decimal.InvalidOperation:  # an exponent beyond what Decimal holds
        return None
    return None if number and number.adjusted() >= _INT64_DIGITS else number
