"""What a visit contributes, as a function of its events in order. Pure.

The rules, for each experiment that a visit is assigned to:

* it is assigned from the first event that carries a known variation, and qualified from when the rule is met, but not
  before that;
* each event from then on counts for its points, once per scope (`assigned`, `fm`), and the first ones also as
  `.beta`;
* the first event that carries another variation counts as crossed.

"From then on" compares times, so events of equal time form one step: assignments and rules first, then they count in
order.

A visit's *state* is an immutable value, `State`; `Program.step` maps (state, events of one time) to the next state
and what they contribute. Keeping the state before each recent event is what makes corrections cheap: a late event is
put into its place, the steps from there on are done again, and the difference to what they contributed before is what
has to be corrected.

Per experiment the state is one integer, a *code*: the arm (a variation of an experiment), which points were already
counted in each scope, and flags. Moves (kind of event, code) -> (next code, contributions) are computed once and
remembered.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from msgspec import Struct

from monitor.clauses import Clauses
from monitor.definitions import Point, Tenant

QUALIFIED, CROSSING, CROSSED, COUNTED, COUNTED_FM = 1, 2, 4, 8, 16
FLAG_BITS = 5
SCOPES = ("assigned", "fm")
MOVES_MAX = 65_536
"""Remembered per kind of event; at the bound they are forgotten and computed anew."""
TAGS_BITS = 40
"""How many bits of a cell hold the tag combination."""


class Stem(NamedTuple):
    """What is counted, apart from minute and tags: becomes the metric `tenant.visit.scope.variation[.point][.part]`."""

    experiment: str
    scope: str
    variation: str
    point: str | None
    part: str | None


class State(Struct, frozen=True, gc=False):
    """All that later contributions of a visit depend on.

    `seen`: mask of the rule clauses met so far; `counts`: matches so far of each point with `nth` (up to n); `codes`:
    one per assigned experiment; `sums`: sums so far per (experiment, scope, value point), never changed in place.
    """

    seen: int
    counts: tuple[int, ...]
    codes: tuple[int, ...]
    sums: dict[int, int]


class Entry(Struct, frozen=True, gc=False, eq=False):
    """An accepted event as its visit keeps it; visits order them by (time, event_id).

    `arms`: the known variations that it carries; `values`: x of each value point that its kind matches.
    """

    time: int
    event_id: str
    kind: "Kind"
    tags: int
    arms: tuple[int, ...]
    values: tuple[int, ...]


class Code(NamedTuple):
    """The parts of a code: the arm, masks of the points already counted in each scope, flags."""

    arm: int
    assigned: int
    fm: int
    flags: int


Gain: TypeAlias = tuple[int, int, int, int]
"""Slot of the sum, position in `Entry.values`, stem of `.sum`, stem of `.sumsq`."""
Move: TypeAlias = tuple[int, tuple[int, ...], tuple[Gain, ...]]
"""Next code, stems that get +1, sums that grow."""
Pattern: TypeAlias = tuple[int, tuple[int, ...], tuple[Gain, ...]]
"""A move of any arm: code without the arm; stems, and slots too, as those of the first arm and experiment."""


class Kind:
    """A kind of event: the points it counts for and the rule clauses it meets (masks)."""

    __slots__ = ("clauses", "has_nth", "moves", "patterns", "points", "refined", "value_points")

    def __init__(self, points: int, clauses: int, value_points: tuple[int, ...], *, has_nth: bool) -> None:
        self.points = points
        self.clauses = clauses
        self.value_points = value_points
        self.has_nth = has_nth
        self.moves: dict[int, Move] = {}
        self.patterns: dict[int, Pattern] = {}
        self.refined: dict[tuple[int, ...], tuple[tuple[int, ...], Kind]] = {}


class Contributions:
    """What events contribute, by *cell* (minute and tag combination): +1 for stems, and amounts for the sums."""

    __slots__ = ("amounts", "ones")

    def __init__(self) -> None:
        self.ones: list[tuple[int, tuple[int, ...]]] = []
        """(cell, stems that get +1)"""
        self.amounts: list[tuple[int, int, int]] = []
        """(cell, stem, amount)"""


def minute_and_tags(cell: int) -> tuple[int, int]:
    """The minute (since the epoch) and the tag combination of a cell."""
    return cell >> TAGS_BITS, cell & (1 << TAGS_BITS) - 1


class Program:
    """A tenant's definitions, compiled."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self.clauses = Clauses(tenant)
        self._points = tenant.points
        self.point_names = [point.name for point in tenant.points]
        self._width = len(tenant.points)
        self._arm_shift = FLAG_BITS + 2 * self._width
        self.nth_points = [i for i, point in enumerate(tenant.points) if point.nth is not None]
        """The points with `nth`, in the order of `State.counts`."""
        self._nth_mask = sum(1 << i for i in self.nth_points)
        self._arms = [(e.name, variation) for e in tenant.experiments for variation, _ in e.variations]
        self.arm_numbers = {arm: number for number, arm in enumerate(self._arms)}
        """(experiment, variation) -> arm"""
        self.bits = max(self._arm_shift + len(self._arms).bit_length(), len(self.clauses.identities))
        """How many bits the masks and codes of a visit need."""
        self._experiment_of = [i for i, e in enumerate(tenant.experiments) for _ in e.variations]
        self._kinds: dict[tuple[int, int], Kind] = {}
        self._refined: dict[tuple[int, int, int], Kind] = {}
        self._counted = [("crossed", None, "beta"), *_counted(self.point_names)]
        """What is counted for each arm: (scope, point, part). A stem is one of these of an arm."""
        self._numbers = {counted: number for number, counted in enumerate(self._counted)}
        self.start = State(0, (0,) * len(self.nth_points), (), {})

    def kind(self, met: int) -> Kind:
        """The kind of an event, from the mask of the predicates that it meets."""
        return self.kind_of(self.clauses.points(met), met & self.clauses.in_rules)

    def kind_of(self, points: int, clauses: int) -> Kind:
        """The one kind with these masks, as an event is before `nth` is applied."""
        kind = self._kinds.get((points, clauses))
        if kind is None:
            values = tuple(p for p in _bits(points) if self._points[p].value is not None)
            kind = self._kinds[points, clauses] = Kind(points, clauses, values, has_nth=bool(points & self._nth_mask))
        return kind

    def nth_of(self, point: int) -> int:
        """The n of a point that counts only the n-th match."""
        nth = self._points[point].nth
        assert nth is not None, "asked of a point without nth"
        return nth

    def step(self, state: State, entries: Sequence[Entry], out: Contributions) -> State:
        """The state after all events of one time, given in order; adds what they contribute to `out`."""
        seen, counts, codes, sums = state.seen, state.counts, state.codes, state.sums
        kinds = []
        for entry in entries:
            kind = entry.kind
            if kind.has_nth:
                counts, kind = self._refine(kind, counts)
            kinds.append(kind)
            seen |= kind.clauses
            codes = self._assigned(codes, entry.arms)
        codes = self._qualified(codes, seen)
        for entry, kind in zip(entries, kinds, strict=True):
            codes, sums = self._count(kind, self._crossing(codes, entry.arms), entry, sums, out)
        return State(seen, counts, codes, sums)

    def step_one(self, state: State, entry: Entry, out: Contributions, *, arms_are_new: bool) -> State:
        """`step` for one event, as nearly always; `arms_are_new`: the event before it did not carry the same."""
        seen, counts, codes, kind = state.seen, state.counts, state.codes, entry.kind
        if kind.has_nth:
            counts, kind = kind.refined.get(counts) or self._refine(kind, counts)
        if arms_are_new and not self._carries(codes, entry.arms):
            codes = self._qualified(self._assigned(codes, entry.arms), seen)
            codes = self._crossing(codes, entry.arms)
        if kind.clauses & ~seen:
            seen |= kind.clauses
            codes = self._qualified(codes, seen)
        codes, sums = self._count(kind, codes, entry, state.sums, out)
        return State(seen, counts, codes, sums)

    def _count(
        self, kind: Kind, codes: tuple[int, ...], entry: Entry, sums: dict[int, int], out: Contributions
    ) -> tuple[tuple[int, ...], dict[int, int]]:
        """Lets one event count in every assigned experiment: the codes and the sums after it."""
        known, ones = kind.moves, out.ones
        cell = entry.time // 60_000 << TAGS_BITS | entry.tags
        after = []
        for code in codes:
            move = known.get(code) or self._move(kind, code)
            after.append(move[0])
            if move[1]:
                ones.append((cell, move[1]))
                if move[2]:
                    sums = _grow(sums, move[2], entry.values, cell, out.amounts)
        return tuple(after), sums

    def code(self, parts: Code) -> int:
        """The code of these parts."""
        arm, assigned, fm, flags = parts
        return ((arm << self._width | fm) << self._width | assigned) << FLAG_BITS | flags

    def code_parts(self, code: int) -> Code:
        """The parts of a code."""
        points = (1 << self._width) - 1
        assigned, fm = code >> FLAG_BITS & points, code >> FLAG_BITS + self._width & points
        return Code(self._arm(code), assigned, fm, code & (1 << FLAG_BITS) - 1)

    def slot(self, experiment: int, scope: int, point: int) -> int:
        """Where a visit's sum is kept; `scope`: index in SCOPES."""
        return (experiment * len(SCOPES) + scope) * self._width + point

    def slot_parts(self, slot: int) -> tuple[int, int, int]:
        """The experiment, scope and point of a slot."""
        rest, point = divmod(slot, self._width)
        return *divmod(rest, len(SCOPES)), point

    def _move(self, kind: Kind, code: int) -> Move:
        """What an event of this kind does to one experiment's code."""
        arm, rest = code >> self._arm_shift, code & (1 << self._arm_shift) - 1
        after, stems, gains = kind.patterns.get(rest) or self._pattern(kind, rest)
        first, slot = arm * len(self._counted), self.slot(self._experiment_of[arm], 0, 0)
        if len(kind.moves) >= MOVES_MAX:
            kind.moves.clear()
        move = kind.moves[code] = (
            arm << self._arm_shift | after,
            tuple([first + stem for stem in stems]),
            tuple([(slot + s, position, first + total, first + square) for s, position, total, square in gains]),
        )
        return move

    def _pattern(self, kind: Kind, rest: int) -> Pattern:
        """What an event of this kind does to a code, whatever its arm."""
        _, assigned, fm, flags = self.code_parts(rest)
        counted, number = [assigned, fm], self._numbers
        stems: list[int] = []
        gains: list[Gain] = []
        if flags & CROSSING:
            stems.append(number["crossed", None, "beta"])
            flags = flags & ~CROSSING | CROSSED
        for s, (scope, flag) in enumerate(zip(SCOPES, (COUNTED, COUNTED_FM), strict=True)):
            if scope == "fm" and not flags & QUALIFIED:
                continue
            if not flags & flag:
                stems.append(number[scope, None, "beta"])
                flags |= flag
            for p in _bits(kind.points):
                name = self.point_names[p]
                stems.append(number[scope, name, None])
                if not counted[s] >> p & 1:
                    stems.append(number[scope, name, "beta"])
                    counted[s] |= 1 << p
                if p in kind.value_points:
                    sums = number[scope, name, "sum"], number[scope, name, "sumsq"]
                    gains.append((self.slot(0, s, p), kind.value_points.index(p), *sums))
        if len(kind.patterns) >= MOVES_MAX:
            kind.patterns.clear()
        after = self.code(Code(0, counted[0], counted[1], flags))
        pattern = kind.patterns[rest] = after, tuple(stems), tuple(gains)
        return pattern

    def stem(self, number: int) -> Stem:
        """The stem of this number; numbers hold for this object only."""
        arm, counted = divmod(number, len(self._counted))
        experiment, variation = self._arms[arm]
        scope, point, part = self._counted[counted]
        return Stem(experiment, scope, variation, point, part)

    def _arm(self, code: int) -> int:
        return code >> self._arm_shift

    def _carries(self, codes: tuple[int, ...], arms: tuple[int, ...]) -> bool:
        """Whether the arms are just those of the visit, as nearly always: nothing to assign, nothing crossed."""
        shift = self._arm_shift
        return len(codes) == len(arms) and all([code >> shift == arm for code, arm in zip(codes, arms, strict=True)])

    def _assigned(self, codes: tuple[int, ...], arms: tuple[int, ...]) -> tuple[int, ...]:
        """With a code for each experiment that the visit was not yet assigned to."""
        assigned = {self._experiment_of[self._arm(code)] for code in codes}
        return codes + tuple([arm << self._arm_shift for arm in arms if self._experiment_of[arm] not in assigned])

    def _crossing(self, codes: tuple[int, ...], arms: tuple[int, ...]) -> tuple[int, ...]:
        """With a mark at each experiment of which the event carries another variation than the visit's."""
        carried = {self._experiment_of[arm]: arm for arm in arms}
        return tuple([code | CROSSING if self._crosses(code, carried) else code for code in codes])

    def _crosses(self, code: int, carried: Mapping[int, int]) -> bool:
        arm = self._arm(code)
        return carried.get(self._experiment_of[arm], arm) != arm and not code & CROSSED

    def _qualified(self, codes: tuple[int, ...], seen: int) -> tuple[int, ...]:
        """With a mark at each experiment whose rule is met by now."""
        rules, experiment_of, shift = self.clauses.rules, self._experiment_of, self._arm_shift
        return tuple(
            [
                code | QUALIFIED if not code & QUALIFIED and rules[experiment_of[code >> shift]](seen) else code
                for code in codes
            ]
        )

    def _refine(self, kind: Kind, counts: tuple[int, ...]) -> tuple[tuple[int, ...], Kind]:
        """Applies `nth`.

        the counts after this event, and its kind with only those points that it is the n-th match of.
        """
        known = kind.refined.get(counts)
        if known is not None:
            return known
        points, clauses, new = kind.points, kind.clauses, list(counts)
        for position, p in enumerate(self.nth_points):
            if not points >> p & 1:
                continue
            nth = self.nth_of(p)
            new[position] = min(counts[position] + 1, nth)
            if counts[position] + 1 == nth:
                clauses |= self.clauses.nth_bit(self.point_names[p]) & self.clauses.in_rules
            else:
                points &= ~(1 << p)
        if len(kind.refined) >= MOVES_MAX:
            kind.refined.clear()
        masks = kind.points, points, clauses
        if masks not in self._refined:
            self._refined[masks] = Kind(points, clauses, kind.value_points, has_nth=False)
        known = kind.refined[counts] = tuple(new), self._refined[masks]
        return known


def measure(point: Point, attribute: Any) -> int | None:
    """x of a value point: round(attribute * scale), half to even, clipped; None if it is not a finite number."""
    assert point.value is not None
    if (type(attribute) is not int and type(attribute) is not float) or attribute - attribute != 0:
        return None
    maximum, scale = point.value.maximum, point.value.scale
    try:
        product = attribute * scale
    except OverflowError:  # an integer beyond any double
        product = maximum if (attribute > 0) == (scale > 0) else -maximum
    return round(max(-maximum, min(maximum, product)))


def _grow(
    sums: dict[int, int],
    gains: tuple[Gain, ...],
    values: tuple[int, ...],
    cell: int,
    amounts: list[tuple[int, int, int]],
) -> dict[int, int]:
    """The sums after an event's values: `.sum` gets x, `.sumsq` the growth of the visit's square, (s + x)^2 - s^2."""
    grown = dict(sums)
    for slot, position, sum_stem, sumsq_stem in gains:
        x, s = values[position], grown.get(slot, 0)
        if x:
            grown[slot] = s + x
            amounts.append((cell, sum_stem, x))
            amounts.append((cell, sumsq_stem, x * (2 * s + x)))
    return grown


def _counted(points: Sequence[str]) -> Iterator[tuple[str, str | None, str | None]]:
    """(scope, point, part) of all that is counted for an arm that a visit is assigned to."""
    for scope in SCOPES:
        yield scope, None, "beta"
        for point in points:
            for part in (None, "beta", "sum", "sumsq"):
                yield scope, point, part


def _bits(mask: int) -> Iterator[int]:
    """The positions of the set bits, lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
