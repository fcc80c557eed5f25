"""The command line: `monitor COMMAND`. Faults are one message on stderr and exit status 2."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from monitor import devstore as embedded
from monitor.commands import explain as explain_cli
from monitor.commands import grafana as grafana_cli
from monitor.commands import serve, state, top, traffic
from monitor.commands import verify as verify_cli
from monitor.commands.run import SWITCHES, Ports, RunError
from monitor.commands.run import run as run_all
from monitor.config.errors import ConfigError
from monitor.config.reader import load
from monitor.config.settings import Settings
from monitor.core.metrics import metric_names
from monitor.core.tags import TagSets
from monitor.runtime.console import OUT, faults_told
from monitor.simulate import IncidentError, switch

app = typer.Typer(no_args_is_help=True, help="Real-time monitor of A/B experiments.", pretty_exceptions_enable=False)
for commands in (traffic, verify_cli, explain_cli, state, serve, top, grafana_cli):
    app.add_typer(commands.app)


@app.command()
def check(file: Annotated[Path, typer.Argument(help="The configuration file.")]) -> None:
    """Checks a configuration and shows what it would measure."""
    with faults_told(ConfigError):
        settings = load(file)
    OUT.print(_summary(settings))
    OUT.print(f"{file} is right", markup=False, highlight=False)


def _summary(settings: Settings) -> Table:
    """What is measured, by tenant and experiment: metric names, and the most series that their tags can make."""
    table = Table(title=f"What is measured, dc {settings.dc}", title_justify="left")
    for column in ("tenant", "experiment", "variations"):
        table.add_column(column)
    for column in ("metrics", "series at most"):
        table.add_column(column, justify="right")
    metrics_in_all = series_in_all = 0
    for tenant in settings.compiled_tenants():
        points = [(point.name, point.value is not None) for point in tenant.points]
        combinations = TagSets(tenant.tags).count()
        for experiment in tenant.experiments:
            variations = [f"{name} {weight:g}" for name, weight in experiment.variations]
            names = metric_names(tenant.name, [name for name, _ in experiment.variations], points)
            shown = tenant.name, experiment.name, ", ".join(variations)
            table.add_row(*shown, f"{len(names):,}", f"{len(names) * combinations:,}")
            metrics_in_all += len(names)
            series_in_all += len(names) * combinations
    table.add_section()
    table.add_row("in all", "", "", f"{metrics_in_all:,}", f"{series_in_all:,}")
    return table


@app.command()
def store(
    path: Annotated[Path, typer.Argument(help="The SQLite file; made if it is not there.")],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 8080,
) -> None:
    """Runs the embedded store, which speaks KairosDB's REST API."""
    with faults_told(embedded.StoreError):
        embedded.serve(path, host, port)


@app.command()
def run(
    config: Annotated[Path, typer.Option(help="The configuration file.")] = Path("examples/shop/monitor.toml"),
    folder: Annotated[Path, typer.Option(help="Where the store, the recovery store and the logs are.")] = Path("var"),
    port: Annotated[int, typer.Option(help="The port of the embedded store.")] = 8080,
    page_port: Annotated[int, typer.Option(help="The port of the page and its API.")] = 8090,
    rate: Annotated[float, typer.Option(min=0.1, help="Events a second, mean over a day.")] = 300.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same traffic.")] = 1,
    incident: Annotated[
        list[str] | None, typer.Option(help="An incident of the traffic, as in `simulate`; repeatable.")
    ] = None,
) -> None:
    """Runs the store and the job, with recovery, on simulated traffic, and the page that shows it. Ctrl-C stops all."""
    with faults_told(RunError, ConfigError):
        run_all(config, folder, Ports(port, page_port), rate, seed, incident or [])


@app.command()
def incident(
    name: Annotated[str, typer.Argument(help="KIND[:SETTING=VALUE,...], as of `simulate`.")],
    folder: Annotated[Path, typer.Option(help="That of `monitor run`.")] = Path("var"),
    off: Annotated[bool, typer.Option("--off", help="Switch it off; its kind is enough.")] = False,
) -> None:
    """Switches an incident on in the traffic of a `monitor run` that runs. Visits that begin from then on have it."""
    with faults_told(RunError, IncidentError, OSError):
        if not folder.is_dir():
            msg = f"{folder} must be the folder of a `monitor run`; there is no such folder"
            raise RunError(msg)
        switched = switch(folder / SWITCHES, name, not off, time.time_ns() // 1_000_000)
    at = datetime.fromtimestamp(switched.at_ms / 1_000, UTC)
    on = ", ".join(switched.on) or "none"
    OUT.print(f"from {at:%H:%M:%S} UTC on these incidents are on: {on}", markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    app()
