"""What is wrong with a message, by name: exactly the fields that the decoder refuses, and what they hold."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from monitor.core.diagnosis import SHOWN_CHARACTERS_MAX, Fault, fault_of, faults, json_fault
from monitor.core.events import Decoder, Rejected, RejectReason
from tests.support.oracle import Message
from tests.support.strategies import configs, logs

FIELDS: dict[str, Any] = {
    "tenant": "uswm",
    "sessionId": "s-1",
    "time": 1_795_491_000_000,
    "event": "page_view",
    "eventId": "e1",
    "assignments": {"button_color": "red"},
    "attributes": {"page": "home"},
}
ODD: st.SearchStrategy[Any] = st.sampled_from(
    (None, True, 0, -1, 1, 5.0, 2**53 - 1, 2**53, 10**30, 1e300, "", "x", "x" * 256, "x" * 257, "\ud800", [], [1], {})
)
ODD_FIELDS = st.fixed_dictionaries({}, optional={name: ODD | st.just(held) for name, held in FIELDS.items()})
SHOP = Decoder(("page",), 1_000_000)


def is_bad_field(value: bytes) -> bool:
    """Whether the job rejects a message for a field."""
    event = SHOP.decode(value)
    if isinstance(event, Rejected):
        return event.reason is RejectReason.BAD_FIELD
    return SHOP.assignments(bytes(event.assignments)) is None


@given(ODD_FIELDS | st.dictionaries(st.text(max_size=3), ODD), st.sampled_from((None, 1)), st.sampled_from(" \n\t"))
@example({**FIELDS, "time": "2026-11-28T12:00:00Z"}, None, " ")
@example(FIELDS, None, " ")
def test_a_field_is_named_exactly_when_the_decoder_refuses_one(
    fields: dict[str, Any], indent: int | None, space: str
) -> None:
    """With odd values in any fields, and however the JSON is spaced."""
    value = (space + json.dumps(fields, indent=indent) + space).encode()
    assert bool(faults(value)) is is_bad_field(value)


@given(st.data())
def test_so_it_is_for_what_topics_carry(data: st.DataObject) -> None:
    """Messages that hold no JSON, repeated names, and values beyond any double included."""
    log: list[Message] = data.draw(logs(data.draw(configs())))
    for message in log:
        assert bool(faults(message.value or b"")) is (message.value is not None and is_bad_field(message.value))


@given(st.binary(max_size=40) | st.text(alphabet='{}[]:,"time1e9 \\u', max_size=40).map(str.encode))
@example(b'{"time": 1,')
@example(b'{"time"')
@example(b"{")
@example(b'{"a" "b"}')
def test_any_bytes_are_diagnosed(value: bytes) -> None:
    """Of bytes that are `not_json` there is a reason, and no field is named."""
    verdict = SHOP.decode(value)
    if isinstance(verdict, Rejected) and verdict.reason is RejectReason.NOT_JSON:
        assert faults(value) == []
        assert json_fault(value)
    else:
        assert bool(faults(value)) is is_bad_field(value)


@given(st.dictionaries(st.sampled_from(list(FIELDS)), ODD, min_size=1))
def test_each_field_that_is_named_is_one_that_matters(changed: dict[str, Any]) -> None:
    """With right values in the named fields the message is an event; with one of them left it is none."""
    bad = {fault.field for fault in faults(json.dumps(FIELDS | changed).encode())}
    assert bad <= changed.keys()
    assert not is_bad_field(json.dumps(FIELDS | changed | {name: FIELDS[name] for name in bad}).encode())
    for kept in bad:
        others = {name: FIELDS[name] for name in bad - {kept}}
        assert is_bad_field(json.dumps(FIELDS | changed | others).encode())


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("sessionId", "1764331200", "sessionId must be text of 1 to 256 characters; got 1764331200"),
        ("sessionId", '""', 'sessionId must be text of 1 to 256 characters; got ""'),
        ("time", '"2026-11-28"', 'time must be a whole number of milliseconds since 1970; got "2026-11-28"'),
        ("time", "1.0e12", "time must be a whole number of milliseconds since 1970; got 1.0e12"),
        (
            "time",
            "1795491000000000000",
            "time must be a whole number of milliseconds since 1970; got 1795491000000000000 (in nanoseconds?)",
        ),
        ("tenant", "null", "tenant must be text; got null"),
        ("eventId", "17", "eventId must be text, or null; got 17"),
        ("event", r'"\ud800"', r'event must be text; got "\ud800"'),
        ("assignments", "[]", "assignments must be an object of experiment and variation, or null; got []"),
        ("attributes", "true", "attributes must be an object, or null; got true"),
    ],
)
def test_the_words(name: str, text: str, words: str) -> None:
    """The field, its rule, and what came as it was written."""
    held = {field: json.dumps(value) for field, value in FIELDS.items()} | {name: text}
    value = ("{" + ", ".join(f'"{field}": {part}' for field, part in held.items()) + "}").encode()
    assert fault_of(value, RejectReason.BAD_FIELD, 1_000) == words


def test_what_is_missing_is_named_and_what_is_long_is_shortened() -> None:
    """Several fields at fault are named together."""
    value = json.dumps({"tenant": "t", "time": 1_795_491_000_000, "sessionId": "x" * 1_000}).encode()
    session, event = faults(value)
    assert event == Fault("event", "must be text", None)
    assert session.got is not None
    assert len(session.got) == SHOWN_CHARACTERS_MAX
    assert fault_of(value, RejectReason.BAD_FIELD, 1).endswith("...; event is missing")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "no value"),
        (b"", "not JSON: Expecting value"),
        (b"\xff", "not UTF-8"),
        (b"[]", "not an object, but an array"),
        (b'"t"', "not an object, but text"),
        (b"1", "not an object, but a number"),
        (b"null", "not an object, but null"),
        (b'{"a": NaN}', "not JSON: NaN is no number"),
        (b'{"a": 1,}', "not JSON: Expecting property name enclosed in double quotes"),
        (b'\xef\xbb\xbf{"a": 1}', "not JSON: Unexpected UTF-8 BOM (decode using utf-8-sig)"),
        (b"[" * 100_000, "not JSON: nested too deeply"),
    ],
)
def test_why_it_is_no_json(value: bytes | None, why: str) -> None:
    """The same words for all messages of a kind: no position, no content."""
    assert json_fault(value) == why
