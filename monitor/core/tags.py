"""Tags: an event's attributes as tag values, and combinations of a tenant's tag values as numbers. Pure."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, final

from monitor.core.definitions import Tag

UNKNOWN, OTHER = "unknown", "other"
"""Tag values for an attribute without a text, and for a text that is not listed."""

_OUTSIDE_TAG_ALPHABET = re.compile(r"[^A-Za-z0-9._/-]")


def tag_text(value: Any) -> str | None:
    """An attribute's value as a tag value: booleans and numbers as their shortest JSON text, strange characters as `_`.

    None if there is no such text: the attribute is absent, or a number beyond any double.
    """
    if value is None or (type(value) is float and not math.isfinite(value)):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if type(value) is float and value.is_integer():
        return str(int(value))
    return sanitised(str(value))


def sanitised(text: str) -> str:
    """A text in the alphabet of tag values: other characters become `_`."""
    return _OUTSIDE_TAG_ALPHABET.sub("_", text)


@final
class TagSets:
    """The combinations of a tenant's tag values as numbers: mixed-radix over the listed values, other, unknown.

    >>> sets = TagSets([Tag("device", "device", ("mobile", "desktop")), Tag("login", "loggedIn", ("true",))])
    >>> sets.number(["desktop", True]), sets.texts(3)
    (3, {'device': 'desktop', 'login': 'true'})
    """

    def __init__(self, tags: Sequence[Tag]) -> None:
        self._tags = tags
        self._texts = [list(dict.fromkeys([*tag.values, OTHER, UNKNOWN])) for tag in tags]
        self._listed = [
            {text: texts.index(text) for text in tag.values} for tag, texts in zip(tags, self._texts, strict=True)
        ]

    def number(self, values: Sequence[Any]) -> int:
        """The number of the combination; `values`: the tags' attributes, in the order of the tags."""
        number = 0
        for texts, listed, value in zip(self._texts, self._listed, values, strict=True):
            text = tag_text(value)
            digit = texts.index(UNKNOWN) if text is None else listed.get(text, texts.index(OTHER))
            number = number * len(texts) + digit
        return number

    def count(self) -> int:
        """The number of combinations."""
        return math.prod(len(texts) for texts in self._texts)

    def texts(self, number: int) -> dict[str, str]:
        """The combination as tag name -> value."""
        assert 0 <= number < self.count(), "a number of this tenant's tags"
        pairs = []
        for tag, texts in zip(reversed(self._tags), reversed(self._texts), strict=True):
            number, digit = divmod(number, len(texts))
            pairs.append((tag.name, texts[digit]))
        return dict(reversed(pairs))

    def number_of_texts(self, values: Mapping[str, str]) -> int:
        """The number of the combination with these values of another configuration; unlisted ones become `other`."""
        number = 0
        for tag, texts in zip(self._tags, self._texts, strict=True):
            text = values.get(tag.name, UNKNOWN)
            number = number * len(texts) + texts.index(text if text in texts else OTHER)
        return number
