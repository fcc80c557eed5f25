"""A store with an experiment in which orders stop in one variation on mobile devices, three hours ago."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support import served
from tests.support.served import HOUR_MS, MINUTE_MS, Client
from tests.support.served import Served as Case

NOW_MS = 1_795_500_000_000 // HOUR_MS * HOUR_MS + 25 * MINUTE_MS + 17_000
LATENESS_S = 600
CONFIG: dict[str, Any] = {
    "dc": "dal",
    "serve": {"dcs": ["dal", "cdc"]},
    "tenants": {
        "t": {
            "tags": {"device": ["mobile", "desktop"]},
            "points": {"order": {"event": "order"}, "error": {"event": "error", "better": "none"}},
            "experiments": {
                "checkout": {
                    "control": "off",
                    "variations": {"off": 1, "on": 1},
                    "qualified_when": {"event": "page_view"},
                    "aliases": {"On!": "on", "enabled": "on"},
                },
                "young": {
                    "control": "off",
                    "variations": {"off": 1, "on": 1},
                    "qualified_when": {"event": "page_view"},
                },
            },
        }
    },
}


def begins_ms(now_ms: int = NOW_MS) -> int:
    """The minute of the first visit."""
    return now_ms // HOUR_MS * HOUR_MS - 20 * HOUR_MS + 7 * MINUTE_MS


def broken_ms(now_ms: int = NOW_MS) -> int:
    """The minute from which on there are no orders in `on` on mobile devices: an hour's first."""
    return now_ms // HOUR_MS * HOUR_MS - 3 * HOUR_MS


def config_with(**changes: Any) -> dict[str, Any]:
    """The configuration with these keys of the experiment."""
    tenant = CONFIG["tenants"]["t"]
    experiments = tenant["experiments"] | {"checkout": tenant["experiments"]["checkout"] | changes}
    return {**CONFIG, "tenants": {"t": {**tenant, "experiments": experiments}}}


def points(dc: str, now_ms: int) -> Iterator[tuple[str, int, dict[str, str], int]]:
    """Visits by minute on two devices, orders, and errors that nobody guards; half of `on` under an old name."""
    first_ms = begins_ms(now_ms)
    for at_ms in range(first_ms, now_ms, MINUTE_MS):
        number = (at_ms - first_ms) // MINUTE_MS
        for device in ("mobile", "desktop"):
            for variation in ("off", "on"):
                tags = {"dc": dc, "experiment": "checkout", "device": device}
                name = "enabled" if variation == "on" and number % 2 else variation
                for scope in ("assigned", "fm"):
                    yield f"t.visit.{scope}.{name}.beta", at_ms, tags, 20 + number % 3
                yield f"t.visit.tardy.{name}.beta", at_ms, tags, 1
                is_broken = variation == "on" and device == "mobile" and at_ms >= broken_ms(now_ms)
                yield f"t.visit.fm.{name}.order.beta", at_ms, tags, 0 if is_broken else 2
                yield f"t.visit.fm.{name}.error.beta", at_ms, tags, 40 if variation == "on" else 1


def fill(url: str, now_ms: int = NOW_MS) -> None:
    """Writes all of it for two mirrors."""
    for dc in ("dal", "cdc"):
        served.report(url, dc, begins_ms(now_ms) - HOUR_MS, now_ms, lateness_s=LATENESS_S)
        served.post(url, points(dc, now_ms))


@contextmanager
def serving(url: str, config: dict[str, Any] = CONFIG, now_ms: int = NOW_MS) -> Iterator[Client]:
    """The service over a store, at this moment."""
    case = Case(config, None, 0, now_ms, {})  # type: ignore[arg-type]
    with served.serving(url, case, dcs=["dal", "cdc"]) as client:
        yield client
