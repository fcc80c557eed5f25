"""The attribution automaton: contributions of a visit, as a function of its events in order. Pure.

The rules, for each experiment that a visit is assigned to (reference, section 3):

* it is assigned from the first event that carries a known variation, and qualified from when the rule is met, but not
  before that;
* each event from then on counts for its points, once per scope (`assigned`, `fm`), and the first ones also as
  `.beta`;
* the first event that carries another variation counts as crossed, the first one that is tardy as tardy.

"From then on" compares times, so events of equal time form one step: assignments and rules first, then they count in
order.

A visit's state is an immutable value, `VisitState`; `Program.step` maps (state, events of one time) to the next state
and what they contribute. Keeping the state before each recent event makes corrections cheap: a late event is put into
its place, the steps from there on are done again, and the difference from what they contributed before is the
correction (visits.py).

Per experiment the state is an `ExperimentState`, identified by one integer, its code (codes.py). Transitions
(experiment state, event class) -> (next experiment state, increments) are computed once and remembered.
"""

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias, final

from monitor.core.codes import (
    COUNTED,
    COUNTED_FM,
    CROSSED,
    CROSSING,
    FLAG_BITS,
    QUALIFIED,
    SCOPES,
    TARDY,
    Code,
    Numbering,
)
from monitor.core.definitions import Tenant
from monitor.core.rules import Clauses
from monitor.core.states import Contributions, Entry, EventClass, ExperimentState, SumStep, Transition, VisitState

TRANSITIONS_MAX = 131_072
"""Remembered transitions of a tenant, and as many experiment states; at the bound all are forgotten and found anew."""
TRANSITIONS_BYTES_MAX = 67_108_864
"""Their estimated size; at the bound likewise."""
EVENT_CLASSES_MAX = 65_536
"""Remembered event classes of a tenant, and as many after `nth`; forgotten at the bound, with the transitions."""
REFINEMENTS_MAX = 65_536
"""Remembered results of `nth` of a tenant; at the bound they are forgotten with the transitions."""

_TRANSITION_BYTES: Final = 320
_KEY_BYTES: Final = 8
_SUM_BYTES: Final = 96
"""Measured with tracemalloc on CPython 3.11: a transition with its dictionary entry and its pattern, each metric key,
each sum step."""


Pattern: TypeAlias = tuple[int, tuple[int, ...], tuple[SumStep, ...]]
"""A transition of any variation: code without the variation; metric keys and slots as those of the first variation."""


@final
class Program:
    """A tenant's definitions, compiled to steps."""

    def __init__(self, tenant: Tenant, flag_bits: int = FLAG_BITS) -> None:
        self.tenant = tenant
        self.clauses = Clauses(tenant)
        self.numbering = Numbering(tenant, flag_bits)
        self.bits = max(self.numbering.code_bits, len(self.clauses.identities))
        """Bits that the masks and codes of a visit need."""
        self._points = tenant.points
        self._experiment_states: dict[int, ExperimentState] = {}
        self._event_classes: dict[tuple[int, int, bool], EventClass] = {}
        self._refined: dict[tuple[int, int, int, bool], EventClass] = {}
        self._patterns: dict[tuple[EventClass, int], Pattern] = {}
        self._transitions = self._transitions_bytes = self._refinements = 0
        self.initial = VisitState(0, (0,) * len(self.numbering.nth_points), (), {})

    def event_class(self, met: int) -> EventClass:
        """The class of an event, from the mask of the predicates that it meets."""
        return self.event_class_of(self.clauses.points(met), met & self.clauses.in_rules)

    def event_class_of(self, points: int, clauses: int, is_tardy: bool = False) -> EventClass:
        """The one class with these masks, as an event is before `nth` is applied."""
        event_class = self._event_classes.get((points, clauses, is_tardy))
        if event_class is None:
            if len(self._event_classes) >= EVENT_CLASSES_MAX:
                self._forget_transitions()
                self._event_classes.clear()
            values = tuple([p for p in _bits(points) if self._points[p].value is not None])
            has_nth = bool(points & self.numbering.nth_mask)
            event_class = EventClass(points, clauses, values, has_nth=has_nth, is_tardy=is_tardy)
            self._event_classes[points, clauses, is_tardy] = event_class
        return event_class

    def experiment_state(self, code: int) -> ExperimentState:
        """The one state with this code, as long as it is remembered."""
        state = self._experiment_states.get(code)
        if state is None:
            if len(self._experiment_states) >= TRANSITIONS_MAX:
                self._forget_transitions()
                # visits that hold one keep it until they are packed; an equal one may come to be beside it
                self._experiment_states.clear()
            variation = code >> self.numbering.variation_shift
            assert variation < len(self.numbering.variations), "a code is of this tenant's definitions"
            state = ExperimentState(code, variation, self.numbering.experiment_of[variation])
            self._experiment_states[code] = state
        return state

    def step(self, state: VisitState, entries: Sequence[Entry], out: Contributions) -> VisitState:
        """The state after all events of one time, given in order; adds what they contribute to `out`."""
        assert entries, "a step is of at least one event"
        assert entries[0].time == entries[-1].time, "a step is of one time"
        seen, counts, experiments, sums = state.seen, state.counts, state.experiments, state.sums
        classes = []
        for entry in entries:
            event_class = entry.event_class
            if event_class.has_nth:
                counts, event_class = self._refine(event_class, counts)
            classes.append(event_class)
            seen |= event_class.clauses
            experiments = self._assigned(experiments, entry.variations)
        experiments = self._qualified(experiments, seen)
        for entry, event_class in zip(entries, classes, strict=True):
            crossing = self._crossing(experiments, entry.variations)
            experiments, sums = self._count(event_class, crossing, entry, sums, out)
        return VisitState(seen, counts, experiments, sums)

    def step_one(self, state: VisitState, entry: Entry, out: Contributions, *, variations_are_new: bool) -> VisitState:
        """`step` for one event, as nearly always; `variations_are_new`: the event before it did not carry the same.

        It equals `step(state, [entry], out)`, which the oracle's tests hold for both
        (tests/core/test_attribution.py: test_one_event_is_a_step_of_one), because it only leaves out what cannot
        change anything: an event that carries just the visit's variations, or those of the event before it, assigns
        nothing and crosses nothing; a rule can only become met by a clause that was not seen before, or by an
        assignment.
        """
        seen, counts, experiments, event_class = state.seen, state.counts, state.experiments, entry.event_class
        if event_class.has_nth:
            counts, event_class = self._refine(event_class, counts)
        if variations_are_new and not _carries(experiments, entry.variations):
            experiments = self._qualified(self._assigned(experiments, entry.variations), seen)
            experiments = self._crossing(experiments, entry.variations)
        if event_class.clauses & ~seen:
            seen |= event_class.clauses
            experiments = self._qualified(experiments, seen)
        experiments, sums = self._count(event_class, experiments, entry, state.sums, out)
        if experiments is state.experiments and counts is state.counts and seen == state.seen and sums is state.sums:
            return state
        return VisitState(seen, counts, experiments, sums)

    def _count(
        self,
        event_class: EventClass,
        experiments: tuple[ExperimentState, ...],
        entry: Entry,
        sums: dict[int, int],
        out: Contributions,
    ) -> tuple[tuple[ExperimentState, ...], dict[int, int]]:
        """Counts one event in every assigned experiment: the experiment states and the sums after it."""
        increments, bucket, moved = out.increments, entry.bucket, False
        after = []
        for state in experiments:
            transition = state.transitions.get(event_class)
            if transition is None:
                transition = self._transition(event_class, state)
            after.append(transition.after)
            if transition.after is not state:
                moved = True
            if transition.metric_keys:
                increments.append((bucket, transition.metric_keys))
                if transition.sums:
                    sums = _grow(sums, transition.sums, entry.values, bucket, out.amounts)
        return tuple(after) if moved else experiments, sums

    def _transition(self, event_class: EventClass, state: ExperimentState) -> Transition:
        """The effect of an event of this class on an experiment state; remembered within the bounds."""
        numbering = self.numbering
        state = self.experiment_state(state.code)  # a forgotten object of this code must not remember anything
        known = state.transitions.get(event_class)
        if known is not None:
            return known
        first, slot = state.variation * numbering.keys_per_variation, numbering.slot(state.experiment, 0, 0)
        keys = numbering.key_objects
        after, counted, steps = self._pattern(event_class, state.code & (1 << numbering.variation_shift) - 1)
        if self._transitions >= TRANSITIONS_MAX or self._transitions_bytes >= TRANSITIONS_BYTES_MAX:
            self._forget_transitions()
        self._transitions += 1
        self._transitions_bytes += _TRANSITION_BYTES + _KEY_BYTES * len(counted) + _SUM_BYTES * len(steps)
        transition = Transition(
            self.experiment_state(state.variation << numbering.variation_shift | after),
            tuple([keys[first + number] for number in counted]),
            tuple([(slot + s, position, keys[first + x], keys[first + square]) for s, position, x, square in steps]),
        )
        if self._experiment_states.get(state.code) is state:  # else the next state's making has forgotten this one
            state.transitions[event_class] = transition
        return transition

    def _forget_transitions(self) -> None:
        """Forgets all that can be computed anew."""
        for state in self._experiment_states.values():
            state.transitions.clear()
        for event_class in self._event_classes.values():
            event_class.refined.clear()
        self._patterns.clear()
        self._transitions = self._transitions_bytes = self._refinements = 0

    def _pattern(self, event_class: EventClass, rest: int) -> Pattern:
        """The effect of an event of this class on a code, for any variation: `rest` is the code without it."""
        known = self._patterns.get((event_class, rest))
        if known is not None:
            return known
        numbering = self.numbering
        _, assigned, fm, flags = numbering.code_parts(rest)
        counted, number = [assigned, fm], numbering.counted_numbers
        keys: list[int] = []
        steps: list[SumStep] = []
        if flags & CROSSING:
            keys.append(number["crossed", None, "beta"])
            flags = flags & ~CROSSING | CROSSED
        if event_class.is_tardy and not flags & TARDY:
            keys.append(number["tardy", None, "beta"])
            flags |= TARDY
        for s, (scope, flag) in enumerate(zip(SCOPES, (COUNTED, COUNTED_FM), strict=True)):
            if scope == "fm" and not flags & QUALIFIED:
                continue
            if not flags & flag:
                keys.append(number[scope, None, "beta"])
                flags |= flag
            for p in _bits(event_class.points):
                name = numbering.point_names[p]
                keys.append(number[scope, name, None])
                if not counted[s] >> p & 1:
                    keys.append(number[scope, name, "beta"])
                    counted[s] |= 1 << p
                if p in event_class.value_points:
                    sums = number[scope, name, "sum"], number[scope, name, "sumsq"]
                    steps.append((numbering.slot(0, s, p), event_class.value_points.index(p), *sums))
        assert not counted[1] & ~counted[0], "a point counted in fm is counted in assigned"
        pattern = numbering.code(Code(0, counted[0], counted[1], flags)), tuple(keys), tuple(steps)
        self._patterns[event_class, rest] = pattern
        return pattern

    def _assigned(
        self, experiments: tuple[ExperimentState, ...], variations: tuple[int, ...]
    ) -> tuple[ExperimentState, ...]:
        """With a state for each experiment that the visit was not assigned to before."""
        experiment_of, shift = self.numbering.experiment_of, self.numbering.variation_shift
        assigned = {state.experiment for state in experiments}
        return experiments + tuple(
            [self.experiment_state(v << shift) for v in variations if experiment_of[v] not in assigned]
        )

    def _crossing(
        self, experiments: tuple[ExperimentState, ...], variations: tuple[int, ...]
    ) -> tuple[ExperimentState, ...]:
        """With a mark at each experiment of which the event carries another variation than the visit's."""
        carried = {self.numbering.experiment_of[v]: v for v in variations}
        return tuple(
            [
                self.experiment_state(state.code | CROSSING) if _crosses(state, carried) else state
                for state in experiments
            ]
        )

    def _qualified(self, experiments: tuple[ExperimentState, ...], seen: int) -> tuple[ExperimentState, ...]:
        """With a mark at each experiment whose rule is met by now."""
        rules = self.clauses.rules
        return tuple(
            [
                self.experiment_state(state.code | QUALIFIED)
                if not state.code & QUALIFIED and rules[state.experiment](seen)
                else state
                for state in experiments
            ]
        )

    def _refine(self, event_class: EventClass, counts: tuple[int, ...]) -> tuple[tuple[int, ...], EventClass]:
        """Applies `nth`: the counts after this event, and its class with only the points whose n-th match it is."""
        known = event_class.refined.get(counts)
        if known is not None:
            return known
        assert len(counts) == len(self.numbering.nth_points), "one count per point with nth"
        points, clauses, after = event_class.points, event_class.clauses, list(counts)
        for position, p in enumerate(self.numbering.nth_points):
            if not points >> p & 1:
                continue
            nth = self.numbering.nth_of(p)
            assert counts[position] <= nth, "matches are counted up to n"
            after[position] = min(counts[position] + 1, nth)
            if counts[position] + 1 == nth:
                clauses |= self.clauses.nth_bit(self.numbering.point_names[p]) & self.clauses.in_rules
            else:
                points &= ~(1 << p)
        is_tardy = event_class.is_tardy
        masks = event_class.points, points, clauses, is_tardy
        refined = self._refined.get(masks)
        if refined is None:
            if len(self._refined) >= EVENT_CLASSES_MAX:
                self._forget_transitions()
                self._refined.clear()
            # a class of its own: one with the same masks may yet have to be refined
            refined = EventClass(points, clauses, event_class.value_points, has_nth=False, is_tardy=is_tardy)
            self._refined[masks] = refined
        result = counts if after == list(counts) else tuple(after), refined
        if self._event_classes.get((event_class.points, event_class.clauses, is_tardy)) is event_class:
            if self._refinements >= REFINEMENTS_MAX:
                self._forget_transitions()
            self._refinements += 1
            event_class.refined[counts] = result
        return result


def _carries(experiments: tuple[ExperimentState, ...], variations: tuple[int, ...]) -> bool:
    """True if these are just the visit's variations, as nearly always: nothing to assign, nothing crosses."""
    return tuple([state.variation for state in experiments]) == variations


def _crosses(state: ExperimentState, carried: Mapping[int, int]) -> bool:
    return carried.get(state.experiment, state.variation) != state.variation and not state.code & CROSSED


def _grow(
    sums: dict[int, int],
    steps: tuple[SumStep, ...],
    values: tuple[int, ...],
    bucket: int,
    amounts: list[tuple[int, int, int]],
) -> dict[int, int]:
    """The sums after an event's values: `.sum` gets x, `.sumsq` the growth of the visit's square, (s + x)^2 - s^2."""
    grown = dict(sums)  # the state before keeps its own
    for slot, position, sum_key, sumsq_key in steps:
        x, s = values[position], grown.get(slot, 0)
        if x:
            grown[slot] = s + x
            amounts.append((bucket, sum_key, x))
            amounts.append((bucket, sumsq_key, x * (2 * s + x)))
    return grown


def _bits(mask: int) -> list[int]:
    """The positions of the set bits, lowest first."""
    positions = []
    while mask:
        low = mask & -mask
        positions.append(low.bit_length() - 1)
        mask ^= low
    return positions
