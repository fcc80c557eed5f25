"""The form of packed visits, as msgpack reads and writes them (packing.py).

In a module that is not compiled: mypyc drops the annotations that msgspec reads.
"""

from typing import Any, TypeAlias

from msgspec import Raw, Struct

PackedState: TypeAlias = tuple[Any, tuple[int, ...], tuple[Any, ...], dict[int, int]]
"""Clauses seen, counts, codes, sums; masks and codes are texts where they need more than 63 bits."""
PackedEntry: TypeAlias = tuple[int, str, Any, Any, int, tuple[int, ...], tuple[int, ...]]
"""Time after the visit's first event in ms, event id, points, clauses, tags, variations, values.

Of a tardy event the bits of the tags are inverted, which makes the number negative."""


class PackedVisit(Struct, array_like=True, gc=False):
    """A visit. In the first state format it ends before `marks`."""

    span_ms: int
    ids: bytes
    state: PackedState
    base: Raw
    """The state before the tail; null without a tail."""
    tail: Raw
    earlier: bytes | None
    """The session before this visit, packed."""
    marks: int = 0
    texts: tuple[tuple[int, int], ...] = ()
    counted: dict[int, int] | None = None
