"""A store that holds an hour of the simulated shop up to the present, and `monitor serve` in a process of its own."""

import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from monitor.simulate import Traffic, parse_incident
from monitor.simulate.shop import TENANTS
from tests.support import served
from tests.support.driver import Core
from tests.support.oracle import Message
from tests.support.strategies import Config, to_toml

ROOT = Path(__file__).parents[2]
SHOP = ROOT / "examples/shop/monitor.toml"
SEED, VISITS_PER_S = 3, 0.8
"""Of the first tenant, at whatever hour the test runs: what is judged must not depend on the rhythm of its day."""
BACK_MINUTES, AHEAD_MINUTES, BROKEN_MINUTE = 52, 5, 27
"""The traffic goes on beyond the present, so that the shop is alive for as long as the tests last."""
MINUTE_MS, REPORT_MS = 60_000, 20_000
BATCH = 4_000
START_S, ASK_EVERY_S = 40.0, 0.1
DCS = ("dal", "cdc")
SILENT_MINUTES = 12
"""cdc has stopped so long ago."""


class Shop(NamedTuple):
    """The written data: the configuration, the start of the traffic, and the core that has counted it."""

    config: Config
    start_ms: int
    core: Core


def config_of(url: str) -> Config:
    """The example's, for this store, with two data centers."""
    config: dict[str, Any] = tomllib.loads(SHOP.read_text())
    config["kairosdb"] = {"url": url}
    config["serve"] = {"dcs": list(DCS)}
    return config


def fill(url: str) -> Shop:
    """An hour of traffic in both data centers; from minute 27 on, uswm's visitors of red are given no variation."""
    now_ms = time.time_ns() // 1_000_000
    start_ms = now_ms // MINUTE_MS * MINUTE_MS - BACK_MINUTES * MINUTE_MS
    broken = parse_incident(f"variation_missing@{BROKEN_MINUTE}", start_ms)
    rate = VISITS_PER_S / Traffic(SEED, start_ms, 1.0).visits_per_s(TENANTS[0], 0)
    traffic = Traffic(SEED, start_ms, rate, [broken])
    log = [m for second in range((BACK_MINUTES + AHEAD_MINUTES) * 60) for m in traffic.second(second)]
    core = Core(tomllib.loads(SHOP.read_text()))
    for first in range(0, len(log), BATCH):
        some = enumerate(log[first : first + BATCH], first)
        core.feed(Message(0, offset, m.timestamp_ms, m.key, m.value) for offset, m in some)
    end_ms = now_ms + AHEAD_MINUTES * MINUTE_MS
    totals = {key: round(total) for key, total in core.answer().items()}  # written as longs here
    served.write(url, totals)
    _report(url, core, "dal", start_ms, end_ms)
    stopped_ms = now_ms - SILENT_MINUTES * MINUTE_MS
    until = {key: total for key, total in totals.items() if key[1] < stopped_ms}
    served.write(url, {(name, at, _of_cdc(tags)): total for (name, at, tags), total in until.items()})
    _report(url, core, "cdc", start_ms, stopped_ms)
    return Shop(config_of(url), start_ms, core)


@contextmanager
def serving(config: Config, folder: Path, port: int = 0) -> Iterator[str]:
    """The address of a `monitor serve` that has this configuration, for as long as the block lasts."""
    file, log = folder / "monitor.toml", folder / "serve.log"
    file.write_text(to_toml(config))
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MONITOR_", "NICEGUI_", "PYTEST_"))
    }
    command = [sys.executable, "-m", "monitor", "serve", "--config", str(file), "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        yield _address(process, log)
    finally:
        process.terminate()
        process.wait()
    assert "Traceback" not in log.read_text(), log.read_text()


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    until_s = time.monotonic() + START_S
    while True:
        if match := re.search(r"\"page\": \"(http://[\d.:]+)\"", log.read_text()):
            return match[1]
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until_s, log.read_text()
        time.sleep(ASK_EVERY_S)


def _of_cdc(tags: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple((tag, "cdc" if tag == "dc" else value) for tag, value in tags)


def _report(url: str, core: Core, dc: str, start_ms: int, end_ms: int) -> None:
    """Writes a job's reports: the counts of the whole log spread over them, and some gauges."""
    served.report(url, dc, start_ms, end_ms)
    moments = range(start_ms, end_ms, REPORT_MS)
    for at_ms in moments:
        tags = {"dc": dc}
        points = [("monitor.events", at_ms, tags | {"tenant": t}, n // len(moments)) for t, n in core.accepted.items()]
        for name, counts in (("rejected", core.rejected), ("noted", core.warnings)):
            points += [
                (f"monitor.{name}", at_ms, tags | {"tenant": t, "reason": str(reason)}, max(1, n // len(moments)))
                for (t, reason), n in counts.items()
                if n * 4 > len(moments)
            ]
        points += [
            ("monitor.lag", at_ms, tags | {"topic": "useful-events", "partition": str(p)}, 3 * p) for p in range(4)
        ]
        points += [("monitor.sessions", at_ms, tags, 2_345), ("monitor.totals", at_ms, tags, 12_345)]
        points += [("monitor.memory_bytes", at_ms, tags | {"worker": "0"}, 300 * 2**20)]
        points += [("monitor.points_written", at_ms, tags, 500), ("monitor.dead_letters", at_ms, tags, 0)]
        points += [("monitor.corrections", at_ms, tags | {"tenant": t}, 5) for t in core.accepted]
        points += [("monitor.delay_ms.sum", at_ms, tags | {"tenant": t}, 400_000) for t in core.accepted]
        points += [("monitor.delay_ms.count", at_ms, tags | {"tenant": t}, 100) for t in core.accepted]
        served.post(url, points)


def many_experiments(count: int) -> Config:
    """The example's eight tenants, each with so many experiments of two variations."""
    tenants: Config = tomllib.loads(SHOP.read_text())["tenants"]
    for tenant in tenants.values():
        tenant["experiments"] = {
            f"experiment_{number:02}": {
                "control": f"off_{number}",
                "variations": {f"off_{number}": 50, f"on_{number}": 50},
                "qualified_when": {"point": "home_page"},
            }
            for number in range(count)
        }
    return tenants


def fill_many(url: str, config: Config) -> None:
    """Visits in every variation and minute of the last hour, and reports."""
    now_ms = time.time_ns() // 1_000_000
    start_ms = now_ms // MINUTE_MS * MINUTE_MS - 60 * MINUTE_MS
    points = [
        (f"{tenant}.visit.{scope}.{variation}.beta", at_ms, {"dc": "dal", "experiment": name, "device": "mobile"}, 9)
        for tenant, table in config["tenants"].items()
        for name, experiment in table["experiments"].items()
        for variation in experiment["variations"]
        for scope in ("assigned", "fm")
        for at_ms in range(start_ms, now_ms, MINUTE_MS)
    ]
    served.post(url, points)
    served.report(url, "dal", start_ms, now_ms + 2 * MINUTE_MS)


LONG = "a_name_that_somebody_made_of_words_until_it_was_as_long_as_this"
TWELVE = [f"v{number:02}" for number in range(12)]
UNLIKE = {
    "twelve": {name: 1 for name in TWELVE},
    "single": {"only": 1},
    LONG: {f"{LONG}_off": 1, f"{LONG}_on": 1},
}
"""Experiments that are not like the example's, and their variations."""
VISITS, QUALIFIED, LATER_MINUTES = 40, 9, 8
"""Visits of each variation and minute; the experiments began so many minutes ago."""


def unlike(config: Config) -> Config:
    """The configuration with tenants of other shapes: 12 variations, one, long names, no points."""
    points = tomllib.loads(SHOP.read_text())["tenants"]["uswm"]["points"]
    tags = {"device": ["mobile", "desktop"]}
    tenants: Config = {"odd": {"tags": tags, "points": points, "experiments": {}}}
    tenants[f"t_{LONG}"] = {"tags": tags, "points": {f"p_{LONG}": {"event": "order"}}, "experiments": {}}
    for name, variations in UNLIKE.items():
        tenant = tenants[f"t_{LONG}" if name == LONG else "odd"]
        tenant["experiments"][name] = {
            "control": next(iter(variations)),
            "variations": variations,
            "qualified_when": {"event": "page_view", "where": {"page": "cart"}},
        }
    experiment = {"control": "old", "variations": {"old": 1, "new": 1}, "qualified_when": {"event": "click"}}
    tenants["bare"] = {"points": {}, "experiments": {"no_metrics": experiment}}
    return {**config, "tenants": config["tenants"] | tenants}


def fill_unlike(url: str, config: Config) -> None:
    """Visits for them; qualified ones order, and have no other point. Those of one tablet are few."""
    now_ms = time.time_ns() // 1_000_000
    start_ms = now_ms // MINUTE_MS * MINUTE_MS - LATER_MINUTES * MINUTE_MS
    points = []
    for tenant in ("odd", f"t_{LONG}", "bare"):
        for experiment, table in config["tenants"][tenant]["experiments"].items():
            for number, variation in enumerate(table["variations"]):
                point = "order" if tenant == "odd" else f"p_{LONG}"
                parts = {"assigned": VISITS, "fm": QUALIFIED}
                totals = {f"{scope}.{variation}.beta": visits for scope, visits in parts.items()}
                if tenant != "bare":
                    totals |= {f"fm.{variation}.{point}{part}": 2 + number % 5 for part in ("", ".beta")}
                tags = {"dc": "dal", "experiment": experiment}
                tags |= {} if tenant == "bare" else {"device": "mobile"}
                points += [
                    (f"{tenant}.visit.{name}", at_ms, tags, value)
                    for name, value in totals.items()
                    for at_ms in range(start_ms, now_ms, MINUTE_MS)
                ]
    served.post(url, points)
