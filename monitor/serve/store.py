"""KairosDB as the query service asks it: several metrics a request, several requests at a time, with time-outs."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

import msgspec
import requests
from requests.adapters import HTTPAdapter

from monitor.core.codes import MINUTE_MS
from monitor.kairosdb.points import SERVER_TEXT_CHARACTERS_MAX, endpoint, root_cause, without_password
from monitor.serve.problems import store_fails, store_is_away

METRICS_PER_REQUEST = 100
_AWAY = (429, 502, 503, 504)


class Row(NamedTuple):
    """One value: of a metric, for one combination of the tags that were grouped by, in their order."""

    name: str
    group: tuple[str, ...]
    at_ms: int
    value: int


class Ask(NamedTuple):
    """Metrics from start to before end. `aggregator`: none gives the points as they are.

    A `sampling_ms` of whole minutes cuts at its multiples since midnight; rows of `sum` then have the time at which
    their part begins, those of `first` and `last` their own.
    """

    names: tuple[str, ...]
    start_ms: int
    end_ms: int
    tags: Mapping[str, Sequence[str]]
    by: tuple[str, ...] = ()
    aggregator: str | None = "sum"
    sampling_ms: int = MINUTE_MS
    only: Literal["oldest", "newest"] | None = None
    """One point of each series; none: all of them."""


class Store:
    """One KairosDB; may be used from any thread. Raises ProblemError where it does not answer as it should."""

    def __init__(self, url: str, timeout_s: float, parallel: int) -> None:
        self.url = without_password(url)
        self._address = endpoint(url, "datapoints/query")
        self._timeout_s = timeout_s
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_connections=1, pool_maxsize=parallel))
        self._pool = ThreadPoolExecutor(parallel, "serve-query")

    def close(self) -> None:
        """Waits for what is under way, and closes the connections."""
        self._pool.shutdown()
        self._session.close()

    def rows(self, asks: Iterable[Ask]) -> list[list[Row]]:
        """What was asked, in that order; asked together where the range is the same, and in parallel."""
        asks = list(asks)
        by_span: dict[tuple[int, int], list[tuple[int, dict[str, Any]]]] = {}
        for number, ask in enumerate(asks):
            metrics = by_span.setdefault((ask.start_ms, ask.end_ms), [])
            metrics += [(number, _metric(name, ask)) for name in ask.names]
        bodies = {
            (*span, first): metrics[first : first + METRICS_PER_REQUEST]
            for span, metrics in by_span.items()
            for first in range(0, len(metrics), METRICS_PER_REQUEST)
        }
        found: list[list[Row]] = [[] for _ in asks]
        answers = self._pool.map(self._answer, bodies, bodies.values())
        for wanted, answer in zip(bodies.values(), answers, strict=True):
            for (number, metric), query in zip(wanted, answer, strict=True):
                found[number] += _rows(metric["name"], asks[number].by, query)
        return found

    def _answer(self, span: tuple[int, int, int], wanted: list[tuple[int, dict[str, Any]]]) -> list[dict[str, Any]]:
        """The answer to each metric of one request."""
        metrics = [metric for _, metric in wanted]
        query = {"start_absolute": span[0], "end_absolute": span[1] - 1, "metrics": metrics}
        asked = f"POST {without_password(self._address)}"
        try:
            answer = self._session.post(
                self._address, data=json.dumps(query), timeout=self._timeout_s, allow_redirects=False
            )
        except requests.RequestException as error:
            store_is_away(f"{asked} must answer; got {root_cause(error)}")
        text = answer.content[:SERVER_TEXT_CHARACTERS_MAX].decode("utf-8", "replace")
        came = f"{asked} must answer 200 and its JSON; got {answer.status_code} {text!r}"
        if answer.status_code != requests.codes.ok:
            (store_is_away if answer.status_code in _AWAY else store_fails)(came)
        try:
            found = msgspec.json.decode(answer.content, type=dict[str, list[dict[str, Any]]])["queries"]
        except (msgspec.MsgspecError, KeyError):
            store_fails(came)
        if len(found) != len(metrics):
            store_fails(f"{asked} must answer each of {len(metrics)} metrics; got {len(found)}")
        return found


def _metric(name: str, ask: Ask) -> dict[str, Any]:
    metric: dict[str, Any] = {"name": name, "tags": {tag: list(values) for tag, values in ask.tags.items()}}
    if ask.by:
        metric["group_by"] = [{"name": "tag", "tags": list(ask.by)}]
    if ask.only is not None:
        metric |= {"order": "asc" if ask.only == "oldest" else "desc", "limit": 1}
    if ask.aggregator is not None:
        metric["aggregators"] = [
            {
                "name": ask.aggregator,
                "sampling": {"value": ask.sampling_ms // 1_000, "unit": "seconds"},
                "align_sampling": True,
                "align_start_time": ask.aggregator == "sum",
            }
        ]
    return metric


def _rows(name: str, by: tuple[str, ...], query: Mapping[str, Any]) -> Iterator[Row]:
    """The values of one metric. Without any there is no result, or one without values: as the version has it."""
    for result in query["results"]:
        if not result["values"]:
            continue
        groups = [group["group"] for group in result.get("group_by", ()) if group["name"] == "tag"]
        group = tuple(groups[0].get(tag, "") if groups else "" for tag in by)
        for at_ms, value in result["values"]:
            yield Row(name, group, at_ms, round(value))
