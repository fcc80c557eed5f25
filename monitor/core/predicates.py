"""Predicates on attributes: the meaning of a condition (reference, section 2, Predicates). Pure."""

from typing import Any

from monitor.core.definitions import Condition


def is_number(value: object) -> bool:
    """True for a JSON number; true and false are none, though Python counts them as integers."""
    return type(value) is int or type(value) is float


def equal(value: object, wanted: object) -> bool:
    """Equality of JSON scalars: types must agree, except that 1 equals 1.0."""
    if isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted
    return value == wanted


def scalar(value: Any) -> Any:
    """The value itself if it is a string, number or boolean, else None: it counts as absent."""
    return value if isinstance(value, str | int | float | bool) else None


def holds(condition: Condition, value: Any) -> bool:
    """True if an attribute's value (None: absent) meets every part of a condition."""
    present = value is not None
    if condition.exists is not None and condition.exists is not present:
        return False
    if condition.any_of is not None and not any(equal(value, wanted) for wanted in condition.any_of):
        return False
    if condition.none_of is not None and not (
        present and not any(equal(value, wanted) for wanted in condition.none_of)
    ):
        return False
    if condition.minimum is not None and not (is_number(value) and value >= condition.minimum):
        return False
    return condition.maximum is None or (is_number(value) and value <= condition.maximum)
