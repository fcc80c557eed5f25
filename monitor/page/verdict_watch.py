"""The verdicts of all experiments, kept fresh while somebody reads: computed once a minute, for all readers."""

import math
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import structlog

from monitor.core.codes import MINUTE_MS
from monitor.serve.alarm_history import PastAlarm, past_alarms
from monitor.serve.levels import levels
from monitor.serve.problems import ProblemError
from monitor.serve.service import Service
from monitor.serve.spans import DAY_MS, Span, moment
from monitor.serve.verdict_history import evidence
from monitor.serve.verdict_models import VerdictsAnswer
from monitor.serve.verdicts import verdicts_of_tenant

log = structlog.get_logger(__name__)

EVERY_S = 60.0
"""Verdicts change when a minute becomes final."""
LOOKS_S = 1.0
"""The time between two looks whether somebody reads."""
WATCHED_S = 30.0
"""Nothing is computed if no reader has asked for so long."""
CACHED_S = 300.0
"""An older verdict is not shown."""


HISTORY_DAYS = 7
"""So far back go the alarms of all experiments."""
HISTORY_STEP_MS = 10 * MINUTE_MS
HISTORY_ROWS_MAX = 200_000
"""Values that one reading of the history may have, unless a day has more."""


class History(NamedTuple):
    """The alarms of the past of all experiments, each with its tenant, and since when; None: not looked for yet."""

    alarms: Sequence[tuple[str, PastAlarm]] = ()
    since: datetime | None = None


class VerdictWatch:
    """A thread that computes the verdicts of all experiments, and their past, while somebody reads."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._latest: dict[tuple[str, str], tuple[VerdictsAnswer, float]] = {}
        self._history = History()
        self._asked_s = time.monotonic() - WATCHED_S
        self._computed_s = time.monotonic() - EVERY_S
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="page-verdict-watch", daemon=True)
        self._thread.start()

    def latest(self, tenant: str, experiment: str) -> VerdictsAnswer | None:
        """The last verdicts of an experiment; None until there are some. Does not wait."""
        self._asked_s = time.monotonic()
        answer, computed_s = self._latest.get((tenant, experiment), (None, 0.0))
        return answer if time.monotonic() - computed_s <= CACHED_S else None

    def history(self) -> History:
        """The alarms of the past of all experiments. Does not wait."""
        return self._history

    def close(self) -> None:
        """Ends the thread."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(LOOKS_S):
            now_s = time.monotonic()
            if now_s - self._asked_s <= WATCHED_S and now_s - self._computed_s >= EVERY_S:
                self._computed_s = now_s
                self._compute()

    def _compute(self) -> None:
        answers: list[VerdictsAnswer] = []
        for tenant in self._service.settings.tenants:
            if self._ending.is_set():
                return
            try:
                of_tenant = verdicts_of_tenant(self._service, tenant)
            except ProblemError as error:
                log.warning("verdicts_not_computed", tenant=tenant, reason=error.problem.detail)
                return  # the store: the next one would fare alike
            computed_s = time.monotonic()
            self._latest |= {(tenant, answer.experiment): (answer, computed_s) for answer in of_tenant}
            answers += of_tenant
        try:
            self._history = self._past(answers)
        except ProblemError as error:
            log.warning("history_not_read", reason=error.problem.detail)

    def _past(self, answers: Sequence[VerdictsAnswer]) -> History:
        """The alarms of all experiments, read some days at a time, so that little is in memory."""
        end_ms = self._service.now_ms()
        start_ms = end_ms - HISTORY_DAYS * DAY_MS
        names = [(answer.tenant, answer.experiment) for answer in answers]
        stored: dict[tuple[str, str], defaultdict[str, list[tuple[int, float]]]] = {n: defaultdict(list) for n in names}
        a_day = max(1, sum(len(answer.checks) for answer in answers)) * DAY_MS // HISTORY_STEP_MS
        length_ms = max(1, HISTORY_ROWS_MAX // a_day) * DAY_MS
        least = math.log(self._service.settings.guard.thresholds.note)
        for from_ms in range(start_ms, end_ms, length_ms) if names else ():
            span = Span(from_ms, min(end_ms, from_ms + length_ms))
            for (*name, check), steps in evidence(self._service, names, span, HISTORY_STEP_MS, least).items():
                of_check = stored[name[0], name[1]][check]
                of_check += [step for step in steps if step not in of_check[-1:]]
        alarms = [
            (answer.tenant, alarm)
            for answer in answers
            for alarm in past_alarms(
                answer,
                stored[answer.tenant, answer.experiment],
                HISTORY_STEP_MS,
                _end_ms(answer, end_ms),
                levels(self._service.settings.guard, self._service.experiment(answer.tenant, answer.experiment)),
            )
        ]
        return History(alarms, moment(start_ms))


def _end_ms(answer: VerdictsAnswer, now_ms: int) -> int:
    """The end of the final minutes, up to which there may be evidence."""
    return now_ms if answer.phase is None else round(answer.phase.sealed_until.timestamp() * 1_000)
