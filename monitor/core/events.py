"""Events: message bytes in, a checked event or the reason for its rejection out. Pure.

Two decoders stand behind `Decoder.decode`. The fast one, msgspec with a struct generated for the attributes that the
configuration mentions, takes every ordinary message. What it refuses goes to the exact one, over the standard
library's parser, which defines what JSON is (RFC 8259, so no NaN; numbers of any size; the last of equal keys wins) and
which rule a message breaks.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any, NamedTuple, NoReturn, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct

from monitor.core.tags import tag_text

TIME_MS_MIN, TIME_MS_MAX = 10**11, 10**14 - 1
"""1973 to 5138: the times that KairosDB takes for milliseconds, so that no accepted event makes a point it refuses."""
SESSION_ID_MAX_CHARS = 256
DIGITS_MAX = 400
"""Longer integers are read as floats: beyond any double, and int() of them would cost quadratic time."""


class RejectReason(StrEnum):
    """Reasons to reject a message, in the order in which the rules are checked."""

    OVERSIZED = "oversized"
    NOT_JSON = "not_json"
    BAD_FIELD = "bad_field"
    UNKNOWN_TENANT = "unknown_tenant"
    PLACEHOLDER_ID = "placeholder_id"
    FUTURE = "future"
    LATE = "late"
    DUPLICATE = "duplicate"
    VISIT_FULL = "visit_full"


class EventWarning(StrEnum):
    """Defects of an accepted message; each is counted."""

    UNKNOWN_EXPERIMENT = "unknown_experiment"
    UNKNOWN_VARIATION = "unknown_variation"
    BAD_ASSIGNMENT = "bad_assignment"
    BAD_VALUE = "bad_value"
    KEY_MISMATCH = "key_mismatch"
    CROWDED_VISIT = "crowded_visit"


class Rejected(NamedTuple):
    """A message that is not accepted: the rule it breaks and its tenant, where one is readable."""

    reason: RejectReason
    tenant: str | None


Attributes: TypeAlias = Any
"""An instance of the generated struct: one field `a<i>` for the i-th attribute name; None where absent."""


class Event(Struct, gc=False):
    """An event as it is on the wire; `attributes` holds only what the configuration mentions.

    `assignments` is the object's JSON text, uninterpreted: it takes few different values, so that its readers
    remember them.
    """

    tenant: str
    sessionId: str
    time: int
    event: str
    eventId: str | None
    assignments: Raw
    attributes: Attributes


def derived_id(value: bytes) -> str:
    """The identity of an event that has no `eventId`, for removing duplicates: from the message's bytes."""
    return "~" + hashlib.blake2b(value, digest_size=8).hexdigest()


_ABSENT = Raw(b"null")


class Decoder:
    """Decodes message values for one configuration.

    >>> decoder = Decoder(["page"], message_bytes=1_000)
    >>> event = decoder.decode(
    ...     b'{"tenant": "t", "sessionId": "s", "time": 1795491060000, "event": "view", "attributes": {"page": "home"}}'
    ... )
    >>> decoder.attribute(event, "page")
    'home'
    >>> decoder.decode(b"{").reason
    <Reason.NOT_JSON: 'not_json'>
    """

    def __init__(self, attributes: Iterable[str], message_bytes: int) -> None:
        self.fields: Mapping[str, str] = {name: f"a{i}" for i, name in enumerate(dict.fromkeys(attributes))}
        """Attribute name -> field of the generated struct."""
        self._message_bytes = message_bytes
        self._attributes = msgspec.defstruct(
            "Attributes",
            [(field, Any, None) for field in self.fields.values()],
            rename={field: name for name, field in self.fields.items()},
            gc=False,
        )
        self.none_present: Attributes = self._attributes()
        wire = msgspec.defstruct(
            "Wire",
            [
                ("tenant", str),
                ("sessionId", Annotated[str, Meta(min_length=1, max_length=SESSION_ID_MAX_CHARS)]),
                ("time", Annotated[int, Meta(ge=TIME_MS_MIN, le=TIME_MS_MAX)]),
                ("event", str),
                ("eventId", str | None, None),
                ("assignments", Raw, _ABSENT),
                ("attributes", self._attributes | None, None),
            ],
            bases=(Event,),
            gc=False,
        )
        self._fast = msgspec.json.Decoder(wire).decode
        self._assignments = msgspec.json.Decoder(dict[str, Any] | None).decode

    def decode(self, value: bytes | None) -> Event | Rejected:
        """The event in a message value, or why there is none (oversized, not_json or bad_field)."""
        if value is None or len(value) > self._message_bytes:
            return Rejected(RejectReason.NOT_JSON if value is None else RejectReason.OVERSIZED, None)
        try:
            if not value.isascii():
                value.decode()  # msgspec does not look into what it skips
            event: Event = self._fast(value)  # type: ignore[assignment]  # the generated struct is one
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._judge(value)
        if event.attributes is None:
            event.attributes = self.none_present
        return event

    def attribute(self, event: Event, name: str) -> Any:
        """The attribute's value as decoded, None where absent; the name must be one that the decoder was made for."""
        return getattr(event.attributes, self.fields[name])

    def assignments(self, text: bytes) -> dict[str, Any] | None:
        """Name of an experiment -> value, as decoded, from the JSON text of `assignments`; empty for null.

        None if it is no object, which is a bad field. What a value means: `assigned_text`.
        """
        try:
            return self._assignments(text) or {}
        except (msgspec.DecodeError, RecursionError):  # of another shape, or with something that msgspec cannot hold
            fields = _parsed(text)
            return fields if isinstance(fields, dict) else None

    def _judge(self, value: bytes) -> Event | Rejected:
        fields = _parsed(value)
        if not isinstance(fields, dict):
            return Rejected(RejectReason.NOT_JSON, None)
        event = self._checked(fields)
        if event is None:
            tenant = fields.get("tenant")
            return Rejected(RejectReason.BAD_FIELD, tenant if isinstance(tenant, str) else None)
        return event

    def _checked(self, fields: dict[str, Any]) -> Event | None:
        """The event if each field is of its type and range, by the same rules as the generated struct."""
        required = [fields.get(name) for name in ("tenant", "sessionId", "event")]
        time, own_id = fields.get("time"), fields.get("eventId")
        assignments, attributes = fields.get("assignments"), fields.get("attributes")
        fits = (
            all(_is_text(text) for text in required)
            and 1 <= len(fields["sessionId"]) <= SESSION_ID_MAX_CHARS
            and type(time) is int
            and TIME_MS_MIN <= time <= TIME_MS_MAX
            and (own_id is None or _is_text(own_id))
            and (assignments is None or isinstance(assignments, dict))
            and (attributes is None or isinstance(attributes, dict))
        )
        if not fits:
            return None
        known = {field: (attributes or {}).get(name) for name, field in self.fields.items()}
        return Event(
            tenant=fields["tenant"],
            sessionId=fields["sessionId"],
            time=fields["time"],
            event=fields["event"],
            eventId=own_id,
            assignments=_raw_assignments(assignments),
            attributes=self._attributes(**known),
        )


def assigned_text(name: str, value: Any) -> str | None:
    """The text of an assignment's value: a string itself, a number or boolean as its shortest JSON text.

    None if it has none, or if its experiment's name is no text: then this one assignment is ignored, with a warning.
    """
    if not _is_text(name) or isinstance(value, dict | list):
        return None
    if isinstance(value, str):
        return value if _is_text(value) else None
    return tag_text(value)


def _parsed(value: bytes) -> Any:
    """The JSON value by the definition above; None, which no event is, if it is not JSON."""
    try:
        return json.loads(value.decode(), parse_constant=_refuse_constant, parse_int=_parse_int)
    except (ValueError, RecursionError):
        return None


def _raw_assignments(assignments: dict[str, Any] | None) -> Raw:
    """The JSON text again; a value with an infinite number in it, which has no JSON text, is an empty array there."""
    if assignments is None:
        return _ABSENT
    try:
        return Raw(json.dumps(assignments, allow_nan=False).encode())
    except ValueError:
        finite = {name: value if _is_finite(value) else [] for name, value in assignments.items()}
        return Raw(json.dumps(finite).encode())


def _is_finite(value: Any) -> bool:
    """True for a scalar other than an infinite number."""
    return not isinstance(value, dict | list) and (not isinstance(value, float) or math.isfinite(value))


def _parse_int(digits: str) -> int | float:
    return int(digits) if len(digits) <= DIGITS_MAX else float(digits)


def _refuse_constant(name: str) -> NoReturn:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


def _is_text(value: object) -> bool:
    """A string without lone surrogates, which JSON can write but UTF-8 cannot."""
    return isinstance(value, str) and (value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value))
