"""The truth of simulated traffic, case by case: what a visit adds up to, and where messages are rejected."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from monitor.simulate import Traffic, TruthError, truth
from monitor.simulate.traffic import RETURN_AFTER_S

CONFIG_FILE = Path(__file__).parents[2] / "examples/shop/monitor.toml"


def small_config(**limits: int) -> dict[str, Any]:
    points = {
        "home_page": {"event": "page_view", "where": {"page": "home"}},
        "item_page": {"event": "page_view", "where": {"page": "item"}},
        "order": {"event": "order", "value": {"attribute": "total", "scale": 100, "max": 10_000}},
    }
    color = {"control": "blue", "variations": {"blue": 1, "red": 1}, "qualified_when": {"point": "home_page"}}
    return {"limits": limits, "tenants": {"t": {"points": points, "experiments": {"color": color}}}}


def sent(
    time_s: float, event: str = "page_view", at_s: float | None = None, **fields: Any
) -> tuple[int, bytes, bytes, int]:
    body = {"tenant": "t", "sessionId": "s", "time": round(1e9 + 1000 * time_s), "event": event, **fields}
    return 0, b"s", json.dumps(body).encode(), round(1e9 + 1000 * (time_s if at_s is None else at_s))


def page(name: str) -> dict[str, Any]:
    return {"attributes": {"page": name}, "assignments": {"color": "red"}}


def test_a_visit_adds_up_as_defined() -> None:
    """Item, home, item and a home page that comes late: the worked example of the contract, in sums."""
    log = [
        sent(12, **page("item")),
        sent(14, **page("home")),
        sent(15, **page("item")),
        sent(10, at_s=16, **page("home")),
    ]
    expected = {"beta": 1, "home_page": 2, "home_page.beta": 1, "item_page": 2, "item_page.beta": 1}
    assert truth(log, small_config()).totals == {
        f"t.visit.{scope}.red.{name}": n for scope in ("assigned", "fm") for name, n in expected.items()
    }


def test_values_are_scaled_clipped_and_squared_by_visit() -> None:
    """sum adds the values of a visit, clipped each; sumsq is the square of that; a bad value counts 0."""
    orders = [{"total": 1.5}, {"total": -0.25}, {"total": 1e6}, {"total": "9"}, {}]
    log = [sent(n, "order", attributes=a, assignments={"color": "red"}) for n, a in enumerate(orders)]
    found = truth(log, small_config()).totals
    assert found["t.visit.assigned.red.order"] == 5
    assert found["t.visit.assigned.red.order.sum"] == 150 - 25 + 10_000
    assert found["t.visit.assigned.red.order.sumsq"] == (150 - 25 + 10_000) ** 2


def test_rejects_are_decided_at_their_boundaries() -> None:
    """Late beyond 600 s, future beyond 60 s, full at the limit; a repeat is no event even if the visit is full."""
    log = [
        sent(1000, at_s=1000),
        sent(1060, at_s=1000, eventId="ahead"),
        sent(1060.001, at_s=1000),
        sent(1061, at_s=1001, eventId="full"),
        sent(1060, at_s=1002, eventId="ahead"),
        sent(500, at_s=1100, sessionId="x"),
        sent(499.999, at_s=1100, sessionId="y"),
    ]
    found = truth(log, small_config(events_per_visit=2))
    assert found.accepted == {"t": 3}
    assert found.rejected == {"future": 1, "visit_full": 1, "duplicate": 1, "late": 1}


def test_a_silence_longer_than_the_gap_parts_visits() -> None:
    """At the gap it is one visit, beyond it two; the same event id is a repeat only within a visit."""
    assigned: dict[str, Any] = {"assignments": {"color": "red"}, "eventId": "same"}
    for gap_s, visits in ((1800, 1), (1800.001, 2)):
        found = truth([sent(0, **assigned), sent(gap_s, **assigned)], small_config())
        assert found.totals["t.visit.assigned.red.beta"] == visits
        assert found.rejected.get("duplicate", 0) == 2 - visits


def test_falling_timestamps_have_no_truth() -> None:
    """Out of arrival order, what is late depends on more than the message: it is refused, not guessed."""
    with pytest.raises(TruthError, match="must not fall"):
        truth([sent(10), sent(9)], small_config())


def test_closing_visits_on_the_way_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions that can grow no more are added up and let go; the result is that of keeping them all."""
    source = Traffic(7, 1_767_614_400_000, rate=4)
    log = [message for k in range(RETURN_AFTER_S + 600) for message in source.second(k)]
    config = tomllib.loads(CONFIG_FILE.read_text())
    kept = truth(log, config)
    monkeypatch.setattr("monitor.simulate.true_totals._SWEEP_EVERY", 100)
    assert truth(log, config) == kept
    monkeypatch.setattr("monitor.simulate.true_totals._SWEEP_EVERY", 1)
    pausing = [
        sent(0, assignments={"color": "red"}),
        sent(1900, sessionId="other"),
        sent(1800, at_s=1901, **page("home")),
    ]
    assert truth(pausing, small_config()).totals["t.visit.assigned.red.beta"] == 1
