"""The alarms of the past, from the evidence that watchers stored. Pure.

The thresholds are those of today's configuration; a check that is no longer there has no history.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from monitor.serve.levels import LEVELS, Levels
from monitor.serve.verdict_models import CheckAnswer, VerdictsAnswer
from monitor.verdicts.judge import ALARMS, SPLITS, State

JOINED_STEPS = 2
"""Steps without an alarm, or without evidence, that do not end one."""


class PastAlarm(NamedTuple):
    """A time in which a check noted or worse: the worst state, its first step, and the end; None: it goes on."""

    experiment: str
    check: CheckAnswer
    state: State
    start_ms: int
    end_ms: int | None


def past_alarms(
    answer: VerdictsAnswer,
    stored: Mapping[str, Sequence[tuple[int, float]]],
    step_ms: int,
    end_ms: int,
    levels: Levels = LEVELS,
) -> list[PastAlarm]:
    """Those of an experiment, the newest first. `stored`: ln E by check and step; `end_ms`: where the steps end.

    A guardrail is withheld, and no alarm, in steps in which a split has the evidence to warn, even if it may not.
    """
    reached = {
        check.check: {at_ms: _level(levels.of(check), ln_e) for at_ms, ln_e in stored.get(check.check, ())}
        for check in answer.checks
    }
    unbounded = Levels(levels.limits)
    wrong = {
        at_ms
        for check in answer.checks
        if check.kind in SPLITS
        for at_ms, ln_e in stored.get(check.check, ())
        if _level(unbounded.of(check), ln_e) > 1
    }
    found = []
    for check in answer.checks:
        is_metric = check.point is not None
        steps = [(at, level) for at, level in reached[check.check].items() if level and not (is_metric and at in wrong)]
        found += list(_episodes(answer.experiment, check, sorted(steps), step_ms, end_ms))
    return sorted(found, key=lambda alarm: (alarm.start_ms, alarm.state), reverse=True)


def _level(thresholds: Mapping[State, float], ln_e: float) -> int:
    """How many thresholds are reached."""
    return sum(ln_e >= threshold for threshold in thresholds.values())


def _episodes(
    experiment: str, check: CheckAnswer, steps: Sequence[tuple[int, int]], step_ms: int, end_ms: int
) -> Iterator[PastAlarm]:
    first = 0
    for i, (at_ms, _) in enumerate(steps):
        gap_ms = (steps[i + 1][0] if i + 1 < len(steps) else end_ms) - at_ms
        is_last = i + 1 == len(steps)
        if is_last or gap_ms > (JOINED_STEPS + 1) * step_ms:
            worst = ALARMS[max(level for _, level in steps[first : i + 1])]
            goes_on = is_last and gap_ms <= (JOINED_STEPS + 1) * step_ms
            yield PastAlarm(experiment, check, worst, steps[first][0], None if goes_on else at_ms + step_ms)
            first = i + 1
