"""Panels of Grafana 11, and their shared colours."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from monitor.grafana.targets import DATA_SOURCE, Json
from monitor.grafana.transformations import PLAIN

GRAFANA = "11.0.0"
SHORTEST_INTERVAL = "1m"
"""Totals are by the minute."""

EXACT = "locale"
"""The unit that shortens no number: 12,345 in place of 12.3 K."""

NORMAL, WARNING, ALARM = "#0072B2", "#E69F00", "#D55E00"
"""Blue, orange, vermilion: of Okabe and Ito's palette, which colour-blind people can tell apart."""
CONTROL = "#999999"
PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#D55E00", "#0072B2", "#F0E442")
"""The rest of it, for variations other than the control; further ones repeat it with dashes."""


class Steps(NamedTuple):
    """The values from which a panel warns and alarms, in its unit."""

    warning: float
    alarm: float


class AtLeast(NamedTuple):
    """A value below `normal` is an alarm."""

    normal: float


Limits = Steps | AtLeast | None


def timeseries(
    title: str,
    description: str,
    targets: Sequence[Json],
    *,
    unit: str = "short",
    legend: Sequence[str] = ("sum",),
    limits: Limits = None,
    overrides: Sequence[Json] = (),
    transformations: Sequence[Json] = (PLAIN,),
    stacked: bool = False,
) -> Json:
    """Lines over time; stacked ones are filled. `legend`: the calculations for each line over the range."""
    custom = {
        "drawStyle": "line",
        "lineWidth": 2,
        "fillOpacity": 30 if stacked else 0,
        "showPoints": "auto",
        "pointSize": 4,
        "spanNulls": False,
        "axisSoftMin": 0,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "off" if limits is None else "dashed"},
    }
    options = {
        "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": list(legend)},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    panel = _panel("timeseries", title, description, targets, unit, limits, overrides, transformations, options)
    panel["fieldConfig"]["defaults"] |= {"custom": custom, "color": {"mode": "palette-classic"}}
    return panel


def stat(
    title: str,
    description: str,
    targets: Sequence[Json],
    *,
    calculation: str,
    unit: str = "short",
    limits: Limits = None,
    overrides: Sequence[Json] = (),
    transformations: Sequence[Json] = (PLAIN,),
    fields: str = "",
    graph: bool = True,
) -> Json:
    """Large numbers, one for each series. `fields`: a pattern of the columns to show; all numbers if empty."""
    options = {
        "reduceOptions": {"values": False, "calcs": [calculation], "fields": fields},
        "colorMode": "value",
        "graphMode": "area" if graph else "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "auto",
        "wideLayout": True,
    }
    return _panel("stat", title, description, targets, unit, limits, overrides, transformations, options)


def bars(
    title: str,
    description: str,
    targets: Sequence[Json],
    *,
    calculation: str = "lastNotNull",
    unit: str = "short",
    limits: Limits = None,
    overrides: Sequence[Json] = (),
    transformations: Sequence[Json] = (PLAIN,),
) -> Json:
    """A bar for each series, for comparison."""
    options = {
        "reduceOptions": {"values": False, "calcs": [calculation], "fields": ""},
        "displayMode": "basic",
        "valueMode": "color",
        "orientation": "horizontal",
        "namePlacement": "auto",
        "showUnfilled": True,
        "sizing": "auto",
        "minVizHeight": 16,
        "minVizWidth": 8,
        "maxVizHeight": 60,
    }
    panel = _panel("bargauge", title, description, targets, unit, limits, overrides, transformations, options)
    panel["fieldConfig"]["defaults"]["min"] = 0
    return panel


def shares(
    title: str,
    description: str,
    targets: Sequence[Json],
    overrides: Sequence[Json],
    transformations: Sequence[Json] = (PLAIN,),
) -> Json:
    """The share of each series in the sum of all."""
    options = {
        "reduceOptions": {"values": False, "calcs": ["sum"], "fields": ""},
        "pieType": "donut",
        "displayLabels": ["percent"],
        "legend": {
            "displayMode": "table",
            "placement": "right",
            "showLegend": True,
            "values": ["value", "percent"],
        },
        "tooltip": {"mode": "multi", "sort": "none"},
    }
    return _panel("piechart", title, description, targets, EXACT, None, overrides, transformations, options)


def text(title: str, markdown: str) -> Json:
    """A text in Markdown."""
    return {
        "type": "text",
        "title": title,
        "pluginVersion": GRAFANA,
        "options": {"mode": "markdown", "content": markdown},
    }


def row(title: str, repeat: str | None = None) -> Json:
    """A heading; with `repeat`, it and the panels below it are repeated for each value of that variable."""
    return {"type": "row", "title": title, "collapsed": False, "panels": []} | ({"repeat": repeat} if repeat else {})


def coloured(variations: Iterable[str], control: str) -> list[Json]:
    """The colour of each variation, and of what begins with its name and a space: grey for the control."""
    others = [variation for variation in variations if variation != control]
    overrides = [_colour(control, CONTROL, dashed=False)]
    for number, variation in enumerate(others):
        colour = PALETTE[number % len(PALETTE)]
        overrides.append(_colour(variation, colour, dashed=number >= len(PALETTE)))
    return overrides


def _colour(variation: str, colour: str, *, dashed: bool) -> Json:
    properties: list[Json] = [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}]
    if dashed:
        properties.append({"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [10, 10]}})
    return {"matcher": {"id": "byRegexp", "options": f"/^{variation}( |$)/"}, "properties": properties}


def _panel(
    kind: str,
    title: str,
    description: str,
    targets: Sequence[Json],
    unit: str,
    limits: Limits,
    overrides: Sequence[Json],
    transformations: Sequence[Json],
    options: Mapping[str, object],
) -> Json:
    return {
        "type": kind,
        "title": title,
        "description": description,
        "pluginVersion": GRAFANA,
        "datasource": DATA_SOURCE,
        "interval": SHORTEST_INTERVAL,
        "targets": [{"refId": _letters(number), **target} for number, target in enumerate(targets)],
        "transformations": list(transformations),
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "noValue": "no data",
                "color": {"mode": "thresholds"},
                "thresholds": {"mode": "absolute", "steps": _steps(limits)},
            },
            "overrides": list(overrides),
        },
        "options": dict(options),
    }


def _steps(limits: Limits) -> list[Json]:
    match limits:
        case Steps(warning, alarm):
            steps: list[tuple[str, float | None]] = [(NORMAL, None), (WARNING, warning), (ALARM, alarm)]
        case AtLeast(normal):
            steps = [(ALARM, None), (NORMAL, normal)]
        case None:
            steps = [(NORMAL, None)]
    return [{"color": colour, "value": value} for colour, value in steps]


def _letters(number: int) -> str:
    """A, B, ..., Z, AA, AB, ...: Grafana's names of the queries of a panel."""
    return (_letters(number // 26 - 1) if number >= 26 else "") + chr(ord("A") + number % 26)
