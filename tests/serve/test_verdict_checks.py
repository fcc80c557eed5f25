"""Single checks from a store: tardy visits."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from monitor import devstore
from tests.support import served
from tests.support.served import MINUTE_MS
from tests.support.verdict_case import CONFIG, NOW_MS, begins_ms, broken_ms, fill, serving

Point = tuple[str, int, dict[str, str], int | float]
PATH = "/api/tenants/t/experiments/checkout/verdicts"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A store with harm to orders in one experiment, and nothing else that is wrong."""
    with devstore.running(tmp_path / "store.sqlite3") as url:
        fill(url)
        yield url


def minutes(from_ms: int) -> range:
    return range(from_ms, NOW_MS, MINUTE_MS)


def written(url: str, points: Sequence[Point]) -> None:
    """Writes them for both mirrors."""
    for dc in ("dal", "cdc"):
        served.post(url, [(name, at_ms, {**tags, "dc": dc}, value) for name, at_ms, tags, value in points])


@contextmanager
def checks(url: str, config: dict[str, Any] = CONFIG) -> Iterator[dict[str, Any]]:
    """The checks of the experiment by name."""
    with serving(url, config) as client:
        yield {check["check"]: check for check in client.ask(PATH).json()["checks"]}


def test_a_variation_that_delivers_late(url: str) -> None:
    """From its tardy visits, under both of its names; with the words that say which, where and how many."""
    late = [
        (f"t.visit.tardy.{name}.beta", at_ms, {"experiment": "checkout", "device": "mobile"}, 2)
        for at_ms in minutes(broken_ms())
        for name in ("on", "enabled")
    ]
    with checks(url) as found:
        assert found["lateness"]["state"] == "healthy"
        assert found["lateness"]["counts"]["off"] == found["lateness"]["counts"]["on"] > 2_000
    written(url, late)
    with checks(url) as found:
        check = found["lateness"]
    assert (check["state"], check["variation"], check["place"]) == ("stop", "on", {"device": "mobile"})
    assert check["counts_since"]["on"] == 4 * check["counts_since"]["off"]
    assert check["effect"]["estimate"] == pytest.approx(3)
    assert "more tardy visits than its weight implies, with device mobile" in check["words"]


def test_no_tardy_visit_is_healthy(url: str) -> None:
    """Nothing has to be tardy."""
    written(
        url,
        [
            (f"t.visit.tardy.{name}.beta", at_ms, {"experiment": "checkout", "device": device}, 0)
            for at_ms in minutes(begins_ms())
            for name in ("on", "enabled", "off")
            for device in ("mobile", "desktop")
        ],
    )
    with checks(url) as found:
        assert found["lateness"]["state"] == "healthy"
        assert found["lateness"]["counts"] == {"off": 0, "on": 0}
