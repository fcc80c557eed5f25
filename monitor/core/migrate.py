"""Sessions written with other definitions of their tenant, translated into the present ones. Pure.

What was counted stays counted, and what is defined now applies to events from now on: arms and points are found again
by name, clauses by what they ask for, tags by their text. What is no longer defined is dropped; what is new begins
empty.
"""

from collections.abc import Hashable, Mapping
from typing import TypeAlias, TypeVar

from monitor.core.attribution import Code, Entry, Program, VisitState, minute_and_tags
from monitor.core.classify import TagSets
from monitor.core.definitions import Tenant
from monitor.core.packing import Packer
from monitor.core.visits import Visit

Renumbering: TypeAlias = Mapping[int, int]
"""Old number -> new number; without an entry where there is none any more."""


_Name = TypeVar("_Name", bound=Hashable)


def translated(sessions: Mapping[str, bytes], old: Tenant, new: Program) -> dict[str, bytes]:
    """The sessions, written with `old`, as bytes for `new`."""
    translation = _Translation(Program(old), new)
    read, write = Packer(translation.old).unpack, Packer(new).pack
    return {session_id: write(translation.visit(read(data))) for session_id, data in sessions.items()}


class _Translation:
    def __init__(self, old: Program, new: Program) -> None:
        self.old, self.new = old, new
        self._variations = _renumbering(old.variation_numbers, new.variation_numbers)
        self._points = _renumbering(_numbered(old.point_names), _numbered(new.point_names))
        self._clauses = _renumbering(_numbered(old.clauses.identities), _numbered(new.clauses.identities))
        self._old_tags, self._new_tags = TagSets(old.tenant.tags), TagSets(new.tenant.tags)

    def visit(self, visit: Visit) -> Visit:
        """The visit in the new numbers."""
        visit.unfold()
        return Visit(
            visit.first_ms,
            visit.last_ms,
            visit.ids,
            self._state(visit.state),
            [self._entry(entry) for entry in visit.tail],
            earlier=visit.earlier and self.visit(visit.earlier),
        )

    def _state(self, state: VisitState) -> VisitState:
        counted = dict(zip(self.old.nth_points, state.counts, strict=True))
        names = {self._points[p]: count for p, count in counted.items() if p in self._points}
        return VisitState(
            _mask(state.seen, self._clauses),
            tuple(min(names.get(p, 0), self.new.nth_of(p)) for p in self.new.nth_points),
            tuple([self.new.experiment_state(code) for code in map(self._code, state.codes()) if code is not None]),
            {slot: s for slot, s in ((self._slot(old), s) for old, s in state.sums.items()) if slot is not None},
        )

    def _code(self, code: int) -> int | None:
        parts = self.old.code_parts(code)
        variation = self._variations.get(parts.variation)
        if variation is None:
            return None
        assigned, fm = _mask(parts.assigned, self._points), _mask(parts.fm, self._points)
        return self.new.code(Code(variation, assigned, fm, parts.flags))

    def _slot(self, slot: int) -> int | None:
        experiment, scope, point = self.old.slot_parts(slot)
        name = self.old.tenant.experiments[experiment].name
        number = next((i for i, e in enumerate(self.new.tenant.experiments) if e.name == name), None)
        return (
            None if number is None or point not in self._points else self.new.slot(number, scope, self._points[point])
        )

    def _entry(self, entry: Entry) -> Entry:
        kind = self.new.kind_of(_mask(entry.kind.points, self._points), _mask(entry.kind.clauses, self._clauses))
        values = {self._points.get(p): x for p, x in zip(entry.kind.value_points, entry.values, strict=True)}
        translated = Entry(
            entry.time,
            entry.event_id,
            kind,
            self._new_tags.number_of_texts(self._old_tags.texts(minute_and_tags(entry.bucket)[1])),
            tuple([self._variations[variation] for variation in entry.variations if variation in self._variations]),
            tuple([values.get(p, 0) for p in kind.value_points]),
        )
        translated.before = entry.before and self._state(entry.before)
        return translated


def _numbered(names: list[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


def _renumbering(old: Mapping[_Name, int], new: Mapping[_Name, int]) -> Renumbering:
    return {number: new[name] for name, number in old.items() if name in new}


def _mask(mask: int, renumbering: Renumbering) -> int:
    return sum(1 << new for old, new in renumbering.items() if mask >> old & 1)
