"""Numbers for what a tenant defines: variations, points, metric keys, and the codes of experiment states. Pure.

States and packed sessions hold these numbers, never names. They mean something only beside the definitions that they
were made with, which is why snapshots carry those too (packing.py); between two configurations migrate.py translates.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, final

from monitor.core.definitions import Tenant

MINUTE_MS: Final = 60_000
"""Totals are counted per minute of event time."""
QUALIFIED: Final = 1
CROSSING: Final = 2
CROSSED: Final = 4
COUNTED: Final = 8
COUNTED_FM: Final = 16
TARDY: Final = 32
"""Flags of an experiment state: its rule is met; the next counted event crosses; it has crossed; its `.beta` is counted
in scope `assigned`, in scope `fm`; it is counted as tardy."""
FLAG_BITS: Final = 6
FLAG_BITS_BEFORE: Final = 5
"""Those of the codes in state formats 1 and 2, which had no TARDY."""
SCOPES = ("assigned", "fm")
TAGS_BITS: Final = 32
"""Bits of a bucket that hold the tag combination: so few that a bucket is a machine word until the year 4000."""


class MetricKey(NamedTuple):
    """One thing that is counted, apart from minute and tags: metric `tenant.visit.scope.variation[.point][.part]`."""

    experiment: str
    scope: str
    variation: str
    point: str | None
    part: str | None


class Code(NamedTuple):
    """The parts of a code: the variation's number, masks of the points counted in each scope, flags."""

    variation: int
    assigned: int
    fm: int
    flags: int


def bucket_of(time_ms: int, tags: int) -> int:
    """The bucket of an event: its minute and its tag combination in one integer."""
    return time_ms // MINUTE_MS << TAGS_BITS | tags


def minute_and_tags(bucket: int) -> tuple[int, int]:
    """The minute (since the epoch) and the tag combination of a bucket."""
    return bucket >> TAGS_BITS, bucket & (1 << TAGS_BITS) - 1


@final
class Numbering:
    """The numbers of one tenant's definitions; they hold for this object only.

    A *code* is an experiment state as one integer: `variation | points counted in fm | points counted in assigned |
    flags`, from the highest bits to the lowest. A *slot* numbers (experiment, scope, value point). The metric keys of a
    variation are numbered one after the other, those of the next variation behind them.
    """

    def __init__(self, tenant: Tenant, flag_bits: int = FLAG_BITS) -> None:
        self._flag_bits = flag_bits
        self.point_names = [point.name for point in tenant.points]
        self.width = len(tenant.points)
        """Bits of a mask of points."""
        self.variation_shift = flag_bits + 2 * self.width
        """Bits of a code below the variation's number."""
        self.experiment_names = [experiment.name for experiment in tenant.experiments]
        self.variations = [(e.name, variation) for e in tenant.experiments for variation, _ in e.variations]
        self.variation_numbers = {pair: number for number, pair in enumerate(self.variations)}
        """(experiment, variation) -> the variation's number, unique within the tenant."""
        self.experiment_of = [number for number, e in enumerate(tenant.experiments) for _ in e.variations]
        """The experiment's number, by the variation's."""
        self.code_bits = self.variation_shift + len(self.variations).bit_length()
        self._nth = {number: point.nth for number, point in enumerate(tenant.points) if point.nth is not None}
        self.nth_points = list(self._nth)
        """The points with `nth`, in the order of `VisitState.counts`."""
        self.nth_mask = sum(1 << number for number in self.nth_points)
        self._counted = [("crossed", None, "beta"), ("tardy", None, "beta"), *_counted(self.point_names)]
        self.counted_numbers = {counted: number for number, counted in enumerate(self._counted)}
        """(scope, point, part) -> its number among the metric keys of any one variation."""
        self.keys_per_variation = len(self._counted)
        self.qualified_events = {self.counted_numbers["fm", point, None] for point in self.point_names}
        """The numbers of events that count for a point in scope `fm`, among the metric keys of any one variation."""
        self._sum_numbers = [self.counted_numbers["fm", point, "sum"] for point in self.point_names]
        # each number as one object: transitions hold them by the hundred thousand
        self.key_objects: list[Any] = list(range(len(self.variations) * self.keys_per_variation))

    def nth_of(self, point: int) -> int:
        """The n of a point that counts only the n-th match."""
        assert point in self._nth, "asked of a point with nth"
        return self._nth[point]

    def code(self, parts: Code) -> int:
        """The code of these parts."""
        variation, assigned, fm, flags = parts
        assert not flags >> self._flag_bits, "flags fit their bits"
        assert not (assigned | fm) >> self.width, "masks hold points of this tenant only"
        return ((variation << self.width | fm) << self.width | assigned) << self._flag_bits | flags

    def code_parts(self, code: int) -> Code:
        """The parts of a code."""
        points, flag_bits = (1 << self.width) - 1, self._flag_bits
        assigned, fm = code >> flag_bits & points, code >> flag_bits + self.width & points
        return Code(code >> self.variation_shift, assigned, fm, code & (1 << flag_bits) - 1)

    def slot(self, experiment: int, scope: int, point: int) -> int:
        """The number under which a visit's sum is kept; `scope`: index in SCOPES."""
        return (experiment * len(SCOPES) + scope) * self.width + point

    def slot_parts(self, slot: int) -> tuple[int, int, int]:
        """The experiment, scope and point of a slot."""
        rest, point = divmod(slot, self.width)
        return *divmod(rest, len(SCOPES)), point

    def sum_key(self, variation: int, point: int) -> int:
        """The number of the metric key of a variation's sum of a point in scope `fm`."""
        return variation * self.keys_per_variation + self._sum_numbers[point]

    def metric_key(self, number: int) -> MetricKey:
        """The metric key of this number."""
        of, counted = divmod(number, self.keys_per_variation)
        experiment, variation = self.variations[of]
        scope, point, part = self._counted[counted]
        return MetricKey(experiment, scope, variation, point, part)


def _counted(points: Sequence[str]) -> Iterator[tuple[str, str | None, str | None]]:
    """(scope, point, part) of all that is counted for a variation that a visit is assigned to."""
    for scope in SCOPES:
        yield scope, None, "beta"
        for point in points:
            for part in (None, "beta", "sum", "sumsq"):
                yield scope, point, part
