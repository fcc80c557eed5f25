"""JSON decoding that keeps the text of numbers and repeated keys, which KairosDB looks at and other decoders drop.

KairosDB types an untyped number by whether its text holds a ``.`` and keeps the text of a number used as a tag value,
so ``1``, ``1.0`` and ``1.50`` must stay distinct. The standard library's decoder does the scanning; the hooks here keep
the texts, and `elements` yields what came before a syntax error, which no library in use does.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

__all__ = ["EndOfInputError", "JsonObject", "Number", "decode", "elements", "kind"]


class Number(str):
    """A JSON number as the text it was sent with; also the bare words ``NaN``, ``Infinity`` and ``-Infinity``."""

    __slots__ = ()


class JsonObject(dict[str, Any]):
    """A JSON object, the last value of a repeated key; ``duplicate`` is a key that was repeated, if any was."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.duplicate: str | None = None
        if len(self) != len(pairs):
            self.duplicate = Counter(name for name, _ in pairs).most_common(1)[0][0]


class EndOfInputError(ValueError):
    """The text ended between the elements of an array: those before are whole."""


_DECODER = json.JSONDecoder(
    object_pairs_hook=JsonObject,
    parse_float=Number,
    parse_int=Number,
    parse_constant=Number,
    strict=False,
)
_SPACE = re.compile(r"[ \t\r\n]*")


def decode(text: str) -> Any:
    """The value of a whole JSON text; an empty text is null, as for Gson. Raises json.JSONDecodeError."""
    return _DECODER.decode(text) if text.strip() else None


def elements(text: str) -> Iterator[Any]:
    """The elements of a JSON array one by one, or a lone object; text after it is ignored.

    Elements before an error are yielded first. Raises EndOfInputError where the text ends between elements,
    json.JSONDecodeError at any other error.
    """
    position = _skip_space(text, 0)
    if text[position : position + 1] != "[":
        yield _DECODER.raw_decode(text, position)[0]
        return
    position = _skip_space(text, position + 1)
    if text[position : position + 1] == "]":
        return
    while True:
        if position == len(text):
            raise EndOfInputError
        element, position = _DECODER.raw_decode(text, position)
        yield element
        position = _skip_space(text, position)
        separator = text[position : position + 1]
        if separator == "]":
            return
        if separator not in (",", ""):
            message = "Expecting ',' or ']'"
            raise json.JSONDecodeError(message, text, position)
        position = _skip_space(text, position + 1) if separator else position


def kind(value: Any) -> str:
    """Gson's name of a value's JSON type, for messages: ``NUMBER``, ``BEGIN_ARRAY``, ..."""
    if isinstance(value, Number):
        return "NUMBER"
    names = {str: "STRING", bool: "BOOLEAN", list: "BEGIN_ARRAY", JsonObject: "BEGIN_OBJECT"}
    return names.get(type(value), "NULL")


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    assert match is not None
    return match.end()
