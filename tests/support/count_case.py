"""A store of an experiment of two days and a half, and services over it that keep counts in a file, or do not."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monitor.config.reader import parse
from monitor.serve.count_file import CountFile
from monitor.serve.service import Service, open_service
from monitor.serve.verdict_models import VerdictsAnswer
from monitor.serve.verdicts import verdicts
from tests.support import served
from tests.support.served import HOUR_MS, MINUTE_MS
from tests.support.verdict_case import LATENESS_S, NOW_MS

BEGINS_MS = NOW_MS // HOUR_MS * HOUR_MS - 60 * HOUR_MS + 7 * MINUTE_MS
SERIES = [
    (f"t.visit.{name}.beta", {"dc": "dal", "experiment": "e", "device": device})
    for name in ("assigned.off", "assigned.on", "fm.off", "fm.on", "fm.off.order", "fm.on.order")
    for device in ("mobile", "desktop")
]


def config(ttl_days: int = 30, tenant: Mapping[str, Any] | None = None, **experiment: Any) -> dict[str, Any]:
    """The configuration, with these keys of the tenant and of the experiment."""
    of_experiment = {
        "control": "off",
        "variations": {"off": 1, "on": 1},
        "qualified_when": {"event": "page_view"},
        **experiment,
    }
    of_tenant: dict[str, Any] = {
        "tags": {"device": ["mobile", "desktop"]},
        "points": {"order": {"event": "order"}},
        "experiments": {"e": of_experiment},
        **(tenant or {}),
    }
    return {"dc": "dal", "kairosdb": {"ttl_days": ttl_days}, "tenants": {"t": of_tenant}}


def points(since_ms: int, until_ms: int, times: int = 1) -> Iterator[tuple[str, int, dict[str, str], int]]:
    """A point every five minutes for each of twelve series; orders in `on` become fewer in the last six hours."""
    for at_ms in range(-(-max(since_ms, BEGINS_MS) // MINUTE_MS) * MINUTE_MS, until_ms, MINUTE_MS):
        number = (at_ms - BEGINS_MS) // MINUTE_MS
        for name, tags in SERIES:
            if number % 5 == 0:
                is_few = name == "t.visit.fm.on.order.beta" and at_ms >= NOW_MS - 6 * HOUR_MS
                size = 60 if "order" not in name else 3 if is_few else 8
                yield name, at_ms, tags, times * (size + number % 7)


def fill(url: str, since_ms: int = BEGINS_MS, until_ms: int = NOW_MS) -> None:
    """Writes the counts, and the reports of the job since an hour before."""
    served.report(url, "dal", since_ms // MINUTE_MS * MINUTE_MS - HOUR_MS, until_ms, lateness_s=LATENESS_S)
    served.post(url, points(since_ms, until_ms))


@contextmanager
def service(
    url: str, of: Mapping[str, Any], now_ms: int, file: Path | None = None, *, is_writer: bool = True
) -> Iterator[Service]:
    """A service at a moment, with a file of counts or without."""
    counts = None if file is None else CountFile(file, is_writer=is_writer)
    with open_service(parse(dict(of)), url, lambda: now_ms, counts) as opened:
        yield opened


def judged(
    url: str, of: Mapping[str, Any], now_ms: int, file: Path | None = None, *, is_writer: bool = True
) -> VerdictsAnswer:
    """What a service that has just been started says."""
    with service(url, of, now_ms, file, is_writer=is_writer) as opened:
        return verdicts(opened, "t", "e")
