"""The totals that KairosDB holds for one data center, brought into a workspace to be compared there."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
import requests

from monitor.batch import Workspace
from monitor.batch.queries import MINUTE_MS, tags_text
from monitor.config.settings import Settings
from monitor.kairosdb.points import SERVER_TEXT_CHARACTERS_MAX, root_cause, without_password
from monitor.runtime.errors import MonitorError

END_MS = 4_102_444_800_000
"""The year 2100: later than any point."""
METRICS_PER_REQUEST = 100
POINTS_PER_REQUEST = 50_000
"""What is in memory of an answer; more only if one minute has more."""
TIMEOUT_S = 60.0
_WHOLE = {"sampling": {"value": 200, "unit": "years"}, "align_sampling": False}
"""An aggregator's range: all that is asked for."""
COUNTED_MS = 24 * 60 * MINUTE_MS
"""How much of a counter is asked for at a time: eight tenants with all reasons make 400,000 points a day."""
COLUMNS = {"name": "VARCHAR", "experiment": "VARCHAR", "minute": "BIGINT", "tags": "VARCHAR", "value": "VARCHAR"}


class StoreError(MonitorError):
    """KairosDB does not answer as it should; the message says what was asked and what came."""


class TooMuchAsked(StoreError):
    """KairosDB could not answer a question (500), as it does where that is over too many points."""


class Minutes(NamedTuple):
    """From the start of a minute to before the start of another, in ms of event time."""

    first_ms: int
    end_ms: int


class Store:
    """One KairosDB. Raises StoreError where it does not answer as it should."""

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
            "aggregators": [{"name": "sum", **_WHOLE}],
        }
        found: dict[tuple[str, ...], int] = {}
        for first_ms in self._days(query["name"], dc):
            for result in self._ask([query], first_ms, first_ms + COUNTED_MS - 1):
                group = _group(result)
                for _, value in result["values"]:
                    key = tuple(group.get(tag, "") for tag in by)
                    found[key] = found.get(key, 0) + int(value)
        return found

    def _days(self, name: str, dc: str) -> range:
        """The starts of the days from the first to the last point of a metric."""
        ends: list[int] = []
        for order in ("asc", "desc"):
            query = {"name": name, "tags": {"dc": [dc]}, "order": order, "limit": 1}
            ends += [time_ms for result in self._ask([query], 0, END_MS) for time_ms, _ in result["values"]]
        return range(min(ends), max(ends) + 1, COUNTED_MS) if ends else range(0)

    def _names(self, prefix: str) -> list[str]:
        answer = self._answer("GET", f"metricnames?prefix={prefix}", None)
        return sorted(name for name in answer["results"] if name.startswith(prefix))

    def _parts(self, names: list[str], dc: str, minutes: Minutes) -> Iterator[Minutes]:
        """The minutes in parts of a bounded number of points, those without any left out."""
        counting = [{"name": "count", **_WHOLE}]
        metrics = [{"name": name, "tags": {"dc": [dc]}, "aggregators": counting} for name in names]
        is_one = minutes.end_ms - minutes.first_ms <= MINUTE_MS
        try:
            found = list(self._ask(metrics, minutes.first_ms, minutes.end_ms - 1))
        except TooMuchAsked:
            if is_one:
                raise
        else:
            points = sum(count for result in found for _, count in result["values"])
            if points <= POINTS_PER_REQUEST or is_one:
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
        for asked in self._answer("POST", "datapoints/query", msgspec.json.encode(query))["queries"]:
            yield from asked["results"]

    def _answer(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        url = self._base + path
        asked = f"KairosDB must answer {method} {without_password(url)} with 200 and its JSON"
        try:
            answer = self._session.request(method, url, data=body, timeout=TIMEOUT_S, allow_redirects=False)
        except requests.RequestException as fault:
            msg = f"{asked}; got {root_cause(fault)}"
            raise StoreError(msg) from fault
        text = answer.content[:SERVER_TEXT_CHARACTERS_MAX].decode("utf-8", "replace")
        msg = f"{asked}; got {answer.status_code} {text!r}"
        if answer.status_code != requests.codes.ok:
            raise (TooMuchAsked if answer.status_code == requests.codes.server_error else StoreError)(msg)
        try:
            found = msgspec.json.decode(answer.content, type=dict[str, Any])
        except msgspec.DecodeError as fault:
            raise StoreError(msg) from fault
        if not found.keys() & {"results", "queries"}:
            raise StoreError(msg)
        return found


def _group(result: Mapping[str, Any]) -> dict[str, str]:
    groups = [group["group"] for group in result.get("group_by", ()) if group["name"] == "tag"]
    return dict(groups[0]) if groups else {}


def _text(value: Any) -> str:
    """A value so that equal numbers are equal texts."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
