"""Single checks from a store: tardy visits, means, late visits, and what the configuration says of checks."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from monitor import devstore
from monitor.verdicts.multinomial import evidence
from tests.support import served
from tests.support.served import MINUTE_MS
from tests.support.verdict_case import CONFIG, NOW_MS, begins_ms, broken_ms, config_with, fill, serving

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
    with checks(url, {**CONFIG, "guard": {"highest": {"lateness": "stop"}}}) as found:
        assert found["lateness"]["state"] == "stop"
    assert (check["state"], check["variation"], check["place"]) == ("warn", "on", {"device": "mobile"})
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


PAID: dict[str, Any] = {"event": "order", "value": {"attribute": "total", "scale": 100}}


def with_values() -> dict[str, Any]:
    """The configuration with a value of the orders."""
    tenant = CONFIG["tenants"]["t"]
    return {**CONFIG, "tenants": {"t": {**tenant, "points": {**tenant["points"], "order": PAID}}}}


def orders(amounts: Mapping[str, int]) -> list[Point]:
    """Two orders a minute and device in each variation: of 50, and lately on mobile devices, of another amount."""
    points: list[Point] = []
    for number, at_ms in enumerate(minutes(begins_ms())):
        for device in ("mobile", "desktop"):
            for variation in ("off", "on"):
                is_broken = device == "mobile" and at_ms >= broken_ms()
                cents = 5_000 + number % 7 if not is_broken else amounts[variation]
                name = "enabled" if variation == "on" and number % 2 else variation
                tags = {"experiment": "checkout", "device": device}
                prefix = f"t.visit.fm.{name}.order"
                points += [
                    (f"{prefix}.beta", at_ms, tags, 2),
                    (f"{prefix}.sum", at_ms, tags, 2 * cents),
                    (f"{prefix}.sumsq", at_ms, tags, float(2 * cents**2)),
                ]
    return points


def test_orders_of_less_value(url: str) -> None:
    """As many as ever: which, where, since when, and by how much at least; counts are those that it follows from."""
    written(url, orders({"off": 5_000, "on": 1_000}))
    with checks(url, with_values()) as found:
        check = found["mean order on"]
        assert found["guardrail order on"]["state"] == "healthy"
    assert (check["kind"], check["state"], check["place"]) == ("mean", "stop", {"device": "mobile"})
    assert check["effect"]["estimate"] == pytest.approx(-0.8, abs=0.02)
    assert f"{datetime.fromisoformat(check['since']).timestamp() * 1_000:.0f}" == str(broken_ms())
    assert "lower mean of order in on than in off, with device mobile" in check["words"]
    counts = check["counts"]
    assert counts.keys() == {f"{v}.{part}" for v in ("off", "on") for part in ("sum", "sumsq", "beta")}
    assert counts["off.beta"] == counts["on.beta"]
    assert counts["off.sum"] > counts["on.sum"] > 0
    since = check["counts_since"]
    assert since["off.sumsq"] / since["off.sum"] == 5_000
    assert since["on.sumsq"] / since["on.sum"] == 1_000


def test_orders_of_as_much_value(url: str) -> None:
    """In both, whatever it is."""
    written(url, orders({"off": 1_000, "on": 1_000}))
    with checks(url, with_values()) as found:
        assert found["mean order on"]["state"] == "healthy"


def test_a_value_that_no_visit_has(url: str) -> None:
    """There is nothing to say about its mean."""
    with checks(url, with_values()) as found:
        assert found["mean order on"]["state"] == "no_data"


HARM = "guardrail order on"


@pytest.mark.parametrize(
    ("guard", "experiment", "state", "chance"),
    [
        ({}, {}, "stop", "1 of 1,000 "),
        ({"highest": {"guardrail": "hold"}}, {}, "hold", "1 of 100 "),
        ({"highest": {"guardrail": "hold"}}, {"highest": {"guardrail": "note"}}, "note", "1 of 20 "),
        ({"thresholds": {"stop": 1e12}}, {}, "stop", "1 of 1e+12 "),
        ({"smallest_effect": 0.99}, {}, "healthy", ""),
        ({"smallest_effect": 0.99}, {"smallest_effect": 0.5}, "stop", "1 of 1,000 "),
        ({}, {"smallest_effect": 0.99}, "healthy", ""),
    ],
)
def test_what_is_configured(
    url: str, guard: dict[str, Any], experiment: dict[str, Any], state: str, chance: str
) -> None:
    """Of all experiments, and of one: it goes before."""
    with checks(url, {**config_with(**experiment), "guard": guard}) as found:
        assert found[HARM]["state"] == state
        assert chance in found[HARM]["words"]


def test_the_shares_and_thresholds_that_are_configured(url: str) -> None:
    """Evidence is what it is; from where it says note is as configured."""
    with checks(url) as found:
        before = {name: check["ln_e"] for name, check in found.items()}
        assert found["crossed"]["note_from"] == pytest.approx(math.log(20 / 0.05))
    guard = {"thresholds": {"note": 30}, "shares": {"crossed": 0.1, "slices": 0.1}}
    with checks(url, {**CONFIG, "guard": guard}) as found:
        assert {name: check["ln_e"] for name, check in found.items()} == before
        assert found["crossed"]["note_from"] == pytest.approx(math.log(30 / 0.1))
        assert found[HARM]["note_from"] == pytest.approx(math.log(30 / 0.4))


def late(url: str, visits: Mapping[str, int], at_ms: int) -> None:
    """Visits that came too late, as the jobs report them."""
    served.post(
        url,
        [
            ("monitor.late", at_ms, {"dc": dc, "tenant": "t", "experiment": "checkout", "variation": name}, number)
            for dc in ("dal", "cdc")
            for name, number in visits.items()
        ],
    )


@pytest.mark.parametrize(("number", "holds"), [(7, True), (5_000, False)])
def test_late_visits_beside_an_alarm(url: str, number: int, holds: bool) -> None:
    """By variation, under its old name too, since it began; with what they could change at most."""
    late(url, {"on": number - 3, "enabled": 2, "off": 1}, broken_ms() + 20 * MINUTE_MS)
    late(url, {"on": 9_999}, broken_ms() - 20 * MINUTE_MS)
    with checks(url) as found:
        beside = found[HARM]["late"]
        assert all(check["late"] is None for name, check in found.items() if name != HARM)
    assert beside["visits"] == {"off": 1, "on": number - 1}
    assert beside["holds"] == holds
    assert beside["ln_e"] > beside["ln_e_by_weights"] > beside["ln_e_on_weaker_side"]
    counts = [found[HARM]["counts_since"][name] for name in ("off", "on")]
    assert beside["ln_e"] == pytest.approx(evidence(counts, [1, 1]))
    assert beside["words"].startswith("It holds even if" if holds else "It could turn if")
    assert f"the {number:,} visits that came too late" in beside["words"]


def test_an_alarm_without_late_visits(url: str) -> None:
    """Nothing is said of them."""
    with checks(url) as found:
        assert found[HARM]["late"] is None
