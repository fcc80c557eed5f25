"""A session's visits: runs of events in time, and what changes when one more event comes. Pure.

A *session* is all that is held of one (tenant, sessionId): the visit of its latest events, and earlier visits that a
late event can still reach. A *visit* is a run of events with gaps of at most `session_gap`; a late event may join
two.

* An event that is later than all before it goes the short way: one step from the visit's present state. Any other
  event is put into its place and the steps from there on are done again; what they contributed before is taken back.
* Nothing is accepted behind the watermark, so events behind it have their final place: only the state after them is
  kept.
* A visit that comes back from rest has its earlier events still *folded*: only a late event needs them.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Protocol, final

from mypy_extensions import mypyc_attr

from monitor.core.attribution import Contributions, Entry, Program, VisitState

ID_BYTES = 8
SCANNED_MAX = 64
"""Longer lists of stems are compared by counting."""
TAIL_SETTLE = 32
"""Whenever a visit's tail has grown by this many events, those behind the watermark are forgotten."""


class Folded(Protocol):
    """The first events of a tail, as they rest."""

    def unfolded(self, first_ms: int) -> list[Entry]:
        """These events of a visit that begins at `first_ms`; the first has the state before it."""


@final
@mypyc_attr(acyclic=True)
class Visit:
    """A run of events.

    `ids`: 8-byte hashes of all event ids; `state`: after all events; `tail`: the events that a late one could
    precede, in order; `folded`: events that come first in the tail; `arms`: those applied last, if known; `earlier`:
    the session's visit before this one, while an event can still reach it.
    """

    __slots__ = ("earlier", "first_ms", "folded", "ids", "last_ms", "state", "tail", "variations")

    def __init__(
        self,
        first_ms: int,
        last_ms: int,
        ids: bytes,
        state: VisitState,
        tail: list[Entry],
        folded: Folded | None = None,
        variations: tuple[int, ...] | None = None,
        earlier: "Visit | None" = None,
    ) -> None:
        self.first_ms = first_ms
        self.last_ms = last_ms
        self.ids = ids
        self.state = state
        self.tail = tail
        self.folded = folded
        self.variations = variations
        self.earlier = earlier

    def unfold(self) -> None:
        """Makes the tail whole."""
        if self.folded is not None:
            self.tail[:0] = self.folded.unfolded(self.first_ms)
            self.folded = None

    def settle(self, watermark_ms: int, program: Program) -> None:
        """Forgets the events behind the watermark, which nothing can precede any more.

        The state before the others stays.
        """
        self.unfold()
        settled = bisect_left(self.tail, watermark_ms, key=_time)
        if 0 < settled < len(self.tail):
            self.tail[settled].before = self.state_before(settled, program)
        del self.tail[:settled]

    def state_before(self, index: int, program: Program) -> VisitState:
        """The state before the tail's event at `index`, the first of its time; the tail must be whole."""
        known = index
        while (state := self.tail[known].before) is None:
            known -= 1
        return replay(program, state, self.tail[known:index], Contributions(), keep=False)

    def holds(self, digest: bytes) -> bool:
        """Whether an accepted event has this id."""
        at = self.ids.find(digest)
        while at >= 0 and at % ID_BYTES:  # found across the border of two ids
            at = self.ids.find(digest, at + 1)
        return at >= 0

    def append(self, program: Program, entry: Entry, digest: bytes, watermark_ms: int, out: Contributions) -> None:
        """Takes in an event that is later than all of the visit."""
        state, variations = self.state, entry.variations
        entry.before = state
        self.tail.append(entry)
        if variations and variations is not self.variations:
            self.variations = variations
            self.state = program.step_one(state, entry, out, variations_are_new=True)
        else:
            self.state = program.step_one(state, entry, out, variations_are_new=False)
        self.ids += digest
        self.last_ms = entry.time
        if not len(self.tail) % TAIL_SETTLE:
            self.settle(watermark_ms, program)


def start(program: Program, entry: Entry, digest: bytes, earlier: Visit | None, out: Contributions) -> Visit:
    """A new visit of one event."""
    entry.before = program.start
    state = program.step_one(program.start, entry, out, variations_are_new=True)
    return Visit(entry.time, entry.time, digest, state, [entry], None, entry.variations or None, earlier)


def runs(session: Visit | None) -> Iterator[Visit]:
    """The visits of a session, latest first."""
    while session is not None:
        yield session
        session = session.earlier


def touching(session: Visit | None, time_ms: int, gap_ms: int) -> list[Visit]:
    """The visits that an event of this time belongs to, latest first: none, one, or two that it joins."""
    return [visit for visit in runs(session) if visit.first_ms - gap_ms <= time_ms <= visit.last_ms + gap_ms]


def chained(visits: Sequence[Visit]) -> Visit:
    """A session of these visits, given latest first."""
    for visit, earlier in zip(visits, [*visits[1:], None], strict=True):
        visit.earlier = earlier
    return visits[0]


@final
class Correction:
    """The difference between what events contribute now and what they contributed before: gains and losses per key."""

    def __init__(self) -> None:
        self.old = Contributions()
        self.new = Contributions()

    def apply(self, plus: Contributions, minus: Contributions) -> int:
        """Moves the difference to `plus` and `minus`; the number of keys (cell, stem) that lost something."""
        if not (self.old.increments or self.old.sum_increments):
            plus.increments += self.new.increments
            plus.sum_increments += self.new.sum_increments
            return 0
        losses = 0
        old, new = _by_bucket(self.old), _by_bucket(self.new)
        for bucket in old.keys() | new.keys():
            gained = new.get(bucket, [])
            lost = _cancel(gained, old.get(bucket, []))
            if gained:
                plus.increments.append((bucket, tuple(gained)))
            if lost:
                minus.increments.append((bucket, tuple(lost)))
                losses += len(set(lost))
        changed: Counter[tuple[int, int]] = Counter()
        for bucket, metric_key, amount in self.new.sum_increments:
            changed[bucket, metric_key] += amount
        for bucket, metric_key, amount in self.old.sum_increments:
            changed[bucket, metric_key] -= amount
        plus.sum_increments += [
            (bucket, metric_key, amount) for (bucket, metric_key), amount in changed.items() if amount
        ]
        return losses + sum(amount < 0 for amount in changed.values())


def _by_bucket(contributions: Contributions) -> dict[int, list[int]]:
    """The stems that get +1, by cell, one occurrence per +1."""
    found: dict[int, list[int]] = {}
    for bucket, metric_keys in contributions.increments:
        found.setdefault(bucket, []).extend(metric_keys)
    return found


def _cancel(gained: list[int], lost: list[int]) -> list[int]:
    """Takes from `gained` what is in `lost` too, occurrence by occurrence; returns what is left of `lost`."""
    if len(lost) > SCANNED_MAX:
        left, rest = Counter(lost) - Counter(gained), Counter(gained) - Counter(lost)
        gained[:] = rest.elements()
        return [*left.elements()]
    left_over = []
    for metric_key in lost:
        if metric_key in gained:
            gained.remove(metric_key)
        else:
            left_over.append(metric_key)
    return left_over


def insert(program: Program, visit: Visit, entry: Entry, digest: bytes, correction: Correction) -> None:
    """Puts an event into its place in a visit.

    The steps from there on are done again up to where the visit comes to the state that it had come to before.
    """
    visit.unfold()
    tail = visit.tail
    at = bisect_left(tail, entry.time, key=_time)
    old = new = visit.state_before(at, program) if at < len(tail) else visit.state
    end = _end_of_time(tail, at) if at < len(tail) and tail[at].time == entry.time else at
    old = replay(program, old, tail[at:end], correction.old, keep=False)
    new = replay(program, new, sorted([*tail[at:end], entry], key=_order), correction.new, keep=True)
    while end < len(tail) and not new.equals(old):
        here, end = end, _end_of_time(tail, end)
        old = replay(program, old, tail[here:end], correction.old, keep=False)
        new = replay(program, new, tail[here:end], correction.new, keep=True)
    tail.insert(bisect_left(tail, _order(entry), lo=at, key=_order), entry)
    if end == len(tail) - 1:
        visit.state = new
    visit.ids += digest
    visit.first_ms = min(visit.first_ms, entry.time)
    visit.last_ms = tail[-1].time
    visit.variations = None


def join(program: Program, visit: Visit, later: Visit, entry: Entry, digest: bytes, correction: Correction) -> None:
    """Puts an event behind the events of a visit, and those of a later one that it joins to it behind that."""
    later.unfold()
    assert len(later.ids) == len(later.tail) * ID_BYTES, "a visit after an accepted event cannot have settled"
    visit.unfold()
    replay(program, program.start, later.tail, correction.old, keep=False)
    added = [entry, *later.tail]
    visit.state = replay(program, visit.state, added, correction.new, keep=True)
    visit.tail += added
    visit.ids += digest + later.ids
    visit.last_ms = later.last_ms
    visit.variations = None


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
    """Where the events of the same time as the one at `at` end."""
    end, time = at + 1, entries[at].time
    while end < len(entries) and entries[end].time == time:
        end += 1
    return end


def _time(entry: Entry) -> int:
    return entry.time


def _order(entry: Entry) -> tuple[int, str]:
    return entry.time, entry.event_id
