"""`/metrics` of the guard: verdicts, deliveries, and how long ago it last did its work."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import requests
from prometheus_client import CollectorRegistry

from monitor import devstore
from monitor.alerts.teller import Teller
from monitor.config.reader import parse
from monitor.core.metrics import DataPoint
from monitor.runtime.exposition import registry_of
from monitor.runtime.listening import ListenError
from monitor.serve.prometheus_verdicts import KEPT_MS, families_of_verdicts
from monitor.serve.stored_verdicts import STATES
from monitor.verdicts.judge import State
from monitor.watch.audit import Audit
from monitor.watch.listener import listener
from monitor.watch.looks import Looks
from monitor.watch.prometheus import WatchCollector
from monitor.watch.telling import Telling
from monitor.watch.watcher import Watcher, looked
from tests.support.alert_case import QUICK, SetClock
from tests.support.alert_receiver import AlertReceiver, answer
from tests.support.scraped import OPENMETRICS, Sample, scrape, value
from tests.support.strategies import to_toml
from tests.support.verdict_case import CONFIG, LATENESS_S, NOW_MS, fill, serving

MINUTE_MS = 60_000
HARM = {"tenant": "t", "experiment": "checkout", "check": "guardrail/order/on"}


def point(check: str, at_ms: int, number: float = 1, experiment: str = "e") -> DataPoint:
    return DataPoint(f"monitor.verdict.state|tenant=t|experiment={experiment}|check={check}", at_ms, number)


def test_ages_grow_while_nothing_is_done() -> None:
    """Without a look that succeeds the age is that since the start; of judged minutes there is none at first."""
    clock, now = [100.0], [NOW_MS]
    looks = Looks("dal", lambda: now[0], lambda: clock[0])
    clock[0] += 7
    assert (looks.success_age_s(), looks.judged_age_s()) == (7, None)
    looks.succeeded()
    looks.wrote([point("crossed", NOW_MS - 5_000)])
    clock[0] += 60
    now[0] += 60_000
    assert (looks.success_age_s(), looks.judged_age_s()) == (60, 65)


def test_the_newest_verdicts_of_an_experiment_replace_its_earlier_ones() -> None:
    """Checks that it has no more are gone, and so are experiments that are judged no more."""
    looks = Looks("dal", lambda: NOW_MS)
    looks.wrote([point("a", NOW_MS), point("b", NOW_MS)])
    looks.wrote([point("c", NOW_MS, experiment="ended")])
    looks.wrote([point("b", NOW_MS + MINUTE_MS, 4)])
    assert checks(looks) == ["b", "c"]
    looks.wrote([point("b", NOW_MS + KEPT_MS, 4)])
    assert checks(looks) == ["b"]


def checks(looks: Looks) -> list[str]:
    """The checks whose state is told."""
    states, *_ = families_of_verdicts(looks.told())
    return [sample.labels["check"] for sample in states.samples]


class Guard(NamedTuple):
    """A watcher over a store in which an experiment has harm, with a webhook, and what it tells of itself."""

    watcher: Watcher
    teller: Teller
    receiver: AlertReceiver
    metrics: WatchCollector

    def scraped(self) -> dict[str, list[Sample]]:
        """What a scraper is given now: nothing is remembered from an earlier one."""
        with listener(registry_of(self.metrics), "127.0.0.1", 0) as at:
            return scrape(at)


@contextmanager
def guarding(folder: Path) -> Iterator[Guard]:
    """A guard that has not looked yet; attempts to deliver are made by `teller.deliver_due` only."""
    with devstore.running(folder / "store.sqlite3") as url:
        fill(url)
        with AlertReceiver() as receiver, serving(url) as client:
            settings = parse({**CONFIG, "alerts": {"webhooks": {"team": {"url": receiver.url}}}})
            audit = Audit(folder / "watch.sqlite3")
            teller = Teller(settings, folder / "alerts.sqlite3", clock=SetClock(NOW_MS), bounds=QUICK)
            looks = Looks("dal", client.service.now_ms)
            telling = Telling(client.service, "dal", teller)
            watcher = Watcher(client.service, "abc", audit, looks.wrote, telling.tell)
            try:
                yield Guard(watcher, teller, receiver, WatchCollector(client.service, "dal", looks, teller))
            finally:
                teller.close()
                audit.close()


def test_verdicts_and_deliveries_are_told(tmp_path: Path) -> None:
    """From the first look on; outcomes are there before they occur, so that a rule sees the first of them."""
    with guarding(tmp_path) as guard:
        before = guard.scraped()
        guard.receiver.script(answer(503))
        assert looked(guard.watcher)
        guard.teller.deliver_due(NOW_MS)
        with listener(registry_of(guard.metrics), "127.0.0.1", 0) as at:
            assert scrape(at).keys() == scrape(at, OPENMETRICS).keys()
            found = scrape(at)
    assert "monitor_watch_judged_age_s" not in before
    assert "monitor_verdict_state" not in before
    assert deliveries(before) == {"accepted": 0, "failed": 0, "given_up": 0}
    assert value(found, "monitor_verdict_state", dc="dal", **HARM) == STATES.index(State.STOP)
    assert value(found, "monitor_verdict_ln_e", **HARM) == value(found, "monitor_verdict_ln_e_max", **HARM)
    assert value(found, "monitor_verdict_ln_e", **HARM) > 7
    assert value(found, "monitor_watch_judged_age_s", dc="dal") == pytest.approx(LATENESS_S, abs=120)


def test_a_message_that_waits_is_told(tmp_path: Path) -> None:
    """How many for each target, and since when the oldest; an attempt that failed is counted."""
    with guarding(tmp_path) as guard:
        guard.receiver.script(answer(503))
        guard.watcher.once()
        guard.teller.deliver_due(NOW_MS)
        found = guard.scraped()
    assert deliveries(found) == {"accepted": 0, "failed": 1, "given_up": 0}
    assert value(found, "monitor_alert_waiting", target="team") == 1
    assert value(found, "monitor_alert_oldest_waiting_s", target="team") == 0
    assert value(found, "monitor_outbox_up") == 1


def test_an_outbox_that_cannot_be_read_hides_nothing_else(tmp_path: Path) -> None:
    """It is told, and the rest goes on."""
    with guarding(tmp_path) as guard:
        guard.teller.close()
        found = guard.scraped()
    assert value(found, "monitor_outbox_up") == 0
    assert value(found, "monitor_watch_success_age_s", dc="dal") >= 0
    assert "monitor_alert_waiting" not in found


def deliveries(found: dict[str, list[Sample]]) -> dict[str, float]:
    """The attempts by outcome."""
    return {one.labels["outcome"]: one.value for one in found["monitor_alert_deliveries_total"]}


def test_the_listener_is_small() -> None:
    """It says that it is there, and nothing is at other paths; a port that is taken is named."""
    registry = CollectorRegistry()
    with listener(registry, "127.0.0.1", 0) as at:
        assert requests.get(f"{at}/healthz", timeout=10).json() == {"status": "ok"}
        assert requests.head(f"{at}/metrics", timeout=10).status_code == 200
        assert requests.get(f"{at}/", timeout=10).status_code == 404
        with (
            pytest.raises(ListenError, match="cannot listen on"),
            listener(registry, "127.0.0.1", int(at.rpartition(":")[2])),
        ):
            pass


def test_the_command_serves_them_while_the_store_is_away(tmp_path: Path) -> None:
    """From its start, at the address that its log has; the age of its last success grows; SIGTERM ends it."""
    file = tmp_path / "monitor.toml"
    file.write_text(to_toml({**CONFIG, "kairosdb": {"url": "http://127.0.0.1:9"}}))
    command = [sys.executable, "-m", "monitor", "watch", "--config", str(file), "--folder", str(tmp_path / "w")]
    environment = {name: text for name, text in os.environ.items() if not name.startswith("MONITOR_")}
    with subprocess.Popen([*command, "--port", "0"], env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            at = next(json.loads(line)["http"] for line in process.stderr if "watch_listens" in line)
            first_s = value(scrape(at), "monitor_watch_success_age_s", dc="dal")
            until_s = time.monotonic() + 30
            while value(scrape(at), "monitor_watch_success_age_s", dc="dal") < first_s + 0.5:
                assert time.monotonic() < until_s
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
            assert process.returncode == 0
        finally:
            process.kill()
