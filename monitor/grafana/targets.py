"""The queries of panels, in the form in which the KairosDB plugin keeps them in a dashboard (its `src/types.ts`)."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]

PLUGIN = "arpnetworking-kairosdb-datasource"
DATA_SOURCE: Json = {"type": PLUGIN, "uid": "abm-kairosdb"}


def target(
    metric: str, alias: str, tags: Mapping[str, str | Sequence[str]], *aggregators: Json, by: Sequence[str] = ()
) -> Json:
    """One metric, filtered by the value (or variable), or the values, for each of `tags`, split by the tags `by`.

    `tags` must contain `dc`: the totals of two data centers are copies, never to be added up.
    """
    return {
        "datasource": DATA_SOURCE,
        "query": {
            "metricName": metric,
            "alias": alias,
            "tags": {
                tag: [value] if isinstance(value, str) else list(value)
                for tag, value in {"dc": tags["dc"], **tags}.items()
            },
            "groupBy": {"tags": list(by)},
            "aggregators": list(aggregators),
            "overrideScalar": False,
        },
    }


def per_interval(name: str) -> Json:
    """A range aggregator over the interval that Grafana shows as one dot; the stamp is the interval's start."""
    return _ranged(name, 1, "minutes", "START_TIME", automatic=True)


def per_minute(name: str) -> Json:
    """A range aggregator over single minutes, however far Grafana looks."""
    return _ranged(name, 1, "minutes", "START_TIME", automatic=False)


def newest() -> Json:
    """The newest point of each week, at its own time."""
    return _ranged("last", 1, "weeks", "NONE", automatic=False)


def newest_of_interval() -> Json:
    """The newest point of each interval, at its own time."""
    return _ranged("last", 1, "minutes", "NONE", automatic=True)


def divided(divisor: float) -> Json:
    """Divides every value."""
    return _aggregator("div", _parameter("divisor", "any", divisor))


def multiplied(factor: float) -> Json:
    """Multiplies every value."""
    return _aggregator("scale", _parameter("factor", "any", factor))


def _ranged(name: str, value: int, unit: str, alignment: str, *, automatic: bool) -> Json:
    return _aggregator(
        name,
        _parameter("sampling", "alignment", alignment),
        _parameter("value", "sampling", value),
        _parameter("unit", "sampling_unit", unit),
    ) | {"autoValueSwitch": {"enabled": automatic, "dependentParameters": ["sampling", "sampling_unit"]}}


def _aggregator(name: str, *parameters: Json) -> Json:
    return {"name": name, "parameters": list(parameters), "visible": True}


def _parameter(name: str, kind: str, value: float | str) -> Json:
    return {"name": name, "type": kind, "text": name, "value": value}
