"""Events: message bytes in, a checked event or the reason for its rejection out. Pure.

Two decoders stand behind `Decoder.decode`. The fast one, msgspec with a struct generated for the attributes that the
configuration mentions, takes every ordinary message. What it refuses goes to the exact one, over the standard
library's parser, which defines what JSON is (RFC 8259, so no NaN; numbers of any size; the last of equal keys wins) and
which rule a message breaks.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any, NamedTuple, NoReturn, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct

TIME_END = 2**53
SESSION_ID_MAX_CHARS = 256
DIGITS_MAX = 400
"""Longer integers are read as floats: beyond any double, and int() of them would cost quadratic time."""


class RejectReason(StrEnum):
    """Reasons to reject a message, in the order in which the rules are checked."""

    OVERSIZED = "oversized"
    NOT_JSON = "not_json"
    BAD_FIELD = "bad_field"
    UNKNOWN_TENANT = "unknown_tenant"
    FUTURE = "future"
    LATE = "late"
    DUPLICATE = "duplicate"
    VISIT_FULL = "visit_full"


class EventWarning(StrEnum):
    """Defects of an accepted message; each is counted."""

    UNKNOWN_EXPERIMENT = "unknown_experiment"
    UNKNOWN_VARIATION = "unknown_variation"
    BAD_VALUE = "bad_value"
    KEY_MISMATCH = "key_mismatch"


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
    ...     b'{"tenant": "t", "sessionId": "s", "time": 1, "event": "view", "attributes": {"page": "home"}}'
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
                ("time", Annotated[int, Meta(gt=0, lt=TIME_END)]),
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

    def assignments(self, text: bytes) -> dict[str, str] | None:
        """Experiment -> variation from the JSON text of `assignments`; None if it is of another shape (bad_field)."""
        try:
            assignments = self._assignments(text) or {}
        except msgspec.DecodeError:
            return None
        return assignments if all(isinstance(variation, str) for variation in assignments.values()) else None

    def _judge(self, value: bytes) -> Event | Rejected:
        try:
            fields = json.loads(value.decode(), parse_constant=_refuse_constant, parse_int=_parse_int)
        except (ValueError, RecursionError):
            return Rejected(RejectReason.NOT_JSON, None)
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
            and 0 < time < TIME_END
            and (own_id is None or _is_text(own_id))
            and (assignments is None or (isinstance(assignments, dict) and _all_text(assignments)))
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
            assignments=Raw(msgspec.json.encode(assignments)),
            attributes=self._attributes(**known),
        )


def _parse_int(digits: str) -> int | float:
    return int(digits) if len(digits) <= DIGITS_MAX else float(digits)


def _refuse_constant(name: str) -> NoReturn:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


def _is_text(value: object) -> bool:
    """A string without lone surrogates, which JSON can write but UTF-8 cannot."""
    return isinstance(value, str) and (value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value))


def _all_text(assignments: dict[str, Any]) -> bool:
    return all(_is_text(name) and _is_text(variation) for name, variation in assignments.items())
