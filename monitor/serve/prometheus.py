"""`/metrics` of the query service: health figures and verdicts for Prometheus, from answers that all scrapers share."""

import time
from collections.abc import Iterator
from functools import partial

from fastapi import FastAPI, Request, Response
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from monitor.runtime.exposition import PATH, exposed, registry_of
from monitor.runtime.in_time import InTime
from monitor.runtime.shared_answers import Shared
from monitor.serve.health import health_with_reports
from monitor.serve.health_ranges import ranges
from monitor.serve.problems import ProblemError
from monitor.serve.prometheus_health import families, families_of_no_answer
from monitor.serve.prometheus_verdicts import families_of_verdicts, written
from monitor.serve.service import Service

FRESH_S = 5.0
"""The largest age of the answer that scrapers share: a store that answers is asked no more often."""
VERDICTS_FRESH_S = 30.0
"""That of the verdicts, of which there are new ones once a minute."""
ANSWER_S = 4.0
"""How long a scrape waits for KairosDB: less than the 10 s that Prometheus waits by default, after which it would take
this process for dead, and not the store."""


class ServiceCollector(Collector):
    """The health figures, at most `FRESH_S` old, and the verdicts, at most `VERDICTS_FRESH_S`."""

    def __init__(self, service: Service) -> None:
        health = Shared(partial(health_with_reports, service, round(1_000 * FRESH_S)), FRESH_S)
        verdicts = Shared(partial(written, service), VERDICTS_FRESH_S)
        self._health, self._verdicts = InTime(health.get, "metrics-health"), InTime(verdicts.get, "metrics-verdicts")
        self._ranges = ranges(service.settings)
        self._stale_after_s = service.settings.serve.stale_after_s

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The families of a scrape."""
        until_s = time.monotonic() + ANSWER_S
        try:
            reported = self._health.get(ANSWER_S)
        except ProblemError:  # monitor_store_up says so
            reported = None
        if reported is None:
            yield from families_of_no_answer()
            return
        yield from families(reported.answer, reported.reports, self._ranges, self._stale_after_s)
        try:
            told = self._verdicts.get(max(0.0, until_s - time.monotonic()))
        except ProblemError:  # the store went away since: the next scrape says so with monitor_store_up
            told = None
        yield from families_of_verdicts(told or [])


def add_metrics(app: FastAPI, service: Service) -> None:
    """Adds `/metrics`."""
    registry = registry_of(ServiceCollector(service))

    @app.get(PATH, response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    def metrics(request: Request) -> Response:
        """Health figures and verdicts in the Prometheus format, or OpenMetrics if the header `Accept` asks for it."""
        body, media_type = exposed(registry, request.headers.get("accept"))
        return Response(body, headers={"Cache-Control": "no-store", "Content-Type": media_type})
