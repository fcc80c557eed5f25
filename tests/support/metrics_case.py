"""Both processes that Prometheus scrapes, over a store in which everything has been reported once."""

import re
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from monitor import devstore
from monitor.alerts.teller import Teller
from monitor.config.reader import parse
from monitor.runtime.exposition import registry_of
from monitor.serve.app import create_app
from monitor.serve.service import open_service
from monitor.watch.audit import Audit
from monitor.watch.listener import listener
from monitor.watch.looks import Looks
from monitor.watch.prometheus import WatchCollector
from monitor.watch.telling import Telling
from monitor.watch.watcher import Watcher
from tests.support import served
from tests.support.alert_receiver import AlertReceiver
from tests.support.documents import REFERENCE, ROOT, bare, table
from tests.support.scraped import Sample, scrape
from tests.support.served import HOUR_MS, MINUTE_MS
from tests.support.strategies import to_toml

TENANT, EXPERIMENT = "uswm", "fast_checkout"
VALUES = {"topic": "events", "partition": "0", "worker": "0", "tenant": TENANT, "experiment": EXPERIMENT}
REASONS = [("dal", "unknown", "not_json"), ("dal", TENANT, "late")]


class Exposing(NamedTuple):
    """The addresses of the store, of the query service and of the guard; and the folder with `monitor.toml`."""

    store: str
    serve: str
    watch: str
    folder: Path

    def scraped(self) -> dict[str, list[Sample]]:
        """What both give."""
        return scrape(self.serve) | scrape(self.watch)


@contextmanager
def exposing(folder: Path) -> Iterator[Exposing]:
    """Both, with the example shop's configuration, two data centers and a webhook `on-call`; in the present."""
    now_ms = time.time_ns() // 1_000_000
    with AlertReceiver() as receiver, devstore.running(folder / "store.sqlite3") as url:
        config = tomllib.loads((ROOT / "examples/shop/monitor.toml").read_text())
        config["kairosdb"]["url"] = url
        config |= {"serve": {"dcs": ["dal", "cdc"]}, "alerts": {"webhooks": {"on-call": {"url": receiver.url}}}}
        (folder / "monitor.toml").write_text(to_toml(config))
        _fill(url, now_ms)
        settings = parse(config)
        audit, teller = Audit(folder / "watch/watch.sqlite3"), Teller(settings, folder / "alerts.sqlite3")
        try:
            with open_service(settings) as service, served.http(create_app(service)) as at_serve:
                looks = Looks("dal", service.now_ms)
                telling = Telling(service, "dal", teller)
                Watcher(service, "abc", audit, looks.wrote, telling.tell).once()
                with listener(registry_of(WatchCollector(service, "dal", looks, teller)), "127.0.0.1", 0) as at_watch:
                    yield Exposing(url, at_serve, at_watch, folder)
        finally:
            teller.close()
            audit.close()


def _fill(url: str, now_ms: int) -> None:
    """Reports of the last hour by two data centers, each health metric, and visits of an experiment."""
    for dc in ("dal", "cdc"):
        served.report(url, dc, now_ms - HOUR_MS, now_ms)
    tags = {name: {tag: VALUES.get(tag, "x") for tag in tags} for name, tags in reported().items()}
    served.post(url, [(name, now_ms - 5_000, {"dc": "dal", **of}, 1) for name, of in tags.items()])
    served.post(
        url,
        [
            ("monitor.rejected", now_ms - 5_000, {"dc": dc, "tenant": tenant, "reason": reason}, 3)
            for dc, tenant, reason in REASONS
        ],
    )
    apart = {"dc": "cdc", "against": "dal", "tenant": TENANT, "experiment": EXPERIMENT}
    served.post(url, [("monitor.divergence_ppm", now_ms - 20 * MINUTE_MS, apart, 900)])
    moved = {"dc": "cdc", "from": "dal", "reason": "less_complete", "tenant": TENANT, "experiment": EXPERIMENT}
    served.post(url, [("monitor.failover", now_ms - 20 * MINUTE_MS, moved, 1)])
    first_ms = now_ms // MINUTE_MS * MINUTE_MS - 50 * MINUTE_MS
    served.post(
        url,
        [
            (f"{TENANT}.visit.{scope}.{variation}.beta", at_ms, {"dc": dc, "experiment": EXPERIMENT}, 20)
            for at_ms in range(first_ms, now_ms, MINUTE_MS)
            for dc in ("dal", "cdc")
            for scope in ("assigned", "fm")
            for variation in ("fc_off", "fc_on")
        ],
    )


def reported() -> dict[str, list[str]]:
    """The health metrics that the reference has, with their tags besides `dc`, but for the watermark."""
    rows = table(REFERENCE, "7. Health", "name")
    tags = {bare(row["name"]): re.findall(r"`(\w+)`", row["tags besides `dc`"]) for row in rows}
    return {name: of for name, of in tags.items() if name != "monitor.watermark_s"}
