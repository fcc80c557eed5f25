"""Sessions written with other definitions of their tenant, in the numbers of the present ones. Pure.

What was counted stays counted, and what is defined now applies to events from now on: variations and points are
identified by name, also by one of before a rename, clauses by what they ask for, tags by their text. What is no longer
defined is dropped; what is new begins empty.
"""

from collections.abc import Hashable, Mapping
from typing import TypeAlias, TypeVar

from monitor.core.attribution import Program
from monitor.core.codes import FLAG_BITS, Code, minute_and_tags
from monitor.core.definitions import Experiment, Tenant
from monitor.core.packing import Packer
from monitor.core.states import Entry, VisitState
from monitor.core.tags import TagSets
from monitor.core.visits import Visit

Renumbering: TypeAlias = Mapping[int, int]
"""Old number -> new number; numbers that mean nothing any more are not in it."""


_Name = TypeVar("_Name", bound=Hashable)


def migrated(sessions: Mapping[str, bytes], old: Tenant, new: Program, flag_bits: int = FLAG_BITS) -> dict[str, bytes]:
    """The sessions, written with `old` and so many flags in their codes, as bytes for `new`."""
    migration = _Migration(Program(old, flag_bits), new)
    read, write = Packer(migration.old).unpack, Packer(new).pack
    return {session_id: write(migration.visit(read(data))) for session_id, data in sessions.items()}


class _Migration:
    def __init__(self, old: Program, new: Program) -> None:
        self.old, self.new = old, new
        was, now = old.numbering, new.numbering
        experiments = _experiments(old.tenant, new.tenant)
        variations = _variations(experiments)
        self._variations = {
            number: now.variation_numbers[renamed]
            for pair, number in was.variation_numbers.items()
            if (renamed := variations.get(pair)) is not None
        }
        self._points = _renumbering(_numbered(was.point_names), _numbered(now.point_names))
        numbers = _numbered(was.experiment_names), _numbered(now.experiment_names)
        self._experiments = {numbers[0][name]: numbers[1][e.name] for name, e in experiments.items()}
        self._clauses = _renumbering(_numbered(old.clauses.identities), _numbered(new.clauses.identities))
        self._old_tags, self._new_tags = TagSets(old.tenant.tags), TagSets(new.tenant.tags)

    def visit(self, visit: Visit) -> Visit:
        """The visit in the new numbers."""
        visit.unpack_tail()
        return Visit(
            visit.first_ms,
            visit.last_ms,
            visit.ids,
            self._state(visit.state),
            [self._entry(entry) for entry in visit.tail],
            earlier=visit.earlier and self.visit(visit.earlier),
            marks=visit.marks,
            texts=tuple([text for text in map(self._text, visit.texts) if text is not None]),
        )

    def _state(self, state: VisitState) -> VisitState:
        was, now = self.old.numbering, self.new.numbering
        counted = dict(zip(was.nth_points, state.counts, strict=True))
        counts = {self._points[p]: count for p, count in counted.items() if p in self._points}
        codes = [code for code in map(self._code, state.codes()) if code is not None]
        slots = ((self._slot(slot), s) for slot, s in state.sums.items())
        return VisitState(
            _mask(state.seen, self._clauses),
            tuple(min(counts.get(p, 0), now.nth_of(p)) for p in now.nth_points),
            tuple([self.new.experiment_state(code) for code in codes]),
            {slot: s for slot, s in slots if slot is not None},
        )

    def _code(self, code: int) -> int | None:
        parts = self.old.numbering.code_parts(code)
        variation = self._variations.get(parts.variation)
        if variation is None:
            return None
        assigned, fm = _mask(parts.assigned, self._points), _mask(parts.fm, self._points)
        return self.new.numbering.code(Code(variation, assigned, fm, parts.flags))

    def _slot(self, slot: int) -> int | None:
        experiment, scope, point = self.old.numbering.slot_parts(slot)
        if experiment not in self._experiments or point not in self._points:
            return None
        return self.new.numbering.slot(self._experiments[experiment], scope, self._points[point])

    def _text(self, text: tuple[int, int]) -> tuple[int, int] | None:
        """A text of assignments; a variation's number means the same name, any other text is a hash of it."""
        experiment, meaning = text
        if meaning >= 0:
            if meaning not in self._variations:
                return None
            meaning = self._variations[meaning]
        return (self._experiments[experiment], meaning) if experiment in self._experiments else None

    def _entry(self, entry: Entry) -> Entry:
        was = entry.event_class
        points, clauses = _mask(was.points, self._points), _mask(was.clauses, self._clauses)
        event_class = self.new.event_class_of(points, clauses, was.is_tardy)
        values = {self._points.get(p): x for p, x in zip(was.value_points, entry.values, strict=True)}
        migrated = Entry(
            entry.time,
            entry.event_id,
            event_class,
            self._new_tags.number_of_texts(self._old_tags.texts(minute_and_tags(entry.bucket)[1])),
            tuple([self._variations[v] for v in entry.variations if v in self._variations]),
            tuple([values.get(p, 0) for p in event_class.value_points]),
        )
        migrated.before = entry.before and self._state(entry.before)
        return migrated


def _experiments(old: Tenant, new: Tenant) -> dict[str, Experiment]:
    """Old name -> the experiment as it is now: of the same name, else of the first of its `names` that there was."""
    was = {experiment.name for experiment in old.experiments}
    names = {e.name: [name for name in (e.name, *e.names) if name in was] for e in new.experiments}
    return {names[e.name][0]: e for e in new.experiments if names[e.name]}


def _variations(experiments: Mapping[str, Experiment]) -> dict[tuple[str, str], tuple[str, str]]:
    """(old experiment, old variation) -> the present ones; a variation may have been named by an alias of today."""
    return {
        (name, text): (e.name, variation)
        for name, e in experiments.items()
        for text, variation in (*((own, own) for own, _ in e.variations), *e.aliases)
    }


def _numbered(names: list[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


def _renumbering(old: Mapping[_Name, int], new: Mapping[_Name, int]) -> Renumbering:
    return {number: new[name] for name, number in old.items() if name in new}


def _mask(mask: int, renumbering: Renumbering) -> int:
    return sum(1 << new for old, new in renumbering.items() if mask >> old & 1)
