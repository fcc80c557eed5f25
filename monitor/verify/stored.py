"""The totals that KairosDB holds for one data center, brought into a workspace to be compared there."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import requests

from monitor.batch import Workspace
from monitor.batch.queries import tags_text
from monitor.settings import Settings

MINUTE_MS = 60_000
END_MS = 4_102_444_800_000
"""The year 2100: later than any point."""
METRICS_PER_REQUEST = 100
POINTS_PER_REQUEST = 50_000
"""What is in memory of an answer; more only if one minute has more."""
TIMEOUT_S = 60.0
_WHOLE = {"sampling": {"value": 200, "unit": "years"}, "align_sampling": False}
"""An aggregator's range: all that is asked for."""
COLUMNS = {"name": "VARCHAR", "experiment": "VARCHAR", "minute": "BIGINT", "tags": "VARCHAR", "value": "VARCHAR"}


class Minutes(NamedTuple):
    """From the start of a minute to before the start of another, in ms of event time."""

    first_ms: int
    end_ms: int


class Store:
    """One KairosDB. Raises requests.RequestException where it does not answer as it should."""

    def __init__(self, url: str, settings: Settings) -> None:
        self._base = url.rstrip("/") + "/api/v1/"
        self._settings = settings
        self._session = requests.Session()

    def bring(self, work: Workspace, table: str, dc: str, minutes: Minutes) -> None:
        """Makes a table of all points of contributions in these minutes that are not 0, values as text."""
        work.create(table, COLUMNS)
        for tenant in self._settings.tenants:
            names = self._names(f"{tenant}.visit.")
            tags = sorted(self._settings.tenants[tenant].tags)
            for first in range(0, len(names), METRICS_PER_REQUEST):
                some = names[first : first + METRICS_PER_REQUEST]
                for part in self._parts(some, dc, minutes):
                    work.fill(table, COLUMNS, self._points(some, tags, dc, part))

    def sealed_ms(self, dc: str) -> int | None:
        """Up to when nothing of a data center's totals can change any more; None if its job never said so."""
        query: dict[str, Any] = {
            "name": "monitor.watermark_s",
            "tags": {"dc": [dc]},
            "aggregators": [{"name": "max", **_WHOLE}],
        }
        found = [value for result in self._ask([query], 0, END_MS) for _, value in result["values"]]
        return int(max(found)) * 1_000 // MINUTE_MS * MINUTE_MS if found else None

    def counted(self, dc: str, name: str, by: tuple[str, ...]) -> dict[tuple[str, ...], int]:
        """The sums of a counter among the health metrics, by the values of tags."""
        query: dict[str, Any] = {
            "name": f"monitor.{name}",
            "tags": {"dc": [dc]},
            "group_by": [{"name": "tag", "tags": list(by)}],
        }
        found: dict[tuple[str, ...], int] = {}
        for result in self._ask([query], 0, END_MS):
            if result["values"]:
                group = _group(result)
                key = tuple(group.get(tag, "") for tag in by)
                found[key] = found.get(key, 0) + sum(value for _, value in result["values"])
        return found

    def _names(self, prefix: str) -> list[str]:
        answer = self._session.get(f"{self._base}metricnames", params={"prefix": prefix}, timeout=TIMEOUT_S)
        answer.raise_for_status()
        return sorted(name for name in answer.json()["results"] if name.startswith(prefix))

    def _parts(self, names: list[str], dc: str, minutes: Minutes) -> Iterator[Minutes]:
        """The minutes in parts of a bounded number of points, those without any left out."""
        counting = [{"name": "count", **_WHOLE}]
        metrics = [{"name": name, "tags": {"dc": [dc]}, "aggregators": counting} for name in names]
        found = self._ask(metrics, minutes.first_ms, minutes.end_ms - 1)
        points = sum(count for result in found for _, count in result["values"])
        if points <= POINTS_PER_REQUEST or minutes.end_ms - minutes.first_ms <= MINUTE_MS:
            if points:
                yield minutes
            return
        middle_ms = (minutes.first_ms + minutes.end_ms) // 2 // MINUTE_MS * MINUTE_MS
        for half in (Minutes(minutes.first_ms, middle_ms), Minutes(middle_ms, minutes.end_ms)):
            yield from self._parts(names, dc, half)

    def _points(self, names: list[str], tags: list[str], dc: str, minutes: Minutes) -> Iterator[dict[str, Any]]:
        grouped = [{"name": "tag", "tags": ["experiment", *tags]}]
        metrics = [{"name": name, "tags": {"dc": [dc]}, "group_by": grouped} for name in names]
        for result in self._ask(metrics, minutes.first_ms, minutes.end_ms - 1):
            group = _group(result)
            cell = {
                "name": result["name"],
                "experiment": group.pop("experiment", ""),
                "tags": tags_text({tag: group.get(tag, "") for tag in tags}),
            }
            for time_ms, value in result["values"]:
                if value:
                    yield {**cell, "minute": time_ms, "value": _text(value)}

    def _ask(self, metrics: list[dict[str, Any]], first_ms: int, last_ms: int) -> Iterator[dict[str, Any]]:
        query = {"start_absolute": first_ms, "end_absolute": last_ms, "metrics": metrics}
        answer = self._session.post(f"{self._base}datapoints/query", json=query, timeout=TIMEOUT_S)
        answer.raise_for_status()
        for asked in answer.json()["queries"]:
            yield from asked["results"]


def _group(result: Mapping[str, Any]) -> dict[str, str]:
    groups = [group["group"] for group in result.get("group_by", ()) if group["name"] == "tag"]
    return dict(groups[0]) if groups else {}


def _text(value: Any) -> str:
    """A value so that equal numbers are equal texts."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
