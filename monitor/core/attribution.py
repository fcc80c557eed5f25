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

Per experiment the state is a *node*: the arm (a variation of an experiment), which points were already counted in each
scope, and flags, which together are one integer, the node's *code*. Moves (node, kind of event) -> (next node,
contributions) are computed once and remembered.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, final

from mypy_extensions import mypyc_attr

from monitor.core.definitions import Point, Tenant
from monitor.core.rules import Clauses

QUALIFIED, CROSSING, CROSSED, COUNTED, COUNTED_FM = 1, 2, 4, 8, 16
FLAG_BITS = 5
SCOPES = ("assigned", "fm")
MOVES_MAX = 131_072
"""Remembered moves of a tenant, and nodes; at the bound they are forgotten and computed anew."""
TAGS_BITS = 32
"""How many bits of a cell hold the tag combination: so few that a cell is a machine word until the year 4000."""


class Stem(NamedTuple):
    """What is counted, apart from minute and tags: becomes the metric `tenant.visit.scope.variation[.point][.part]`."""

    experiment: str
    scope: str
    variation: str
    point: str | None
    part: str | None


@final
@mypyc_attr(acyclic=True)
class State:
    """All that later contributions of a visit depend on; never changed.

    `seen`: mask of the rule clauses met so far; `counts`: matches so far of each point with `nth` (up to n); `nodes`:
    one per assigned experiment; `sums`: sums so far per (experiment, scope, value point).
    """

    __slots__ = ("counts", "nodes", "seen", "sums")

    def __init__(self, seen: int, counts: tuple[int, ...], nodes: tuple["Node", ...], sums: dict[int, int]) -> None:
        self.seen = seen
        self.counts = counts
        self.nodes = nodes
        self.sums = sums

    def codes(self) -> tuple[int, ...]:
        """The codes of the nodes."""
        return tuple([node.code for node in self.nodes])

    def equals(self, other: "State") -> bool:
        """Whether whatever follows contributes the same after both."""
        if self is other:
            return True
        if self.seen != other.seen or self.counts != other.counts or self.sums != other.sums:
            return False
        return self.nodes == other.nodes or self.codes() == other.codes()


@final
@mypyc_attr(acyclic=True)
class Entry:
    """An accepted event as its visit keeps it; visits order them by (time, event_id).

    `cell`: its minute and tag combination; `arms`: the known variations that it carries; `values`: x of each value
    point that its kind matches; `before`: in a visit's tail, the state before the events of this time, if this is the
    first of them (None: to be computed from the one before it).
    """

    __slots__ = ("arms", "before", "cell", "event_id", "kind", "time", "values")

    def __init__(
        self, time: int, event_id: str, kind: "Kind", tags: int, arms: tuple[int, ...], values: tuple[int, ...]
    ) -> None:
        self.time = time
        self.event_id = event_id
        self.kind = kind
        self.cell = time // 60_000 << TAGS_BITS | tags
        self.arms = arms
        self.values = values
        self.before: State | None = None


class Code(NamedTuple):
    """The parts of a code: the arm, masks of the points already counted in each scope, flags."""

    arm: int
    assigned: int
    fm: int
    flags: int


Gain: TypeAlias = tuple[int, int, int, int]
"""Slot of the sum, position in `Entry.values`, stem of `.sum`, stem of `.sumsq`."""
Pattern: TypeAlias = tuple[int, tuple[int, ...], tuple[Gain, ...]]
"""A move of any arm: code without the arm; stems, and slots too, as those of the first arm and experiment."""


@final
@mypyc_attr(acyclic=True)
class Kind:
    """A kind of event: the points it counts for and the rule clauses it meets (masks)."""

    __slots__ = ("clauses", "has_nth", "patterns", "points", "refined", "value_points")

    def __init__(self, points: int, clauses: int, value_points: tuple[int, ...], *, has_nth: bool) -> None:
        self.points = points
        self.clauses = clauses
        self.value_points = value_points
        self.has_nth = has_nth
        self.patterns: dict[int, Pattern] = {}
        self.refined: dict[tuple[int, ...], tuple[tuple[int, ...], Kind]] = {}


@final
class Node:
    """What a visit is to one experiment, as far as later contributions depend on it; `moves`: those found so far."""

    __slots__ = ("arm", "code", "experiment", "moves")

    def __init__(self, code: int, arm: int, experiment: int) -> None:
        self.code = code
        self.arm = arm
        self.experiment = experiment
        self.moves: dict[Kind, Move] = {}


@final
class Move:
    """What an event of some kind does to a node: the next node, stems that get +1, sums that grow."""

    __slots__ = ("after", "gains", "stems")

    def __init__(self, after: Node, stems: tuple[int, ...], gains: tuple[Gain, ...]) -> None:
        self.after = after
        self.stems = stems
        self.gains = gains


@final
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


@final
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
        self._nodes: dict[int, Node] = {}
        self._moves = 0
        self._kinds: dict[tuple[int, int], Kind] = {}
        self._refined: dict[tuple[int, int, int], Kind] = {}
        self._counted = [("crossed", None, "beta"), *_counted(self.point_names)]
        """What is counted for each arm: (scope, point, part). A stem is one of these of an arm."""
        self._numbers = {counted: number for number, counted in enumerate(self._counted)}
        self._stems: list[Any] = list(range(len(self._arms) * len(self._counted)))
        """Each stem as one object: moves hold them by the hundred thousand."""
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

    def node(self, code: int) -> Node:
        """The one node with this code, as long as it is remembered."""
        node = self._nodes.get(code)
        if node is None:
            if len(self._nodes) >= MOVES_MAX:
                self._forget_moves()
                self._nodes.clear()  # states that have one keep it until they go to rest; equal ones may come beside it
            arm = code >> self._arm_shift
            node = self._nodes[code] = Node(code, arm, self._experiment_of[arm])
        return node

    def step(self, state: State, entries: Sequence[Entry], out: Contributions) -> State:
        """The state after all events of one time, given in order; adds what they contribute to `out`."""
        seen, counts, nodes, sums = state.seen, state.counts, state.nodes, state.sums
        kinds = []
        for entry in entries:
            kind = entry.kind
            if kind.has_nth:
                counts, kind = self._refine(kind, counts)
            kinds.append(kind)
            seen |= kind.clauses
            nodes = self._assigned(nodes, entry.arms)
        nodes = self._qualified(nodes, seen)
        for entry, kind in zip(entries, kinds, strict=True):
            nodes, sums = self._count(kind, self._crossing(nodes, entry.arms), entry, sums, out)
        return State(seen, counts, nodes, sums)

    def step_one(self, state: State, entry: Entry, out: Contributions, *, arms_are_new: bool) -> State:
        """`step` for one event, as nearly always; `arms_are_new`: the event before it did not carry the same."""
        seen, counts, nodes, kind = state.seen, state.counts, state.nodes, entry.kind
        if kind.has_nth:
            counts, kind = self._refine(kind, counts)
        if arms_are_new and not _carries(nodes, entry.arms):
            nodes = self._qualified(self._assigned(nodes, entry.arms), seen)
            nodes = self._crossing(nodes, entry.arms)
        if kind.clauses & ~seen:
            seen |= kind.clauses
            nodes = self._qualified(nodes, seen)
        nodes, sums = self._count(kind, nodes, entry, state.sums, out)
        if nodes is state.nodes and counts is state.counts and seen == state.seen and sums is state.sums:
            return state
        return State(seen, counts, nodes, sums)

    def _count(
        self, kind: Kind, nodes: tuple[Node, ...], entry: Entry, sums: dict[int, int], out: Contributions
    ) -> tuple[tuple[Node, ...], dict[int, int]]:
        """Lets one event count in every assigned experiment: the nodes and the sums after it."""
        ones, cell, moved = out.ones, entry.cell, False
        after = []
        for node in nodes:
            move = node.moves.get(kind)
            if move is None:
                move = self._move(kind, node)
            after.append(move.after)
            if move.after is not node:
                moved = True
            if move.stems:
                ones.append((cell, move.stems))
                if move.gains:
                    sums = _grow(sums, move.gains, entry.values, cell, out.amounts)
        return tuple(after) if moved else nodes, sums

    def code(self, parts: Code) -> int:
        """The code of these parts."""
        arm, assigned, fm, flags = parts
        return ((arm << self._width | fm) << self._width | assigned) << FLAG_BITS | flags

    def code_parts(self, code: int) -> Code:
        """The parts of a code."""
        points = (1 << self._width) - 1
        assigned, fm = code >> FLAG_BITS & points, code >> FLAG_BITS + self._width & points
        return Code(code >> self._arm_shift, assigned, fm, code & (1 << FLAG_BITS) - 1)

    def slot(self, experiment: int, scope: int, point: int) -> int:
        """Where a visit's sum is kept; `scope`: index in SCOPES."""
        return (experiment * len(SCOPES) + scope) * self._width + point

    def slot_parts(self, slot: int) -> tuple[int, int, int]:
        """The experiment, scope and point of a slot."""
        rest, point = divmod(slot, self._width)
        return *divmod(rest, len(SCOPES)), point

    def _move(self, kind: Kind, node: Node) -> Move:
        """What an event of this kind does to a node."""
        arm, rest = node.arm, node.code & (1 << self._arm_shift) - 1
        after, stems, gains = kind.patterns.get(rest) or self._pattern(kind, rest)
        first, slot, known = arm * len(self._counted), self.slot(node.experiment, 0, 0), self._stems
        if self._moves >= MOVES_MAX:
            self._forget_moves()
        self._moves += 1
        move = node.moves[kind] = Move(
            self.node(arm << self._arm_shift | after),
            tuple([known[first + stem] for stem in stems]),
            tuple(
                [
                    (slot + s, position, known[first + total], known[first + square])
                    for s, position, total, square in gains
                ]
            ),
        )
        return move

    def _forget_moves(self) -> None:
        """Forgets all that can be computed anew."""
        for node in self._nodes.values():
            node.moves.clear()
        for kind in (*self._kinds.values(), *self._refined.values()):
            kind.patterns.clear()
            kind.refined.clear()
        self._moves = 0

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
        after = self.code(Code(0, counted[0], counted[1], flags))
        pattern = kind.patterns[rest] = after, tuple(stems), tuple(gains)
        return pattern

    def stem(self, number: int) -> Stem:
        """The stem of this number; numbers hold for this object only."""
        arm, counted = divmod(number, len(self._counted))
        experiment, variation = self._arms[arm]
        scope, point, part = self._counted[counted]
        return Stem(experiment, scope, variation, point, part)

    def _assigned(self, nodes: tuple[Node, ...], arms: tuple[int, ...]) -> tuple[Node, ...]:
        """With a node for each experiment that the visit was not yet assigned to."""
        known = {node.experiment for node in nodes}
        return nodes + tuple(
            [self.node(arm << self._arm_shift) for arm in arms if self._experiment_of[arm] not in known]
        )

    def _crossing(self, nodes: tuple[Node, ...], arms: tuple[int, ...]) -> tuple[Node, ...]:
        """With a mark at each experiment of which the event carries another variation than the visit's."""
        carried = {self._experiment_of[arm]: arm for arm in arms}
        return tuple([self.node(node.code | CROSSING) if _crosses(node, carried) else node for node in nodes])

    def _qualified(self, nodes: tuple[Node, ...], seen: int) -> tuple[Node, ...]:
        """With a mark at each experiment whose rule is met by now."""
        rules = self.clauses.rules
        return tuple(
            [
                self.node(node.code | QUALIFIED) if not node.code & QUALIFIED and rules[node.experiment](seen) else node
                for node in nodes
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
        after = counts if new == list(counts) else tuple(new)
        known = kind.refined[counts] = after, self._refined[masks]
        return known


def _carries(nodes: tuple[Node, ...], arms: tuple[int, ...]) -> bool:
    """Whether the arms are just those of the visit, as nearly always: nothing to assign, nothing crossed."""
    return tuple([node.arm for node in nodes]) == arms


def _crosses(node: Node, carried: Mapping[int, int]) -> bool:
    return carried.get(node.experiment, node.arm) != node.arm and not node.code & CROSSED


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
