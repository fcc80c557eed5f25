"""A dashboard in the hands of Grafana 11 and its plugin: variables to values, targets to requests, answers to series.

Written from the source of `arpnetworking-kairosdb-datasource` 4.0.7 (src/datasource.ts, src/utils) and, for the
transformations, of Grafana's package `@grafana/data` 11; shares no code with monitor/grafana.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Json = dict[str, Any]
Variables = Mapping[str, str | list[str]]

RANGED = {"sum", "avg", "min", "max", "count", "first", "last"}
UNIT_MS = {"minutes": 60_000, "MINUTES": 60_000, "HOURS": 3_600_000, "weeks": 604_800_000}
VARIABLE = re.compile(r"\$(\w+)|\[\[(\w+?)(?::\w+)?\]\]|\$\{(\w+)(?::(\w+))?\}")

Row = dict[str, float | None]
Columns = dict[str, list[tuple[int, float | None]]]
"""The columns that a panel draws: name to (time, value); a total has time 0."""


class PanelView(NamedTuple):
    """A panel as it comes on the screen, with the values of its variables; a repeated one comes several times."""

    panel: Json
    variables: dict[str, str | list[str]]


class Series(NamedTuple):
    """A line of a panel: its name in Grafana, and its points."""

    name: str
    points: list[tuple[int, float]]


def current(dashboard: Json, **chosen: str | list[str]) -> dict[str, str | list[str]]:
    """The values of a dashboard's variables: those chosen, else the ones it opens with."""
    values: dict[str, str | list[str]] = {}
    for variable in dashboard["templating"]["list"]:
        value = chosen.get(variable["name"], variable["current"]["value"])
        if value == ["$__all"]:
            options = [option["value"] for option in variable["options"] if option["value"] != "$__all"]
            value = variable["allValue"] or options
        values[variable["name"]] = value
    assert chosen.keys() <= values.keys()
    return values


def panels(dashboard: Json, variables: Variables) -> Iterator[PanelView]:
    """The panels with queries; below a repeated row once for each value of its variable."""
    rows: list[tuple[str | None, list[Json]]] = [(None, [])]
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            rows.append((panel.get("repeat"), []))
        elif "targets" in panel:
            rows[-1][1].append(panel)
    for repeat, below in rows:
        values = variables[repeat] if repeat else ""
        for value in [values] if isinstance(values, str) else values:
            for panel in below:
                yield PanelView(panel, {**variables, **({repeat: value} if repeat else {})})


def replaced(text: str, variables: Variables) -> str:
    """`templateSrv.replace`: several values become `{a,b}`; what is no variable stays."""

    def value_of(match: re.Match[str]) -> str:
        value = variables.get(match[1] or match[2] or match[3])
        if value is None:
            return match[0]
        return value if isinstance(value, str) else "{" + ",".join(value) + "}" if len(value) > 1 else value[0]

    return VARIABLE.sub(value_of, text)


def request(view: PanelView, start_ms: int, end_ms: int, interval_s: int) -> Json:
    """The request that `DataSource.query` posts for a panel."""
    return {
        "start_absolute": start_ms,
        "end_absolute": end_ms,
        "metrics": [_metric(target["query"], view.variables, interval_s) for target in view.panel["targets"]],
    }


def _metric(query: Json, variables: Variables, interval_s: int) -> Json:
    name = replaced(query["metricName"], variables)
    assert not re.search(r"[{}$]", name), f"{name}: the plugin would expand it"
    metric: Json = {"name": name}
    tags = {tag: [v for value in values for v in _expanded(value, variables)] for tag, values in query["tags"].items()}
    metric["tags"] = {tag: values for tag, values in tags.items() if values}
    metric["aggregators"] = [_aggregator(one, variables, interval_s) for one in query["aggregators"] if one["visible"]]
    by = [value for tag in query["groupBy"]["tags"] for value in _expanded(tag, variables)]
    metric["group_by"] = [{"name": "tag", "tags": by}] if by else []
    return metric


def _expanded(value: str, variables: Variables) -> list[str]:
    """`processInterpolatedValue`: blank is left out, `a{b,c}` and `b,c` are several."""
    text = replaced(value, variables)
    if not text.strip():
        return []
    if match := re.match(r"^(.*?)\{(.+)\}(.*)$", text):
        return [match[1] + part.strip() + match[3] for part in match[2].split(",")]
    return [part.strip() for part in text.split(",")]


def _aggregator(one: Json, variables: Variables, interval_s: int) -> Json:
    """Parameters become strings by `templateSrv.replace`; an automatic sampling is the interval, rounded up."""
    sent: Json = {"name": one["name"]}
    sampling: Json = {}
    switch = one.get("autoValueSwitch", {"enabled": False})
    for parameter in one["parameters"]:
        value = replaced(str(parameter["value"] or ""), variables)
        match parameter["type"]:
            case "alignment":
                aligned = {"START_TIME": "align_start_time", "PERIOD": "align_end_time", "NONE": None}[value]
                sent |= {aligned: True} if aligned else {}
            case "sampling" | "sampling_unit" as kind:
                if switch["enabled"] and kind in switch["dependentParameters"]:
                    hours = interval_s % 3_600 == 0
                    automatic = {
                        "sampling": str(interval_s // (3_600 if hours else 60)),
                        "sampling_unit": "HOURS" if hours else "MINUTES",
                    }
                    value = automatic[kind]
                sampling[parameter["name"]] = float(value) if parameter["name"] == "value" else value
            case _:
                sent[parameter["name"]] = value
    if sampling:
        assert one["name"] in RANGED, f"{one['name']} takes no sampling in the form that the plugin gives it"
        sent["sampling"] = sampling
    return sent


def series(view: PanelView, answer: Json) -> list[Series]:
    """The lines that `DataSource.query` makes of the answer to a panel's request."""
    lines = []
    for target, query in zip(view.panel["targets"], answer["queries"], strict=True):
        for result in query["results"]:
            if result["values"]:
                points = [(int(stamp), float(value)) for stamp, value in result["values"]]
                lines.append(Series(_name(target["query"], result, view.variables), points))
    return lines


def _name(query: Json, result: Json, variables: Variables) -> str:
    groups = [group["group"] for group in result.get("group_by", []) if group["name"] == "tag"]
    grouped = {tag: value for group in groups for tag, value in group.items()}
    tags = result["tags"]
    texts = {tag: grouped.get(tag) or tags.get(tag, [""])[0] for tag in query["groupBy"]["tags"]}
    alias = query["alias"] or result["name"]
    name = replaced(alias, {**variables, **{f"_tag_group_{tag}": text for tag, text in texts.items() if text}})
    filtered = [tag for tag, values in query["tags"].items() if any(_expanded(value, variables) for value in values)]
    relevant = [tag for tag in dict.fromkeys([*filtered, *query["groupBy"]["tags"]]) if grouped.get(tag) or tag in tags]
    if name == alias and relevant:
        name += "{" + ", ".join(f"{tag}={grouped.get(tag) or ','.join(tags[tag])}" for tag in relevant) + "}"
    return name


def transformed(view: PanelView, lines: Sequence[Series]) -> Columns:
    """The columns that a panel draws, after its transformations."""
    table: list[Row] | None = None
    for step in view.panel["transformations"]:
        options = step["options"]
        if step["id"] == "renameByRegex":
            pattern = re.sub(r"\$(\d)", r"\\\1", options["renamePattern"])
            lines = [Series(re.sub(options["regex"], pattern, one.name), one.points) for one in lines]
        elif step["id"] == "joinByField":
            table = _joined(lines)
        else:
            table = _stepped(_joined(lines) if table is None else table, step["id"], options)
    if table is None:
        assert len({one.name for one in lines}) == len(lines), "two series of one name"
        return {one.name: list(one.points) for one in lines}
    names = dict.fromkeys(name for row in table for name in row if name != "Time")
    return {name: [(int(row.get("Time") or 0), row.get(name)) for row in table] for name in names}


def _joined(lines: Sequence[Series]) -> list[Row]:
    rows: dict[int, Row] = {}
    for one in lines:
        for time_ms, value in one.points:
            row = rows.setdefault(time_ms, {"Time": time_ms})
            assert one.name not in row, f"two values of {one.name} at {time_ms}"
            row[one.name] = value
    return [rows[time_ms] for time_ms in sorted(rows)]


def _stepped(table: list[Row], step: str, options: Json) -> list[Row]:
    match step, options.get("mode"):
        case "reduce", "reduceFields":
            assert options["reducers"] == ["sum"]
            names = dict.fromkeys(name for row in table for name in row if name != "Time")
            return [{name: sum(row.get(name) or 0 for row in table) for name in names}] if table else []
        case "calculateField", "reduceRow":
            include = options["reduce"]["include"]
            return [row | {options["alias"]: sum(row.get(name) or 0 for name in include)} for row in table]
        case "calculateField", "cumulativeFunctions":
            sums, total = [], 0.0
            for row in table:
                total += row.get(options["cumulative"]["field"]) or 0
                sums.append(row | {options["alias"]: total})
            return sums
        case "calculateField", "binary":
            left, operator, right = (options["binary"][part] for part in ("left", "operator", "right"))
            return [row | {options["alias"]: _calculated(row.get(left), operator, row.get(right))} for row in table]
        case "filterFieldsByName", _:
            return [{name: row[name] for name in options["include"]["names"] if name in row} for row in table]
    msg = f"a transformation that is not known here: {step} {options}"
    raise AssertionError(msg)


def _calculated(left: float | None, operator: str, right: float | None) -> float | None:
    if left is None or right is None:
        return None
    if operator == "-":
        return left - right
    assert operator == "/"
    return left / right if right else None
