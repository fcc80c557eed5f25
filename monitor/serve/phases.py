"""The phases of an experiment: the time in which its weights, variations and rule do not change. Pure.

A verdict belongs to a phase, never to a range that a reader chooses: a sliding start would be no evidence. A phase
begins when the experiment does (`started`, else its first visit that the store holds), or when its weights change; and
where a watcher keeps counts, when another definition changes (`beginnings`).
"""

from typing import NamedTuple

from monitor.config.settings import ExperimentTable, TimeTable, milliseconds
from monitor.core.codes import MINUTE_MS


class RunningPhase(NamedTuple):
    """The present phase: its weights by variation, and from which minute on visits and conversions are counted.

    `is_split_judged`: false after a change of weights under sticky assignment, when returning visitors keep theirs.
    """

    start_ms: int
    weights: dict[str, float]
    visits_from_ms: int
    conversions_from_ms: int
    is_split_judged: bool


def running_phase(table: ExperimentTable, time: TimeTable, first_ms: int, now_ms: int) -> RunningPhase | None:
    """The phase at a moment; `first_ms`: the first minute with a visit. None before the experiment begins.

    Clients take new weights over minutes, so those of the settling are left out; visits of the phase before it still
    convert until their session has ended. A phase that begins with the first visit has neither.
    """
    start_ms, weights, is_change = table.started, dict(table.variations), table.started is not None
    for phase in table.phases:
        if phase.begins <= now_ms:
            start_ms, weights, is_change = phase.begins, dict(phase.weights), True
    if start_ms is None:
        start_ms = first_ms
    if start_ms > now_ms:
        return None
    settle_ms = milliseconds(table.settle_s) if is_change else 0
    gap_ms = milliseconds(time.session_gap_s) if is_change else 0
    return RunningPhase(
        start_ms,
        weights,
        _minute_from(start_ms + settle_ms),
        _minute_from(start_ms + settle_ms + gap_ms),
        is_split_judged=not (table.sticky and any(phase.begins == start_ms for phase in table.phases)),
    )


def begun_anew(
    phase: RunningPhase, table: ExperimentTable, time: TimeTable, since_ms: int, *, is_reweighted: bool
) -> RunningPhase:
    """The part of a phase since its definitions were changed: it settles as one with a configured start does."""
    settled_ms = since_ms + milliseconds(table.settle_s)
    return RunningPhase(
        since_ms,
        phase.weights,
        _minute_from(settled_ms),
        _minute_from(settled_ms + milliseconds(time.session_gap_s)),
        is_split_judged=phase.is_split_judged and not (table.sticky and is_reweighted),
    )


def _minute_from(at_ms: int) -> int:
    """The start of the first whole minute from a moment on."""
    return -(-at_ms // MINUTE_MS) * MINUTE_MS
