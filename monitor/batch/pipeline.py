"""The steps of the batch answer for a log: read, judge, compute, query."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from monitor.batch.acceptance import Bounds, judge, reason_of_time
from monitor.batch.columns import layout_of
from monitor.batch.decoding import rows
from monitor.batch.highs import Highs
from monitor.batch.queries import MINUTE_MS, TenantQueries
from monitor.batch.workspace import Workspace
from monitor.config.settings import Settings
from monitor.topics.recorded import Record

TOTALS = "totals"
UNSURE = "unsure"
SIXTEENTH = re.compile(r"aa-([0-9]{2})")
"""In the place of a variation, where visits are counted by sixteenth."""
END_MS = 10**14
"""No event has this time or a later one."""


class Cell(NamedTuple):
    """The key of a total: metric name, experiment, start of the minute in ms, and the tenant's tags as text.

    The text of tags is `device=mobile|login=true`, in order of their names, without dc and experiment. It is empty in
    live A/A.
    """

    name: str
    experiment: str
    minute_ms: int
    tags: str


class VisitBehind(NamedTuple):
    """A visit that contributes to a total: its session, when it began (event time, ms), and how much it contributes."""

    session_id: str
    began_ms: int
    amount: int


class Batch:
    """The answer of one log under one configuration, in the tables of a workspace.

    `totals` (name, experiment, minute, tags, value) has every total of the computed minutes that is not 0, `unsure`
    (tenant, minute, tags) the cells that may depend on events from before the log's beginning.
    """

    def __init__(self, work: Workspace, settings: Settings) -> None:
        self._work = work
        self._settings = settings
        self._layout = layout_of(settings)
        self._highs = Highs()
        self._rejected: Counter[tuple[str, str]] = Counter()
        time, limits = settings.time, settings.limits
        tardy_ms = round(time.tardy_s * 1000)
        self._tenants = [TenantQueries(name, table, self._layout, tardy_ms) for name, table in settings.tenants.items()]
        self._bounds = Bounds(
            gap_ms=round(time.session_gap_s * 1000),
            lateness_ms=round(time.allowed_lateness_s * 1000),
            future_ms=round(time.future_tolerance_s * 1000),
            events_per_visit=limits.events_per_visit,
        )

    def read(self, records: Iterable[Record]) -> None:
        """Reads a log's messages, in order of arrival within each partition and session; once."""
        columns = self._layout.columns()
        self._work.create("arrived", columns | {"reason": "VARCHAR"})
        event_rows = rows(records, self._settings, self._layout, self._rejected, self._highs)
        self._work.fill("arrived", columns, event_rows, f"*, {reason_of_time(self._bounds)}")

    def sealed_ms(self) -> int:
        """The watermark at the log's end; after `read`, of a log that is not empty."""
        return self._highs.smallest_ms() - self._bounds.lateness_ms

    def judge(self) -> None:
        """Separates accepted from rejected events, and puts events into visits; once, after `read`."""
        judge(self._work, self._bounds)

    def compute(self, first_ms: int = 0, end_ms: int = END_MS, missing_until_ms: int | None = None) -> None:
        """Computes the totals of the minutes from `first_ms` to before `end_ms`; once, after `judge`.

        `missing_until_ms`: the log lacks events up to this time; the visits that these may belong to are unsure.
        """
        cells = {"name": "VARCHAR", "experiment": "VARCHAR", "minute": "BIGINT", "tags": "VARCHAR", "value": "HUGEINT"}
        self._work.create(TOTALS, cells)
        self._work.create(UNSURE, {"tenant": "VARCHAR", "minute": "BIGINT", "tags": "VARCHAR"})
        for tenant in self._tenants:
            for statement in tenant.statements():
                self._work.run(statement)
            for experiment in tenant.experiments:
                self._work.run(f"INSERT INTO {TOTALS} {tenant.totals(experiment, first_ms, end_ms)}")
            for experiment in tenant.by_sixteenth:
                self._work.run(f"INSERT INTO {TOTALS} {tenant.sixteenth_totals(experiment, first_ms, end_ms)}")
            if missing_until_ms is not None:
                began = f"SELECT visit FROM {tenant.visits} WHERE began <= {missing_until_ms + self._bounds.gap_ms}"
                for tags in ("tags", "''") if tenant.by_sixteenth else ("tags",):  # live A/A is counted over all tags
                    self._work.run(
                        f"INSERT INTO {UNSURE} SELECT DISTINCT '{tenant.name}', minute, {tags} FROM {tenant.events} "
                        f"WHERE visit IN ({began}) AND minute >= {first_ms} AND minute < {end_ms}"
                    )

    def totals(self) -> Iterator[tuple[Cell, int]]:
        """Every total of the computed minutes that is not 0."""
        for *cell, value in self._work.each(f"SELECT name, experiment, minute, tags, value FROM {TOTALS}"):
            yield Cell(*cell), value

    def accepted(self) -> Counter[str]:
        """Accepted events by tenant."""
        return self._by_tenant("SELECT tenant, count(*) FROM arrived JOIN placed USING (seq) GROUP BY tenant")

    def rejected(self) -> Counter[tuple[str, str]]:
        """Rejected messages by tenant and reason."""
        rejected = Counter(self._rejected)
        names = list(self._layout.tenants)
        sql = "SELECT tenant, r.reason, count(*) FROM arrived JOIN refused r USING (seq) GROUP BY ALL"
        for tenant, reason, count in self._work.rows(sql):
            rejected[names[tenant], reason] += count
        return rejected

    def visits_behind(self, cell: Cell, most: int) -> list[VisitBehind]:
        """The `most` visits that contribute most to a total, the largest contribution first."""
        queries = next((t for t in self._tenants if cell.name.startswith(f"{t.name}.visit.")), None)
        if queries is None or cell.experiment not in queries.experiments:
            return []
        scope, _, variation_and_rest = cell.name.removeprefix(f"{queries.name}.visit.").partition(".")
        variation, _, rest = variation_and_rest.partition(".")
        names = [(metric.scope, metric.rest) for metric in queries.metrics()]
        if (scope, f".{rest}") not in names:
            return []
        number = names.index((scope, f".{rest}"))
        sixteenth = SIXTEENTH.fullmatch(variation)
        which = "sixteenth = $2::INTEGER AND $3 = ''" if sixteenth else "variation = $2 AND tags = $3"
        sql = f"""
            SELECT session, time, amount FROM (
                SELECT visit, sum(c{number})::HUGEINT AS amount FROM {queries.contributions(cell.experiment)}
                WHERE minute = $1 AND {which} GROUP BY visit HAVING amount <> 0
            ) JOIN arrived ON seq = visit ORDER BY abs(amount) DESC, session, time LIMIT {most}"""
        named = sixteenth[1] if sixteenth else variation
        return [VisitBehind(*row) for row in self._work.rows(sql, (cell.minute_ms, named, cell.tags))]

    def _by_tenant(self, sql: str) -> Counter[str]:
        names = list(self._layout.tenants)
        return Counter({names[tenant]: count for tenant, count in self._work.rows(sql)})


def minute_of(time_ms: int) -> int:
    """The start of the minute that a time lies in."""
    return time_ms - time_ms % MINUTE_MS
