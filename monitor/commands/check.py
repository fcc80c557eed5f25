"""`monitor check`: errors of a configuration, or what it measures, what it costs, and what looks wrong in it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal
from rich.table import Table

from monitor.config.costs import cost, series_of
from monitor.config.hints import hints
from monitor.config.reader import load
from monitor.config.settings import Settings
from monitor.runtime.console import OUT, print_line, printable

VISITS = 1_000_000


def check(file: Annotated[Path, typer.Argument(help="The configuration file.")]) -> None:
    """All errors are reported at once, each with its place. A valid file gives the metrics of each experiment and the
    most series that they and their tags can make, what that costs, and warnings about what is most likely not meant.
    """
    settings = load(file)
    OUT.print(_summary(settings))
    for line in _costs(settings):
        print_line(line)
    warnings = hints(settings.compiled_tenants())
    for place, message in warnings:
        print_line(f"warning: {printable(place)}: {printable(message)}")
    count = f", {len(warnings)} warning{'' if len(warnings) == 1 else 's'}" if warnings else ""
    print_line(f"{file}: OK{count}")


def _summary(settings: Settings) -> Table:
    """Metrics and the most series, by tenant and experiment. Long names are folded, never cut."""
    table = Table(title=f"Measured, dc {settings.dc}", title_justify="left")
    for column in ("tenant", "experiment", "variations"):
        table.add_column(column, overflow="fold")
    for column in ("metrics", "series at most"):
        table.add_column(column, justify="right", no_wrap=True)
    metrics_in_all = series_in_all = 0
    for tenant in settings.compiled_tenants():
        counts = series_of(tenant)
        for experiment in tenant.experiments:
            weights = ", ".join(f"{name} {weight:g}" for name, weight in experiment.variations)
            metrics, series = counts[experiment.name]
            table.add_row(tenant.name, experiment.name, weights, f"{metrics:,}", f"{series:,}")
            metrics_in_all += metrics
            series_in_all += series
    table.add_section()
    table.add_row("in all", "", "", f"{metrics_in_all:,}", f"{series_in_all:,}")
    return table


def _costs(settings: Settings) -> Iterator[str]:
    """Data points and memory, at most."""
    costs = cost(settings.compiled_tenants(), settings.compiled_limits())
    writes = max(1, round(60 / settings.time.flush_s))
    yield f"at most {costs.series:,} data points a minute, each written up to {writes:,} times while it changes"
    yield f"memory: about {decimal(costs.visit_bytes * VISITS)} for a million visits in progress"
    yield f"        and at most {decimal(costs.totals_bytes)} for totals that are not final yet"
