"""The verdicts of all experiments, kept fresh while somebody reads: computed once a minute, for all readers."""

import threading
import time

import structlog

from monitor.serve.problems import ProblemError
from monitor.serve.service import Service
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


class VerdictWatch:
    """A thread that computes the verdicts of all experiments while somebody reads."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._latest: dict[tuple[str, str], tuple[VerdictsAnswer, float]] = {}
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
        for tenant in self._service.settings.tenants:
            if self._ending.is_set():
                return
            try:
                answers = verdicts_of_tenant(self._service, tenant)
            except ProblemError as error:
                log.warning("verdicts_not_computed", tenant=tenant, reason=error.problem.detail)
                return  # the store: the next one would fare alike
            computed_s = time.monotonic()
            self._latest |= {(tenant, answer.experiment): (answer, computed_s) for answer in answers}
