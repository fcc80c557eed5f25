"""Figures of a process in the Prometheus format, as `prometheus-client` writes it."""

from typing import NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

PATH = "/metrics"


class Exposition(NamedTuple):
    """The body of an answer to a scraper, and its media type."""

    body: bytes
    media_type: str


def registry_of(collector: Collector) -> CollectorRegistry:
    """A registry of these figures and those of the process itself (`process_...`: CPU, memory, open files)."""
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    return registry


def exposed(registry: CollectorRegistry, accept: str | None) -> Exposition:
    """All figures, in the form that the header `Accept` asks for: text 0.0.4 by default, text 1.0.0 or OpenMetrics."""
    try:
        encode, media_type = choose_encoder(accept or "")
    except TypeError:  # the library compares a version that is no number with one that is: as if none were asked for
        encode, media_type = choose_encoder("")
    return Exposition(encode(registry), media_type)
