"""The fields of a query's JSON, read as Gson reads them, and the error that refuses a query.

Checks and messages are those of KairosDB's ``QueryParser``, as observed on 1.3.0-1.
"""

import json
from decimal import Decimal, InvalidOperation
from typing import Any

from monitor.devstore import lossless_json, time_units
from monitor.devstore.datapoint_values import INT64_MAX, INT64_MIN, as_text
from monitor.devstore.lossless_json import JsonObject, Number

__all__ = [
    "QueryError",
    "array_of",
    "boolean_of",
    "double_of",
    "integer_of",
    "json_text",
    "processor_name",
    "refuse_unknown",
    "span_of",
    "unit_of",
]


class QueryError(Exception):
    """A query that cannot be answered: the status and the message to answer instead."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def array_of(value: Any) -> list[Any]:
    """A JSON array."""
    if not isinstance(value, list):
        raise QueryError(500, "This is not a JSON Array.")
    return value


def processor_name(processor: Any, place: str) -> str:
    """The name of an aggregator or a grouping, which KairosDB calls query processors."""
    if not isinstance(processor, JsonObject):
        raise QueryError(500, f"Not a JSON Object: {json_text(processor)}")
    name = processor.get("name")
    if name is None or name == "":
        raise QueryError(400, f"{place} must have a name")
    return as_text(name)


def refuse_unknown(processor: JsonObject, properties: set[str], class_name: str) -> None:
    """Refuses a property that the aggregator or grouping does not have, with KairosDB's message."""
    for name in processor:
        if name != "name" and name not in properties:
            message = (
                f"Property '{name}' was specified for object '{processor['name']}' "
                f"but no matching setter was found on 'class org.kairosdb.{class_name}'"
            )
            raise QueryError(400, message)


def integer_of(value: Any, status: int = 400) -> int:
    """A 64-bit integer from a number or text; a fraction is cut off, as Gson does it in a tree."""
    try:
        number = Decimal(as_text(value))
        if number.adjusted() < 20 and INT64_MIN <= number <= INT64_MAX:
            return int(number)
    except (InvalidOperation, ValueError):
        pass
    raise QueryError(status, f'For input string: "{as_text(value)}"')


def double_of(aggregator: JsonObject, name: str, place: str) -> float:
    """A property of an aggregator as a double, 0 where it is absent."""
    value = as_text(aggregator.get(name, Number("0")))
    try:
        return float(value)
    except ValueError:
        raise QueryError(400, f'{place}.{name} For input string: "{value}"') from None


def boolean_of(value: Any) -> bool:
    """A boolean from JSON's or from text; any other value is false."""
    return value is True or (isinstance(value, str) and value.lower() == "true")


def json_text(value: Any) -> str:
    """A value as JSON, for messages."""
    return str(value) if isinstance(value, Number) else json.dumps(value, ensure_ascii=False)


def span_of(span: Any, field: str, unit_context: str) -> tuple[int, str]:
    """The value, 0 or more, and the unit of ``{"value": 1, "unit": "minutes"}``."""
    if not isinstance(span, JsonObject):
        raise QueryError(400, f"Expected BEGIN_OBJECT but was {lossless_json.kind(span)} for {field}")
    value = integer_of(span.get("value", Number("0")))
    unit = None if span.get("unit") is None else unit_of(span["unit"], unit_context)
    if value < 0:
        raise QueryError(400, f"{field}.value must be greater than or equal to 0")
    if unit is None:
        raise QueryError(400, f"{field}.unit may not be null")
    return value, unit


def unit_of(value: Any, context: str) -> str:
    """A unit of time in upper case; `context` is its place in the query, for messages."""
    unit = as_text(value).upper()
    if unit not in time_units.UNITS:
        units = ",".join(time_units.UNITS)
        raise QueryError(400, f"{context}.{as_text(value)} is not a valid time unit, must be one of {units}")
    return unit
