"""A store in which one experiment lacks orders on mobile devices, one is split wrongly, and one is healthy, up to now.

The traffic goes on beyond the present, so that all of them are alive for as long as the tests last.
"""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.support import served
from tests.support.served import HOUR_MS, MINUTE_MS
from tests.support.strategies import Config

HOURS, AHEAD_MINUTES, BROKEN_HOURS = 6, 6, 2
DC = "dal"
CHECKS = ("split_of_assigned", "split_of_qualified", "guardrail/order/on", "crossed")
BROKEN_CHECK = "guardrail/order/on"


def _experiment(**more: Any) -> dict[str, Any]:
    return {"control": "off", "variations": {"off": 1, "on": 1}, "qualified_when": {"event": "page_view"}, **more}


def config_of(url: str) -> Config:
    """Two tenants, the healthy one first."""
    table = {
        "tags": {"device": ["mobile", "desktop"]},
        "points": {"order": {"event": "order"}, "error": {"event": "error", "better": "none"}},
    }
    return {
        "dc": DC,
        "kairosdb": {"url": url},
        "serve": {"dcs": [DC]},
        "tenants": {
            "calm": {**table, "experiments": {"banner": _experiment()}},
            "shop": {**table, "experiments": {"lopsided": _experiment(), "checkout": _experiment()}},
        },
    }


class Guarded(NamedTuple):
    """What was written: the configuration, the first minute, and the minute from which on orders are missing."""

    config: Config
    start_ms: int
    broken_ms: int


def fill(url: str) -> Guarded:
    """Hours of traffic, and the evidence that a watcher stored of the broken experiment."""
    now_ms = time.time_ns() // 1_000_000
    start_ms = now_ms // MINUTE_MS * MINUTE_MS - HOURS * HOUR_MS
    broken_ms = (now_ms - BROKEN_HOURS * HOUR_MS) // (10 * MINUTE_MS) * 10 * MINUTE_MS
    end_ms = now_ms + AHEAD_MINUTES * MINUTE_MS
    served.report(url, DC, start_ms - HOUR_MS, end_ms)
    for tenant, experiment in (("calm", "banner"), ("shop", "lopsided"), ("shop", "checkout")):
        served.post(url, _traffic(tenant, experiment, range(start_ms, end_ms, MINUTE_MS), broken_ms))
    served.post(url, _evidence(range(start_ms + 10 * MINUTE_MS, now_ms - 10 * MINUTE_MS, MINUTE_MS), broken_ms))
    return Guarded(config_of(url), start_ms, broken_ms)


Written = Iterator[tuple[str, int, dict[str, str], int | float]]


def _traffic(tenant: str, experiment: str, minutes: range, broken_ms: int) -> Written:
    for number, at_ms in enumerate(minutes):
        for device in ("mobile", "desktop"):
            for variation in ("off", "on"):
                tags = {"dc": DC, "experiment": experiment, "device": device}
                more = 12 if experiment == "lopsided" and variation == "on" else 0
                is_broken = experiment == "checkout" and (variation, device) == ("on", "mobile")
                orders = 0 if is_broken and at_ms >= broken_ms else 2
                for scope in ("assigned", "fm"):
                    yield f"{tenant}.visit.{scope}.{variation}.beta", at_ms, tags, 20 + number % 3 + more
                for part in ("", ".beta"):
                    yield f"{tenant}.visit.fm.{variation}.order{part}", at_ms, tags, orders


def _evidence(minutes: range, broken_ms: int) -> Written:
    for at_ms in minutes:
        grown = 0.4 * max(0, at_ms - broken_ms) / MINUTE_MS
        for check in CHECKS:
            tags = {"dc": DC, "tenant": "shop", "experiment": "checkout", "check": check}
            yield "monitor.verdict.ln_e", at_ms, tags, grown - 1.5 if check == BROKEN_CHECK else -2.25
