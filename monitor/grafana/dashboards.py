"""Dashboards of Grafana 11: their frame, variables, links, and the places of panels.

The JSON is written by hand: grafana-foundation-sdk is some ten thousand generated lines for the five kinds of panels
here, and does not know the targets of the KairosDB plugin.
"""

import re
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

from monitor.grafana.targets import Json

SCHEMA_VERSION = 39
"""That of Grafana 11.0; later ones migrate it."""
COLUMNS = 24
TAG, EXPERIMENT_TAG = "ab-monitor", "ab-monitor-experiment"
OVERVIEW_UID, HEALTH_UID = "abm-overview", "abm-health"
NO_FILTER = " "
"""The value of "All" of a tag: the plugin leaves out a blank filter."""
UID_NAME_CHARACTERS = 24
"""Grafana allows 40 characters in all."""


class TimeSeries(NamedTuple):
    """Panels side by side, each with its width; at most 24 together."""

    height: int
    panels: Sequence[tuple[int, Json]]


def heading(row: Json) -> TimeSeries:
    """A line with only a row's heading."""
    return TimeSeries(1, [(COLUMNS, row)])


def dashboard(
    uid: str,
    title: str,
    description: str,
    variables: Sequence[Json],
    lines: Iterable[TimeSeries],
    tags: Sequence[str] = (),
) -> Json:
    """A dashboard of these lines, from top to bottom."""
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": [TAG, *tags],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "timezone": "utc",
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "1m",
        "graphTooltip": 1,
        "links": _links(),
        "annotations": {"list": []},
        "templating": {"list": list(variables)},
        "panels": _placed(lines),
    }


def experiment_uid(experiment: str) -> str:
    """A stable id for an experiment's name, different for names that differ only by case."""
    return f"abm-{experiment[:UID_NAME_CHARACTERS]}-{blake2b(experiment.encode(), digest_size=4).hexdigest()}"


def experiment_url(experiment: str, tenant: str) -> str:
    """A link to an experiment's dashboard that keeps the time range and the data center."""
    return f"/d/{experiment_uid(experiment)}?var-tenant={tenant}&var-dc=${{dc}}&${{__url_time_range}}"


def choice(name: str, label: str, values: Sequence[str], description: str = "") -> Json:
    """A variable with exactly one of these values, the first one by default."""
    options = [{"text": value, "value": value, "selected": number == 0} for number, value in enumerate(values)]
    return _variable("custom", name, label, description, values) | {
        "multi": False,
        "includeAll": False,
        "current": options[0],
        "options": options,
    }


def choices(name: str, label: str, values: Sequence[str], description: str = "", every: str | None = None) -> Json:
    """A variable with one or more of these values, by default all. `every`: another value for "All"."""
    everything = {"text": "All", "value": "$__all", "selected": True}
    options = [everything, *({"text": value, "value": value, "selected": False} for value in values)]
    return _variable("custom", name, label, description, values) | {
        "multi": True,
        "includeAll": True,
        "allValue": every,
        "current": {"text": ["All"], "value": ["$__all"], "selected": True},
        "options": options,
    }


def constant(name: str, value: str) -> Json:
    """A hidden variable that never changes."""
    current = {"text": value, "value": value, "selected": True}
    return _variable("constant", name, name, "", [value]) | {
        "hide": 2,
        "skipUrlSync": True,
        "current": current,
        "options": [current],
    }


def data_center(dcs: Sequence[str]) -> Json:
    """The variable `dc`."""
    return choice("dc", "Data center", dcs, "Each has a copy of the same totals: choose one at a time.")


def tag_variables(tags: Iterable[str]) -> dict[str, str]:
    """The name of the variable of each tag. A variable's name has letters, digits and `_` only, a tag's also `-`."""
    names: dict[str, str] = {}
    for tag in tags:
        name = "tag_" + re.sub(r"\W", "_", tag, flags=re.ASCII)
        while name in names.values():
            name += "_"
        names[tag] = name
    return names


def _variable(kind: str, name: str, label: str, description: str, values: Sequence[str]) -> Json:
    return {
        "type": kind,
        "name": name,
        "label": label,
        "description": description,
        "hide": 0,
        "skipUrlSync": False,
        "query": ",".join(values),
    }


def _links() -> list[Json]:
    pages = [("Overview", OVERVIEW_UID), ("Health of the monitor", HEALTH_UID)]
    links: list[Json] = [
        {"type": "link", "title": title, "icon": "dashboard", "url": f"/d/{uid}?var-dc=${{dc}}", "keepTime": True}
        for title, uid in pages
    ]
    experiments = {"type": "dashboards", "title": "Experiments", "tags": [EXPERIMENT_TAG], "asDropdown": True}
    return [*links, experiments | {"icon": "external link", "keepTime": True, "includeVars": False}]


def _placed(lines: Iterable[TimeSeries]) -> list[Json]:
    """The panels with their ids and places."""
    placed: list[Json] = []
    y = 0
    for line in lines:
        x = 0
        for width, panel in line.panels:
            place = {"x": x, "y": y, "w": width, "h": line.height}
            placed.append({"id": len(placed) + 1, **panel, "gridPos": place})
            x += width
        y += line.height
    return placed
