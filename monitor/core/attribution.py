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

from monitor.core.definitions import MeasurementPoint, Tenant
from monitor.core.rules import Clauses

QUALIFIED, CROSSING, CROSSED, COUNTED, COUNTED_FM = 1, 2, 4, 8, 16
FLAG_BITS = 5
SCOPES = ("assigned", "fm")
TRANSITIONS_MAX = 131_072
"""Remembered moves of a tenant, and nodes; at the bound they are forgotten and computed anew."""
TAGS_BITS = 32
"""How many bits of a cell hold the tag combination: so few that a cell is a machine word until the year 4000."""


class MetricKey(NamedTuple):
    """What is counted, apart from minute and tags: becomes the metric `tenant.visit.scope.variation[.point][.part]`."""

    experiment: str
    scope: str
    variation: str
    point: str | None
    part: str | None


@final
@mypyc_attr(acyclic=True)
class VisitState:
    """All that later contributions of a visit depend on; never changed.

    `seen`: mask of the rule clauses met so far; `counts`: matches so far of each point with `nth` (up to n); `nodes`:
    one per assigned experiment; `sums`: sums so far per (experiment, scope, value point).
    """

    __slots__ = ("counts", "experiments", "seen", "sums")

    def __init__(
        self, seen: int, counts: tuple[int, ...], experiments: tuple["ExperimentState", ...], sums: dict[int, int]
    ) -> None:
        self.seen = seen
        self.counts = counts
        self.experiments = experiments
        self.sums = sums

    def codes(self) -> tuple[int, ...]:
        """The codes of the nodes."""
        return tuple([experiment_state.code for experiment_state in self.experiments])

    def equals(self, other: "VisitState") -> bool:
        """Whether whatever follows contributes the same after both."""
        if self is other:
            return True
        if self.seen != other.seen or self.counts != other.counts or self.sums != other.sums:
            return False
        return self.experiments == other.experiments or self.codes() == other.codes()


@final
@mypyc_attr(acyclic=True)
class Entry:
    """An accepted event as its visit keeps it; visits order them by (time, event_id).

    `cell`: its minute and tag combination; `arms`: the known variations that it carries; `values`: x of each value
    point that its kind matches; `before`: in a visit's tail, the state before the events of this time, if this is the
    first of them (None: to be computed from the one before it).
    """

    __slots__ = ("before", "bucket", "event_id", "kind", "time", "values", "variations")

    def __init__(
        self,
        time: int,
        event_id: str,
        kind: "EventClass",
        tags: int,
        variations: tuple[int, ...],
        values: tuple[int, ...],
    ) -> None:
        self.time = time
        self.event_id = event_id
        self.kind = kind
        self.bucket = time // 60_000 << TAGS_BITS | tags
        self.variations = variations
        self.values = values
        self.before: VisitState | None = None


class Code(NamedTuple):
    """The parts of a code: the arm, masks of the points already counted in each scope, flags."""

    variation: int
    assigned: int
    fm: int
    flags: int


SumIncrement: TypeAlias = tuple[int, int, int, int]
"""Slot of the sum, position in `Entry.values`, stem of `.sum`, stem of `.sumsq`."""
Pattern: TypeAlias = tuple[int, tuple[int, ...], tuple[SumIncrement, ...]]
"""A move of any arm: code without the arm; stems, and slots too, as those of the first arm and experiment."""


@final
@mypyc_attr(acyclic=True)
class EventClass:
    """A kind of event: the points it counts for and the rule clauses it meets (masks)."""

    __slots__ = ("clauses", "has_nth", "patterns", "points", "refined", "value_points")

    def __init__(self, points: int, clauses: int, value_points: tuple[int, ...], *, has_nth: bool) -> None:
        self.points = points
        self.clauses = clauses
        self.value_points = value_points
        self.has_nth = has_nth
        self.patterns: dict[int, Pattern] = {}
        self.refined: dict[tuple[int, ...], tuple[tuple[int, ...], EventClass]] = {}


@final
class ExperimentState:
    """What a visit is to one experiment, as far as later contributions depend on it; `moves`: those found so far."""

    __slots__ = ("code", "experiment", "transitions", "variation")

    def __init__(self, code: int, variation: int, experiment: int) -> None:
        self.code = code
        self.variation = variation
        self.experiment = experiment
        self.transitions: dict[EventClass, Transition] = {}


@final
class Transition:
    """What an event of some kind does to a node: the next node, stems that get +1, sums that grow."""

    __slots__ = ("after", "metric_keys", "sum_increments")

    def __init__(
        self, after: ExperimentState, metric_keys: tuple[int, ...], sum_increments: tuple[SumIncrement, ...]
    ) -> None:
        self.after = after
        self.metric_keys = metric_keys
        self.sum_increments = sum_increments


@final
class Contributions:
    """What events contribute, by *cell* (minute and tag combination): +1 for stems, and amounts for the sums."""

    __slots__ = ("increments", "sum_increments")

    def __init__(self) -> None:
        self.increments: list[tuple[int, tuple[int, ...]]] = []
        """(cell, stems that get +1)"""
        self.sum_increments: list[tuple[int, int, int]] = []
        """(cell, stem, amount)"""


def minute_and_tags(bucket: int) -> tuple[int, int]:
    """The minute (since the epoch) and the tag combination of a cell."""
    return bucket >> TAGS_BITS, bucket & (1 << TAGS_BITS) - 1


@final
class Program:
    """A tenant's definitions, compiled."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self.clauses = Clauses(tenant)
        self._points = tenant.points
        self.point_names = [point.name for point in tenant.points]
        self._width = len(tenant.points)
        self._variation_shift = FLAG_BITS + 2 * self._width
        self.nth_points = [i for i, point in enumerate(tenant.points) if point.nth is not None]
        """The points with `nth`, in the order of `State.counts`."""
        self._nth_mask = sum(1 << i for i in self.nth_points)
        self._variations = [(e.name, variation) for e in tenant.experiments for variation, _ in e.variations]
        self.variation_numbers = {variation: number for number, variation in enumerate(self._variations)}
        """(experiment, variation) -> arm"""
        self.bits = max(self._variation_shift + len(self._variations).bit_length(), len(self.clauses.identities))
        """How many bits the masks and codes of a visit need."""
        self._experiment_of = [i for i, e in enumerate(tenant.experiments) for _ in e.variations]
        self._experiment_states: dict[int, ExperimentState] = {}
        self._transitions = 0
        self._kinds: dict[tuple[int, int], EventClass] = {}
        self._refined: dict[tuple[int, int, int], EventClass] = {}
        self._counted = [("crossed", None, "beta"), *_counted(self.point_names)]
        """What is counted for each arm: (scope, point, part). A stem is one of these of an arm."""
        self._numbers = {counted: number for number, counted in enumerate(self._counted)}
        self._metric_keys: list[Any] = list(range(len(self._variations) * len(self._counted)))
        """Each stem as one object: moves hold them by the hundred thousand."""
        self.start = VisitState(0, (0,) * len(self.nth_points), (), {})

    def kind(self, met: int) -> EventClass:
        """The kind of an event, from the mask of the predicates that it meets."""
        return self.kind_of(self.clauses.points(met), met & self.clauses.in_rules)

    def kind_of(self, points: int, clauses: int) -> EventClass:
        """The one kind with these masks, as an event is before `nth` is applied."""
        kind = self._kinds.get((points, clauses))
        if kind is None:
            values = tuple(p for p in _bits(points) if self._points[p].value is not None)
            kind = self._kinds[points, clauses] = EventClass(
                points, clauses, values, has_nth=bool(points & self._nth_mask)
            )
        return kind

    def nth_of(self, point: int) -> int:
        """The n of a point that counts only the n-th match."""
        nth = self._points[point].nth
        assert nth is not None, "asked of a point without nth"
        return nth

    def experiment_state(self, code: int) -> ExperimentState:
        """The one node with this code, as long as it is remembered."""
        experiment_state = self._experiment_states.get(code)
        if experiment_state is None:
            if len(self._experiment_states) >= TRANSITIONS_MAX:
                self._forget_transitions()
                self._experiment_states.clear()
            variation = code >> self._variation_shift
            experiment_state = self._experiment_states[code] = ExperimentState(
                code, variation, self._experiment_of[variation]
            )
        return experiment_state

    def step(self, state: VisitState, entries: Sequence[Entry], out: Contributions) -> VisitState:
        """The state after all events of one time, given in order; adds what they contribute to `out`."""
        seen, counts, experiments, sums = state.seen, state.counts, state.experiments, state.sums
        kinds = []
        for entry in entries:
            kind = entry.kind
            if kind.has_nth:
                counts, kind = self._refine(kind, counts)
            kinds.append(kind)
            seen |= kind.clauses
            experiments = self._assigned(experiments, entry.variations)
        experiments = self._qualified(experiments, seen)
        for entry, kind in zip(entries, kinds, strict=True):
            experiments, sums = self._count(kind, self._crossing(experiments, entry.variations), entry, sums, out)
        return VisitState(seen, counts, experiments, sums)

    def step_one(self, state: VisitState, entry: Entry, out: Contributions, *, variations_are_new: bool) -> VisitState:
        """`step` for one event, as nearly always; `arms_are_new`: the event before it did not carry the same."""
        seen, counts, experiments, kind = state.seen, state.counts, state.experiments, entry.kind
        if kind.has_nth:
            counts, kind = self._refine(kind, counts)
        if variations_are_new and not _carries(experiments, entry.variations):
            experiments = self._qualified(self._assigned(experiments, entry.variations), seen)
            experiments = self._crossing(experiments, entry.variations)
        if kind.clauses & ~seen:
            seen |= kind.clauses
            experiments = self._qualified(experiments, seen)
        experiments, sums = self._count(kind, experiments, entry, state.sums, out)
        if experiments is state.experiments and counts is state.counts and seen == state.seen and sums is state.sums:
            return state
        return VisitState(seen, counts, experiments, sums)

    def _count(
        self,
        kind: EventClass,
        experiments: tuple[ExperimentState, ...],
        entry: Entry,
        sums: dict[int, int],
        out: Contributions,
    ) -> tuple[tuple[ExperimentState, ...], dict[int, int]]:
        """Lets one event count in every assigned experiment: the nodes and the sums after it."""
        increments, bucket, moved = out.increments, entry.bucket, False
        after = []
        for experiment_state in experiments:
            transition = experiment_state.transitions.get(kind)
            if transition is None:
                transition = self._transition(kind, experiment_state)
            after.append(transition.after)
            if transition.after is not experiment_state:
                moved = True
            if transition.metric_keys:
                increments.append((bucket, transition.metric_keys))
                if transition.sum_increments:
                    sums = _grow(sums, transition.sum_increments, entry.values, bucket, out.sum_increments)
        return tuple(after) if moved else experiments, sums

    def code(self, parts: Code) -> int:
        """The code of these parts."""
        variation, assigned, fm, flags = parts
        return ((variation << self._width | fm) << self._width | assigned) << FLAG_BITS | flags

    def code_parts(self, code: int) -> Code:
        """The parts of a code."""
        points = (1 << self._width) - 1
        assigned, fm = code >> FLAG_BITS & points, code >> FLAG_BITS + self._width & points
        return Code(code >> self._variation_shift, assigned, fm, code & (1 << FLAG_BITS) - 1)

    def slot(self, experiment: int, scope: int, point: int) -> int:
        """Where a visit's sum is kept; `scope`: index in SCOPES."""
        return (experiment * len(SCOPES) + scope) * self._width + point

    def slot_parts(self, slot: int) -> tuple[int, int, int]:
        """The experiment, scope and point of a slot."""
        rest, point = divmod(slot, self._width)
        return *divmod(rest, len(SCOPES)), point

    def _transition(self, kind: EventClass, experiment_state: ExperimentState) -> Transition:
        """What an event of this kind does to a node."""
        variation, rest = experiment_state.variation, experiment_state.code & (1 << self._variation_shift) - 1
        after, metric_keys, sum_increments = kind.patterns.get(rest) or self._pattern(kind, rest)
        first, slot, known = (
            variation * len(self._counted),
            self.slot(experiment_state.experiment, 0, 0),
            self._metric_keys,
        )
        if self._transitions >= TRANSITIONS_MAX:
            self._forget_transitions()
        self._transitions += 1
        transition = experiment_state.transitions[kind] = Transition(
            self.experiment_state(variation << self._variation_shift | after),
            tuple([known[first + metric_key] for metric_key in metric_keys]),
            tuple(
                [
                    (slot + s, position, known[first + total], known[first + square])
                    for s, position, total, square in sum_increments
                ]
            ),
        )
        return transition

    def _forget_transitions(self) -> None:
        """Forgets all that can be computed anew."""
        for experiment_state in self._experiment_states.values():
            experiment_state.transitions.clear()
        for kind in (*self._kinds.values(), *self._refined.values()):
            kind.patterns.clear()
            kind.refined.clear()
        self._transitions = 0

    def _pattern(self, kind: EventClass, rest: int) -> Pattern:
        """What an event of this kind does to a code, whatever its arm."""
        _, assigned, fm, flags = self.code_parts(rest)
        counted, number = [assigned, fm], self._numbers
        metric_keys: list[int] = []
        sum_increments: list[SumIncrement] = []
        if flags & CROSSING:
            metric_keys.append(number["crossed", None, "beta"])
            flags = flags & ~CROSSING | CROSSED
        for s, (scope, flag) in enumerate(zip(SCOPES, (COUNTED, COUNTED_FM), strict=True)):
            if scope == "fm" and not flags & QUALIFIED:
                continue
            if not flags & flag:
                metric_keys.append(number[scope, None, "beta"])
                flags |= flag
            for p in _bits(kind.points):
                name = self.point_names[p]
                metric_keys.append(number[scope, name, None])
                if not counted[s] >> p & 1:
                    metric_keys.append(number[scope, name, "beta"])
                    counted[s] |= 1 << p
                if p in kind.value_points:
                    sums = number[scope, name, "sum"], number[scope, name, "sumsq"]
                    sum_increments.append((self.slot(0, s, p), kind.value_points.index(p), *sums))
        after = self.code(Code(0, counted[0], counted[1], flags))
        pattern = kind.patterns[rest] = after, tuple(metric_keys), tuple(sum_increments)
        return pattern

    def metric_key(self, number: int) -> MetricKey:
        """The stem of this number; numbers hold for this object only."""
        of, counted = divmod(number, len(self._counted))
        experiment, variation = self._variations[of]
        scope, point, part = self._counted[counted]
        return MetricKey(experiment, scope, variation, point, part)

    def _assigned(
        self, experiments: tuple[ExperimentState, ...], variations: tuple[int, ...]
    ) -> tuple[ExperimentState, ...]:
        """With a node for each experiment that the visit was not yet assigned to."""
        known = {experiment_state.experiment for experiment_state in experiments}
        return experiments + tuple(
            [
                self.experiment_state(variation << self._variation_shift)
                for variation in variations
                if self._experiment_of[variation] not in known
            ]
        )

    def _crossing(
        self, experiments: tuple[ExperimentState, ...], variations: tuple[int, ...]
    ) -> tuple[ExperimentState, ...]:
        """With a mark at each experiment of which the event carries another variation than the visit's."""
        carried = {self._experiment_of[variation]: variation for variation in variations}
        return tuple(
            [
                self.experiment_state(experiment_state.code | CROSSING)
                if _crosses(experiment_state, carried)
                else experiment_state
                for experiment_state in experiments
            ]
        )

    def _qualified(self, experiments: tuple[ExperimentState, ...], seen: int) -> tuple[ExperimentState, ...]:
        """With a mark at each experiment whose rule is met by now."""
        rules = self.clauses.rules
        return tuple(
            [
                self.experiment_state(experiment_state.code | QUALIFIED)
                if not experiment_state.code & QUALIFIED and rules[experiment_state.experiment](seen)
                else experiment_state
                for experiment_state in experiments
            ]
        )

    def _refine(self, kind: EventClass, counts: tuple[int, ...]) -> tuple[tuple[int, ...], EventClass]:
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
        if len(kind.refined) >= TRANSITIONS_MAX:
            kind.refined.clear()
        masks = kind.points, points, clauses
        if masks not in self._refined:
            self._refined[masks] = EventClass(points, clauses, kind.value_points, has_nth=False)
        after = counts if new == list(counts) else tuple(new)
        known = kind.refined[counts] = after, self._refined[masks]
        return known


def _carries(experiments: tuple[ExperimentState, ...], variations: tuple[int, ...]) -> bool:
    """Whether the arms are just those of the visit, as nearly always: nothing to assign, nothing crossed."""
    return tuple([experiment_state.variation for experiment_state in experiments]) == variations


def _crosses(experiment_state: ExperimentState, carried: Mapping[int, int]) -> bool:
    return (
        carried.get(experiment_state.experiment, experiment_state.variation) != experiment_state.variation
        and not experiment_state.code & CROSSED
    )


def measure(point: MeasurementPoint, attribute: Any) -> int | None:
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
    sum_increments: tuple[SumIncrement, ...],
    values: tuple[int, ...],
    bucket: int,
    out: list[tuple[int, int, int]],
) -> dict[int, int]:
    """The sums after an event's values: `.sum` gets x, `.sumsq` the growth of the visit's square, (s + x)^2 - s^2."""
    grown = dict(sums)
    for slot, position, sum_key, sumsq_key in sum_increments:
        x, s = values[position], grown.get(slot, 0)
        if x:
            grown[slot] = s + x
            out.append((bucket, sum_key, x))
            out.append((bucket, sumsq_key, x * (2 * s + x)))
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
