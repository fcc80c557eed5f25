"""The counts of an experiment's phase, read from the final minutes of the store: by variation, slice and restart.

Only `.beta` counts are read, each visit counted once; never totals, and never minutes that are not final.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from monitor.config.settings import ExperimentTable
from monitor.serve.models import Scope
from monitor.serve.phases import RunningPhase
from monitor.serve.results import CROSSED, SCOPES, Metrics
from monitor.serve.tally import Tally
from monitor.verdicts.judge import Counted, Phase, Place
from monitor.verdicts.restarts import plan

SLICES_MAX = 64
"""Slices of an experiment that are judged, in the order of the configuration: values first, then pairs."""


class Reading(NamedTuple):
    """Metrics of a phase, and from which minute on they are counted."""

    metrics: tuple[str, ...]
    from_ms: int


def readings(
    metrics: Metrics, table: ExperimentTable, points: Sequence[str], phase: RunningPhase
) -> tuple[Reading, Reading]:
    """The visits by scope and crossed ones, and the unique conversions of these points."""
    conversions = [metrics.point(Scope.QUALIFIED, v, point, "beta") for v in table.variations for point in points]
    return (
        Reading(tuple(metrics.counts(table)), phase.visits_from_ms),
        Reading(tuple(conversions), phase.conversions_from_ms),
    )


def counted_phase(
    metrics: Metrics,
    table: ExperimentTable,
    points: Sequence[str],
    tags: Mapping[str, Sequence[str]],
    phase: RunningPhase,
    sealed_ms: int,
    tally: Tally,
) -> Phase:
    """The phase's counts from the tally of its readings; `tags`: tag to its values."""
    variations, places = list(table.variations), slices(tags)

    def counted(metric_of: Sequence[str], start_ms: int) -> Counted:
        marks = [restart.start_ms for restart in plan(start_ms, max(start_ms, sealed_ms)).restarts[1:]]
        cells = tuple(metric_of)
        return Counted(
            tally.course(cells, (), marks),
            {place: tally.course(cells, place, marks) for place in places},
        )

    assigned, qualified, crossed = (
        counted([metrics.visits(scope, v) for v in variations], phase.visits_from_ms)
        for scope in (*SCOPES.values(), CROSSED)
    )
    conversions = {
        point: counted(
            [metrics.point(Scope.QUALIFIED, v, point, "beta") for v in variations], phase.conversions_from_ms
        )
        for point in points
    }
    return Phase(phase.visits_from_ms, phase.conversions_from_ms, sealed_ms, assigned, qualified, crossed, conversions)


def slices(tags: Mapping[str, Sequence[str]]) -> list[Place]:
    """Every value of a tag, then every pair of values of two tags: at most SLICES_MAX."""
    single: list[Place] = [((tag, value),) for tag, values in tags.items() if len(values) > 1 for value in values]
    pairs: list[Place] = [
        (one, other) for (one,), (other,) in combinations([(pair,) for (pair,) in single], 2) if one[0] != other[0]
    ]
    return [*single, *pairs][:SLICES_MAX]
