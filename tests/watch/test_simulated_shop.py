"""The guard over the simulated shop, minute by minute: an hour without incidents is quiet, and incidents are told."""

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from monitor import devstore
from monitor.config.reader import parse
from monitor.serve.service import open_service
from monitor.simulate import Traffic, parse_incident
from monitor.simulate.shop import TENANTS
from monitor.verdicts.judge import State
from monitor.watch.audit import Audit
from monitor.watch.watcher import Change, Watcher
from tests.support import served
from tests.support.driver import Core
from tests.support.oracle import Message
from tests.support.page_case import SHOP
from tests.support.strategies import Config

MINUTE_MS = 60_000
START_MS = 1_795_500_000_000
"""The morning of a Tuesday, UTC."""
VISITS_PER_S, SEED = 0.4, 3
"""Visits of the first tenant."""
INCIDENT_MINUTE = 60
LATENESS_S = 60
ALARMS = (State.WARN, State.HOLD, State.STOP)


class Told(NamedTuple):
    """A change of a check, and the minute of the traffic that was final."""

    tenant: str
    experiment: str
    check: str
    state: State
    minute: int
    words: str


def config_of(incident: str | None) -> Config:
    """The example's; with an incident only the tenant that has it, and one that has not."""
    config: Config = tomllib.loads(SHOP.read_text())
    config["time"] |= {"allowed_lateness_s": LATENESS_S}
    if incident is not None:
        config["tenants"] = {name: config["tenants"][name] for name in ("uswm", "mxwm")}
    return config


@contextmanager
def shop(folder: Path, incident: str | None, minutes: int) -> Iterator[str]:
    """A store with the totals of so many minutes; an incident begins at its own."""
    incidents = [] if incident is None else [parse_incident(f"{incident}@{INCIDENT_MINUTE}", START_MS)]
    rate = VISITS_PER_S / Traffic(SEED, START_MS, 1.0).visits_per_s(TENANTS[0], 0)
    traffic = Traffic(SEED, START_MS, rate, incidents)
    core = Core(config_of(incident))
    for minute in range(minutes):
        sent = [m for second in range(60 * minute, 60 * minute + 60) for m in traffic.second(second)]
        core.feed(Message(0, minute, m.timestamp_ms, m.key, m.value) for m in sent)
    with devstore.running(folder / "store.sqlite3") as url:
        served.write(url, {key: round(total) for key, total in core.answer().items()})
        served.report(url, "dal", START_MS, START_MS + minutes * MINUTE_MS, lateness_s=LATENESS_S)
        yield url


def told(folder: Path, incident: str | None, looks: range) -> list[Told]:
    """The alarms of warn and above that a watcher finds that looks at these minutes of the traffic."""
    now_ms, changes = START_MS, list[Change]()
    audit = Audit(folder / "watch.sqlite3")
    found = []
    with shop(folder, incident, looks.stop) as url, open_service(parse(config_of(incident)), url) as service:
        watcher = Watcher(replace(service, now_ms=lambda: now_ms), "abc", audit, lambda _: None, changes.extend)
        for minute in looks:
            now_ms = START_MS + minute * MINUTE_MS
            watcher.once()
            found += [
                Told(of.tenant, of.experiment, of.name, of.state, minute, check.words)
                for of, check in changes
                if of.state in ALARMS
            ]
            changes.clear()
    audit.close()
    return found


def test_an_hour_without_incidents_is_quiet(tmp_path: Path) -> None:
    """All experiments of all tenants, also those with a visit in some minutes."""
    assert told(tmp_path, None, range(40, 101, 4)) == []


def test_traffic_that_drops_is_told(tmp_path: Path) -> None:
    """Of all experiments of that tenant within ten minutes and the sealing, and of no other."""
    found = told(tmp_path, "traffic_drop", range(INCIDENT_MINUTE + 2, INCIDENT_MINUTE + 15, 3))
    assert {(of.tenant, of.check, of.state) for of in found} == {("uswm", "traffic_dropped", State.WARN)}
    assert len({of.experiment for of in found}) == len(found) == 4
    assert max(of.minute for of in found) <= INCIDENT_MINUTE + 12
    assert all("Assigned visits have fallen by about " in of.words for of in found)


def test_a_variation_that_is_missing_is_told(tmp_path: Path) -> None:
    """By name, beside the split."""
    found = told(tmp_path, "variation_missing", range(INCIDENT_MINUTE + 2, INCIDENT_MINUTE + 23, 3))
    assert {(of.tenant, of.experiment) for of in found} == {("uswm", "button_color")}
    (silent,) = [of for of in found if of.check == "variation_without_visits red"]
    assert silent.state is State.HOLD
    assert silent.words.startswith("red gets no visits: none of ")
