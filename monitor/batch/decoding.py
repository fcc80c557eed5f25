"""Decoding of messages into rows, and the rules of an event's fields (specification, section 1).

A typed decoder, made for the fields that the configuration uses, reads ordinary messages. A message that it refuses is
checked field by field as a whole JSON object; this second way is the definition.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Annotated, Any, NamedTuple, NoReturn, TypeAlias
from zlib import crc32

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import astuple

from monitor.batch.columns import Layout
from monitor.batch.highs import Highs
from monitor.config.settings import Settings
from monitor.topics.recorded import Record

TIME_FIRST_MS, TIME_LAST_MS = 10**11, 10**14 - 1
"""Event times outside of this range are refused: KairosDB takes them for no milliseconds."""
SESSION_ID_CHARACTERS_MAX = 256
SIXTEENTHS = 16
"""Of live A/A, by crc32 of the sessionId."""
DIGITS_MAX = 4_000
"""An integer literal of more digits counts as infinite: Python refuses to read it."""

UNKNOWN = "unknown"

EventRow: TypeAlias = Any
"""An instance of a generated struct with the fields of `Layout.columns`, which is written as a JSON object."""


def rows(
    records: Iterable[Record], settings: Settings, layout: Layout, rejected: Counter[tuple[str, str]], highs: Highs
) -> Iterator[EventRow]:
    """The rows of the messages that hold an event of a configured tenant; the others are counted in `rejected`."""
    bytes_max, tenants = settings.limits.message_bytes, layout.tenants
    placeholders = frozenset(map(_bare, settings.limits.placeholder_ids))
    read, row_of = _reader(layout), _row_maker(layout)
    for seq, (record, high) in enumerate(highs.before(records)):
        value = record.value
        if value is None or len(value) > bytes_max:
            rejected[UNKNOWN, "not_json" if value is None else "oversized"] += 1
            continue
        fields = read(value)
        if isinstance(fields, RejectedRow):
            rejected[fields.tenant if fields.tenant in tenants else UNKNOWN, fields.reason] += 1
            continue
        tenant = tenants.get(fields.tenant)
        if tenant is None:
            rejected[UNKNOWN, "unknown_tenant"] += 1
            continue
        if _bare(fields.sessionId) in placeholders:
            rejected[fields.tenant, "placeholder_id"] += 1
            continue
        own_id = fields.eventId or "~" + blake2b(value, digest_size=8).hexdigest()
        yield row_of(seq, tenant, own_id, (record.timestamp_ms, high), fields)


class Fields(Struct, gc=False):
    """An event's fields, checked; `attributes` has one field for each that the layout knows, None where absent.

    The values of `assignments` are of any type: what an assignment says is judged by itself (`assigned_text`).
    """

    tenant: str
    sessionId: Annotated[str, Meta(min_length=1, max_length=SESSION_ID_CHARACTERS_MAX)]
    time: Annotated[int, Meta(ge=TIME_FIRST_MS, le=TIME_LAST_MS)]
    event: str
    eventId: str | None = None
    assignments: dict[str, Any] | None = None
    attributes: Any = None


class RejectedRow(NamedTuple):
    """The reason why a message holds no event, and the tenant that it names, if any."""

    tenant: str
    reason: str


def _reader(layout: Layout) -> Callable[[bytes], Fields | RejectedRow]:
    """A function that reads a message value for this layout."""
    attributes = msgspec.defstruct(
        "Attributes",
        [(f"a{i}", Any, None) for i in layout.attributes.values()],
        rename={f"a{i}": name for name, i in layout.attributes.items()},
        gc=False,
    )
    ordinary = msgspec.defstruct("Ordinary", [("attributes", attributes | None, None)], bases=(Fields,), gc=False)
    fast = msgspec.json.Decoder(ordinary).decode

    def read(value: bytes) -> Fields | RejectedRow:
        try:
            if not value.isascii():
                value.decode()  # the decoder does not check the UTF-8 of the fields that it skips
            fields: Fields = fast(value)  # type: ignore[assignment]  # the generated struct is one
            return fields
        except (ValueError, RecursionError):
            pass
        event = decoded(value)
        if event is None:
            return RejectedRow(UNKNOWN, "not_json")
        if not _is_event(event):
            tenant = event.get("tenant")
            return RejectedRow(tenant if isinstance(tenant, str) else UNKNOWN, "bad_field")
        present = event.get("attributes") or {}
        used = attributes(**{f"a{i}": present.get(name) for name, i in layout.attributes.items()})
        required = (event["tenant"], event["sessionId"], event["time"], event["event"])
        return Fields(*required, event.get("eventId"), event.get("assignments"), used)

    return read


def _row_maker(layout: Layout) -> Callable[[int, int, str, tuple[int, int | None], Fields], EventRow]:
    """A function from seq, tenant, id, stamp and high, and fields to a row."""
    row = msgspec.defstruct("Row", [(name, Any, None) for name in layout.columns()], omit_defaults=True, gc=False)
    numbers = list(layout.numbers.values())
    keys = list(layout.assignments)
    unassigned: list[str | None] = [None] * len(keys)
    absent: list[str | None] = [None] * len(layout.attributes)
    no_numbers: list[Any] = [None] * (2 * len(numbers))

    def row_of(seq: int, tenant: int, own_id: str, stamp_and_high: tuple[int, int | None], fields: Fields) -> EventRow:
        assigned, texts, measured = unassigned, absent, no_numbers
        if carried := fields.assignments:
            assigned = [assigned_text(carried[key]) if key in carried else None for key in keys]
        if fields.attributes is not None:
            values = astuple(fields.attributes)
            # The frequent types are converted without a call, because most of the time is spent here.
            texts = [
                None if v is None else f"s{v}" if type(v) is str and v.isascii() else tagged_text(v) for v in values
            ]
            if any([values[i] is not None for i in numbers]):
                measured = [part for i in numbers for part in double_and_rest(values[i])]
        sixteenth = crc32(fields.sessionId.encode()) % SIXTEENTHS
        fixed = (seq, tenant, fields.sessionId, fields.time, own_id, fields.event, *stamp_and_high, sixteenth)
        return row(*fixed, *assigned, *texts, *measured)

    return row_of


def decoded(value: bytes) -> dict[str, Any] | None:
    """The JSON object in a message value, None for `not_json`: RFC 8259 in UTF-8; of repeated names the last counts."""
    try:
        decoded_value = json.loads(value.decode(), parse_int=_integer, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return decoded_value if isinstance(decoded_value, dict) else None


def tagged_text(value: Any) -> str | None:
    """An attribute as text whose first letter is its type; equal for equal values, as 1 and 1.0. None if it is absent.

    A string with half a surrogate pair equals nothing in a configuration: it gets the letter x, and a character that
    no tag value may have replaces the half.
    """
    if value is True:
        return "btrue"
    if value is False:
        return "bfalse"
    if isinstance(value, str):
        return f"s{value}" if is_text(value) else "x" + value.encode("utf-8", "replace").decode()
    if isinstance(value, int):
        return f"n{value}"
    if isinstance(value, float):
        return f"n{int(value)}" if math.isfinite(value) and value.is_integer() else f"n{value!r}"
    return None


def assigned_text(value: Any) -> str | None:
    """The text of an assignment, as it names a variation: a string itself, `true` or `false`, the shortest number.

    None where it says nothing (null), or nothing that could be read: an array, an object, a string with half a
    surrogate pair, a number that is not finite.
    """
    if isinstance(value, str):
        return value if is_text(value) else None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    text = tagged_text(value)
    return text if text is None else text[1:]


def double_and_rest(number: Any) -> tuple[float | str | None, int | None]:
    """A number as the nearest double and, for an integer, the rest: together they compare as the number itself.

    An integer beyond all doubles is an infinity with a rest that places it below infinity (above, if negative). A value
    that is no number has neither.
    """
    if type(number) is float:
        return (number if math.isfinite(number) else _infinity(number > 0)), None
    if type(number) is not int:
        return None, None
    try:
        nearest = float(number)
    except OverflowError:
        return _infinity(number > 0), -1 if number > 0 else 1
    rest = number - int(nearest)
    return nearest, max(-_REST_MAX, min(rest, _REST_MAX))


def is_text(value: object) -> bool:
    """True for a string of whole characters."""
    return isinstance(value, str) and (value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value))


_REST_MAX = 2**62
"""Far larger than the rest of any number of a configuration, which has 64 bits."""


def _infinity(positive: bool) -> str:
    return "Infinity" if positive else "-Infinity"


def _is_event(fields: Mapping[str, Any]) -> bool:
    """True if each required field is present, and each field that is present has its type and range."""
    session, time, own_id = fields.get("sessionId"), fields.get("time"), fields.get("eventId")
    assignments, attributes = fields.get("assignments"), fields.get("attributes")
    return (
        is_text(session)
        and 1 <= len(fields["sessionId"]) <= SESSION_ID_CHARACTERS_MAX
        and type(time) is int
        and TIME_FIRST_MS <= time <= TIME_LAST_MS
        and is_text(fields.get("tenant"))
        and is_text(fields.get("event"))
        and (own_id is None or is_text(own_id))
        and (attributes is None or isinstance(attributes, dict))
        and (assignments is None or isinstance(assignments, dict))
    )


def _bare(session_id: str) -> str:
    """A sessionId as it is compared with the placeholders."""
    return session_id.strip().casefold()


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= DIGITS_MAX else float(digits)


def _refuse(constant: str) -> NoReturn:
    message = f"{constant} is not JSON"
    raise ValueError(message)
