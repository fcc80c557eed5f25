"""`/metrics` of the guard: verdicts, deliveries of alerts, and how long ago it last looked, for Prometheus."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from monitor.alerts.outbox import OutboxError
from monitor.alerts.teller import Counts, Teller
from monitor.runtime.exposition import registry_of
from monitor.runtime.shared_answers import Shared
from monitor.serve.prometheus_verdicts import families_of_verdicts
from monitor.serve.service import Service
from monitor.watch.listener import listener
from monitor.watch.looks import Looks

FRESH_S = 5.0
"""The largest age of what is read of the outbox, which is a file: however many scrapers there are."""
_OUTCOMES = ("accepted", "failed", "given_up")

log = structlog.get_logger(__name__)


@contextmanager
def exposing(service: Service, dc: str, teller: Teller, address: tuple[str, int] | None) -> Iterator[Looks]:
    """Where the guard notes what it finds; that is served at an address, or nowhere, for as long as the block lasts.

    Raises ListenError.
    """
    looks = Looks(dc, service.now_ms)
    if address is None:
        yield looks
        return
    with listener(registry_of(WatchCollector(service, dc, looks, teller)), *address) as http:
        log.info("watch_listens", http=http)
        yield looks


class WatchCollector(Collector):
    """What the guard of one data center knows of itself. Ages are those of the moment of the scrape."""

    def __init__(self, service: Service, dc: str, looks: Looks, teller: Teller) -> None:
        self._service, self._dc, self._looks = service, dc, looks
        self._deliveries = Shared(teller.counts, FRESH_S)

    def collect(self) -> Iterator[Metric]:
        """The families of a scrape."""
        yield from self._lag()
        yield from families_of_verdicts(self._looks.told())
        try:
            counts: Mapping[str, Counts] | None = self._deliveries.get()
        except OutboxError as error:
            log.warning("deliveries_not_counted", reason=str(error))
            counts = None
        yield self._of_dc("monitor_outbox_up", "1 if the outbox of alerts can be read.", int(counts is not None))
        if counts is not None:
            yield from _of_deliveries(self._dc, counts, self._service.now_ms())

    def _lag(self) -> Iterator[Metric]:
        words = "Time since the last look that succeeded; before the first, since the start."
        yield self._of_dc("monitor_watch_success_age_s", words, self._looks.success_age_s())
        words = "Age of the last final minute that was judged."
        yield self._of_dc("monitor_watch_judged_age_s", words, self._looks.judged_age_s())

    def _of_dc(self, name: str, words: str, value: float | None) -> GaugeMetricFamily:
        family = GaugeMetricFamily(name, words, labels=["dc"])
        if value is not None:
            family.add_metric([self._dc], value)
        return family


def _of_deliveries(dc: str, counts: Mapping[str, Counts], now_ms: int) -> Iterator[Metric]:
    words = "Attempts to deliver an alert, by what became of it; given up also without one."
    outcomes = CounterMetricFamily("monitor_alert_deliveries", words, labels=["dc", "target", "outcome"])
    waiting = GaugeMetricFamily("monitor_alert_waiting", "Messages in the outbox that wait.", labels=["dc", "target"])
    oldest = GaugeMetricFamily(
        "monitor_alert_oldest_waiting_s", "How long the oldest of these waits; 0 if none does.", labels=["dc", "target"]
    )
    for target, of in counts.items():
        for outcome, count in zip(_OUTCOMES, (of.accepted, of.failed, of.given_up), strict=True):
            outcomes.add_metric([dc, target, outcome], count)
        waiting.add_metric([dc, target], of.waiting)
        since_ms = of.waiting_since_ms
        oldest.add_metric([dc, target], 0 if since_ms is None else max(0, now_ms - since_ms) / 1_000)
    yield from (outcomes, waiting, oldest)
