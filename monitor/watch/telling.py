"""What of the changes of verdicts is told, by the watcher that has to: that of the data center that serves the present.

The other one tells what it finds when the first has written no verdicts for three minutes. Ids are equal in both, so a
receiver that both reach knows a repetition.
"""

from collections.abc import Sequence

from monitor.alerts.changes import Change as Told
from monitor.alerts.teller import Teller
from monitor.kairosdb.reader import Ask
from monitor.serve.evidence import current_evidence
from monitor.serve.service import Service
from monitor.serve.spans import DAY_MS
from monitor.serve.stored_verdicts import STATE
from monitor.watch.watcher import Change

SILENT_MS = 180_000
"""A watcher whose data center serves the present and that has written nothing for so long does not run."""
WRITTEN_MS = 15 * 60_000
"""Points of verdicts stand at the end of the last final minute, which is as long ago as events may be late."""


class Telling:
    """Gives the changes of verdicts to a teller. Raises ProblemError and OutboxError."""

    def __init__(self, service: Service, dc: str, teller: Teller) -> None:
        self._service, self._dc, self._teller = service, dc, teller

    def tell(self, changes: Sequence[Change]) -> None:
        """Tells the changes, unless the watcher of another data center does."""
        if self._is_mine():
            self._teller.tell([_told(change) for change in changes], self._service.now_ms())

    def tell_health(self, changes: Sequence[Told]) -> None:
        """Tells alerts about the monitor's health, likewise."""
        if self._is_mine():
            self._teller.tell(list(changes), self._service.now_ms())

    def _is_mine(self) -> bool:
        service = self._service
        serving = current_evidence(service, service.now_ms() - DAY_MS).present().dc
        if serving == self._dc or self._dc not in service.dcs:
            return serving == self._dc or len(service.dcs) == 1
        lateness_ms = round(1_000 * service.settings.time.allowed_lateness_s)
        since_ms = service.now_ms() - lateness_ms - WRITTEN_MS
        ask = Ask((STATE,), since_ms, service.now_ms() + 1, {"dc": (serving,)}, ("dc",), None, only="newest")
        (rows,) = service.store.rows([ask])
        mine_ms = (service.now_ms() - lateness_ms) - SILENT_MS
        return max((row.at_ms for row in rows), default=0) < mine_ms


def _told(change: Change) -> Told:
    check, recorded = change.check, change.recorded
    return Told(
        id=recorded.id,
        tenant=recorded.tenant,
        experiment=recorded.experiment,
        check=recorded.name,
        state=recorded.state,
        previous=recorded.previous,
        at_ms=recorded.at_ms,
        since_ms=None if check.since is None else round(check.since.timestamp() * 1_000),
        words=check.words,
        details=check.model_dump(mode="json", exclude={"words"}),
        link=f"/experiments/{recorded.tenant}/{recorded.experiment}",
    )
