"""`/metrics` of the query service: the health figures for Prometheus, from an answer that all scrapers share."""

from collections.abc import Iterator
from functools import partial

from fastapi import FastAPI, Request, Response
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from monitor.runtime.exposition import PATH, exposed, registry_of
from monitor.runtime.shared_answers import Shared
from monitor.serve.health import reported_health
from monitor.serve.health_ranges import ranges
from monitor.serve.prometheus_health import families
from monitor.serve.service import Service

FRESH_S = 5.0
"""The largest age of the answer that scrapers share: the store is asked no more often, however many there are."""


class HealthCollector(Collector):
    """The health figures, at most `FRESH_S` old."""

    def __init__(self, service: Service) -> None:
        self._shared = Shared(partial(reported_health, service, round(1_000 * FRESH_S)), FRESH_S)
        self._ranges = ranges(service.settings)
        self._stale_after_s = service.settings.serve.stale_after_s

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The families of a scrape."""
        answer, reports = self._shared.get()
        return families(answer, reports, self._ranges, self._stale_after_s)


def add_metrics(app: FastAPI, service: Service) -> None:
    """Adds `/metrics`."""
    registry = registry_of(HealthCollector(service))

    @app.get(PATH, response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    def metrics(request: Request) -> Response:
        """The health figures in the Prometheus format, or OpenMetrics if the header `Accept` asks for it."""
        body, media_type = exposed(registry, request.headers.get("accept"))
        return Response(body, headers={"Cache-Control": "no-store", "Content-Type": media_type})
