"""Types of single values, each with its rule and the words for a value that breaks it."""

import math
import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, Discriminator, Field, PlainValidator
from pydantic import Tag as Case

from monitor.config.errors import broken, names, shown

INTEGER_END = 2**63
"""Whole numbers are below it, and at least its negative: the core computes with 64 bits."""

MOMENT_END_MS = 10**14
"""The year 5138: times that are configured come before it, as those of events do."""


def _matching(pattern: str, rule: str) -> AfterValidator:
    """A check that a text is of a form, which the rule says in words."""
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if not text:
            raise broken("must not be empty")
        if not compiled.fullmatch(text):
            raise broken(f"{rule}; got {shown(text)}")
        return text

    return AfterValidator(check)


def number(value: object) -> int | float:
    """A finite number; whole ones fit 64 bits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise broken(f"must be a finite number; got {shown(value)}")
    if isinstance(value, int) and not -INTEGER_END <= value < INTEGER_END:
        raise broken(f"must fit 64 bits, or be written with a decimal point; got {shown(value)}")
    if not math.isfinite(value):
        raise broken(f"must be a finite number; got {shown(value)}")
    return value


def _non_zero(value: object) -> int | float:
    if number(value) == 0:
        raise broken(f"must not be 0; got {shown(value)}")
    return number(value)


def _weight(value: object) -> int | float:
    if number(value) < 0:
        raise broken(f"must not be negative; got {shown(value)}")
    return number(value)


def _kafka_property(value: object) -> str | int | float | bool:
    if not isinstance(value, str | int | float | bool):
        raise broken(f"must be text, a number, true or false; got {shown(value)}")
    return value


def moment_ms(value: object) -> int:
    """A time as ISO 8601 text (UTC unless it says otherwise), as a TOML time, or in ms since 1970: in ms."""
    time: datetime | None = None
    if isinstance(value, datetime):
        time = value
    elif isinstance(value, int) and not isinstance(value, bool):
        time = datetime.fromtimestamp(value / 1_000, UTC) if 0 <= value < MOMENT_END_MS else None
    else:
        try:
            time = datetime.fromisoformat(value) if isinstance(value, str) else None
        except ValueError:
            time = None
    if time is None:
        raise broken(f"must be a time such as 2026-11-28T10:00:00Z, or milliseconds since 1970; got {shown(value)}")
    return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1_000)


def _unique(values: list[str]) -> list[str]:
    if len(set(values)) < len(values):
        raise broken(f"must not name one twice; got {names(values)}")
    return values


def _scalar_case(value: object) -> str:
    if isinstance(value, bool):
        return "<boolean>"
    return "<number>" if isinstance(value, int | float) else "<text>"


def one_or_more(value: object) -> str:
    """The case of a union of a value and a list of values."""
    return "<list>" if isinstance(value, list) else "<one>"


def as_tuple(value: Any) -> tuple[Any, ...]:
    """One value or a list of them, as a tuple."""
    return tuple(value) if isinstance(value, list) else (value,)


Text = Annotated[str, Field(min_length=1)]
Name = Annotated[str, _matching(r"[A-Za-z0-9_-]+", "may have letters, digits, _ and - only")]
DataCenter = Annotated[str, _matching(r"[A-Za-z0-9._/-]+", "may have letters, digits, . _ / and - only")]
Url = Annotated[str, _matching(r"https?://[^/\s]+[\s\S]*", "must begin with http:// or https:// and a host")]
VariableName = Annotated[str, _matching(r"[A-Za-z_][A-Za-z0-9_]*", "must be the name of an environment variable")]
MailAddress = Annotated[str, _matching(r"[^@\s<>,]+@[^@\s<>,]+", "must be one mail address, such as a@example.org")]
Seconds = Annotated[float, Field(allow_inf_nan=False)]
Number = Annotated[int | float, PlainValidator(number)]
NonZero = Annotated[int | float, PlainValidator(_non_zero)]
Weight = Annotated[int | float, PlainValidator(_weight)]
KafkaProperty = Annotated[str | int | float | bool, PlainValidator(_kafka_property)]
Unique = AfterValidator(_unique)
Moment = Annotated[int, PlainValidator(moment_ms)]

_Scalar = Annotated[str, Case("<text>")] | Annotated[bool, Case("<boolean>")] | Annotated[Number, Case("<number>")]
AnyScalar = Annotated[_Scalar, Discriminator(_scalar_case)]
Scalars = Annotated[list[AnyScalar], Field(min_length=1)]
OneOrMoreScalars = Annotated[
    Annotated[Scalars, Case("<list>")] | Annotated[AnyScalar, Case("<one>")], Discriminator(one_or_more)
]
OneOrMoreNames = Annotated[
    Annotated[Annotated[list[str], Field(min_length=1)], Case("<list>")] | Annotated[str, Case("<one>")],
    Discriminator(one_or_more),
]
