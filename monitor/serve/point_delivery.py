"""Writing points beside the job: each request is retried for a while, and then left to the next look."""

from threading import Event

from monitor.config.settings import Settings
from monitor.kairosdb.client import Client
from monitor.kairosdb.delivery import Delivery, DeliverySettings
from monitor.kairosdb.points import Renderer
from monitor.kairosdb.stats import WriterStats
from monitor.serve.spans import DAY_MS

RETRY_MAX_S, BACKOFF_MAX_S = 30.0, 8.0
"""How long a request is retried; then Unreachable is raised."""


def delivery_of(settings: Settings, client: Client, dc: str, ending: Event) -> Delivery:
    """Delivers points with this `dc`, without dead letters; `ending` ends every wait."""
    timeout_s = settings.serve.query_timeout_s
    bounds = DeliverySettings(
        connect_timeout_s=timeout_s, read_timeout_s=timeout_s, backoff_max_s=BACKOFF_MAX_S, retry_max_s=RETRY_MAX_S
    )
    renderer = Renderer(dc, settings.kairosdb.ttl_days * DAY_MS // 1_000)
    return Delivery(client, renderer, None, WriterStats(), bounds, ending)
