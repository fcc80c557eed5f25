"""`monitor watch`: the guard of all experiments, in the foreground."""

import signal
import threading
from collections.abc import Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Annotated

import structlog
import typer

from monitor.alerts.teller import Teller
from monitor.commands.options import COUNTS_FILE, EXAMPLE, ConfigFile, KairosDbUrl
from monitor.config.reader import config_hash, load
from monitor.core.metrics import DataPoint
from monitor.kairosdb.client import Client
from monitor.kairosdb.delivery import Closed, Delivery
from monitor.kairosdb.errors import KairosDbError
from monitor.runtime import logs
from monitor.serve.count_file import CountFile
from monitor.serve.point_delivery import delivery_of
from monitor.serve.service import open_service
from monitor.watch.audit import Audit
from monitor.watch.deliveries import take_deliveries, take_last_deliveries
from monitor.watch.health_watch import HealthWatch, health_looked
from monitor.watch.looks import Looks
from monitor.watch.prometheus import exposing
from monitor.watch.telling import Telling
from monitor.watch.watcher import Watcher, looked

log = structlog.get_logger(__name__)

EVERY_S = 10.0
"""The time between two looks whether a further minute has become final."""
AUDIT_FILE, OUTBOX_FILE = "watch.sqlite3", "alerts.sqlite3"


def watch(
    config: ConfigFile = EXAMPLE,
    folder: Annotated[Path, typer.Option(help="The folder of the audit trail; made if it is missing.")] = Path("watch"),
    url: KairosDbUrl = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on. Default: watch.host.")] = None,
    port: Annotated[int | None, typer.Option(help="The port of its metrics. Default: watch.port.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Judge all experiments once, and exit.")] = False,
) -> None:
    """Judges every experiment at each final minute, records each change with its evidence, and writes
    `monitor.verdict.*`. Needs the configuration and the store only. SIGTERM or Ctrl-C stops it.
    """
    settings = load(config)
    with closing(Audit(folder / AUDIT_FILE)) as audit:
        logs.set_up()
        counts = CountFile(folder / COUNTS_FILE, is_writer=True)
        store_url, timeout_s = url or settings.kairosdb.url, settings.serve.query_timeout_s
        address = host or settings.watch.host, settings.watch.port if port is None else port
        ending, is_answered = _ending(), False
        with (
            open_service(settings, store_url, counts=counts) as service,
            closing(Client(store_url, timeout_s, timeout_s)) as client,
            Teller(settings, folder / OUTBOX_FILE) as teller,
            exposing(service, settings.dc, teller, None if once else address) as looks,
        ):
            delivery = delivery_of(settings, client, settings.dc, ending)
            telling = Telling(service, settings.dc, teller)
            write = partial(_write, delivery, looks)
            watcher = Watcher(service, config_hash(settings), audit, write, telling.tell)
            health = HealthWatch(service, audit, telling.tell_health)
            log.info("watch_started", dc=settings.dc, store=store_url, audit=str(folder / AUDIT_FILE))
            with suppress(Closed):
                while True:
                    is_answered = _look(watcher, looks)
                    health_looked(health)
                    take_deliveries(teller, audit)
                    if once or ending.wait(EVERY_S):
                        break
        take_last_deliveries(folder / OUTBOX_FILE, audit)
        log.info("watch_stopped")
    if once and not is_answered:
        raise typer.Exit(2)


def _look(watcher: Watcher, looks: Looks) -> bool:
    """Looks once; whether the store answered."""
    if is_answered := looked(watcher):
        looks.succeeded()
    return is_answered


def _write(delivery: Delivery, looks: Looks, points: Sequence[DataPoint]) -> None:
    """Writes the points of an experiment's verdicts; without them nothing is wrong but the history."""
    looks.wrote(points)
    try:
        delivery.deliver(points)
    except KairosDbError as error:
        log.warning("verdicts_not_written", reason=str(error))


def _ending() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    return ending
