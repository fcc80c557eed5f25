"""Queries of many metrics: several metrics a request, several requests in parallel."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple, Self

from monitor.core.codes import MINUTE_MS
from monitor.kairosdb.client import Client
from monitor.kairosdb.points import TIMESTAMP_MS_MAX

METRICS_PER_REQUEST = 100

END_MS = TIMESTAMP_MS_MAX + 1
"""After every point that a writer sends; 0 is before all of them."""

_WHOLE_RANGE = {"sampling": {"value": 200, "unit": "years"}, "align_sampling": False}


class Ask(NamedTuple):
    """Metrics from `start_ms` to before `end_ms`, of the series whose tags have one of these values.

    `aggregator`: None gives the points as they are. A `sampling_ms` of whole minutes cuts at its multiples since
    midnight UTC; None makes the range one part. Values of `sum` and `max` then have the time at which their part
    begins, those of `first` and `last` their own.
    """

    names: tuple[str, ...]
    start_ms: int
    end_ms: int
    tags: Mapping[str, Sequence[str]]
    by: tuple[str, ...] = ()
    """Tags to group by; without any there is one group a metric."""
    aggregator: str | None = "sum"
    sampling_ms: int | None = MINUTE_MS
    only: Literal["oldest", "newest"] | None = None
    """One point of each series; None: all of them."""
    is_aligned: bool = True
    """False: parts begin at `start_ms`; values have the time of the first point of their part."""


class Group(NamedTuple):
    """The points (time in ms, value) of one metric that share the values of the tags grouped by, in their order.

    "" stands for a tag that the series do not have. Values are as KairosDB gives them: numbers, or text.
    """

    name: str
    tags: tuple[str, ...]
    points: Sequence[tuple[int, Any]]


class Row(NamedTuple):
    """One number of a group: a `Group` taken apart.

    `value` is an int, also where KairosDB gives a whole number as a double; any other number is a float, not rounded.
    """

    name: str
    group: tuple[str, ...]
    at_ms: int
    value: Any


class Reader:
    """Queries one KairosDB, or a store that speaks its API; may be used from any thread.

    `parallel` bounds the requests in flight; further ones wait. `timeout_s` bounds connecting and each wait for bytes.
    Raises KairosDbError where KairosDB does not answer as it must.
    """

    def __init__(
        self, url: str, timeout_s: float, parallel: int = 1, metrics_per_request: int = METRICS_PER_REQUEST
    ) -> None:
        self._client = Client(url, timeout_s, timeout_s, parallel)
        self._pool = ThreadPoolExecutor(parallel, "kairosdb-reader")
        self._metrics_per_request = metrics_per_request
        self.url = self._client.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for the requests in progress, and closes the connections."""
        self._pool.shutdown()
        self._client.close()

    def names(self, prefix: str) -> list[str]:
        """The sorted names of the metrics that start with `prefix`."""
        return self._client.metric_names(prefix)

    def tag_names(self, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """The sorted tag names of each of these metrics; empty for a metric without points."""
        tags: dict[str, tuple[str, ...]] = {}
        for some in chunks(names):
            tags |= zip(some, map(tuple, self._client.tag_names(some)), strict=True)
        return tags

    def rows(self, asks: Iterable[Ask]) -> list[list[Row]]:
        """The rows of each ask, in the order of the asks; requests go out in parallel."""
        asks = list(asks)
        rows: list[list[Row]] = [[] for _ in asks]
        requests = list(_requests(asks, self._metrics_per_request))
        for request, answers in zip(requests, self._pool.map(self._answers, requests), strict=True):
            for (number, metric), answer in zip(request.metrics, answers, strict=True):
                rows[number] += [
                    Row(group.name, group.tags, at_ms, _number(value))
                    for group in _groups(metric["name"], asks[number].by, answer)
                    for at_ms, value in group.points
                ]
        return rows

    def groups(self, asks: Iterable[Ask]) -> Iterator[Group]:
        """The groups of all asks, in no order; one request at a time, so that one answer is in memory at a time."""
        asks = list(asks)
        for request in _requests(asks, self._metrics_per_request):
            for (number, metric), answer in zip(request.metrics, self._answers(request), strict=True):
                yield from _groups(metric["name"], asks[number].by, answer)

    def _answers(self, request: "_Request") -> list[dict[str, Any]]:
        metrics = [metric for _, metric in request.metrics]
        query = {"start_absolute": request.start_ms, "end_absolute": request.end_ms - 1, "metrics": metrics}
        return self._client.query(query)


def _number(value: int | float) -> int | float:
    """A number as it is: a double of a whole number as that integer, any other not rounded."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def chunks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """The names in parts of as many metrics as one request asks for."""
    for first in range(0, len(names), METRICS_PER_REQUEST):
        yield names[first : first + METRICS_PER_REQUEST]


class _Request(NamedTuple):
    start_ms: int
    end_ms: int
    metrics: list[tuple[int, dict[str, Any]]]
    """Each with the number of its ask."""


def _requests(asks: Sequence[Ask], metrics_max: int) -> Iterator[_Request]:
    """Asks for the same range share requests."""
    by_range: dict[tuple[int, int], list[tuple[int, dict[str, Any]]]] = {}
    for number, ask in enumerate(asks):
        metrics = by_range.setdefault((ask.start_ms, ask.end_ms), [])
        metrics += [(number, _metric(name, ask)) for name in ask.names]
    for (start_ms, end_ms), metrics in by_range.items():
        for first in range(0, len(metrics), metrics_max):
            yield _Request(start_ms, end_ms, metrics[first : first + metrics_max])


def _metric(name: str, ask: Ask) -> dict[str, Any]:
    metric: dict[str, Any] = {"name": name, "tags": {tag: list(values) for tag, values in ask.tags.items()}}
    if ask.by:
        metric["group_by"] = [{"name": "tag", "tags": list(ask.by)}]
    if ask.only is not None:
        metric |= {"order": "asc" if ask.only == "oldest" else "desc", "limit": 1}
    if ask.aggregator is not None:
        metric["aggregators"] = [{"name": ask.aggregator, **_sampling(ask)}]
    return metric


def _sampling(ask: Ask) -> dict[str, Any]:
    if ask.sampling_ms is None:
        return _WHOLE_RANGE
    return {
        "sampling": {"value": ask.sampling_ms // 1_000, "unit": "seconds"},
        "align_sampling": ask.is_aligned,
        "align_start_time": ask.is_aligned and ask.aggregator in ("sum", "max"),
    }


def _groups(name: str, by: tuple[str, ...], answer: Mapping[str, Any]) -> Iterator[Group]:
    """The groups of one metric. Without points there is no result, or one without values: versions differ."""
    for result in answer["results"]:
        if result["values"]:
            by_tag = [group["group"] for group in result.get("group_by", ()) if group["name"] == "tag"]
            tags = by_tag[0] if by_tag else {}
            yield Group(name, tuple(tags.get(tag, "") for tag in by), result["values"])
