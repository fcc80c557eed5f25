"""`monitor grafana`: Grafana's provisioning files, written into a directory."""

from pathlib import Path
from typing import Annotated

import typer

from monitor.commands.options import EXAMPLE, ConfigFile
from monitor.config.reader import load
from monitor.grafana.provisioning import DASHBOARDS, PASSWORD_VARIABLE, files, write
from monitor.grafana.targets import PLUGIN
from monitor.runtime.console import print_line


def grafana(
    directory: Annotated[Path, typer.Argument(help="The directory of the files; created if it does not exist.")],
    config: ConfigFile = EXAMPLE,
    dc: Annotated[
        list[str] | None,
        typer.Option(
            help="A data center to choose from; repeatable, the first is preselected. Default: serve.dcs, else dc."
        ),
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="KairosDB's URL as Grafana reaches it. Default: the configuration's.")
    ] = None,
    dashboards: Annotated[
        str | None,
        typer.Option(
            help="The path of the folder `dashboards` as Grafana sees it, in a container for example. "
            "Default: where it is written."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that this command did not write.")] = False,
) -> None:
    """The dashboards show all experiments, each experiment, and the monitor's own health."""
    settings = load(config)
    datasource_url = url or settings.kairosdb.url
    dashboards_path = dashboards or str((directory / DASHBOARDS).resolve())
    dcs = list(dict.fromkeys(dc or settings.served_dcs()))
    texts = files(settings, dcs, datasource_url, dashboards_path)
    done = write(directory, texts, force=force)
    counts = [f"{len(paths)} {what}" for what, paths in done._asdict().items() if paths and what != "kept"]
    print_line(f"{directory}: {', '.join(counts)} files")
    for path in done.kept:
        print_line(f"kept, though no longer needed, since it was changed: {path}")
    provisioning = directory.resolve() / "provisioning"
    print_line(f"Grafana needs the plugin {PLUGIN} 4.0, and GF_PATHS_PROVISIONING={provisioning}")
    if PASSWORD_VARIABLE in texts["provisioning/datasources/ab-monitor.yaml"]:
        print_line(f"KairosDB's password is not in the files: set {PASSWORD_VARIABLE} for Grafana")
