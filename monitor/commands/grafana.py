"""The command that writes Grafana's files: `monitor grafana DIRECTORY`. A fault is told on stderr, status 2."""

from pathlib import Path
from typing import Annotated

import typer

from monitor.config.errors import ConfigError
from monitor.config.reader import load
from monitor.grafana.provisioning import DASHBOARDS, PASSWORD_VARIABLE, ForeignFiles, files, write
from monitor.grafana.targets import PLUGIN
from monitor.runtime.console import OUT, faults_told

app = typer.Typer(no_args_is_help=True)


@app.command()
def grafana(
    directory: Annotated[Path, typer.Argument(help="Where the files go; made if it is not there.")],
    config: Annotated[Path, typer.Option(envvar="MONITOR_CONFIG", help="The configuration file.")] = Path(
        "examples/shop/monitor.toml"
    ),
    dc: Annotated[
        list[str] | None,
        typer.Option(
            help="A data center to choose from, repeatable; the first is preselected. Default: serve.dcs, else dc."
        ),
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="KairosDB, as Grafana reaches it. Default: the configuration's.")
    ] = None,
    dashboards: Annotated[
        str | None,
        typer.Option(
            help="Where Grafana finds the folder `dashboards`, in a container for example. Default: where it is."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are not this command's own.")] = False,
) -> None:
    """Write a data source and dashboards for Grafana: all experiments, each experiment, the monitor's own health."""
    with faults_told(ConfigError, ForeignFiles, OSError):
        settings = load(config)
        asked = url or settings.kairosdb.url
        found = str((directory / DASHBOARDS).resolve())
        texts = files(settings, list(dict.fromkeys(dc or settings.served_dcs())), asked, dashboards or found)
        done = write(directory, texts, force=force)
    counts = [f"{len(paths)} {what}" for what, paths in done._asdict().items() if paths and what != "kept"]
    lines = [f"{directory}: {', '.join(counts)} files"]
    lines += [f"kept, though no longer needed, since it was changed: {path}" for path in done.kept]
    lines.append(
        f"Grafana needs the plugin {PLUGIN} 4.0, and GF_PATHS_PROVISIONING={directory.resolve() / 'provisioning'}"
    )
    if PASSWORD_VARIABLE in texts["provisioning/datasources/ab-monitor.yaml"]:
        lines.append(f"KairosDB's password is not in the files: set {PASSWORD_VARIABLE} for Grafana")
    for line in lines:
        OUT.print(line, markup=False, highlight=False, soft_wrap=True)
