"""The checks of an experiment's traffic from a store: none, a fall, and a variation without visits in a slice."""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from monitor import devstore
from tests.support import served
from tests.support.served import HOUR_MS, MINUTE_MS
from tests.support.verdict_case import CONFIG, LATENESS_S, NOW_MS, config_with, serving

CHANGE_MS = NOW_MS // MINUTE_MS * MINUTE_MS - 40 * MINUTE_MS
"""From when on something is wrong: half an hour of final minutes."""
FIRST_MS = CHANGE_MS - 8 * HOUR_MS + 7 * MINUTE_MS
PATH = "/api/tenants/t/experiments/checkout/verdicts"
Count = Callable[[str, str], int]
"""The visits of a minute by device and variation, from the change on."""


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with devstore.running(tmp_path / "store.sqlite3") as url:
        yield url


def checks(url: str, count: Count, config: dict[str, Any] = CONFIG) -> dict[str, Any]:
    """The checks by name; before the change 10 visits a minute by device and variation."""

    def points(dc: str) -> Iterator[tuple[str, int, dict[str, str], int]]:
        for at_ms in range(FIRST_MS, NOW_MS, MINUTE_MS):
            for device in ("mobile", "desktop"):
                for variation in ("off", "on"):
                    if visits := 10 if at_ms < CHANGE_MS else count(device, variation):
                        tags = {"dc": dc, "experiment": "checkout", "device": device}
                        yield f"t.visit.assigned.{variation}.beta", at_ms, tags, visits

    for dc in ("dal", "cdc"):
        served.report(url, dc, FIRST_MS - HOUR_MS, NOW_MS, lateness_s=LATENESS_S)
        served.post(url, points(dc))
    with serving(url, config) as client:
        answer = client.ask(PATH).json()
    return {check["check"]: check for check in answer["checks"]}


def since_ms(check: dict[str, Any]) -> int:
    return round(datetime.fromisoformat(check["since"]).timestamp() * 1_000)


TRAFFIC = ("no_traffic", "traffic_dropped", "variation_without_visits off", "variation_without_visits on")


def test_nothing_is_wrong_with_steady_traffic(url: str) -> None:
    """All of these checks are healthy."""
    found = checks(url, lambda *_: 10)
    assert {name: found[name]["state"] for name in TRAFFIC} == dict.fromkeys(TRAFFIC, "healthy")
    assert found["no_traffic"]["since"] is None


def test_an_experiment_without_traffic_is_told(url: str) -> None:
    """By both checks of traffic, and by none of the variations: they are alike."""
    found = checks(url, lambda *_: 0)
    assert {name: found[name]["state"] for name in TRAFFIC} == dict(
        zip(TRAFFIC, ("warn", "warn", "healthy", "healthy"), strict=True)
    )
    assert since_ms(found["no_traffic"]) == CHANGE_MS
    assert "No visits are assigned any more: none in " in found["no_traffic"]["words"]
    assert abs(since_ms(found["traffic_dropped"]) - CHANGE_MS) <= MINUTE_MS


def test_traffic_that_fell_is_told(url: str) -> None:
    """With how far."""
    found = checks(url, lambda *_: 2)
    assert {name: found[name]["state"] for name in TRAFFIC} == dict(
        zip(TRAFFIC, ("healthy", "warn", "healthy", "healthy"), strict=True)
    )
    said = "Assigned visits have fallen by about 80 %: 80 in the last 10 minutes, where about 400 were expected"
    assert found["traffic_dropped"]["words"].startswith(said)
    assert abs(since_ms(found["traffic_dropped"]) - CHANGE_MS) <= MINUTE_MS


def test_a_variation_without_visits_is_told_where_it_is(url: str) -> None:
    """On mobile devices only; what is counted since then is that of the slice."""
    found = checks(url, lambda device, variation: 0 if (device, variation) == ("mobile", "on") else 10)
    check = found["variation_without_visits on"]
    assert (check["state"], check["variation"], check["place"]) == ("hold", "on", {"device": "mobile"})
    assert since_ms(check) == CHANGE_MS
    visits = check["counts_since"]["off"]
    assert visits in (280, 290, 300)
    assert check["counts_since"] == {"off": visits, "on": 0}
    assert check["words"] == (
        f"on gets no visits, with device mobile: none of {visits}, "
        f"where by the weights about {visits // 2} were expected."
    )
    assert found["variation_without_visits off"]["state"] == "healthy"


def test_a_variation_that_never_had_a_visit_is_told(url: str) -> None:
    """Since the phase began; one whose weight is 0 needs none."""
    variations = {"off": 1, "on": 1, "new": 1}
    found = checks(url, lambda *_: 10, config_with(variations=variations))
    check = found["variation_without_visits new"]
    assert (check["state"], check["place"], since_ms(check)) == ("hold", {}, FIRST_MS)
    found = checks(url, lambda *_: 10, config_with(variations=variations | {"new": 0}))
    assert "variation_without_visits new" not in found
    assert found["variation_without_visits on"]["state"] == "too_early"


def test_nothing_is_said_of_variations_while_visitors_keep_theirs(url: str) -> None:
    """After a change of weights under sticky assignment."""
    phases = [{"from": CHANGE_MS - 2 * HOUR_MS, "weights": {"off": 1, "on": 1}}]
    found = checks(url, lambda _, variation: 0 if variation == "on" else 10, config_with(sticky=True, phases=phases))
    assert "no_traffic" in found
    assert not any(name.startswith("variation_without_visits") for name in found)
