"""The counts of the past that a rehearsal judges: those of a store, or those that a recorded log comes to."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

from monitor.batch import workspace
from monitor.batch.pipeline import Batch
from monitor.core.codes import MINUTE_MS
from monitor.runtime.errors import MonitorError
from monitor.serve.answers import tag_values
from monitor.serve.beginnings import held_from_ms
from monitor.serve.evidence import serving
from monitor.serve.failover import final_until_ms
from monitor.serve.past_phases import sums_of_phase
from monitor.serve.phases import RunningPhase
from monitor.serve.service import Service
from monitor.serve.spans import Span
from monitor.serve.states import first_visits_ms
from monitor.serve.sums import Sums
from monitor.serve.verdicts import reads
from monitor.topics import recorded
from monitor.topics.recorded import Record
from monitor.watch.rehearsal import HistoryGoneError

NEVER_MS = 2**62
"""Metrics that no check reads are counted from here on."""


class EmptyLogError(MonitorError):
    """A recorded log without messages."""


class StoredHistory:
    """Counts of a store, each minute from the data center that serves it, or from `dc`. Raises ProblemError."""

    def __init__(self, service: Service, dc: str | None = None) -> None:
        self._service, self._dc = service, dc

    def first_ms(self, tenant: str) -> Mapping[str, int]:
        """By experiment, the first minute with a visit."""
        tables = self._service.tenant(tenant).experiments
        return first_visits_ms(self._service, tenant, tables, self._service.now_ms())

    def final_ms(self, tenant: str, experiment: str, span: Span) -> int:
        """The end of the final minutes of a range."""
        whole = Span(span.start_ms, max(span.end_ms, span.start_ms + MINUTE_MS))
        evidence, served = serving(self._service, tenant, [experiment], whole, self._dc)
        return final_until_ms(evidence, served[experiment])

    def sums(self, tenant: str, experiment: str, phase: RunningPhase, span: Span) -> list[Sums]:
        """The sums of a phase, with the minutes that a range needs."""
        if phase.visits_from_ms < held_from_ms(self._service, self._service.now_ms()):
            message = "the store no longer has the beginning of a phase, so there is no verdict on it"
            raise HistoryGoneError(message)
        return sums_of_phase(self._service, tenant, experiment, phase, span.end_ms, span.start_ms, self._dc)


class LoggedHistory:
    """Counts that a recorded log comes to under the service's configuration, computed once. Raises EmptyLogError."""

    def __init__(self, service: Service, log: Path) -> None:
        self._service = service
        self._sums: defaultdict[tuple[str, str], Sums] = defaultdict(Counter)
        self._first_ms: defaultdict[str, dict[str, int]] = defaultdict(dict)
        tags = {tenant: list(tag_values(service, tenant)) for tenant in service.settings.tenants}
        with workspace() as work:
            batch = Batch(work, service.settings)
            batch.read(_not_empty(log))
            batch.judge()
            batch.compute()
            self._final_ms = batch.sealed_ms() // MINUTE_MS * MINUTE_MS
            for cell, count in batch.totals():
                tenant = cell.name.partition(".")[0]
                values = dict(pair.split("=", 1) for pair in cell.tags.split("|") if pair)
                group = tuple(values.get(tag, "") for tag in tags[tenant])
                self._sums[tenant, cell.experiment][cell.name, group, cell.minute_ms] += count
                if cell.name.startswith(f"{tenant}.visit.assigned."):
                    of = self._first_ms[tenant]
                    of[cell.experiment] = min(of.get(cell.experiment, cell.minute_ms), cell.minute_ms)

    def first_ms(self, tenant: str) -> Mapping[str, int]:
        """By experiment, the first minute with a visit."""
        return self._first_ms[tenant]

    def final_ms(self, tenant: str, experiment: str, span: Span) -> int:
        """The end of the minutes that are final by the log's last messages."""
        return self._final_ms

    def sums(self, tenant: str, experiment: str, phase: RunningPhase, span: Span) -> list[Sums]:
        """The sums of a phase, from the moments on from which its visits and its conversions count."""
        from_ms: dict[str, int] = {}
        tags = tag_values(self._service, tenant)
        for read in reads(self._service, tenant, experiment, phase, span.end_ms, tags, span.start_ms):
            for metric in read.stored.values():
                from_ms[metric] = min(read.span.start_ms, from_ms.get(metric, NEVER_MS))
        rows = self._sums[tenant, experiment].items()
        return [Counter({key: count for key, count in rows if key[2] >= from_ms.get(key[0], NEVER_MS)})]


def _not_empty(log: Path) -> Iterator[Record]:
    """The messages of a log. Raises EmptyLogError if there are none."""
    records = recorded.read(log)
    first = next(records, None)
    if first is None:
        message = f"the recorded log {log} has no messages"
        raise EmptyLogError(message)
    yield from chain([first], records)
