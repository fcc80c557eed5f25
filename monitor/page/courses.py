"""What the guard says over time, for all readers of an experiment: computed at most once a minute. Blocks."""

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

from cachetools import LRUCache

from monitor.runtime.shared_answers import Shared
from monitor.serve.alarm_history import PastAlarm, past_alarms
from monitor.serve.goal_course import Courses, goal_courses, step_ms
from monitor.serve.levels import levels
from monitor.serve.nightly import Nightly, nightly
from monitor.serve.service import Service
from monitor.serve.spans import Span
from monitor.serve.verdict_history import evidence
from monitor.serve.verdict_models import PhaseAnswer, VerdictsAnswer

EVERY_S = 60.0
"""Final minutes become more once a minute."""
COURSES_MAX = 64
"""Experiments and goals whose courses readers share; the least recently used one is dropped."""


class GuardCourses(NamedTuple):
    """Of a phase: ln E by check and step, the goal's difference by variation, what others would say, and alarms."""

    evidence: Mapping[str, Sequence[tuple[int, float]]] = MappingProxyType({})
    goal: Courses = MappingProxyType({})
    nightly: Nightly | None = None
    alarms: Sequence[PastAlarm] = ()
    since: datetime | None = None
    """From when on alarms were looked for; None: they were not."""


class SharedCourses:
    """The courses of experiments that somebody reads; `latest` gives the last verdicts. Thread-safe."""

    def __init__(self, service: Service, latest: Callable[[str, str], VerdictsAnswer | None]) -> None:
        self._service, self._latest = service, latest
        self._shared: LRUCache[tuple[str, str, str | None], Shared[GuardCourses]] = LRUCache(COURSES_MAX)
        self._lock = threading.Lock()

    def get(self, tenant: str, experiment: str, goal: str | None) -> GuardCourses:
        """Those of an experiment, at most EVERY_S old; empty while there are no verdicts. Raises ProblemError."""
        answer = self._latest(tenant, experiment)
        if answer is None or answer.phase is None:
            return GuardCourses()
        key = tenant, experiment, goal
        with self._lock:
            shared = self._shared.get(key)
            if shared is None:
                shared = self._shared[key] = Shared(partial(self._courses, *key), EVERY_S)
        return shared.get()

    def _courses(self, tenant: str, experiment: str, goal: str | None) -> GuardCourses:
        answer = self._latest(tenant, experiment)
        if answer is None or answer.phase is None:
            return GuardCourses()
        phase = answer.phase
        if phase.visits_from >= phase.sealed_until:
            return GuardCourses()
        visits, conversions = (_span(phase, at) for at in (phase.visits_from, phase.conversions_from))
        stored = evidence(self._service, [(tenant, experiment)], visits, step_ms(visits))
        by_check = {check: points for (*_, check), points in stored.items()}
        of_checks = levels(self._service.settings.guard, self._service.experiment(tenant, experiment))
        is_split = len(phase.weights) > 1
        found = GuardCourses(
            by_check,
            nightly=nightly(self._service, tenant, experiment, phase.weights, visits) if is_split else None,
            alarms=past_alarms(answer, by_check, step_ms(visits), visits.end_ms, of_checks),
            since=phase.visits_from if by_check else None,
        )
        if goal is None or conversions.start_ms >= conversions.end_ms:
            return found
        of_goal = goal_courses(self._service, tenant, experiment, goal, conversions, step_ms(conversions))
        return found._replace(goal=of_goal)


def _span(phase: PhaseAnswer, start: datetime) -> Span:
    """From a moment to the end of the final minutes."""
    return Span(*(round(at.timestamp() * 1_000) for at in (start, phase.sealed_until)))
