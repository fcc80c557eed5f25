"""KairosDB as the query service reads it: where it does not answer as it must, a question ends as a problem."""

import math
import threading
import time
from collections.abc import Iterable, Sequence

from monitor.kairosdb.client import Client
from monitor.kairosdb.errors import KairosDbError
from monitor.kairosdb.reader import Ask, Reader, Row
from monitor.serve.problems import store_problem
from monitor.serve.spans import HOUR_MS

METRICS_PER_REQUEST = 500
"""Metrics in one request of the query service; the rest goes in other requests."""
PROBE_TIMEOUT_S = 4.0
PROBED = "monitor.watermark_s"
SHARED_MS = 27 * HOUR_MS
"""A range of up to this length also answers the questions about ranges inside of it, in the same request."""


class Store:
    """One KairosDB; may be used from any thread. Raises ProblemError where it does not answer as it must."""

    def __init__(self, url: str, timeout_s: float, parallel: int) -> None:
        self._reader = Reader(url, timeout_s, parallel, METRICS_PER_REQUEST)
        self._probe = Client(url, PROBE_TIMEOUT_S, PROBE_TIMEOUT_S)
        self._probing = threading.Lock()
        self._answered_s = -math.inf
        self.url = self._reader.url

    def close(self) -> None:
        """Waits for the requests in progress, and closes the connections."""
        self._reader.close()
        self._probe.close()

    def rows(self, asks: Iterable[Ask]) -> list[list[Row]]:
        """The rows of each ask, in the order of the asks, in as few requests as their ranges allow."""
        asks = list(asks)
        sent = _sharing(asks)
        try:
            of_asks = self._reader.rows(sent)
        except KairosDbError as error:
            raise store_problem(error) from error
        self._answered_s = time.monotonic()
        return [
            rows if ask == of else [row for row in rows if ask.start_ms <= row.at_ms < ask.end_ms]
            for ask, of, rows in zip(asks, sent, of_asks, strict=True)
        ]

    def silent_s(self) -> float:
        """The seconds since it last answered; infinite if it never did."""
        return time.monotonic() - self._answered_s

    def is_answering(self) -> None:
        """Asks a small question with a short time-out, in one thread at a time. Raises ProblemError without answer."""
        try:
            with self._probing:
                self._probe.metric_names(PROBED)
        except KairosDbError as error:
            raise store_problem(error) from error
        self._answered_s = time.monotonic()


def _sharing(asks: Sequence[Ask]) -> list[Ask]:
    """The asks, each widened to the longest range that contains it and gives the same rows within its own."""
    ranges = sorted({(ask.start_ms, ask.end_ms) for ask in asks}, key=lambda of: of[0] - of[1])
    return [_widened(ask, ranges) for ask in asks]


def _widened(ask: Ask, ranges: Sequence[tuple[int, int]]) -> Ask:
    if ask.aggregator != "sum" or ask.sampling_ms is None or ask.only is not None or not ask.is_aligned:
        return ask
    for start_ms, end_ms in ranges:
        contains = start_ms <= ask.start_ms and ask.end_ms <= end_ms <= start_ms + SHARED_MS
        if (
            contains
            and not ask.start_ms % ask.sampling_ms
            and (end_ms == ask.end_ms or not ask.end_ms % ask.sampling_ms)
        ):
            return ask._replace(start_ms=start_ms, end_ms=end_ms)
    return ask
