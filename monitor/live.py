"""The live terminal view: the job and the busiest experiments right now. Reads the store only."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from monitor.metrics import metric_name
from monitor.reading import Reader
from monitor.settings import Settings, TenantTable
from monitor.visits import Stem

RATE_WINDOW_S = 30
TOTALS_HOURS = 24
EXPERIMENTS_SHOWN = 6


class TenantNow(NamedTuple):
    """One tenant: accepted events a second, rejects of the last minutes by reason."""

    events_per_s: float
    rejected: Counter[str]


class VariationNow(NamedTuple):
    """One variation: visits assigned and qualified, and unique qualified visits with the conversion point."""

    name: str
    assigned: int
    qualified: int
    converted: int


class ExperimentNow(NamedTuple):
    """One experiment with its variations."""

    tenant: str
    name: str
    point: str
    variations: list[VariationNow]


class Now(NamedTuple):
    """All that the view shows."""

    tenants: dict[str, TenantNow]
    watermark_delay_s: float | None
    experiments: list[ExperimentNow]


def look(reader: Reader, settings: Settings, now_ms: int) -> Now:
    """Reads the store; raises requests.RequestException if it does not answer."""
    return Now(
        _tenants(reader, settings, now_ms),
        _watermark_delay_s(reader, settings, now_ms),
        _busiest(reader, settings, now_ms),
    )


def _tenants(reader: Reader, settings: Settings, now_ms: int) -> dict[str, TenantNow]:
    dc = {"dc": settings.dc}
    since_ms = now_ms - RATE_WINDOW_S * 1_000
    events = {t.tags["tenant"]: t.value for t in reader.totals(["monitor.events"], since_ms, now_ms, dc, ["tenant"])}
    rejected: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for total in reader.totals(["monitor.rejected"], _hours_ago(now_ms), now_ms, dc, ["tenant", "reason"]):
        rejected[total.tags["tenant"]][total.tags["reason"]] += total.value
    names = [*settings.tenants, *(name for name in rejected if name not in settings.tenants)]
    return {name: TenantNow(events.get(name, 0) / RATE_WINDOW_S, rejected[name]) for name in names}


def _watermark_delay_s(reader: Reader, settings: Settings, now_ms: int) -> float | None:
    totals = reader.totals(["monitor.watermark_s"], _hours_ago(now_ms), now_ms, {"dc": settings.dc}, aggregator="last")
    return next((now_ms / 1_000 - total.value for total in totals), None)


def _busiest(reader: Reader, settings: Settings, now_ms: int) -> list[ExperimentNow]:
    wanted = {name: key for tenant, table in settings.tenants.items() for name, key in _names(tenant, table)}
    sums = reader.totals(list(wanted), _hours_ago(now_ms), now_ms, {"dc": settings.dc})
    counts = {wanted[total.name]: total.value for total in sums}
    experiments = [
        ExperimentNow(
            tenant,
            name,
            conversion_point(table),
            [VariationNow(v, *(counts.get((tenant, v, what), 0) for what in range(3))) for v in experiment.variations],
        )
        for tenant, table in settings.tenants.items()
        for name, experiment in table.experiments.items()
    ]
    return sorted(experiments, key=_assigned, reverse=True)[:EXPERIMENTS_SHOWN]


def _names(tenant: str, table: TenantTable) -> Iterator[tuple[str, tuple[str, str, int]]]:
    """(metric name, (tenant, variation, 0: assigned, 1: qualified, 2: converted))."""
    point = conversion_point(table)
    for experiment, definition in table.experiments.items():
        for variation in definition.variations:
            stems = [Stem(experiment, scope, variation, None, "beta") for scope in ("assigned", "fm")]
            stems += [Stem(experiment, "fm", variation, point, "beta")] if point else []
            for what, stem in enumerate(stems):
                yield metric_name(tenant, stem), (tenant, variation, what)


def conversion_point(table: TenantTable) -> str:
    """The point whose rate is shown: `order` if there is one, else the last; empty if there are none."""
    return "order" if "order" in table.points else next(reversed(table.points), "")


def _assigned(experiment: ExperimentNow) -> int:
    return sum(variation.assigned for variation in experiment.variations)


def _hours_ago(now_ms: int) -> int:
    return now_ms - TOTALS_HOURS * 3_600_000


def view(now: Now, dc: str) -> RenderableType:
    """The view as tables."""
    delay = "not known yet" if now.watermark_delay_s is None else f"{now.watermark_delay_s:,.0f} s behind"
    clock = time.strftime("%H:%M:%S UTC", time.gmtime())
    title = Text.assemble(("AB Monitor", "bold"), f"   dc {dc}   {clock}   watermark {delay}")
    return Group(title, _tenant_table(now.tenants), _experiment_table(now.experiments))


def _tenant_table(tenants: Mapping[str, TenantNow]) -> Table:
    table = Table(
        title=f"Tenants (events/s over {RATE_WINDOW_S} s, rejects over {TOTALS_HOURS} h)", title_justify="left"
    )
    table.add_column("tenant")
    table.add_column("events/s", justify="right")
    table.add_column("rejected", justify="right")
    table.add_column("reasons", overflow="ellipsis", no_wrap=True)
    for name, tenant in tenants.items():
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in tenant.rejected.most_common(4))
        table.add_row(name, f"{tenant.events_per_s:,.1f}", f"{tenant.rejected.total():,}", reasons)
    return table


def _experiment_table(experiments: list[ExperimentNow]) -> Table:
    table = Table(title=f"Busiest experiments ({TOTALS_HOURS} h)", title_justify="left")
    for column in ("tenant", "experiment", "variation"):
        table.add_column(column, no_wrap=True)
    for column in ("assigned", "qualified", "conversion"):
        table.add_column(column, justify="right")
    for experiment in experiments:
        names = experiment.tenant, experiment.name
        for variation in experiment.variations:
            rate = f"{variation.converted / variation.qualified:.2%}" if variation.qualified else "-"
            shown = f"{rate} {experiment.point}"
            table.add_row(*names, variation.name, f"{variation.assigned:,}", f"{variation.qualified:,}", shown)
            names = "", ""
        table.add_section()
    return table
