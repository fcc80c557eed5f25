"""The files for Grafana, and their writing into a directory that may already contain others.

A file of the directory lists the written files with their hashes. With it, the next run recognizes its own files among
others and among those that were changed since, and removes those that the configuration no longer needs.
"""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from monitor.config.settings import Settings
from monitor.grafana.dashboards import experiment_uid
from monitor.grafana.experiment import experiment_dashboard, shown
from monitor.grafana.health import health_dashboard
from monitor.grafana.overview import overview_dashboard
from monitor.grafana.targets import DATA_SOURCE, PLUGIN, Json
from monitor.kairosdb.client import without_password
from monitor.runtime.errors import MonitorError

DASHBOARDS = "dashboards"
MANIFEST = "monitor-grafana.json"
FOLDER = "A/B experiments"
PASSWORD_VARIABLE = "MONITOR_GRAFANA_KAIROSDB_PASSWORD"
INTERVALS = "1m,2m,5m,10m,15m,30m,1h,2h,3h,6h,12h,1d,7d"
"""The intervals to which the plugin rounds Grafana's interval up."""
TIMEOUT_S = 115


class ForeignFiles(MonitorError):
    """Files are in the way that this command has not written, or that were changed since."""

    def __init__(self, directory: Path, paths: Sequence[str]) -> None:
        listed = "\n".join(f"  {path}" for path in paths)
        super().__init__(
            f"{directory} contains files that `monitor grafana` has not written, or that were changed since. Nothing "
            f"was written; move them away, choose another directory, or overwrite them with --force:\n{listed}"
        )


class Written(NamedTuple):
    """The result for each file, as paths within the directory."""

    written: list[str]
    unchanged: list[str]
    removed: list[str]
    kept: list[str]
    """No longer needed, but changed by somebody, so left as they are."""


def files(settings: Settings, dcs: Sequence[str], url: str, dashboards_path: str) -> dict[str, str]:
    """All files, path to text: the same for the same arguments.

    `dcs`: the values of the variable dc; `url`: KairosDB as Grafana reaches it; `dashboards_path`: where Grafana finds
    the folder `dashboards`.
    """
    dashboards = {
        "overview": overview_dashboard(settings, dcs),
        "health": health_dashboard(settings, dcs),
    }
    for experiment in shown(settings.compiled_tenants()):
        uid = experiment_uid(experiment.name).removeprefix("abm-")
        dashboards[f"experiment-{uid}"] = experiment_dashboard(experiment, dcs)
    return {
        "provisioning/datasources/ab-monitor.yaml": data_source(url),
        "provisioning/dashboards/ab-monitor.yaml": provider(dashboards_path),
        **{f"{DASHBOARDS}/{name}.json": _text(dashboard) for name, dashboard in dashboards.items()},
    }


def data_source(url: str) -> str:
    """The data source, as Grafana's provisioning reads it. A password in the URL becomes a variable's name."""
    parts = urlsplit(url)
    lines = [
        "# Written by `monitor grafana` from the configuration.",
        "apiVersion: 1",
        "datasources:",
        "  - name: A/B monitor KairosDB",
        f"    uid: {DATA_SOURCE['uid']}",
        f"    type: {PLUGIN}",
        "    access: proxy",
        f"    url: {_yaml(without_password(url))}",
        "    isDefault: false",
        "    editable: false",
    ]
    if parts.username is not None:
        lines += [
            "    basicAuth: true",
            f"    basicAuthUser: {_yaml(unquote(parts.username))}",
            "    secureJsonData:",
            f'      basicAuthPassword: "${{{PASSWORD_VARIABLE}}}"',
        ]
    lines += ["    jsonData:", f"      snapToIntervals: {_yaml(INTERVALS)}", f'      timeout: "{TIMEOUT_S}"']
    return "\n".join(lines) + "\n"


def provider(dashboards_path: str) -> str:
    """The provider, by which Grafana finds the dashboards."""
    lines = [
        "# Written by `monitor grafana` from the configuration.",
        "apiVersion: 1",
        "providers:",
        "  - name: ab-monitor",
        f"    folder: {_yaml(FOLDER)}",
        "    type: file",
        "    allowUiUpdates: false",
        "    updateIntervalSeconds: 30",
        "    options:",
        f"      path: {_yaml(dashboards_path)}",
    ]
    return "\n".join(lines) + "\n"


def write(directory: Path, texts: Mapping[str, str], *, force: bool = False) -> Written:
    """Writes the files, and removes those of an earlier run that are no longer among them.

    Raises ForeignFiles, before anything is changed, if it would overwrite a file that is not its own; with `force` it
    does so. OSError as it comes.
    """
    ours = _written_before(directory)
    there = {path: _hash((directory / path).read_bytes()) for path in {*texts, *ours} if (directory / path).is_file()}
    hashes = {path: _hash(text.encode()) for path, text in texts.items()}
    unchanged = [path for path in texts if there.get(path) == hashes[path]]
    written = [path for path in texts if path not in unchanged]
    foreign = [path for path in written if path in there and there[path] != ours.get(path)]
    if foreign and not force:
        raise ForeignFiles(directory, foreign)
    obsolete = sorted(there.keys() - texts.keys())
    removed = [path for path in obsolete if there[path] == ours[path]]
    for path in written:
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(texts[path], encoding="utf-8")
    for path in removed:
        (directory / path).unlink()
    (directory / MANIFEST).write_text(_text({"files": hashes}), encoding="utf-8")
    return Written(written, unchanged, removed, [path for path in obsolete if path not in removed])


def _written_before(directory: Path) -> dict[str, str]:
    """The files of the last run, path to hash; none if there was none, or its list cannot be read."""
    try:
        listed = json.loads((directory / MANIFEST).read_bytes())["files"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}
    if not isinstance(listed, dict):
        return {}
    return {path: text for path, text in listed.items() if isinstance(text, str) and _is_within(path)}


def _is_within(path: str) -> bool:
    """True for a listed path that this command can have written: only those are ever removed."""
    return path.startswith(("provisioning/", f"{DASHBOARDS}/")) and ".." not in Path(path).parts


def _hash(content: bytes) -> str:
    return sha256(content).hexdigest()


def _text(value: Json) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _yaml(text: str) -> str:
    """A text in YAML; Grafana reads `$` as a variable unless it is doubled."""
    return json.dumps(text.replace("$", "$$"))
