"""What the checks would have said when, over history: judged at each moment as if it were the present one.

Counts are read once for each phase and cut by time, so a moment costs no request. A moment is the end of the last final
minute, as in the audit trail; the watcher says it `time.allowed_lateness_s` and a flush later. Moments are some minutes
apart; where a check says something else at the next one, each minute in between is judged too.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from itertools import groupby
from typing import NamedTuple, Protocol

from monitor.config.settings import milliseconds
from monitor.core.codes import MINUTE_MS
from monitor.serve.past_phases import judged_by
from monitor.serve.phases import RunningPhase, running_phase
from monitor.serve.service import Service
from monitor.serve.spans import HOUR_MS, Span
from monitor.serve.sums import Sums
from monitor.serve.verdict_models import CheckAnswer, VerdictsAnswer
from monitor.verdicts.families import Thresholds
from monitor.verdicts.judge import ALARMS, State
from monitor.verdicts.restarts import LIFE_MS

FACTORS = (0.5, 1.0, 2.0, 5.0, 10.0)
"""By how much the thresholds are changed in the table of alarms."""


class History(Protocol):
    """Counts of the past: of a store, or of a recorded log."""

    def first_ms(self, tenant: str) -> Mapping[str, int]:
        """By experiment, the first minute with a visit; experiments without one are left out."""

    def final_ms(self, tenant: str, experiment: str, span: Span) -> int:
        """The end of the final minutes of a range."""

    def sums(self, tenant: str, experiment: str, phase: RunningPhase, span: Span) -> list[Sums]:
        """The sums from which a phase can be judged at each moment of a range. Raises HistoryGoneError."""


class HistoryGoneError(Exception):
    """The beginning of a phase is lost, so it has no verdict; the message says why."""


class Said(NamedTuple):
    """A check that says something else than before; `at_ms`: the end of the last final minute."""

    at_ms: int
    tenant: str
    experiment: str
    check: str
    previous: State
    state: State
    words: str

    @property
    def is_alarm(self) -> bool:
        """True if an alarm begins, changes or ends: this would be told."""
        return self.state in ALARMS[1:] or self.previous in ALARMS[1:]


class Alarms:
    """How often the evidence of a check rises to each threshold, and to the same one changed by each factor.

    Each rise is an alarm that would be told. While a check is withheld it does not count, and rules have no evidence.
    """

    def __init__(self) -> None:
        self.rises: Counter[tuple[State, float]] = Counter()
        self._above: dict[tuple[str, ...], float] = {}

    def add(self, key: tuple[str, ...], check: CheckAnswer, thresholds: Thresholds) -> None:
        """Takes in what a check says at a moment; `key` names it, with its phase."""
        if not check.note_from:
            return
        above = -math.inf if check.state is State.WITHHELD else check.ln_e - check.note_from
        before = self._above.get(key, -math.inf)
        self._above[key] = above
        for state, evidence in zip(ALARMS[1:], thresholds, strict=True):
            for factor in FACTORS:
                if before < math.log(factor * evidence / thresholds.note) <= above:
                    self.rises[state, factor] += 1


class Rehearsal(NamedTuple):
    """What would have been said, in order of time, how many alarms thresholds would have given, and what is missing."""

    said: list[Said]
    alarms: Alarms
    thresholds: Thresholds | None
    moments: int
    """Moments at which an experiment was judged."""
    gone: list[str]


class _Judged(NamedTuple):
    """What all checks of an experiment say at a moment."""

    at_ms: int
    answer: VerdictsAnswer
    thresholds: Thresholds

    def states(self) -> dict[str, State]:
        """By check."""
        return {check.check: check.state for check in self.answer.checks}


def rehearsed(
    service: Service, history: History, names: Iterable[tuple[str, str]], span: Span, every: int
) -> Rehearsal:
    """The rehearsal of these (tenant, experiment) from the start of a range up to its end, both included.

    `every`: the minutes from one moment to the next. Raises ProblemError where the history is that of a store.
    """
    said: list[Said] = []
    gone: list[str] = []
    alarms, thresholds, moments = Alarms(), None, 0
    for tenant, experiment in names:
        first_ms = history.first_ms(tenant).get(experiment)
        if first_ms is None:
            gone.append(f"{tenant} {experiment}: no visit was assigned")
            continue
        before: dict[str, State] = {}
        for phase, of_phase in _phases(service, history, tenant, experiment, first_ms, span):
            try:
                answers = list(_judged(service, history, tenant, experiment, phase, of_phase, every))
            except HistoryGoneError as error:
                gone.append(f"{tenant} {experiment}: {error}")
                continue
            before = dict.fromkeys(before, State.TOO_EARLY)
            for at_ms, answer, thresholds in answers:
                moments += 1
                said += _changes(before, at_ms, answer)
                for check in answer.checks:
                    alarms.add((tenant, experiment, str(phase.start_ms), check.check), check, thresholds)
    return Rehearsal(sorted(said, key=lambda of: of.at_ms), alarms, thresholds, moments, gone)


def _phases(
    service: Service, history: History, tenant: str, experiment: str, first_ms: int, span: Span
) -> Iterator[tuple[RunningPhase, list[int]]]:
    """Each phase with the minutes at which it was the present one."""
    table, time = service.experiment(tenant, experiment), service.settings.time
    end_ms = min(span.end_ms, history.final_ms(tenant, experiment, span))
    lateness_ms = milliseconds(time.allowed_lateness_s)
    minutes = range(max(span.start_ms, first_ms), end_ms + 1, MINUTE_MS)
    running = [(running_phase(table, time, first_ms, at_ms + lateness_ms), at_ms) for at_ms in minutes]
    for phase, of_phase in groupby(running, key=lambda of: of[0]):
        if phase is not None:
            yield phase, [at_ms for _, at_ms in of_phase]


def _judged(
    service: Service,
    history: History,
    tenant: str,
    experiment: str,
    phase: RunningPhase,
    minutes: Sequence[int],
    every: int,
) -> Iterator[_Judged]:
    """What all checks of an experiment say at every so many minutes of a phase, and in between where it changes."""

    def judged(cut: _Cut, at_ms: int) -> _Judged:
        sealed_ms = max(phase.visits_from_ms, at_ms)
        answer, inputs = judged_by(service, tenant, experiment, phase, sealed_ms, cut.until(sealed_ms))
        assert inputs is not None, "a phase that was judged"
        return _Judged(sealed_ms, answer, inputs.thresholds)

    cut = _Cut(history.sums(tenant, experiment, phase, Span(minutes[0], minutes[-1])))
    before: _Judged | None = None
    for place in sorted({*range(0, len(minutes), every), len(minutes) - 1}):
        earlier = cut.copied()
        found = judged(cut, minutes[place])
        if before is not None and found.states() != before.states():
            for at_ms in minutes[max(0, place - every + 1) : place]:
                if at_ms > before.at_ms:
                    yield judged(earlier, at_ms)
        yield found
        before = found


class _Cut:
    """Sums up to a moment that moves on, as they are read at that moment: hours, and the last six by minute."""

    def __init__(self, read: Sequence[Sums]) -> None:
        self._rows = sorted(((at_ms, name, group, count) for of in read for (name, group, at_ms), count in of.items()))
        self._taken = 0
        self._recent_ms = 0
        self._hours: Sums = Counter()
        self._minutes: Sums = Counter()

    def copied(self) -> "_Cut":
        """One that moves on by itself."""
        other = copy(self)
        other._hours, other._minutes = self._hours.copy(), self._minutes.copy()
        return other

    def until(self, end_ms: int) -> list[Sums]:
        """The sums before a moment that is no earlier than the last one."""
        while self._taken < len(self._rows) and self._rows[self._taken][0] < end_ms:
            at_ms, metric, group, count = self._rows[self._taken]
            self._minutes[metric, group, at_ms] += count
            self._taken += 1
        recent_ms = (end_ms - LIFE_MS) // HOUR_MS * HOUR_MS
        if recent_ms > self._recent_ms:
            self._recent_ms = recent_ms
            for key in [key for key in self._minutes if key[2] < recent_ms]:
                self._hours[key[0], key[1], key[2] // HOUR_MS * HOUR_MS] += self._minutes.pop(key)
        return [self._hours, self._minutes]


def _changes(before: dict[str, State], at_ms: int, answer: VerdictsAnswer) -> Iterator[Said]:
    """The checks that say something else than `before`, which is brought up to date."""
    for check in answer.checks:
        previous = before.get(check.check, State.TOO_EARLY)
        if check.state is not previous:
            yield Said(at_ms, answer.tenant, answer.experiment, check.check, previous, check.state, check.words)
        before[check.check] = check.state
