"""The query service: its settings, store, clock and caches."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cachetools import LRUCache

from monitor.config.errors import ConfigError, SettingError
from monitor.config.settings import ExperimentTable, Settings, TenantTable, milliseconds
from monitor.serve.count_file import CountFile
from monitor.serve.failover import Evidence, Rules
from monitor.serve.live_aa_models import AaMemory
from monitor.serve.problems import refuse_unknown
from monitor.serve.store import Store
from monitor.serve.sums import SumCache
from monitor.serve.tally import Tallies

FLUSHES_UNTIL_STALE = 2
"""A data center that is late with one flush must not be called stale."""
EVIDENCE_KEPT = 16
SETTINGS = "configuration"


def wall_clock_ms() -> int:
    """The time of this machine, in ms since 1970."""
    return time.time_ns() // 1_000_000


class Recent:
    """The last evidence for each of the last few starts."""

    def __init__(self) -> None:
        self._evidence: LRUCache[int, Evidence] = LRUCache(EVIDENCE_KEPT)
        self._lock = threading.Lock()

    def get(self, since_ms: int) -> Evidence | None:
        """The last evidence from this moment on, if it is cached."""
        with self._lock:
            return self._evidence.get(since_ms)

    def put(self, since_ms: int, evidence: Evidence) -> None:
        """Caches evidence; the least recently used is evicted."""
        with self._lock:
            self._evidence[since_ms] = evidence


@dataclass(frozen=True)
class Service:
    """The query service over one configuration and one store. Thread-safe."""

    settings: Settings
    store: Store
    cache: SumCache
    now_ms: Callable[[], int] = wall_clock_ms
    evidence: Recent = field(default_factory=Recent)
    """The evidence about the data centers, for answers of the same moment."""
    live_aa: AaMemory = field(default_factory=AaMemory)
    """What live A/A says of each tenant."""
    tallies: Tallies = field(default_factory=Tallies)
    """The counts of running phases, for verdicts."""
    counts: CountFile | None = None
    """The file that keeps them beyond the ttl of the store's points, if there is one."""

    @property
    def dcs(self) -> list[str]:
        """The data centers, in order of preference."""
        return self.settings.served_dcs()

    @property
    def rules(self) -> Rules:
        """The settings of the choice between data centers."""
        table = self.settings.serve
        return Rules(
            stale_after_ms=milliseconds(table.stale_after_s),
            behind_ms=milliseconds(table.behind_s),
            return_after_ms=milliseconds(table.return_after_s),
            fewer_share=table.fewer_percent / 100,
            fewer_visits=table.fewer_visits,
        )

    def tenant(self, name: str) -> TenantTable:
        """The table of a tenant; raises ProblemError if there is none."""
        if name not in self.settings.tenants:
            refuse_unknown("tenant", name, self.settings.tenants)
        return self.settings.tenants[name]

    def experiment(self, tenant: str, name: str) -> ExperimentTable:
        """The table of an experiment; raises ProblemError if there is none."""
        experiments = self.tenant(tenant).experiments
        if name not in experiments:
            refuse_unknown("experiment", name, experiments)
        return experiments[name]


@contextmanager
def open_service(
    settings: Settings,
    url: str | None = None,
    now_ms: Callable[[], int] = wall_clock_ms,
    counts: CountFile | None = None,
) -> Iterator[Service]:
    """The service, for as long as the block lasts; `url` in place of the settings' KairosDB. Raises ConfigError."""
    table = settings.serve
    if table.stale_after_s < FLUSHES_UNTIL_STALE * settings.time.flush_s:
        rule = (
            f"must be at least {FLUSHES_UNTIL_STALE} times time.flush_s, or jobs look stale between two flushes; "
            f"got {table.stale_after_s} and {settings.time.flush_s:g}"
        )
        raise ConfigError(SETTINGS, [SettingError("serve.stale_after_s", rule)])
    store = Store(url or settings.kairosdb.url, table.query_timeout_s, table.queries)
    try:
        yield Service(settings, store, SumCache(table.cached_values), now_ms, counts=counts)
    finally:
        store.close()
