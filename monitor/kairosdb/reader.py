"""Reading KairosDB: sums of metrics over a range, several metrics a request."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import requests

TIMEOUT_S = 10.0
METRICS_PER_REQUEST = 100


class Total(NamedTuple):
    """The sum (or last value) of one metric over a range, for one combination of the tags asked for."""

    name: str
    tags: dict[str, str]
    value: int


class Reader:
    """Asks one KairosDB, or a store that speaks its API. Raises requests.RequestException when it does not answer."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/") + "/api/v1/datapoints/query"
        self._session = requests.Session()

    def totals(
        self,
        names: Sequence[str],
        start_ms: int,
        end_ms: int,
        tags: Mapping[str, str],
        by: Sequence[str] = (),
        aggregator: str = "sum",
    ) -> Iterator[Total]:
        """The metrics from start to end, both included, with these tags; one total per combination of `by`."""
        whole = {"value": max(1, end_ms - start_ms + 1), "unit": "milliseconds"}
        aggregators = [{"name": aggregator, "sampling": whole, "align_sampling": False}]
        common: dict[str, Any] = {"tags": dict(tags), "aggregators": aggregators}
        if by:
            common["group_by"] = [{"name": "tag", "tags": list(by)}]
        for first in range(0, len(names), METRICS_PER_REQUEST):
            metrics = [{"name": name, **common} for name in names[first : first + METRICS_PER_REQUEST]]
            query = {"start_absolute": start_ms, "end_absolute": end_ms, "metrics": metrics}
            answer = self._session.post(self._url, json=query, timeout=TIMEOUT_S)
            answer.raise_for_status()
            for result in (result for query in answer.json()["queries"] for result in query["results"]):
                groups = [group["group"] for group in result.get("group_by", ()) if group["name"] == "tag"]
                for _, value in result["values"]:
                    yield Total(result["name"], groups[0] if groups else {}, round(value))
