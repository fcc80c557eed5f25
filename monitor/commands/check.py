"""`monitor check`: errors of a configuration, or what it measures."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from monitor.config.reader import load
from monitor.config.settings import Settings
from monitor.core.metrics import metric_names
from monitor.core.tags import TagSets
from monitor.runtime.console import OUT, print_line


def check(file: Annotated[Path, typer.Argument(help="The configuration file.")]) -> None:
    """All errors are reported at once, each with its place. A valid file gives the metrics of each experiment and the
    most series that they and their tags can make.
    """
    settings = load(file)
    OUT.print(_summary(settings))
    print_line(f"{file}: OK")


def _summary(settings: Settings) -> Table:
    """Metrics and the most series, by tenant and experiment. Long names are folded, never cut."""
    table = Table(title=f"Measured, dc {settings.dc}", title_justify="left")
    for column in ("tenant", "experiment", "variations"):
        table.add_column(column, overflow="fold")
    for column in ("metrics", "series at most"):
        table.add_column(column, justify="right", no_wrap=True)
    metrics_in_all = series_in_all = 0
    for tenant in settings.compiled_tenants():
        points = [(point.name, point.value is not None) for point in tenant.points]
        combinations = TagSets(tenant.tags).count()
        for experiment in tenant.experiments:
            weights = ", ".join(f"{name} {weight:g}" for name, weight in experiment.variations)
            metrics = len(metric_names(tenant.name, [name for name, _ in experiment.variations], points))
            series = metrics * combinations
            table.add_row(tenant.name, experiment.name, weights, f"{metrics:,}", f"{series:,}")
            metrics_in_all += metrics
            series_in_all += series
    table.add_section()
    table.add_row("in all", "", "", f"{metrics_in_all:,}", f"{series_in_all:,}")
    return table
