"""The counts of an experiment's phase, read from the final minutes of the store: by variation, slice and restart.

Hours are read as sums, and the last six by minute: those are the moments at which the plan of restarts begins anew.
Only `.beta` counts are read, each visit counted once, and of values `.sum` and `.sumsq`, which are sums over visits;
never totals, and never minutes that are not final. The mean of a value is over all qualified visits of the phase, also
over those of the first minutes, whose conversions are left out: so each visit adds to sums what it did since then.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, combinations
from typing import NamedTuple

from monitor.config.settings import ExperimentTable
from monitor.core.codes import MINUTE_MS
from monitor.serve.models import Scope
from monitor.serve.phases import RunningPhase
from monitor.serve.results import CROSSED, SCOPES, TARDY, Metrics
from monitor.serve.spans import HOUR_MS, Span
from monitor.serve.sums import SumQuery, Sums
from monitor.verdicts.judge import Counted, Course, Phase, Place
from monitor.verdicts.restarts import LIFE_MS, TEN_MINUTES_MS, plan

SLICES_MAX = 64
"""Slices of an experiment that are judged, in the order of the configuration: values first, then pairs."""

Buckets = Mapping[str, Mapping[tuple[str, ...], Mapping[int, int]]]
"""Metric -> values of the tags -> start of an hour or of ten minutes -> count."""


Courses = Callable[[tuple[str, ...], Place, Sequence[int]], Course]
"""From metrics (cells), a slice and moments the cumulative counts; () is all visits. A tally has them too."""


class Reading(NamedTuple):
    """Metrics of a phase, and from which minute on they are counted."""

    metrics: tuple[str, ...]
    from_ms: int


def readings(
    metrics: Metrics, table: ExperimentTable, points: Sequence[str], valued: Sequence[str], phase: RunningPhase
) -> tuple[Reading, Reading]:
    """The visits by scope and crossed ones; the tardy ones, the unique conversions of points, and the sums of values.

    `valued`: the points whose values are summed.
    """
    tardy = [metrics.visits(TARDY, v) for v in table.variations]
    conversions = [metrics.point(Scope.QUALIFIED, v, point, "beta") for v in table.variations for point in points]
    values = [metric for point in valued for metric in _sums(metrics, table, point)]
    return (
        Reading(tuple(metrics.counts(table)), phase.visits_from_ms),
        Reading((*tardy, *conversions, *values), phase.conversions_from_ms),
    )


def _sums(metrics: Metrics, table: ExperimentTable, point: str) -> list[str]:
    """The sums of a value by variation, then those of its square."""
    return [metrics.point(Scope.QUALIFIED, v, point, part) for part in ("sum", "sumsq") for v in table.variations]


def queries(
    reading: Reading, experiments: tuple[str, ...], tags: Sequence[str], sealed_ms: int, first_ms: int | None = None
) -> list[tuple[SumQuery, Span]]:
    """What is read of a phase up to a moment: the hours, then the last minutes.

    With `first_ms` the minutes are enough to judge at each moment from then on.
    """
    recent_ms = recent_from_ms(reading, sealed_ms if first_ms is None else first_ms)
    of = (("experiment", experiments),)
    parts = [
        (SumQuery(reading.metrics, of, tuple(tags), HOUR_MS), Span(reading.from_ms, recent_ms)),
        (SumQuery(reading.metrics, of, tuple(tags), MINUTE_MS), Span(recent_ms, sealed_ms)),
    ]
    return [(query, span) for query, span in parts if reading.metrics and span.start_ms < span.end_ms]


def recent_from_ms(reading: Reading, sealed_ms: int) -> int:
    """The moment from which on a phase is read by minute: the last six hours or a little more, as it has them."""
    return max(reading.from_ms, (sealed_ms - LIFE_MS) // HOUR_MS * HOUR_MS)


def counted_phase(
    metrics: Metrics,
    table: ExperimentTable,
    points: Sequence[str],
    valued: Sequence[str],
    tags: Mapping[str, Sequence[str]],
    phase: RunningPhase,
    sealed_ms: int,
    courses: Courses,
) -> Phase:
    """The phase's counts; `tags`: tag to its values."""
    variations, places = list(table.variations), slices(tags)

    def counted(metric_of: Sequence[str], start_ms: int) -> Counted:
        marks = [restart.start_ms for restart in plan(start_ms, max(start_ms, sealed_ms)).restarts[1:]]
        cells = tuple(metric_of)
        return Counted(courses(cells, (), marks), {place: courses(cells, place, marks) for place in places})

    assigned, qualified, crossed = (
        counted([metrics.visits(scope, v) for v in variations], phase.visits_from_ms)
        for scope in (*SCOPES.values(), CROSSED)
    )
    tardy = counted([metrics.visits(TARDY, v) for v in variations], phase.conversions_from_ms)
    conversions = {
        point: counted(
            [metrics.point(Scope.QUALIFIED, v, point, "beta") for v in variations], phase.conversions_from_ms
        )
        for point in points
    }
    visits = [metrics.visits(SCOPES[Scope.QUALIFIED], v) for v in variations]
    values = {point: counted([*_sums(metrics, table, point), *visits], phase.conversions_from_ms) for point in valued}
    starts = phase.visits_from_ms, phase.conversions_from_ms, sealed_ms
    return Phase(*starts, assigned, qualified, crossed, conversions, tardy, values)


def courses_of(read: Iterable[Sums], tags: Sequence[str]) -> Courses:
    """The cumulative counts of the sums of `queries`."""
    buckets = _buckets(read)

    def course(metrics: tuple[str, ...], place: Place, marks: Sequence[int]) -> Course:
        return _course([buckets.get(metric, {}) for metric in metrics], place, tags, marks)

    return course


def slices(tags: Mapping[str, Sequence[str]]) -> list[Place]:
    """Every value of a tag, then every pair of values of two tags: at most SLICES_MAX."""
    single: list[Place] = [((tag, value),) for tag, values in tags.items() if len(values) > 1 for value in values]
    pairs: list[Place] = [
        (one, other) for (one,), (other,) in combinations([(pair,) for (pair,) in single], 2) if one[0] != other[0]
    ]
    return [*single, *pairs][:SLICES_MAX]


def _buckets(read: Iterable[Sums]) -> Buckets:
    """The counts by hour, and of the minutes by ten minutes."""
    found: defaultdict[str, defaultdict[tuple[str, ...], defaultdict[int, int]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(int))
    )
    for of_read in read:
        for (metric, group, at_ms), count in of_read.items():
            found[metric][group][at_ms // TEN_MINUTES_MS * TEN_MINUTES_MS] += count
    return found


def _course(
    cells: Sequence[Mapping[tuple[str, ...], Mapping[int, int]]],
    place: Place,
    tags: Sequence[str],
    marks: Sequence[int],
) -> Course:
    """The cumulative counts of cells (variations) within a slice, or of all visits: in all, and before each mark."""
    wanted = [(tags.index(tag), value) for tag, value in place]
    by_time: defaultdict[int, list[int]] = defaultdict(lambda: [0] * len(cells))
    for number, cell in enumerate(cells):
        for group, counts in cell.items():
            if all(group[i] == value for i, value in wanted):
                for at_ms, count in counts.items():
                    by_time[at_ms][number] += count
    times = sorted(by_time)
    cumulative = list(accumulate((by_time[at] for at in times), _added, initial=[0] * len(cells)))
    return Course(tuple(cumulative[-1]), {mark: tuple(cumulative[bisect_left(times, mark)]) for mark in marks})


def _added(counts: list[int], more: list[int]) -> list[int]:
    return [count + other for count, other in zip(counts, more, strict=True)]
