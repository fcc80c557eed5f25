"""The state of the monitor: every figure outside of its normal range is told, and only those."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitor import devstore
from monitor.config.reader import load
from monitor.serve import health_ranges
from monitor.serve.health_figures import advice, of_dc, of_store
from monitor.serve.health_models import Count, StoreHealth, TenantFlow
from tests.support import served
from tests.support.health_case import dc_health
from tests.support.served import DCS, HOUR_MS, TENANT, Client, Served, serving

ROOT = Path(__file__).parents[2]
RANGES = health_ranges.ranges(load(ROOT / "examples/shop/monitor.toml", {}))
STORE = StoreHealth(url="http://store", reachable=True, answer_ms=20.0, message=None)


def count(reason: str, messages: int) -> Count:
    return Count(tenant="t", reason=reason, messages=messages, last_5_min=messages)


def delays(**changes: Any) -> list[TenantFlow]:
    flow = TenantFlow(
        tenant="t", events=72_000, last_5_min=6_000, events_per_s=20.0, delay_ms_mean=900.0, delay_ms_max=4_000
    )
    events = {"last_5_min": round(300 * changes.get("events_per_s", 20.0))}
    return [flow.model_copy(update=events | changes)]


@pytest.mark.parametrize(
    ("changes", "figure"),
    [
        ({"heartbeat_age_s": 31.0}, "heartbeat age"),
        ({"watermark_age_s": 1_000.0}, "watermark delay"),
        ({"watermark_age_s": -60.0}, "ahead of the clock"),
        ({"watermark_age_s": -1_794_000_000_000.0}, "ahead of the clock"),
        ({"lag_messages": 100_001}, "lag"),
        ({"rejected": [count("bad_field", 500)]}, "rejects"),
        ({"rejected": [count("duplicate", 7_000)]}, "duplicates"),
        ({"warnings": [count("unknown_variation", 500)]}, "warnings"),
        ({"corrections": 100_000}, "corrections"),
        ({"sessions": 2_000_001}, "sessions in state"),
        ({"totals": 2_000_001}, "totals in state"),
        ({"memory_bytes": 2**31 + 1}, "memory"),
        ({"retries": 6}, "retries"),
        ({"dead_letters": 1}, "dead letters"),
        ({"tenants": delays(delay_ms_mean=61_000.0)}, "mean delay"),
        ({"new_partitions": 2}, "new partitions"),
        ({"vanished_partitions": ["events/3"]}, "events/3"),
    ],
)
def test_each_figure_outside_of_its_range_is_told(changes: dict[str, Any], figure: str) -> None:
    """With a sentence that names the data center and the figure."""
    said = advice([dc_health(**changes)], STORE, [], RANGES)
    assert said
    assert all(sentence.startswith("dal") for sentence in said)
    assert figure in said[0]


def test_a_store_that_answers_slowly_is_told() -> None:
    """As the figure on the page is outside."""
    slow = STORE.model_copy(update={"answer_ms": 651.0})
    assert of_store(slow, RANGES).is_outside
    (said,) = advice([dc_health()], slow, [], RANGES)
    assert said.startswith("KairosDB: store answer 651 ms (normal: up to 500 ms).")


@pytest.mark.parametrize(
    "changes", [{}, {"rejected": [count("duplicate", 3_000)]}, {"rejected": [count("late", 100)]}, {"notices": ["x"]}]
)
def test_nothing_is_told_of_what_is_normal(changes: dict[str, Any]) -> None:
    """Duplicates are harmless until they are most of the traffic; notices change nothing."""
    dc = dc_health(**changes)
    assert [figure.range.name for figure in of_dc(dc, RANGES) if figure.is_outside] == []
    assert advice([dc], STORE, [], RANGES) == []


def test_a_small_tenant_with_rejects_is_named() -> None:
    """It does not show in the sum of all."""
    flows = [*delays(events_per_s=900.0), *delays(tenant="small", events_per_s=0.2)]
    rejected = [Count(tenant="small", reason="not_json", messages=40, last_5_min=40)]
    (said,) = advice([dc_health(tenants=flows, rejected=rejected)], STORE, [], RANGES)
    assert "40 % of the messages of tenant small were rejected in 5 minutes: not_json 40." in said


def test_strangers_are_judged_by_their_share_of_all_messages() -> None:
    """All messages of no configured tenant are rejected: that alone says nothing."""
    few, many = ([Count(tenant="unknown", reason="unknown_tenant", messages=n, last_5_min=n)] for n in (40, 400))
    assert advice([dc_health(rejected=few)], STORE, [], RANGES) == []
    said = advice([dc_health(rejected=many)], STORE, [], RANGES)
    assert any("of all messages are of no configured tenant in 5 minutes: unknown_tenant 400." in one for one in said)


@pytest.fixture
def reported(tmp_path: Path) -> Iterator[tuple[str, Served, Client]]:
    """A store in which one data center reports, and the API over it."""
    case = served.served()
    with devstore.running(tmp_path / "store.sqlite3") as url:
        served.report(url, DCS[0], case.now_ms - 3 * HOUR_MS, case.now_ms)
        with serving(url, case, dcs=[DCS[0]]) as client:
            yield url, case, client


def test_what_the_job_reports_by_name_is_in_the_answer(reported: tuple[str, Served, Client]) -> None:
    """Late visits, bad values, unknown names, notices, and partitions that are new or gone."""
    url, case, client = reported
    at_ms, dc = case.now_ms - 10_000, {"dc": DCS[0]}
    place = {**dc, "topic": "events"}
    served.post(
        url,
        [
            ("monitor.late", at_ms, {**dc, "tenant": TENANT, "experiment": "button_color", "variation": "red"}, 7),
            ("monitor.noted", at_ms, {**dc, "tenant": TENANT, "reason": "bad_value", "point": "order"}, 5),
            (
                "monitor.noted",
                at_ms - HOUR_MS // 2,
                {**dc, "tenant": TENANT, "reason": "bad_value", "point": "order"},
                2,
            ),
            ("monitor.unknown", at_ms, {**dc, "tenant": TENANT, "kind": "experiment", "name": "gone"}, 9),
            ("monitor.notice", at_ms, {**place, "notice": "single_replica"}, 1),
            ("monitor.new_partitions", at_ms, place, 2),
            ("monitor.lag", at_ms, {**place, "partition": "0"}, 4),
            ("monitor.lag", at_ms - 20 * 60_000, {**place, "partition": "1"}, 50),
        ],
    )
    health = client.ask("/api/health").json()
    (of_dc,) = health["dcs"]
    assert [(late["variation"], late["visits"], late["last_5_min"]) for late in of_dc["late"]] == [("red", 7, 7)]
    assert [(bad["point"], bad["events"], bad["last_5_min"]) for bad in of_dc["bad_values"]] == [("order", 7, 5)]
    assert [(of["kind"], of["name"], of["events"]) for of in of_dc["unknown_names"]] == [("experiment", "gone", 9)]
    assert [(of["reason"], of["messages"]) for of in of_dc["warnings"]] == [("bad_value", 7)]
    assert (of_dc["lag_by_partition"], of_dc["lag_messages"]) == ({"events/0": 4}, 4)
    assert (of_dc["new_partitions"], of_dc["vanished_partitions"]) == (2, ["events/1"])
    assert len(health["notices"]) == 1
    assert "replica" in health["notices"][0]
    assert health["status"] == "degraded"
    assert [("new partitions" in said, "events/1" in said) for said in health["advice"][:2]] == [
        (False, True),
        (True, False),
    ]


def test_the_rate_of_a_young_job_is_over_its_own_age(reported: tuple[str, Served, Client]) -> None:
    """Not over 5 minutes: 600 events in the minute since its first report, which told those of a flush."""
    url, case, client = reported
    at = [case.now_ms - 50_000, case.now_ms - 5_000]
    served.post(url, [("monitor.events", at_ms, {"dc": DCS[0], "tenant": TENANT}, 300) for at_ms in at])
    ((flow,),) = [dc["tenants"] for dc in client.ask("/api/health").json()["dcs"]]
    flush_s = client.service.settings.time.flush_s
    assert (flow["events"], flow["last_5_min"]) == (600, 600)
    assert flow["events_per_s"] == pytest.approx(600 / (50 + flush_s))


def test_a_watermark_of_the_year_58879_is_told(reported: tuple[str, Served, Client]) -> None:
    """No time makes an answer fail."""
    url, case, client = reported
    served.post(url, [("monitor.watermark_s", case.now_ms - 1_000, {"dc": DCS[0]}, 1_795_919_000_000)])
    health = client.ask("/api/health").json()
    assert health["status"] == "degraded"
    assert any("ahead of the clock" in said for said in health["advice"])
    assert client.get("")["basis"]["is_final"]
