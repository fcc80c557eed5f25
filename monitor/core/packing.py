"""Sessions as bytes: their form in memory between events, and in snapshots. Pure.

8 bytes of the last event's time (big-endian), then a msgpack array; times inside are relative to the visit's first
event. Numbers refer to the tenant's definitions (variations, points, predicates, tags in their order; codes.py): bytes
can be read only with the definitions that they were written with, which is why snapshots hold those too. Masks that
need more than 63 bits, which msgpack has not, are written as hexadecimal text.

A session is packed at every snapshot, and mostly unpacked for one more event at its end. So the events of its tail stay
packed, and new ones are put behind them without reading them.
"""

from collections.abc import Callable
from typing import Any, final

import msgspec
from msgspec import Raw
from mypy_extensions import mypyc_attr

from monitor.core.attribution import Program
from monitor.core.codes import minute_and_tags
from monitor.core.packed import PackedEntry, PackedState, PackedVisit
from monitor.core.states import Entry, VisitState
from monitor.core.visits import Visit

_TIME_BYTES = 8

_FIXARRAY, _ARRAY_16, _ARRAY_32 = 0x90, 0xDC, 0xDD
_NOTHING = Raw(msgspec.msgpack.encode(None))


def last_ms(session: bytes) -> int:
    """The time of the session's last event."""
    return int.from_bytes(session[:_TIME_BYTES], "big")


@final
@mypyc_attr(acyclic=True)
class _PackedTail:
    """Entries of a tail as a msgpack array, and the state before them."""

    __slots__ = ("base", "packer", "tail")

    def __init__(self, packer: "Packer", base: Raw, tail: Raw) -> None:
        self.packer = packer
        self.base = base
        self.tail = tail

    def entries(self, first_ms: int) -> list[Entry]:
        return self.packer.unpack_tail(self.base, self.tail, first_ms)


@final
class Packer:
    """Packs and unpacks the sessions of one tenant."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(PackedVisit).decode
        self._decode_tail = msgspec.msgpack.Decoder(list[PackedEntry]).decode
        self._decode_state = msgspec.msgpack.Decoder(PackedState).decode
        self._wide = program.bits > 63
        self._out: Callable[[int], Any] = hex if self._wide else int
        self._in: Callable[[Any], int] = (lambda text: int(text, 16)) if self._wide else int

    def pack(self, session: Visit) -> bytes:
        """The session as bytes."""
        first_ms, packed_tail = session.first_ms, session.packed_tail
        tail = self._encode([self._pack_entry(entry, first_ms) for entry in session.tail])
        base = _NOTHING
        if isinstance(packed_tail, _PackedTail):
            base, tail = packed_tail.base, _joined(bytes(packed_tail.tail), tail)
        elif session.tail:
            base = Raw(self._encode(self._pack_state(session.state_before(0, self._program))))
        packed = PackedVisit(
            session.last_ms - first_ms,
            session.ids,
            self._pack_state(session.state),
            base,
            Raw(tail),
            self.pack(session.earlier) if session.earlier is not None else None,
            session.marks,
            session.texts,
            session.counted,
        )
        return session.last_ms.to_bytes(_TIME_BYTES, "big") + self._encode(packed)

    def unpack(self, data: bytes) -> Visit:
        """The session of these bytes, its tail still packed."""
        packed = self._decode(memoryview(data)[_TIME_BYTES:])
        last = last_ms(data)
        return Visit(
            last - packed.span_ms,
            last,
            packed.ids,
            self._unpack_state(packed.state),
            [],
            _PackedTail(self, packed.base, packed.tail) if packed.base != _NOTHING else None,
            None,
            self.unpack(packed.earlier) if packed.earlier is not None else None,
            packed.marks,
            packed.texts,
            packed.counted,
        )

    def unpack_tail(self, base: Raw, tail: Raw, first_ms: int) -> list[Entry]:
        """The entries of a packed tail; the first has the state before it."""
        entries = [self._unpack_entry(entry, first_ms) for entry in self._decode_tail(tail)]
        assert entries, "a tail is packed only if it has events"
        entries[0].before = self._unpack_state(self._decode_state(base))
        return entries

    def _pack_state(self, state: VisitState) -> PackedState:
        if self._wide:
            return hex(state.seen), state.counts, tuple([hex(code) for code in state.codes()]), state.sums
        return state.seen, state.counts, state.codes(), state.sums

    def _unpack_state(self, packed: PackedState) -> VisitState:
        seen, counts, codes, sums = packed
        if self._wide:
            seen, codes = int(seen, 16), tuple([int(code, 16) for code in codes])
        return VisitState(seen, counts, tuple([self._program.experiment_state(code) for code in codes]), sums)

    def _pack_entry(self, entry: Entry, first_ms: int) -> PackedEntry:
        event_class, tags = entry.event_class, minute_and_tags(entry.bucket)[1]
        if event_class.is_tardy:
            tags = ~tags
        points, clauses = self._out(event_class.points), self._out(event_class.clauses)
        return entry.time - first_ms, entry.event_id, points, clauses, tags, entry.variations, entry.values

    def _unpack_entry(self, packed: PackedEntry, first_ms: int) -> Entry:
        time, event_id, points, clauses, tags, variations, values = packed
        is_tardy = tags < 0
        event_class = self._program.event_class_of(self._in(points), self._in(clauses), is_tardy)
        return Entry(first_ms + time, event_id, event_class, ~tags if is_tardy else tags, variations, values)


def _joined(first: bytes, second: bytes) -> bytes:
    """Two msgpack arrays as one.

    An array is a header, which says how many elements follow, and the elements' bytes one after the other. So the bytes
    behind both headers, put together behind a header with the sum, are the joined array; no element is read.
    """
    (count, at), (more, more_at) = _array(first), _array(second)
    return _array_header(count + more) + first[at:] + second[more_at:]


def _array(data: bytes) -> tuple[int, int]:
    """The number of elements of an array, and the index of the first (msgpack: fixarray, array 16, array 32)."""
    kind = data[0]
    assert _FIXARRAY <= kind < _FIXARRAY + 16 or kind in (_ARRAY_16, _ARRAY_32), "the bytes are an array"
    if kind < _ARRAY_16:
        return kind - _FIXARRAY, 1
    size = 2 if kind == _ARRAY_16 else 4
    return int.from_bytes(data[1 : 1 + size], "big"), 1 + size


def _array_header(count: int) -> bytes:
    if count < 16:
        return bytes([_FIXARRAY + count])
    if count < 2**16:
        return bytes([_ARRAY_16]) + count.to_bytes(2, "big")
    return bytes([_ARRAY_32]) + count.to_bytes(4, "big")
