"""A watermark far beyond all calendars: every answer is given, and says so."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from rich.console import Console

from monitor import devstore
from monitor.commands import top
from monitor.serve.own_metrics import Watch
from tests.support import page_case, served
from tests.support.served import BUTTON, DCS, HOUR_MS, TENANT, Client, Served, filled, serving

YEAR_58879_S = 1_795_491_000_000
"""Seconds: what comes of microseconds that are taken for milliseconds."""
LAST = "9999-12-31T23:59:59.999999Z"


@pytest.fixture(params=[YEAR_58879_S, 2**53 // 1_000, -1], ids=["year 58879", "2^53 ms", "before 1970"])
def strange(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Served, int]]:
    """A store whose preferred data center has reported such a watermark last."""
    case = served.served()
    with devstore.running(tmp_path / "store.sqlite3") as url:
        filled(url, case)
        served.post(url, [("monitor.watermark_s", case.now_ms - 1_000, {"dc": DCS[0]}, request.param)])
        yield url, case, request.param


def test_every_answer_is_given(strange: tuple[str, Served, int]) -> None:
    """Health, and all of an experiment; the watermark is clamped, its age is exact."""
    url, case, watermark_s = strange
    with serving(url, case) as client:
        health = client.ask("/api/health")
        assert health.status_code == 200, health.text
        of_dc = next(dc for dc in health.json()["dcs"] if dc["dc"] == DCS[0])
        assert of_dc["watermark_age_s"] == case.now_ms / 1_000 - watermark_s
        if watermark_s > 0:
            assert of_dc["watermark"] == LAST
        _asks_all(client, case)
        with Watch(client.service, url) as watch:
            watch.once()
        console = Console(width=150)
        with console.capture() as captured:
            console.print(top.view(top.look(client.url)))
        assert "watermark" in captured.get()


def test_the_page_is_shown(strange: tuple[str, Served, int], tmp_path: Path) -> None:
    """Overview, experiment and health, as a browser gets them."""
    url, case, watermark_s = strange
    now_ms = time.time_ns() // 1_000_000
    served.report(url, DCS[0], now_ms - HOUR_MS, now_ms)
    served.post(url, [("monitor.watermark_s", now_ms, {"dc": DCS[0]}, watermark_s)])
    config = {**case.config, "kairosdb": {"url": url}}
    with page_case.serving(config, tmp_path) as address:
        for path in ("/", f"/experiments/{TENANT}/{BUTTON}", "/health"):
            answer = requests.get(address + path, timeout=30)
            assert answer.status_code == 200
            assert "watermark" in answer.text or path != "/health"


def _asks_all(client: Client, case: Served) -> None:
    span: dict[str, Any] = {"from": case.start_ms, "to": case.now_ms}
    assert client.get("")
    for path in (f"/{BUTTON}", f"/{BUTTON}/breakdown"):
        assert client.get(path, **span, **({"by": "device"} if path.endswith("breakdown") else {}))["basis"]
    assert client.get(f"/{BUTTON}/series", **span, measure="assigned", step="1h")["basis"]
