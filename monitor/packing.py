"""Sessions as bytes: the form in which they rest in memory and go into snapshots. Pure.

8 bytes of the last event's time (big-endian), then a msgpack array; times inside are relative to the visit's first
event. Numbers refer to the tenant's definitions (arms, points, predicates, tags in their order): bytes can be read
only with the definitions that they were written with, which is why snapshots hold those too (state.py). Masks that
need more than 63 bits, which msgpack has not, are written as hexadecimal text.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from monitor.timeline import Visit
from monitor.visits import Entry, Program, State

_TIME_BYTES = 8

_PackedState = tuple[Any, tuple[int, ...], list[Any], dict[int, int]]
_PackedEntry = tuple[int, str, Any, Any, int, tuple[int, ...], tuple[int, ...]]


class _Packed(Struct, array_like=True, gc=False):
    span_ms: int
    ids: bytes
    state: _PackedState
    base: _PackedState | None
    tail: list[_PackedEntry]
    earlier: bytes | None


def last_ms(session: bytes) -> int:
    """The time of the session's last event."""
    return int.from_bytes(session[:_TIME_BYTES], "big")


class Packer:
    """Packs and unpacks the sessions of one tenant."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(_Packed).decode
        wide = program.bits > 63
        self._out: Callable[[int], Any] = hex if wide else int
        self._in: Callable[[Any], int] = (lambda text: int(text, 16)) if wide else int

    def pack(self, session: Visit) -> bytes:
        """The session as bytes."""
        first_ms = session.first_ms
        packed = _Packed(
            session.last_ms - first_ms,
            session.ids,
            self._pack_state(session.state),
            self._pack_state(session.state_before(0, self._program)) if session.tail else None,
            [self._pack_entry(entry, first_ms) for entry in session.tail],
            self.pack(session.earlier) if session.earlier is not None else None,
        )
        return session.last_ms.to_bytes(_TIME_BYTES, "big") + self._encode(packed)

    def unpack(self, data: bytes) -> Visit:
        """The session that these bytes are of."""
        packed = self._decode(memoryview(data)[_TIME_BYTES:])
        last = last_ms(data)
        first_ms = last - packed.span_ms
        before: list[State | None] = [None] * len(packed.tail)
        if packed.base is not None:
            before[0] = self._unpack_state(packed.base)
        return Visit(
            first_ms,
            last,
            packed.ids,
            self._unpack_state(packed.state),
            [self._unpack_entry(entry, first_ms) for entry in packed.tail],
            before,
            None,
            self.unpack(packed.earlier) if packed.earlier is not None else None,
        )

    def _pack_state(self, state: State) -> _PackedState:
        return self._out(state.seen), state.counts, [self._out(code) for code in state.codes], state.sums

    def _unpack_state(self, packed: _PackedState) -> State:
        seen, counts, codes, sums = packed
        return State(self._in(seen), counts, tuple([self._in(code) for code in codes]), sums)

    def _pack_entry(self, entry: Entry, first_ms: int) -> _PackedEntry:
        kind = entry.kind
        masks = self._out(kind.points), self._out(kind.clauses)
        return entry.time - first_ms, entry.event_id, *masks, entry.tags, entry.arms, entry.values

    def _unpack_entry(self, packed: _PackedEntry, first_ms: int) -> Entry:
        time, event_id, points, clauses, tags, arms, values = packed
        return Entry(
            first_ms + time, event_id, self._program.kind_of(self._in(points), self._in(clauses)), tags, arms, values
        )
