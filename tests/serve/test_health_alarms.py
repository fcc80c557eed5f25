"""What of the health report is told as an alert: a name for each item, and each reason of rejects by tenant."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from monitor.config.reader import load
from monitor.serve import health_ranges
from monitor.serve.findings import FutureCount
from monitor.serve.health_alarms import alarms
from monitor.serve.health_models import Count, DcHealth, Divergence, HealthAnswer, Status, StoreHealth
from monitor.serve.models import DcState
from tests.support.health_case import dc_health

ROOT = Path(__file__).parents[2]
RANGES = health_ranges.ranges(load(ROOT / "examples/shop/monitor.toml", {}))
AT = datetime(2026, 11, 25, 14, 30, tzinfo=UTC)


def answer(*dcs: DcHealth, answer_ms: float = 20.0, **changes: Any) -> HealthAnswer:
    values: dict[str, Any] = {
        "status": Status.OK,
        "advice": [],
        "notices": [],
        "at": AT,
        "serving_dc": "dal",
        "final_until": None,
        "store": StoreHealth(url="http://store", reachable=True, answer_ms=answer_ms, message=None),
        "dcs": list(dcs),
        "failovers": [],
        "divergences": [],
        "compared_experiments": 0,
        "live_aa": [],
    }
    return HealthAnswer(**values | changes)


def count(reason: str, messages: int, tenant: str = "t") -> Count:
    return Count(tenant=tenant, reason=reason, messages=messages, last_5_min=messages)


def checks(health: HealthAnswer) -> set[tuple[str, str]]:
    return {(alarm.tenant, alarm.check) for alarm in alarms(health, RANGES)}


def test_nothing_is_told_of_a_monitor_that_is_well() -> None:
    """Nor of a store that is slow: that is measured by who asks."""
    assert checks(answer(dc_health(), answer_ms=5_000.0)) == set()


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"dead_letters": 1}, "health/dead_letters dal"),
        ({"watermark_age_s": 2_000.0}, "health/watermark_delay dal"),
        ({"state": DcState.STALE}, "health/silent dal"),
        ({"state": DcState.BEHIND}, "health/behind dal"),
        ({"vanished_partitions": ["events/3"]}, "health/vanished_partitions dal"),
        ({"rejected": [count("duplicate", 9_000)]}, "health/duplicates dal"),
        ({"warnings": [count("unknown_variation", 500)]}, "health/warnings dal"),
    ],
)
def test_each_item_has_a_name(changes: dict[str, Any], check: str) -> None:
    """By data center, and of no tenant."""
    assert checks(answer(dc_health(**changes))) == {("", check)}


def test_rejects_are_told_by_tenant_and_reason() -> None:
    """Those with more than the normal share; a mirror that says the same does not say it again."""
    rejected = [count("future", 900), count("late", 400), count("bad_field", 30), count("not_json", 900, "unknown")]
    found = alarms(answer(dc_health(rejected=rejected), dc_health(dc="cdc", rejected=rejected)), RANGES)
    assert {(alarm.tenant, alarm.check) for alarm in found} == {
        ("t", "health/future"),
        ("t", "health/late"),
        ("unknown", "health/not_json"),
    }
    (future,) = [alarm for alarm in found if alarm.check == "health/future"]
    assert future.words.startswith("12.3 % of the messages of t were rejected as future in 5 minutes (900 of 7,330).")
    assert future.details == {"dc": "dal", "reason": "future", "messages": 900, "of": 7_330}


def test_events_from_the_future_are_told_with_the_devices() -> None:
    """By tag, the tag that says the most first; those of other tenants and hours are not theirs."""
    counts = [("t", "login", "true", 50), ("t", "device", "mobile", 90), ("t", "device", "desktop", 10)]
    counts += [("t", "login", "false", 50), ("other", "device", "tablet", 900), ("t", "device", "tablet", 0)]
    future = [
        FutureCount(tenant=tenant, tag=tag, value=value, events=1_000, last_5_min=recent)
        for tenant, tag, value, recent in counts
    ]
    (alarm,) = alarms(answer(dc_health(rejected=[count("future", 900)], future=future)), RANGES)
    assert "Most of them are of device mobile (90 %), login true (50 %)." in alarm.words
    assert alarm.details["by_tag"]["device"] == {"mobile": 90, "desktop": 10}


def test_many_reasons_that_are_few_each_are_told_as_a_whole() -> None:
    """As the figure says it."""
    rejected = [count(f"reason_{number}", 100) for number in range(5)]
    assert checks(answer(dc_health(rejected=rejected))) == {("", "health/rejects dal")}


def test_a_job_that_never_reported_is_told_beside_one_that_does() -> None:
    """Before the first report of all the monitor is not in use."""
    missing: dict[str, Any] = {
        "state": DcState.MISSING,
        "last_heartbeat": None,
        "heartbeat_age_s": None,
        "watermark_age_s": None,
    }
    assert checks(answer(dc_health(), dc_health(dc="cdc", **missing))) == {("", "health/silent cdc")}
    assert checks(answer(dc_health(**missing))) == set()


def test_data_centers_that_differ_are_told_by_experiment() -> None:
    """Of the tenant."""
    apart = Divergence(tenant="t", experiment="e", dc="cdc", against="dal", ppm_max=50_000, worst_minute=AT, minutes=3)
    assert checks(answer(dc_health(), divergences=[apart])) == {("t", "health/divergence e cdc")}
    assert checks(answer(dc_health(), divergences=[apart.model_copy(update={"ppm_max": 10})])) == set()
