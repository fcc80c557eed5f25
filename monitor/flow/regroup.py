"""The step `regroup`: sums what the session key groups of a process changed, by metric key group."""

from monitor.core.compiled import CompiledConfig, CompiledTenant
from monitor.core.deltas import SeriesTable, add_deltas, counts_of, deltas_of, maxima_of
from monitor.core.metrics import SIXTEENTHS
from monitor.core.sessions import Tally
from monitor.core.sixteenths import SixteenthTable, sixteenth_deltas
from monitor.core.unknown_names import UnknownNames
from monitor.core.watermark import NEVER
from monitor.flow.changes import Changes, add_counts, no_changes
from monitor.flow.job_log import JOB_LOG, JobLog
from monitor.flow.keys import HEALTH_GROUP, METRIC_GROUPS, METRIC_KEYS, SESSION_GROUPS
from monitor.flow.sessions import Tallied
from monitor.flow.telemetry import TELEMETRY, Telemetry
from monitor.runtime.clock import Interval
from monitor.runtime.memory import trim_heap
from monitor.runtime.reporting import reported

REPORT_S = 1.0
"""How often a process sends its telemetry into the flow."""
TRIM_S = 60.0
"""How often a process returns unused memory to the system."""


class Regroup:
    """The step: called with the tallies of a batch. Adds the process's own telemetry, for the health group."""

    def __init__(self, compiled: CompiledConfig, telemetry: Telemetry = TELEMETRY, job_log: JobLog = JOB_LOG) -> None:
        self._tenants = compiled.tenants
        self._unknown = {name: UnknownNames(name) for name in compiled.tenants}
        self._tables = {name: SeriesTable(tenant, METRIC_GROUPS) for name, tenant in compiled.tenants.items()}
        self._sixteenths = {
            name: SixteenthTable(tenant, METRIC_GROUPS)
            for name, tenant in compiled.tenants.items()
            if any(experiment.aa for experiment in tenant.program.tenant.experiments)
        }
        """Of the tenants that have live A/A."""
        self._watermarks: dict[int, int] = {}
        """Session key group -> the watermark that was sent last; at most SESSION_GROUPS entries."""
        self._telemetry, self._job_log = telemetry, job_log
        self._reports = Interval(REPORT_S)
        self._trims = Interval(TRIM_S, first_at_once=False)

    @reported
    def __call__(self, items: list[tuple[str, Tallied]]) -> list[tuple[str, Changes]]:
        """The changes for each metric key group that has any."""
        changes = [no_changes(group) for group in range(METRIC_GROUPS + 1)]
        self._add_tallies(changes, [tallied for _, tallied in items])
        for tenant, sixteenths in self._sixteenths.items():
            self._add_sixteenths(changes, tenant, sixteenths, [tallied for _, tallied in items])
        self._add_watermarks(changes, [tallied for _, tallied in items])
        if self._reports.is_due() or any(tallied.last for _, tallied in items):
            self._add_telemetry(changes[HEALTH_GROUP])
        if self._trims.is_due():
            trim_heap()
        self._job_log.counted(changes[HEALTH_GROUP].counts, changes[HEALTH_GROUP].gauges)
        assert not changes[HEALTH_GROUP].deltas, "no series of a tenant is in the health group"
        return [(METRIC_KEYS[change.group], change) for change in changes if any(change[1:])]

    def _add_tallies(self, changes: list[Changes], items: list[Tallied]) -> None:
        """Sums the tallies tenant by tenant: one pass over a tenant's series for all session key groups."""
        by_tenant: dict[str, list[Tally]] = {}
        for tallied in items:
            for tenant, tally in tallied.tallies.items():
                by_tenant.setdefault(tenant, []).append(tally)
        for tenant, tallies in by_tenant.items():
            if (table := self._tables.get(tenant)) is not None:
                self._unknown[tenant].add(tallies)
                for group, deltas in deltas_of(tallies, table).items():
                    add_deltas(changes[group].deltas, deltas)
            _count(changes[HEALTH_GROUP], tenant, tallies, self._tenants.get(tenant))

    def _add_sixteenths(self, changes: list[Changes], tenant: str, table: SixteenthTable, items: list[Tallied]) -> None:
        """Sums a tenant's tallies by sixteenth: that of a session is its key group's."""
        by_sixteenth: dict[int, list[Tally]] = {}
        for tallied in items:
            if (tally := tallied.tallies.get(tenant)) is not None:
                by_sixteenth.setdefault(tallied.group % SIXTEENTHS, []).append(tally)
        for group, deltas in sixteenth_deltas(by_sixteenth, table).items():
            add_deltas(changes[group].deltas, deltas)

    def _add_watermarks(self, changes: list[Changes], items: list[Tallied]) -> None:
        """Sends each watermark that has risen to all metric key groups: any may hold a minute that it passes."""
        risen: dict[int, int] = {}
        for tallied in items:
            assert 0 <= tallied.group < SESSION_GROUPS, "tallies come from session key groups"
            if self._watermarks.get(tallied.group, NEVER) < tallied.watermark_ms:
                risen[tallied.group] = self._watermarks[tallied.group] = tallied.watermark_ms
        if risen:
            for change in changes:
                change.watermarks.update(risen)

    def _add_telemetry(self, change: Changes) -> None:
        """Takes the process's counters and gauges, its memory and CPU time among them."""
        self._telemetry.report_process()
        readings = self._telemetry.take()
        add_counts(change.counts, readings.counts)
        for unknown in self._unknown.values():
            add_counts(change.counts, unknown.take())
        change.gauges.update(readings.gauges)


def _count(change: Changes, tenant: str, tallies: list[Tally], compiled: CompiledTenant | None) -> None:
    """Adds a tenant's health counters and maxima."""
    add_counts(change.counts, counts_of(tenant, tallies, compiled))
    change.maxima.update(maxima_of(tenant, tallies, compiled))
