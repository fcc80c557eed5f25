"""Named tuples as plain values for JSON, and back, by their types: whatever a check is computed from. Pure.

A named tuple is an object by its fields. A mapping by text is an object; one by moments (the counts before each
restart) is `{"marks": N, "values": [...]}` with the N-th list of moments, since many have the same ones; any other is a
list of [key, value]. Numbers stay what they are, so what comes back is equal to the last digit.
"""

from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin, get_type_hints


class Marks:
    """Lists of moments in ms, each kept once."""

    def __init__(self, lists: Sequence[Sequence[int]] = ()) -> None:
        self.lists: list[list[int]] = [list(moments) for moments in lists]
        self._places = {tuple(moments): place for place, moments in enumerate(self.lists)}

    def place(self, moments: Sequence[int]) -> int:
        """The place of a list, which is added if it is new."""
        place = self._places.setdefault(tuple(moments), len(self.lists))
        if place == len(self.lists):
            self.lists.append(list(moments))
        return place


def plain(value: Any, marks: Marks) -> Any:
    """A value as objects, lists, texts and numbers."""
    if hasattr(value, "_asdict"):
        return {name: plain(of, marks) for name, of in value._asdict().items()}
    if isinstance(value, Mapping):
        if value and all(isinstance(key, int) for key in value):
            return {"marks": marks.place(list(value)), "values": [plain(of, marks) for of in value.values()]}
        if all(isinstance(key, str) for key in value):
            return {key: plain(of, marks) for key, of in value.items()}
        return [[plain(key, marks), plain(of, marks)] for key, of in value.items()]
    if isinstance(value, tuple | list):
        return [plain(of, marks) for of in value]
    return value


def typed(kind: Any, value: Any, marks: Marks) -> Any:
    """The value of a type that `plain` has made this of. Raises LookupError, TypeError or ValueError if it is none."""
    origin, of = get_origin(kind), get_args(kind)
    if hasattr(kind, "_fields"):
        hints = get_type_hints(kind)
        return kind(**{name: typed(hints[name], value[name], marks) for name in kind._fields if name in value})
    if origin is not None and issubclass(origin, Mapping):
        if of[0] is int:
            moments = marks.lists[value["marks"]] if value else []
            values = value["values"] if value else []
            return {at: typed(of[1], one, marks) for at, one in zip(moments, values, strict=True)}
        if of[0] is str:
            return {key: typed(of[1], one, marks) for key, one in value.items()}
        return {typed(of[0], key, marks): typed(of[1], one, marks) for key, one in value}
    if origin is tuple:
        kinds = [of[0]] * len(value) if of[-1] is Ellipsis else of
        return tuple(typed(one_kind, one, marks) for one_kind, one in zip(kinds, value, strict=True))
    return value
