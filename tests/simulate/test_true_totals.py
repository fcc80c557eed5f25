"""The truth of simulated traffic, case by case: what a visit adds up to, and where messages are rejected."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from monitor.simulate import Traffic, TruthError, truth
from monitor.simulate.traffic import RETURN_AFTER_S
from tests.support.strategies import encode

CONFIG_FILE = Path(__file__).parents[2] / "examples/shop/monitor.toml"


def small_config(**limits: Any) -> dict[str, Any]:
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
    body = {"tenant": "t", "sessionId": "s", "time": at_ms(time_s), "event": event, **fields}
    return 0, b"s", encode(body), at_ms(time_s if at_s is None else at_s)


def at_ms(time_s: float) -> int:
    """A time of the tests: seconds after their beginning, in 2026."""
    return 1_795_491_000_000 + round(1_000 * time_s)


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


@pytest.mark.parametrize(("at_s", "tardy"), [(60, 0), (60.001, 1)])
def test_a_visit_is_tardy_once(at_s: float, tardy: int) -> None:
    """From the assignment on, by an event that arrives more than `tardy_s` after it happened."""
    log = [sent(-1, at_s=at_s), sent(0, at_s=at_s, **page("home")), sent(5, at_s=at_s + 5, **page("home"))]
    assert truth(log, small_config()).totals.get("t.visit.tardy.red.beta", 0) == tardy


def test_unique_counts_are_with_live_aa_too() -> None:
    """With `aa`, in the sixteenth of the session, for the experiments that are not excepted."""
    config = small_config()
    config["tenants"]["t"]["aa"] = True
    sixteenth = f"aa-{crc32(b's') % 16:02d}"
    log = [sent(1, **page("home")), sent(2, **page("home"))]
    by_sixteenth = {name: n for name, n in truth(log, config).totals.items() if sixteenth in name}
    parts = ("beta", "home_page.beta")
    assert by_sixteenth == {f"t.visit.{scope}.{sixteenth}.{part}": 1 for scope in ("assigned", "fm") for part in parts}
    config["tenants"]["t"]["experiments"]["color"]["aa"] = False
    assert not any(".aa-" in name for name in truth(log, config).totals)


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


def test_an_assignment_is_its_text() -> None:
    """Numbers and booleans say what tags would; what cannot be read is left out by itself, and the event counts."""
    config = small_config()
    config["tenants"]["t"]["experiments"]["color"]["variations"] = {"1": 1, "true": 1, "2.5": 1}
    said = [(1, "1"), (1.0, "1"), (True, "true"), (2.5, "2.5"), ("1", "1")]
    unread = [(value, None) for value in (None, [1], {"v": 1}, "\ud800", math.inf, "TRUE", "1.0")]
    for value, text in said + unread:
        found = truth([sent(0, assignments={"color": value})], config)
        assert found.accepted == {"t": 1}, value
        assert list(found.totals) == ([] if text is None else [f"t.visit.assigned.{text}.beta"]), value
    assert truth([sent(0, assignments=["color", "1"])], config).rejected == {"bad_field": 1}


def test_aliases_and_further_names_mean_configured_ones() -> None:
    """The configured name is asked first, then the others in their order; the first known text decides."""
    config = small_config()
    color = config["tenants"]["t"]["experiments"]["color"]
    color["aliases"] = {"Blue (old)": "blue", "": "red"}
    color["names"] = ["Button Colour", "btn"]
    for carried, variation in (
        ({"Button Colour": "Blue (old)"}, "blue"),
        ({"btn": "", "Button Colour": "blue"}, "blue"),
        ({"color": "teal", "btn": "blue", "Button Colour": None}, "blue"),
        ({"color": "red", "btn": "blue"}, "red"),
    ):
        assert list(truth([sent(0, assignments=carried)], config).totals) == [f"t.visit.assigned.{variation}.beta"]
    assert truth([sent(0, assignments={"btn": "Blue"})], config).totals == {}


def test_experiments_may_share_a_variations_name() -> None:
    """The truth is over all tags, `experiment` among them: both add to the metrics of the shared name."""
    config = small_config()
    experiments = config["tenants"]["t"]["experiments"]
    experiments["size"] = experiments["color"]
    found = truth([sent(0, assignments={"color": "red", "size": "red"})], config)
    assert found.totals == {"t.visit.assigned.red.beta": 2}


def test_an_id_that_stands_for_no_session_is_rejected() -> None:
    """Placeholders are compared trimmed and without case, before the event's time is looked at."""
    for session_id in ("undefined", " NULL\t", "[object Object]", "-1"):
        found = truth([sent(99, at_s=0, sessionId=session_id)], small_config())
        assert found.rejected == {"placeholder_id": 1}
    assert truth([sent(0, sessionId="undefined")], small_config(placeholder_ids=["Visitor"])).accepted == {"t": 1}
    assert truth([sent(0, sessionId="visitor ")], small_config(placeholder_ids=["Visitor"])).accepted == {}


def test_a_time_in_another_unit_is_a_bad_field() -> None:
    """Event times are milliseconds from 1973 to 5138: what KairosDB takes for milliseconds."""
    for time_ms, well in ((10**11 - 1, False), (10**11, True), (10**14 - 1, True), (10**14, False)):
        found = truth(
            [(0, b"s", encode({"tenant": "t", "sessionId": "s", "time": time_ms, "event": "e"}), time_ms)],
            small_config(),
        )
        assert (found.accepted, found.rejected) == (({"t": 1}, {}) if well else ({}, {"bad_field": 1}))


def test_a_number_may_be_of_any_size() -> None:
    """A value beyond the limit is clipped to it, also without a limit of its own; one that is not finite counts 0."""
    config = small_config()
    value = config["tenants"]["t"]["points"]["order"]["value"]
    for total, x in ((1e300, 10_000), (-(10**400), -10_000), (math.inf, 0)):
        order = sent(0, "order", attributes={"total": total}, assignments={"color": "red"})
        assert truth([order], config).totals.get("t.visit.assigned.red.order.sum", 0) == x
    del value["max"]
    value["scale"] = 0.5
    order = sent(0, "order", attributes={"total": 10**400}, assignments={"color": "red"})
    assert truth([order], config).totals["t.visit.assigned.red.order.sumsq"] == 10**24


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
