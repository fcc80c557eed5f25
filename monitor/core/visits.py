"""A session's visits: runs of events in time, and the change when one more event comes. Pure.

A *session* is all that is held of one (tenant, sessionId): the visit of its latest events, and earlier visits that a
late event can still reach. A *visit* is a run of events with gaps of at most `session_gap`; a late event may join
two.

* An event later than all before it takes one step from the visit's present state. Any other event is put into its
  place and the steps from there on are done again; what they contributed before is retracted.
* Nothing is accepted behind the watermark, so the events behind it have their final place: only the state after them
  is kept. That is *compacting* a visit.
* A visit that was unpacked for an event still has its earlier events as bytes, its *packed tail*: only a late event
  needs them.

Example, with minutes for times and one variation: the visit has view@12 and order@15, and the rule of the experiment is
met by home. Then home@14 comes late. The state before 14 is kept with order@15, so home@14 steps from there, order@15
steps again, and the correction is the difference between the two contributions of order@15, plus home@14's own.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, Protocol, final

from mypy_extensions import mypyc_attr

from monitor.core.attribution import Program
from monitor.core.states import Contributions, Entry, VisitState

ID_BYTES: Final = 8
LATE: Final = 1
CROWDED: Final = 2
"""Marks of a visit that was counted as one with a late event, as a crowded one."""
LARGE_EVENTS: Final = 20
"""A visit of so many events is large: its events are counted by metric key from then on."""
TEXTS_MAX: Final = 3
"""A visit that carries more different texts for an experiment is crowded."""
SCANNED_MAX = 64
"""Longer lists of metric keys are compared by counting."""
COMPACT_EVERY = 32
"""A visit is compacted whenever its tail has grown by this many events."""


class PackedTail(Protocol):
    """The first events of a tail, as bytes."""

    def entries(self, first_ms: int) -> list[Entry]:
        """These events of a visit that begins at `first_ms`; the first has the state before it."""


@final
@mypyc_attr(acyclic=True)
class Visit:
    """A run of events.

    `ids`: 8-byte hashes of all event ids, in order of arrival; `state`: after all events; `tail`: the events that a
    late one could precede, in order of (time, event_id); `packed_tail`: events that come before those in the tail;
    `variations`: those applied last, if known; `earlier`: the session's visit before this one, while an event can still
    reach it; `marks`: warnings that were counted for it; `texts`: (experiment, text) of assignments that are not those
    of its state, until it is crowded; `counted`: of a large visit, its events in scope `fm` by metric key.
    """

    __slots__ = (
        "counted",
        "earlier",
        "first_ms",
        "ids",
        "last_ms",
        "marks",
        "packed_tail",
        "state",
        "tail",
        "texts",
        "variations",
    )

    def __init__(
        self,
        first_ms: int,
        last_ms: int,
        ids: bytes,
        state: VisitState,
        tail: list[Entry],
        packed_tail: PackedTail | None = None,
        variations: tuple[int, ...] | None = None,
        earlier: "Visit | None" = None,
        marks: int = 0,
        texts: tuple[tuple[int, int], ...] = (),
        counted: dict[int, int] | None = None,
    ) -> None:
        assert first_ms <= last_ms, "a visit does not end before it begins"
        assert len(ids) % ID_BYTES == 0, "ids are whole"
        self.first_ms = first_ms
        self.last_ms = last_ms
        self.ids = ids
        self.state = state
        self.tail = tail
        self.packed_tail = packed_tail
        self.variations = variations
        self.earlier = earlier
        self.marks = marks
        self.texts = texts
        self.counted = counted

    def unpack_tail(self) -> None:
        """Makes the tail whole."""
        if self.packed_tail is not None:
            self.tail[:0] = self.packed_tail.entries(self.first_ms)
            self.packed_tail = None

    def compact(self, watermark_ms: int, program: Program) -> None:
        """Forgets the events behind the watermark, which no event can precede any more.

        The state before the others stays.
        """
        self.unpack_tail()
        final_events = bisect_left(self.tail, watermark_ms, key=_time)
        if 0 < final_events < len(self.tail):
            self.tail[final_events].before = self.state_before(final_events, program)
        del self.tail[:final_events]
        assert not self.tail or self.tail[0].before is not None, "a tail begins with a known state"

    def state_before(self, index: int, program: Program) -> VisitState:
        """The state before the tail's event at `index`, the first of its time; the tail must be whole."""
        assert self.packed_tail is None, "the tail is whole"
        known = index
        while (state := self.tail[known].before) is None:
            known -= 1
        assert known >= 0, "a tail begins with a known state"
        return replay(program, state, self.tail[known:index], Contributions(), keep=False)

    def holds(self, digest: bytes) -> bool:
        """True if an accepted event has this id.

        The ids stand one after the other in one string of bytes, so a search for a substring may find the digest across
        the border of two ids: only a place that is a multiple of ID_BYTES is an id. (`in` alone may answer "holds" for
        an id that is not there, so the caller takes it for a suspicion.)
        """
        at = self.ids.find(digest)
        while at >= 0 and at % ID_BYTES:
            at = self.ids.find(digest, at + 1)
        return at >= 0

    def carries_too_many(self, texts: Sequence[tuple[int, int]]) -> bool:
        """Takes in what an event's assignments say; True if these are now more than TEXTS_MAX for an experiment."""
        own = {state.experiment: state.variation for state in self.state.experiments}
        others = [text for text in texts if own.get(text[0]) != text[1] and text not in self.texts]
        if others:
            self.texts += tuple(others)
        for experiment in {of for of, _ in self.texts}:
            carried = {text for of, text in self.texts if of == experiment and text != own.get(experiment)}
            if len(carried) + (experiment in own) > TEXTS_MAX:
                self.texts = ()  # it is crowded: nothing more is asked of them
                return True
        return False

    def append(self, program: Program, entry: Entry, digest: bytes, watermark_ms: int, out: Contributions) -> None:
        """Takes in an event later than all of the visit."""
        assert entry.time > self.last_ms, "an event that is not the latest is inserted"
        state, variations, contributed = self.state, entry.variations, len(out.increments)
        entry.before = state
        self.tail.append(entry)
        if variations and variations is not self.variations:
            self.variations = variations
            self.state = program.step_one(state, entry, out, variations_are_new=True)
        else:
            self.state = program.step_one(state, entry, out, variations_are_new=False)
        self.ids += digest
        self.last_ms = entry.time
        if self.counted is not None:
            self.count(program, out.increments[contributed:], 1)
        if not len(self.tail) % COMPACT_EVERY:
            self.compact(watermark_ms, program)

    def large_counts(self, program: Program) -> dict[int, int]:
        """Events in scope `fm` by metric key: those that a late one can still precede, and all since it is large."""
        if self.counted is None:
            self.unpack_tail()
            self.counted = {}
            if self.tail:
                contributed = Contributions()
                replay(program, self.state_before(0, program), self.tail, contributed, keep=False)
                self.count(program, contributed.increments, 1)
        return self.counted

    def count(self, program: Program, increments: Sequence[tuple[int, tuple[int, ...]]], sign: int) -> None:
        """Adds to the events by metric key, if they are counted yet, or takes away."""
        counted, numbering = self.counted, program.numbering
        if counted is None:
            return
        for _, metric_keys in increments:
            for key in metric_keys:
                if key % numbering.keys_per_variation in numbering.qualified_events:
                    counted[key] = counted.get(key, 0) + sign


def start(program: Program, entry: Entry, digest: bytes, earlier: Visit | None, out: Contributions) -> Visit:
    """A new visit of one event."""
    entry.before = program.initial
    state = program.step_one(program.initial, entry, out, variations_are_new=True)
    return Visit(entry.time, entry.time, digest, state, [entry], None, entry.variations or None, earlier)


def runs(session: Visit | None) -> Iterator[Visit]:
    """The visits of a session, latest first."""
    while session is not None:
        yield session
        session = session.earlier


def touching(session: Visit | None, time_ms: int, gap_ms: int) -> list[Visit]:
    """The visits that an event of this time belongs to, latest first: none, one, or two that it joins.

    That is the visit around it, else its neighbours within the gap. (Visits are further apart than the gap, so no other
    could touch it, unless the gap was raised between two runs: then those stay as they were counted.)
    """
    later: Visit | None = None
    for visit in runs(session):
        if visit.first_ms <= time_ms:
            if time_ms <= visit.last_ms:
                return [visit]
            earlier = [visit] if time_ms <= visit.last_ms + gap_ms else []
            return [later, *earlier] if later is not None else earlier
        later = visit if visit.first_ms - gap_ms <= time_ms else None
    return [later] if later is not None else []


def chained(visits: Sequence[Visit]) -> Visit:
    """A session of these visits, given latest first."""
    for visit, earlier in zip(visits, [*visits[1:], None], strict=True):
        assert earlier is None or earlier.last_ms < visit.first_ms, "visits follow each other"
        visit.earlier = earlier
    return visits[0]


@final
class Correction:
    """The difference between the contributions of events now and before."""

    def __init__(self) -> None:
        self.old = Contributions()
        self.new = Contributions()

    def apply(self, plus: Contributions, minus: Contributions) -> int:
        """Adds the difference to `plus` and `minus`; returns the number of (bucket, metric key) that decreased."""
        if not (self.old.increments or self.old.amounts):
            plus.increments += self.new.increments
            plus.amounts += self.new.amounts
            return 0
        decreased = 0
        old, new = _by_bucket(self.old), _by_bucket(self.new)
        for bucket in old.keys() | new.keys():
            gained = new.get(bucket, [])
            retracted = _cancel(gained, old.get(bucket, []))
            if gained:
                plus.increments.append((bucket, tuple(gained)))
            if retracted:
                minus.increments.append((bucket, tuple(retracted)))
                decreased += len(set(retracted))
        changed: Counter[tuple[int, int]] = Counter()
        for bucket, key, amount in self.new.amounts:
            changed[bucket, key] += amount
        for bucket, key, amount in self.old.amounts:
            changed[bucket, key] -= amount
        plus.amounts += [(bucket, key, amount) for (bucket, key), amount in changed.items() if amount]
        return decreased + sum(amount < 0 for amount in changed.values())


def _by_bucket(contributions: Contributions) -> dict[int, list[int]]:
    """The metric keys that get +1, by bucket, one occurrence per +1."""
    by_bucket: dict[int, list[int]] = {}
    for bucket, keys in contributions.increments:
        by_bucket.setdefault(bucket, []).extend(keys)
    return by_bucket


def _cancel(gained: list[int], retracted: list[int]) -> list[int]:
    """Removes from `gained` what is in `retracted` too, occurrence by occurrence; returns the rest of `retracted`."""
    if len(retracted) > SCANNED_MAX:
        left, rest = Counter(retracted) - Counter(gained), Counter(gained) - Counter(retracted)
        gained[:] = rest.elements()
        return [*left.elements()]
    left_over = []
    for key in retracted:
        if key in gained:
            gained.remove(key)
        else:
            left_over.append(key)
    return left_over


def insert(program: Program, visit: Visit, entry: Entry, digest: bytes, correction: Correction) -> None:
    """Puts an event into its place in a visit.

    The steps from there on are done again, up to where the visit comes to the state that it had come to before.
    """
    visit.unpack_tail()
    tail = visit.tail
    at = bisect_left(tail, entry.time, key=_time)
    old = new = visit.state_before(at, program) if at < len(tail) else visit.state
    end = _end_of_time(tail, at) if at < len(tail) and tail[at].time == entry.time else at
    old = replay(program, old, tail[at:end], correction.old, keep=False)
    new = replay(program, new, sorted([*tail[at:end], entry], key=_order), correction.new, keep=True)
    # At the top of each round: tail[:end] are the events of times up to the one replayed last; `old` is the state after
    # them as it was, `new` as it is with the new event; `correction` holds what they contributed to each. Once the two
    # are equal, all later events contribute as before, and the states kept with them stay right.
    while end < len(tail) and not new.equals(old):
        here, end = end, _end_of_time(tail, end)
        old = replay(program, old, tail[here:end], correction.old, keep=False)
        new = replay(program, new, tail[here:end], correction.new, keep=True)
    tail.insert(bisect_left(tail, _order(entry), lo=at, key=_order), entry)
    if end == len(tail) - 1:
        visit.state = new
    visit.count(program, correction.old.increments, -1)
    visit.count(program, correction.new.increments, 1)
    visit.ids += digest
    visit.first_ms = min(visit.first_ms, entry.time)
    visit.last_ms = tail[-1].time
    visit.variations = None


def join(program: Program, visit: Visit, later: Visit, entry: Entry, digest: bytes, correction: Correction) -> None:
    """Puts an event behind the events of a visit, and behind it those of a later visit that it joins to the first."""
    assert visit.last_ms < entry.time < later.first_ms, "the event lies between the two"
    later.unpack_tail()
    assert len(later.ids) == len(later.tail) * ID_BYTES, "a visit after an accepted event cannot be compacted"
    visit.unpack_tail()
    replay(program, program.initial, later.tail, correction.old, keep=False)
    added = [entry, *later.tail]
    visit.state = replay(program, visit.state, added, correction.new, keep=True)
    visit.tail += added
    visit.count(program, correction.new.increments, 1)
    visit.ids += digest + later.ids
    visit.last_ms = later.last_ms
    visit.variations = None
    visit.marks |= later.marks
    visit.texts = tuple(dict.fromkeys([*visit.texts, *later.texts]))


def replay(program: Program, state: VisitState, entries: list[Entry], out: Contributions, *, keep: bool) -> VisitState:
    """The state after events in order, from the state before them; `keep`: they keep the state before their time."""
    at = 0
    variations: tuple[int, ...] | None = None
    while at < len(entries):
        end = _end_of_time(entries, at)
        if keep:
            for entry in entries[at:end]:
                entry.before = None
            entries[at].before = state
        if end == at + 1:
            entry = entries[at]
            state = program.step_one(state, entry, out, variations_are_new=entry.variations is not variations)
            variations = entry.variations
        else:
            state, variations = program.step(state, entries[at:end], out), None
        at = end
    return state


def _end_of_time(entries: list[Entry], at: int) -> int:
    """The index behind the events of the same time as the one at `at`."""
    end, time = at + 1, entries[at].time
    while end < len(entries) and entries[end].time == time:
        end += 1
    return end


def _time(entry: Entry) -> int:
    return entry.time


def _order(entry: Entry) -> tuple[int, str]:
    return entry.time, entry.event_id
