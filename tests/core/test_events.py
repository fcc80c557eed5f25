"""Message bytes in, an event or the reason for its rejection out; both decoders give the judgement of the contract."""

import hashlib
import json
import math
from itertools import product
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.core.events import Decoder, Event, Rejected, RejectReason, assigned_text, derived_id
from monitor.core.predicates import scalar
from tests.support import oracle

MESSAGE_BYTES = 700
ATTRIBUTES = ("page", "total", "größe")
FIELDS: dict[str, Any] = {
    "tenant": "uswm",
    "sessionId": "s-1",
    "time": 1_795_491_000_000,
    "event": "page_view",
    "eventId": "e1",
    "assignments": {"button_color": "red", "fast_checkout": "fc_on"},
    "attributes": {"page": "home", "total": 2.5, "größe": True, "device": [1]},
}
REQUIRED = ("tenant", "sessionId", "time", "event")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, RejectReason.NOT_JSON),
        (b"", RejectReason.NOT_JSON),
        (b"null", RejectReason.NOT_JSON),
        (b"[]", RejectReason.NOT_JSON),
        (b'"text"', RejectReason.NOT_JSON),
        (b"{", RejectReason.NOT_JSON),
        (b'{"a": 1} {}', RejectReason.NOT_JSON),
        (b'{"a": NaN}', RejectReason.NOT_JSON),
        (b'{"a": -Infinity}', RejectReason.NOT_JSON),
        (b'{"a": 01}', RejectReason.NOT_JSON),
        (b'{"a": "\n"}', RejectReason.NOT_JSON),
        (b'{"a": "\xff"}', RejectReason.NOT_JSON),
        (b'{"a": "\xed\xa0\x80"}', RejectReason.NOT_JSON),  # a surrogate, which UTF-8 cannot hold
        (b'\xef\xbb\xbf{"a": 1}', RejectReason.NOT_JSON),
        (b"[" * MESSAGE_BYTES, RejectReason.NOT_JSON),
        (b"{}", RejectReason.BAD_FIELD),
    ],
)
def test_what_is_no_json_object(value: bytes | None, reason: RejectReason) -> None:
    """Everything that is no object of RFC 8259 in UTF-8 is `not_json`, without a tenant; an empty object is one."""
    assert decoder().decode(value) == Rejected(reason, None)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_required_field_is_missing(name: str) -> None:
    """`bad_field`, under the tenant where that is readable."""
    value = encode({field: value for field, value in FIELDS.items() if field != name})
    assert decoder().decode(value) == Rejected(RejectReason.BAD_FIELD, None if name == "tenant" else "uswm")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        *product(("tenant", "sessionId", "event"), (None, 1, True, [], {}, "\ud800")),
        *product(("time",), (None, "5", 5.0, True, 0, -1, 5, 10**11 - 1, 10**14, 2**53, 2**64, 10**30, [])),
        *product(("eventId",), (1, False, [], "\udfff")),
        *product(("attributes",), ("home", 1, [], True)),
        ("sessionId", ""),
        ("sessionId", "x" * 257),
        ("sessionId", "😀" * 257),
    ],
)
def test_a_field_of_the_wrong_type_or_out_of_range(name: str, found: Any) -> None:
    """`bad_field`: types are strict, 5.0 is no integer and true no number."""
    rejected = decoder(10_000).decode(encode(FIELDS | {name: found}))
    assert isinstance(rejected, Rejected)
    assert rejected.reason is RejectReason.BAD_FIELD


@pytest.mark.parametrize(
    ("name", "found"),
    [
        *product(("time",), (10**11, 10**14 - 1)),
        *product(("sessionId",), ("x", "x" * 256, "😀" * 256, "größe 3")),
        *product(("eventId",), (None, "", "é")),
        *product(("tenant", "event"), ("",)),
        *product(("attributes",), (None, {}, {"page": None}, {"page": "\ud800"})),
        *product(("assignments",), (None, {})),
        ("other", {"deep": [None, 1e300, "\udc00"]}),
    ],
)
def test_the_other_side_of_each_bound(name: str, found: Any) -> None:
    """What is just within the rules is an event, with exactly this field."""
    event = decoder(10_000).decode(encode(FIELDS | {name: found}))
    assert isinstance(event, Event)
    if name in (*REQUIRED, "eventId"):
        assert getattr(event, name) == found


@pytest.mark.parametrize("found", [[], "red", 1, True, 1.5, ["a"]])
def test_assignments_of_another_shape(found: Any) -> None:
    """Assignments are read apart from the event: None tells that the message is a `bad_field`."""
    assert verdict(decoder(), encode(FIELDS | {"assignments": found})) == "bad_field"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("red", "red"),
        (1, "1"),
        (1.0, "1"),
        (2.5, "2.5"),
        (10**30, str(10**30)),
        (True, "true"),
        (False, "false"),
        (math.inf, None),
        ([], None),
        ({}, None),
        ("\ud800", None),
    ],
)
def test_what_an_assignment_says(value: Any, text: str | None) -> None:
    """A text, or the shortest text of a number or boolean; what has none costs that assignment, not the event."""
    decoding = decoder()
    event = decoding.decode(encode(FIELDS | {"assignments": {"a": value, "b": "blue"}}))
    assert isinstance(event, Event)
    members = decoding.assignments(bytes(event.assignments))
    assert members is not None
    assert assigned_text("a", members["a"]) == text
    assert assigned_text("b", members["b"]) == "blue"
    assert assigned_text("\ud800", "red") is None


def test_a_message_of_exactly_the_limit_is_decoded() -> None:
    """`oversized` begins above `message_bytes`, whatever the message holds."""
    value = encode(FIELDS)
    assert isinstance(decoder(len(value)).decode(value), Event)
    assert decoder(len(value) - 1).decode(value) == Rejected(RejectReason.OVERSIZED, None)
    assert decoder(1).decode(b"{}") == Rejected(RejectReason.OVERSIZED, None)


def test_only_attributes_that_were_asked_for_are_kept() -> None:
    """Values stay as JSON has them; what is absent is None."""
    event = decoder().decode(encode(FIELDS | {"attributes": {"page": 1, "total": 2.0, "device": "x"}}))
    assert isinstance(event, Event)
    page, total, size = (decoder().attribute(event, name) for name in ATTRIBUTES)
    assert (type(page), page, type(total), total, size) == (int, 1, float, 2.0, None)


def test_a_configuration_may_mention_no_attribute() -> None:
    """A decoder without attributes takes any."""
    assert isinstance(Decoder([], MESSAGE_BYTES).decode(encode(FIELDS)), Event)


@pytest.mark.parametrize("own", [{}, {"eventId": None}, {"eventId": ""}], ids=["absent", "null", "empty"])
def test_the_derived_event_id(own: dict[str, Any]) -> None:
    """Without an own identity it is `~` and the hex of the 8-byte BLAKE2b digest of the message's bytes."""
    value = encode({name: found for name, found in FIELDS.items() if name != "eventId"} | own)
    event = decoder().decode(value)
    assert isinstance(event, Event)
    assert not event.eventId
    assert derived_id(value) == "~" + hashlib.blake2b(value, digest_size=8).hexdigest()
    assert derived_id(value + b" ") != derived_id(value)


def test_of_equal_names_in_assignments_the_last_counts() -> None:
    """As of equal names everywhere else: what is replaced has no say, not even by its type."""
    value = encode(FIELDS).replace(b'"button_color":', b'"button_color": 1, "button_color":')
    assert verdict(decoder(), value) == verdict_of_the_oracle(value)


@pytest.mark.parametrize("name", [*REQUIRED, "eventId", "attributes", "page"])
def test_of_equal_names_the_last_counts(name: str) -> None:
    """On both ways through the decoder: for a first value of the right type and for one of another."""
    for first in (b"1", b'"x"', b"null", b"{}", b"[1]"):
        value = encode(FIELDS).replace(
            b'"%s":' % name.encode(), b'"%s": %s, "%s":' % (name.encode(), first, name.encode())
        )
        assert verdict(decoder(), value) == verdict_of_the_oracle(value)


TOKENS = st.sampled_from(
    [
        *[bytes([character]) for character in b'{}[],:"\\ \n\x00\xff'],
        *[b"null", b"true", b"NaN", b"01", b"0", b"-1", b"-0", b"1.5", b"1E5", b"1e999", b"0.1e-400"],
        *[b"9007199254740992", b"18446744073709551617", b"-9223372036854775809", b"123456789012345678901234567890"],
        *[b"\\u0000", b"\\ud800", b"\\ud83d\\ude00", b"\\q", b"\xc3\xa9", b"\xed\xa0\x80"],
        *[b'"time":5,', b'"tenant":"x",', b'"eventId":null,', b'"attributes":null,', b'"assignments":[],'],
        *[b'"page":[],', b'"total":{},', b'"a":"b",'],
    ]
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid message with some bytes deleted, doubled, replaced or inserted."""
    value = encode(FIELDS)
    for _ in range(draw(st.integers(1, 3))):
        at, length = draw(st.integers(0, len(value))), draw(st.integers(0, 12))
        middle = draw(st.one_of(st.just(b""), TOKENS, st.binary(max_size=2), st.just(value[at : at + length] * 2)))
        value = value[:at] + middle + value[at + length :]
    return value


@given(value=mutated())
@settings(max_examples=1_000)
def test_a_damaged_message_is_judged_as_the_contract_says(value: bytes) -> None:
    """Either decoder's answer is the plain judgement of json.loads and the rules, down to each field."""
    assert verdict(decoder(), value) == verdict_of_the_oracle(value)


NAMES = st.sampled_from(ATTRIBUTES) | st.text(max_size=2)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(ATTRIBUTES) | st.text(max_size=2), inner)
    ),
    max_leaves=5,
)


@given(fields=st.fixed_dictionaries({}, optional={name: st.just(found) | JSON for name, found in FIELDS.items()}))
@settings(max_examples=300)
def test_any_object_is_judged_as_the_contract_says(fields: dict[str, Any]) -> None:
    """Any JSON value in any field, and fields that are not there."""
    value = encode(fields)
    assert verdict(decoder(), value) == verdict_of_the_oracle(value)


@given(value=st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_have_a_judgement(value: bytes) -> None:
    """No bytes raise anything."""
    assert verdict(decoder(), value) == verdict_of_the_oracle(value)


def decoder(message_bytes: int = MESSAGE_BYTES) -> Decoder:
    """A decoder for the attributes of these tests."""
    return Decoder(ATTRIBUTES, message_bytes)


def encode(fields: dict[str, Any]) -> bytes:
    """A message's value as most producers write it, without spaces after commas."""
    try:
        return msgspec.json.encode(fields)
    except UnicodeEncodeError:
        return json.dumps(fields).encode()  # lone surrogates as escapes


def verdict(by: Decoder, value: bytes) -> str:
    """All that a decoder says of a message: the reason, or each field."""
    event = by.decode(value)
    if isinstance(event, Rejected):
        return str(event.reason)
    assignments = by.assignments(bytes(event.assignments))
    if assignments is None:
        return "bad_field"
    attributes = {name: scalar(by.attribute(event, name)) for name in ATTRIBUTES}
    known = {name: found for name, found in attributes.items() if found is not None}
    return repr(
        (event.tenant, event.sessionId, event.time, event.eventId or derived_id(value), event.event, assignments, known)
    )


def verdict_of_the_oracle(value: bytes) -> str:
    """The same by the judge."""
    if len(value) > MESSAGE_BYTES:
        return "oversized"
    fields = oracle.decode(value)
    event = None if fields is None else oracle.read_event(fields, value)
    if event is None:
        return "not_json" if fields is None else "bad_field"
    known = {name: event.attributes[name] for name in ATTRIBUTES if name in event.attributes}
    return repr((*event[:5], event.assignments, known))
