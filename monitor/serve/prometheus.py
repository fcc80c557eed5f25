"""`/metrics` of the query service: health figures and verdicts for Prometheus, from answers that all scrapers share."""

from collections.abc import Iterator
from functools import partial

from fastapi import FastAPI, Request, Response
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from monitor.runtime.exposition import PATH, exposed, registry_of
from monitor.runtime.shared_answers import Shared
from monitor.serve.health import reported_health
from monitor.serve.health_ranges import ranges
from monitor.serve.problems import ProblemError
from monitor.serve.prometheus_health import families
from monitor.serve.prometheus_verdicts import families_of_verdicts, written
from monitor.serve.service import Service

FRESH_S = 5.0
"""The largest age of the answer that scrapers share: the store is asked no more often, however many there are."""
VERDICTS_FRESH_S = 30.0
"""That of the verdicts, of which there are new ones once a minute."""


class ServiceCollector(Collector):
    """The health figures, at most `FRESH_S` old, and the verdicts, at most `VERDICTS_FRESH_S`."""

    def __init__(self, service: Service) -> None:
        self._health = Shared(partial(reported_health, service, round(1_000 * FRESH_S)), FRESH_S)
        self._verdicts = Shared(partial(written, service), VERDICTS_FRESH_S)
        self._ranges = ranges(service.settings)
        self._stale_after_s = service.settings.serve.stale_after_s

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The families of a scrape."""
        answer, reports = self._health.get()
        yield from families(answer, reports, self._ranges, self._stale_after_s)
        if answer.store.reachable:
            try:
                told = self._verdicts.get()
            except ProblemError:  # the store went away since: the next scrape says so with monitor_store_up
                told = []
            yield from families_of_verdicts(told)


def add_metrics(app: FastAPI, service: Service) -> None:
    """Adds `/metrics`."""
    registry = registry_of(ServiceCollector(service))

    @app.get(PATH, response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    def metrics(request: Request) -> Response:
        """Health figures and verdicts in the Prometheus format, or OpenMetrics if the header `Accept` asks for it."""
        body, media_type = exposed(registry, request.headers.get("accept"))
        return Response(body, headers={"Cache-Control": "no-store", "Content-Type": media_type})
