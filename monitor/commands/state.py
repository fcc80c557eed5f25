"""`monitor state`: the contents of a recovery store."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.filesize import decimal
from rich.table import Table

from monitor.config.reader import load
from monitor.flow.contents import Contents, TenantSummary, inspect
from monitor.runtime.console import OUT, moment

UNKNOWN = "-"


def state(
    directory: Annotated[Path, typer.Argument(help="The directory that the job was started with (-r).")],
    config: Annotated[
        Path | None, typer.Option(help="Compare the definitions in the store with this configuration's.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Positions, watermark, live visits, totals and size. It is safe while a job runs."""
    contents = inspect(directory, None if config is None else load(config).compiled_tenants())
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(contents)))
        return
    for line in _summary(contents):
        OUT.print(line, markup=False, highlight=False, soft_wrap=True)
    for table in (_partitions(contents), _tenants(contents), _files(contents)):
        OUT.print(table)
    for line in _compared(contents.tenants):
        OUT.print(line, markup=False, highlight=False, soft_wrap=True)


def _summary(contents: Contents) -> list[str]:
    watermarks, windows = contents.watermarks, contents.windows
    run = "no job has used it yet"
    if contents.execution is not None:
        workers = "1 worker" if contents.workers == 1 else f"{contents.workers} workers"
        run = f"written by run {contents.execution + 1} of the job ({workers})"
    lines = [
        f"recovery store {contents.directory}: {decimal(contents.size_bytes)}, {run}",
        f"a job resumes from epoch {contents.resume_epoch}",
        f"watermark {_moment(watermarks.smallest_ms)} to {_moment(watermarks.largest_ms)} "
        f"({watermarks.groups} of {watermarks.groups_in_all} session key groups)",
    ]
    if contents.minutes_ms is not None:
        first, last = contents.minutes_ms
        lines.append(f"totals of the minutes {_moment(first)} to {_moment(last)}")
    if windows.open:
        lines.append(
            f"{windows.open} open flush windows with {windows.changes:,} changes, "
            f"opened {_moment(windows.opened_ms)}, closing {_moment(windows.closes_ms)}"
        )
    return lines


def _partitions(contents: Contents) -> Table:
    table = _table("Source partitions", "partition", ("next", "newest message"))
    for partition in contents.partitions:
        table.add_row(partition.partition, f"{partition.position:,}", _moment(partition.timestamp_ms))
    return table


def _tenants(contents: Contents) -> Table:
    table = _table("Tenants", "tenant", ("live sessions", "size", "newest event", "totals", "minutes"))
    for tenant in contents.tenants:
        newest = None if tenant.last_event_ms is None else tenant.last_event_ms[1]
        sessions = f"{tenant.live_sessions:,}", decimal(tenant.session_bytes), _moment(newest)
        table.add_row(tenant.tenant, *sessions, f"{tenant.totals:,}", f"{tenant.minutes:,}")
    return table


def _compared(tenants: list[TenantSummary]) -> list[str]:
    """A line for each tenant with sessions: how its stored definitions compare with the configuration's."""
    lines = []
    for tenant in tenants:
        if tenant.differences:
            lines.append(
                f"definitions of {tenant.tenant} differ from the configuration: {', '.join(tenant.differences)}"
            )
        elif tenant.differences is not None and tenant.live_sessions:
            lines.append(f"definitions of {tenant.tenant} match the configuration")
    return lines


def _files(contents: Contents) -> Table:
    table = _table("Files and steps", "name", ("snapshots", "size"))
    for file in contents.files:
        table.add_row(file.name, f"{file.snapshots:,}", decimal(file.size_bytes))
    table.add_section()
    for step in contents.steps:
        table.add_row(step.step, f"{step.keys:,}", decimal(step.state_bytes))
    return table


def _table(title: str, first: str, numbers: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first, no_wrap=True)
    for column in numbers:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _moment(time_ms: int | None) -> str:
    """A time in UTC, to the second; UNKNOWN if there is none."""
    if time_ms is None:
        return UNKNOWN
    return moment(time_ms)
