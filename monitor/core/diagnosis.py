"""What is wrong with a rejected message, by name: the fields at fault and what they hold. Pure.

A field is at fault if an event that is right but for this field is rejected as `bad_field`: the decoder itself is asked
(events.py), so its rules are written once. It is for people who look at a log, not for the job: a message costs a
decoding for each field.
"""

import json
from collections.abc import Iterator
from json import JSONDecodeError, JSONDecoder
from re import compile as pattern
from typing import Final, NamedTuple, NoReturn

from monitor.core.events import SESSION_ID_MAX_CHARS, Decoder, Rejected, RejectReason

SHOWN_CHARACTERS_MAX: Final = 60
"""Of a value in a message, more is not shown."""

_RIGHT: Final = {"tenant": '"t"', "sessionId": '"s"', "time": "1700000000000", "event": '"e"'}
"""The required fields, each with a value that no rule refuses."""
_RULES: Final = {
    "tenant": "must be text",
    "sessionId": f"must be text of 1 to {SESSION_ID_MAX_CHARS} characters",
    "time": "must be a whole number of milliseconds since 1970",
    "event": "must be text",
    "eventId": "must be text, or null",
    "assignments": "must be an object of experiment and variation, or null",
    "attributes": "must be an object, or null",
}
"""Each field of an event, with its rule in words."""
_UNITS: Final = ((12, "seconds"), (15, ""), (18, "microseconds"), (21, "nanoseconds"))
"""What a present time of fewer digits than these is in; nothing for milliseconds."""
_SEPARATORS = pattern(r"[ \t\n\r,:]*")
_DIGITS = pattern(r"\d+")


class Fault(NamedTuple):
    """A field at fault: its rule, and what it holds as JSON text, shortened; None if the field is missing."""

    field: str
    rule: str
    got: str | None

    def kind(self) -> str:
        """The field and what is wrong with it, in words that are the same for all values of a type."""
        return f"{self.field}: {'missing' if self.got is None else _KINDS_BY_LETTER.get(self.got[0], 'a number')}"

    def words(self) -> str:
        """The fault as a sentence."""
        if self.got is None:
            return f"{self.field} is missing"
        return f"{self.field} {self.rule}; got {self.got}{_hint(self)}"


def faults(value: bytes) -> list[Fault]:
    """The fields for which a message is a `bad_field`; none if it is not JSON, or its fields are right."""
    try:
        text_of = dict(members(value.decode())) if isinstance(_document(value), dict) else None
    except (ValueError, RecursionError):
        text_of = None
    if text_of is None:
        return []
    found = []
    for field, rule in _RULES.items():
        text = text_of.get(field)
        if text is None and field in _RIGHT:
            found.append(Fault(field, rule, None))
        elif text is not None and _is_bad(field, text):
            found.append(Fault(field, rule, shortened(text)))
    return found


def json_fault(value: bytes | None) -> str:
    """Why a message is `not_json`, in words that are the same for all of its kind."""
    if value is None:
        return "no value"
    try:
        document = _document(value)
    except UnicodeDecodeError:
        return "not UTF-8"
    except JSONDecodeError as error:
        return f"not JSON: {error.msg}"
    except ValueError as error:
        return f"not JSON: {error}"
    except RecursionError:
        return "not JSON: nested too deeply"
    return f"not an object, but {_KINDS.get(type(document), 'something else')}"


def fault_of(value: bytes | None, reason: RejectReason, message_bytes: int) -> str:
    """Why a message without an event was rejected: oversized, not_json or bad_field, with the numbers or fields."""
    match reason:
        case RejectReason.OVERSIZED:
            return f"has {len(value or b''):,} bytes, allowed {message_bytes:,}"
        case RejectReason.NOT_JSON:
            return f"its value is no JSON object in UTF-8: {json_fault(value)}"
        case _:
            return "; ".join(fault.words() for fault in faults(value or b""))


def members(text: str) -> Iterator[tuple[str, str]]:
    """The members of the JSON object that a text is: the name, and the value's own text."""
    position = _after_separators(text, text.index("{") + 1)
    while text[position] != "}":
        name, position = _JSON.raw_decode(text, position)
        begin = _after_separators(text, position)
        _, position = _JSON.raw_decode(text, begin)
        yield name, text[begin:position]
        position = _after_separators(text, position)


def shortened(text: str) -> str:
    """A text within the bound of what is shown."""
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[: SHOWN_CHARACTERS_MAX - 3] + "..."


_KINDS: Final[dict[type, str]] = {
    list: "an array",
    str: "text",
    float: "a number",
    bool: "true or false",
    type(None): "null",
    dict: "an object",
}
_KINDS_BY_LETTER: Final = {
    '"': "text",
    "{": "an object",
    "[": "an array",
    "t": "true or false",
    "f": "true or false",
    "n": "null",
}
"""What a value's JSON text is, by its first letter."""
_UNBOUNDED = Decoder((), 2**62)
"""Rules of the fields do not depend on the configuration; its bound of a message's length is another rule."""


def _document(value: bytes) -> object:
    """What the JSON of a message is, apart from its numbers. Raises ValueError or RecursionError."""
    return json.loads(value.decode(), parse_int=_no_number, parse_constant=_refuse)


def _is_bad(field: str, text: str) -> bool:
    """Whether an event is a `bad_field` with this value, if all else is right."""
    fields = _RIGHT | {field: text}
    event = _UNBOUNDED.decode(("{" + ", ".join(f'"{name}": {held}' for name, held in fields.items()) + "}").encode())
    if isinstance(event, Rejected):
        return event.reason is RejectReason.BAD_FIELD
    return _UNBOUNDED.assignments(bytes(event.assignments)) is None


def _after_separators(text: str, position: int) -> int:
    match = _SEPARATORS.match(text, position)
    assert match is not None, "it matches nothing too"
    return match.end()


def _hint(fault: Fault) -> str:
    """The unit in which a time probably is, if that is the fault."""
    if fault.field != "time" or fault.got is None or _DIGITS.fullmatch(fault.got) is None:
        return ""
    unit = next((unit for digits, unit in _UNITS if len(fault.got) < digits), "")
    return f" (in {unit}?)" if unit else ""


def _no_number(_: str) -> float:
    return 0.0  # int() of a long literal would cost quadratic time, and its value does not matter


def _refuse(name: str) -> NoReturn:
    message = f"{name} is no number"
    raise ValueError(message)


_JSON: JSONDecoder = JSONDecoder(parse_int=_no_number, parse_constant=_refuse)
