"""The states of the attribution automaton, the entries that drive it, and what their steps contribute. Pure.

`VisitState` and what it holds never change. An `ExperimentState` is identified by its code (codes.py); it remembers its
transitions, which are found once (attribution.py).
"""

from typing import TypeAlias, final

from mypy_extensions import mypyc_attr

from monitor.core.codes import bucket_of


@final
@mypyc_attr(acyclic=True)
class VisitState:
    """All that later contributions of a visit depend on; never changed.

    `seen`: mask of the rule clauses met so far; `counts`: matches so far of each point with `nth` (up to n);
    `experiments`: one state per assigned experiment, in the order of assignment; `sums`: slot -> sum so far.
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
        """The codes of the experiment states."""
        return tuple([state.code for state in self.experiments])

    def equals(self, other: "VisitState") -> bool:
        """True if any events to come contribute the same after both."""
        if self is other:
            return True
        if self.seen != other.seen or self.counts != other.counts or self.sums != other.sums:
            return False
        # codes decide: an experiment state that was forgotten and found anew is another object
        return self.experiments == other.experiments or self.codes() == other.codes()


@final
@mypyc_attr(acyclic=True)
class Entry:
    """An accepted event as its visit keeps it; visits order them by (time, event_id).

    `bucket`: its minute and tag combination; `variations`: numbers of the known variations that it carries; `values`: x
    of each value point that its class matches; `before`: in a visit's tail, the state before the events of this time,
    if this is the first of them (None: computed from the one before it).
    """

    __slots__ = ("before", "bucket", "event_class", "event_id", "time", "values", "variations")

    def __init__(
        self,
        time: int,
        event_id: str,
        event_class: "EventClass",
        tags: int,
        variations: tuple[int, ...],
        values: tuple[int, ...],
    ) -> None:
        self.time = time
        self.event_id = event_id
        self.event_class = event_class
        self.bucket = bucket_of(time, tags)
        self.variations = variations
        self.values = values
        self.before: VisitState | None = None


SumStep: TypeAlias = tuple[int, int, int, int]
"""Slot of the sum, position in `Entry.values`, number of the metric key of `.sum`, of that of `.sumsq`."""


@final
@mypyc_attr(acyclic=True)
class EventClass:
    """Events that are alike for the rules: masks of the points they count for and of the rule clauses they meet.

    `is_tardy`: they came long after they happened; `value_points`: those of the points that sum a number, in the order
    of `Entry.values`; `refined`: counts before the event -> counts after it, and the class that is left once `nth` is
    applied.
    """

    __slots__ = ("clauses", "has_nth", "is_tardy", "points", "refined", "value_points")

    def __init__(
        self, points: int, clauses: int, value_points: tuple[int, ...], *, has_nth: bool, is_tardy: bool
    ) -> None:
        self.points = points
        self.clauses = clauses
        self.value_points = value_points
        self.has_nth = has_nth
        self.is_tardy = is_tardy
        self.refined: dict[tuple[int, ...], tuple[tuple[int, ...], EventClass]] = {}


@final
class ExperimentState:
    """The state of one experiment of a visit: all that its later contributions depend on, besides the sums."""

    __slots__ = ("code", "experiment", "transitions", "variation")

    def __init__(self, code: int, variation: int, experiment: int) -> None:
        self.code = code
        self.variation = variation
        self.experiment = experiment
        self.transitions: dict[EventClass, Transition] = {}
        """Those found so far; only the remembered object of a code has any."""


@final
class Transition:
    """The effect of an event class on an experiment state: the next state, metric keys that get +1, sums that grow."""

    __slots__ = ("after", "metric_keys", "sums")

    def __init__(self, after: ExperimentState, metric_keys: tuple[int, ...], sums: tuple[SumStep, ...]) -> None:
        self.after = after
        self.metric_keys = metric_keys
        self.sums = sums


@final
class Contributions:
    """Contributions of events, by bucket: +1 for metric keys, and amounts for sums."""

    __slots__ = ("amounts", "increments")

    def __init__(self) -> None:
        self.increments: list[tuple[int, tuple[int, ...]]] = []
        """(bucket, metric keys that get +1)"""
        self.amounts: list[tuple[int, int, int]] = []
        """(bucket, metric key, amount)"""
