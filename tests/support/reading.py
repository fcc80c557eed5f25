"""Reads everything back from a KairosDB through its HTTP API, for comparisons with what should be there."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import requests

PointKey: TypeAlias = tuple[str, int, tuple[tuple[str, str], ...]]
"""What makes a point one cell of the store: metric name, timestamp in ms, tags as sorted pairs."""

Number: TypeAlias = int | float

END_MS = 2**53
"""Beyond every timestamp that the monitor accepts."""
METRICS_PER_REQUEST = 100
REQUEST_TIMEOUT_S = 60


def points(url: str, prefix: str = "") -> dict[PointKey, Number | str]:
    """Every point of every metric whose name starts with `prefix`, from the epoch to the end of time.

    `url` is the server's base, such as `http://127.0.0.1:8080`. Raises ValueError where a cell holds two values, as it
    does after writing one metric with two types, and requests' errors for any answer but 200.
    """
    found: dict[PointKey, Number | str] = {}
    with requests.Session() as session:
        answer = session.get(f"{url}/api/v1/metricnames", params={"prefix": prefix}, timeout=REQUEST_TIMEOUT_S)
        answer.raise_for_status()
        names = sorted(name for name in answer.json()["results"] if name.startswith(prefix))
        for start in range(0, len(names), METRICS_PER_REQUEST):
            for key, value in _points_of(session, url, names[start : start + METRICS_PER_REQUEST]):
                if key in found:
                    msg = f"one value per cell expected; got {found[key]!r} and {value!r} for {key}"
                    raise ValueError(msg)
                found[key] = value
    return found


def _points_of(session: requests.Session, url: str, names: list[str]) -> Iterator[tuple[PointKey, Number | str]]:
    tagged = _ask(session, f"{url}/api/v1/datapoints/query/tags", [{"name": name} for name in names])
    # Every point has at least one tag: a name without any is a metric without points.
    tag_names = {name: sorted({tag for result in results for tag in result["tags"]}) for name, results in tagged}
    metrics = [{"name": name, "group_by": [{"name": "tag", "tags": tags}]} for name, tags in tag_names.items() if tags]
    if not metrics:
        return
    for name, results in _ask(session, f"{url}/api/v1/datapoints/query", metrics):
        for result in results:
            tags = _tags(result)
            for timestamp_ms, value in result["values"]:
                yield (name, timestamp_ms, tags), value


def _tags(result: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """The tags of a group; a tag that its series do not have is "" there, which no tag that was written can be."""
    groups = [group["group"] for group in result.get("group_by", ()) if group["name"] == "tag"]
    return tuple(sorted((tag, value) for group in groups for tag, value in group.items() if value))


def _ask(session: requests.Session, url: str, metrics: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """The results per metric, in the order asked. No data: an empty list, or one result without values (1.3.0)."""
    query = {"start_absolute": 0, "end_absolute": END_MS, "metrics": metrics}
    answer = session.post(url, json=query, timeout=REQUEST_TIMEOUT_S)
    answer.raise_for_status()
    per_metric = [entry["results"] for entry in answer.json()["queries"]]
    return list(zip((metric["name"] for metric in metrics), per_metric, strict=True))
