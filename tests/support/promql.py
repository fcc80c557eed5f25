"""What an expression of PromQL names: metrics with the labels that they are chosen by, and labels of groups."""

import re
from typing import NamedTuple

WORDS = {"and", "or", "unless", "bool", "offset"}
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^()]*)\)")
_RANGE = re.compile(r"\[[^\]]*\]")
_SELECTOR = re.compile(r'\b([a-zA-Z_:][\w:]*)\b(?!\s*\()\s*(?:\{((?:[^}"]|"[^"]*")*)\})?')
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')


class Matcher(NamedTuple):
    """A condition on a label: `=`, `!=`, `=~` or `!~` a text."""

    label: str
    operator: str
    text: str


class Selector(NamedTuple):
    """A metric with its conditions."""

    metric: str
    matchers: list[Matcher]


def selectors(expression: str) -> list[Selector]:
    """The metrics that an expression reads."""
    plain = _RANGE.sub("", _GROUPING.sub("", expression))
    found = [(name, inner) for name, inner in _SELECTOR.findall(plain) if name not in WORDS]
    return [Selector(name, [Matcher(*one) for one in _MATCHER.findall(inner)]) for name, inner in found]


def grouping_labels(expression: str) -> set[str]:
    """The labels by which an expression sums or joins."""
    return {label.strip() for inner in _GROUPING.findall(expression) for label in inner.split(",") if label.strip()}
