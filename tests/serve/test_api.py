"""The query service's answers, against what an independent computation makes of the same log.

The store is the embedded one and a real KairosDB, filled by two mirrors of one log.
"""

import math
import statistics
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import requests

from monitor import devstore
from monitor.serve.spans import iso
from tests.support import oracle, served
from tests.support.served import (
    BUTTON,
    CHECKOUT,
    DCS,
    HOUR_MS,
    MINUTE_MS,
    PATH,
    TENANT,
    Client,
    Served,
    filled,
    ranges,
    serving,
)

DAL, CDC = DCS


@pytest.fixture(scope="module")
def case() -> Served:
    """The log, computed once."""
    return served.served()


@pytest.fixture(scope="module")
def embedded(case: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An embedded store that holds all."""
    with devstore.running(tmp_path_factory.mktemp("served") / "store.sqlite3") as url:
        yield filled(url, case)


@pytest.fixture(scope="module", params=["embedded", "real"])
def url(request: pytest.FixtureRequest, case: Served) -> str:
    """Each of the stores, filled."""
    if request.param == "embedded":
        return str(request.getfixturevalue("embedded"))
    return filled(str(request.getfixturevalue("real_kairosdb")), case)


@pytest.fixture
def client(url: str, case: Served) -> Iterator[Client]:
    """The API over each of the stores."""
    with serving(url, case) as client:
        yield client


@pytest.fixture
def light(embedded: str, case: Served) -> Iterator[Client]:
    """The API over the embedded store, for what does not depend on the store."""
    with serving(embedded, case) as client:
        yield client


@pytest.mark.parametrize("number", [0, 1, 2])
def test_an_experiment_over_a_range(client: Client, case: Served, number: int) -> None:
    """Each number of each variation and point, in both scopes."""
    start_ms, end_ms = ranges(case)[number]
    for experiment, (scope, short) in product((BUTTON, CHECKOUT), (("qualified", "fm"), ("assigned", "assigned"))):
        answer = client.get(f"/{experiment}", **{"from": start_ms, "to": end_ms, "scope": scope})
        definition = case.config["tenants"][TENANT]["experiments"][experiment]
        assert answer["variations"][0]["variation"] == answer["control"] == definition["control"]
        assert sorted(v["variation"] for v in answer["variations"]) == sorted(definition["variations"])
        assigned = {v: case.sum(f"assigned.{v}.beta", start_ms, end_ms) for v in definition["variations"]}
        for result in answer["variations"]:
            v = result["variation"]
            assert result["assigned"] == assigned[v]
            assert result["qualified"] == case.sum(f"fm.{v}.beta", start_ms, end_ms)
            assert result["crossed"] == case.sum(f"crossed.{v}.beta", start_ms, end_ms)
            of_all = sum(assigned.values())
            assert result["share"] == (pytest.approx(assigned[v] / of_all) if of_all else None)
            for point in result["points"]:
                stem = f"{short}.{v}.{point['point']}"
                assert point["total"] == case.sum(stem, start_ms, end_ms)
                assert point["visits"] == case.sum(f"{stem}.beta", start_ms, end_ms)
                in_scope = case.sum(f"{short}.{v}.beta", start_ms, end_ms)
                rate = point["rate"] and point["rate"]["value"]
                assert rate == (pytest.approx(point["visits"] / in_scope) if in_scope else None)
                has_value = point["point"] == "order"
                amount = case.sum(f"{stem}.sum", start_ms, end_ms) / 100
                assert point["sum"] == (pytest.approx(amount) if has_value else None)
                if has_value and in_scope:
                    assert point["mean"]["value"] == pytest.approx(amount / in_scope)


def test_means_and_their_errors_are_those_of_the_visits(light: Client, case: Served) -> None:
    """Over all of the log: for each qualified visit the sum of its orders, and their mean and its standard error."""
    start_ms, end_ms = ranges(case)[0]
    tenant = case.config["tenants"][TENANT]
    answer = light.get(f"/{CHECKOUT}", **{"from": start_ms, "to": end_ms})
    for result in answer["variations"]:
        values = []
        for visit in case.answer.visits:
            contributed = list(oracle.attributed(tenant, CHECKOUT, visit.events))
            if f"fm.{result['variation']}.beta" in [name for name, _, _ in contributed]:
                expected = f"fm.{result['variation']}.order.sum"
                values.append(sum(amount for name, _, amount in contributed if name == expected) / 100)
        assert len(values) == result["qualified"] > 30
        mean = next(point["mean"] for point in result["points"] if point["point"] == "order")
        assert mean["value"] == pytest.approx(statistics.mean(values))
        assert mean["standard_error"] == pytest.approx(statistics.stdev(values) / math.sqrt(len(values)))


def test_an_answer_says_what_it_rests_on(client: Client, case: Served) -> None:
    """The data centers, the end of the final minutes, and the age of the newest heartbeat."""
    start_ms, end_ms = ranges(case)[0]
    basis = client.get(f"/{BUTTON}", **{"from": iso(start_ms), "to": iso(end_ms)})["basis"]
    whole = {"start": iso(start_ms), "end": iso(end_ms)}
    assert basis["served"] == [whole | {"dc": DAL, "reason": "preferred"}]
    last_ms = max(range(case.start_ms - HOUR_MS, case.now_ms, served.REPORT_MS))
    assert basis["final_until"] == iso((last_ms - served.LATENESS_S * 1_000) // MINUTE_MS * MINUTE_MS)
    assert not basis["is_final"]
    assert basis["is_fresh"]
    assert basis["newest_age_s"] == (case.now_ms - last_ms) / 1_000


@pytest.mark.parametrize("by", [["device"], ["device", "login"], ["login", "device"]])
def test_a_breakdown(client: Client, case: Served, by: list[str]) -> None:
    """Each combination of tags that there is, with its own numbers; groups add up to the whole."""
    start_ms, end_ms = ranges(case)[1]
    answer = client.get(f"/{CHECKOUT}/breakdown", **{"from": start_ms, "to": end_ms, "by": by})
    assert answer["by"] == by
    seen = set()
    for group in answer["groups"]:
        assert list(group["tags"]) == by
        seen.add(tuple(group["tags"].values()))
        for result in group["variations"]:
            of = group["tags"]
            assert result["assigned"] == case.sum(f"assigned.{result['variation']}.beta", start_ms, end_ms, **of)
            order = next(point for point in result["points"] if point["point"] == "order")
            assert order["total"] == case.sum(f"fm.{result['variation']}.order", start_ms, end_ms, **of)
    there = {
        tuple(dict(tags)[tag] for tag in by)
        for (name, minute_ms, tags) in case.answer.totals
        if ".fc_" in name and start_ms <= minute_ms < end_ms and "crossed" not in name
    }
    assert seen >= there
    assert len(there) > 3
    sizes = [sum(result["assigned"] for result in group["variations"]) for group in answer["groups"]]
    assert sizes == sorted(sizes, reverse=True)


def test_a_filter(client: Client, case: Served) -> None:
    """Values of one tag are alternatives, tags must all hold."""
    start_ms, end_ms = ranges(case)[1]
    tags = ["device:mobile", "device:other", "login:true"]
    answer = client.get(f"/{CHECKOUT}", **{"from": start_ms, "to": end_ms, "tag": tags})
    assert answer["tags"] == {"device": ["mobile", "other"], "login": ["true"]}
    for result in answer["variations"]:
        expected: Mapping[str, Any] = {"device": ["mobile", "other"], "login": "true"}
        assert result["assigned"] == case.sum(f"assigned.{result['variation']}.beta", start_ms, end_ms, **expected)


@pytest.mark.parametrize(
    ("measure", "point", "step_ms", "step"),
    [
        ("assigned", None, MINUTE_MS, "1m"),
        ("qualified", None, 5 * MINUTE_MS, "5m"),
        ("crossed", None, 15 * MINUTE_MS, "15m"),
        ("share", None, HOUR_MS, "1h"),
        ("total", "item_page", 24 * HOUR_MS, "1d"),
        ("visits", "engaged", 15 * MINUTE_MS, "15m"),
        ("rate", "item_page", HOUR_MS, "1h"),
        ("sum", "order", HOUR_MS, "1h"),
        ("mean", "order", 24 * HOUR_MS, "1d"),
    ],
)
def test_a_series(light: Client, case: Served, measure: str, point: str | None, step_ms: int, step: str) -> None:
    """Every step of the range, widened to whole steps, each with its own number, and the open ones marked."""
    start_ms, end_ms = ranges(case)[0]
    asked = {"from": start_ms, "to": end_ms, "measure": measure, "step": step} | ({"point": point} if point else {})
    answer = light.get(f"/{CHECKOUT}/series", **asked)
    starts = range(start_ms // step_ms * step_ms, -(-end_ms // step_ms) * step_ms, step_ms)
    names = {
        "assigned": "assigned.{}.beta",
        "share": "assigned.{}.beta",
        "qualified": "fm.{}.beta",
        "crossed": "crossed.{}.beta",
        "total": "fm.{}.item_page",
        "visits": "fm.{}.engaged.beta",
        "rate": "fm.{}.item_page.beta",
        "sum": "fm.{}.order.sum",
        "mean": "fm.{}.order.sum",
    }
    assert [line["variation"] for line in answer["lines"]] == ["fc_off", "fc_on"]

    def of(name: str, variation: str, at_ms: int) -> float:
        return case.sum(name.format(variation), at_ms, at_ms + step_ms)

    for line in answer["lines"]:
        assert [p["start"] for p in line["points"]] == [iso(at_ms) for at_ms in starts]
        for step_value, at_ms in zip(line["points"], starts, strict=True):
            value = of(names[measure], line["variation"], at_ms)
            below = 1.0
            if measure == "share":
                below = sum(of(names[measure], variation, at_ms) for variation in ("fc_off", "fc_on"))
            elif measure in ("rate", "mean"):
                below = of("fm.{}.beta", line["variation"], at_ms) * (100 if measure == "mean" else 1)
            elif measure == "sum":
                below = 100
            assert step_value["value"] == (pytest.approx(value / below) if below else None)
            assert step_value["is_provisional"] == (iso(at_ms + step_ms) > answer["basis"]["final_until"])


def test_a_series_split_by_tags(client: Client, case: Served) -> None:
    """A line per variation and value."""
    start_ms, end_ms = ranges(case)[1]
    answer = client.get(
        f"/{CHECKOUT}/series", **{"from": start_ms, "to": end_ms, "measure": "assigned", "step": "1h", "by": "device"}
    )
    assert len(answer["lines"]) > 4
    for line in answer["lines"]:
        for step_value in line["points"]:
            at_ms = round(datetime.fromisoformat(step_value["start"]).timestamp() * 1_000)
            name = f"assigned.{line['variation']}.beta"
            assert step_value["value"] == case.sum(name, at_ms, at_ms + HOUR_MS, **line["tags"])


def test_the_overviews(client: Client, case: Served) -> None:
    """Tenants, experiments with their state, and health."""
    (tenant,) = client.ask("/api/tenants").json()["tenants"]
    assert (tenant["tenant"], tenant["experiments"]) == (TENANT, [BUTTON, CHECKOUT])
    assert tenant["points"] == {"home_page": False, "item_page": False, "order": True, "engaged": False}
    assert tenant["tags"]["login"] == ["true", "false", "other", "unknown"]
    for state in client.get("")["experiments"]:
        variations = case.config["tenants"][TENANT]["experiments"][state["experiment"]]["variations"]
        for what, scope in (("assigned", "assigned"), ("qualified", "fm"), ("crossed", "crossed")):
            assert state[what] == sum(case.sum(f"{scope}.{v}.beta", 0, case.now_ms) for v in variations)
        minutes = [
            minute_ms
            for name, minute_ms, _ in case.answer.totals
            if name in {f"{TENANT}.visit.assigned.{v}.beta" for v in variations}
        ]
        assert (state["first_assigned"], state["last_assigned"]) == (iso(min(minutes)), iso(max(minutes)))
        assert state["state"] == "running"
        assert state["qualified"] == sum(state["qualified_by_variation"].values())
        present_ms = case.now_ms // MINUTE_MS * MINUTE_MS
        for variation, recent in state["assigned_recent"].items():
            expected = [present_ms - ago * MINUTE_MS for ago in range(15, -1, -1)]
            name = f"assigned.{variation}.beta"
            assert recent == [case.sum(name, at_ms, at_ms + MINUTE_MS) for at_ms in expected]
            assert state["assigned_by_variation"][variation] == case.sum(name, 0, case.now_ms)
        steps = [present_ms + MINUTE_MS - 5 * ago * MINUTE_MS for ago in range(24, 0, -1)]
        assert state["qualified_recent"] == [
            sum(case.sum(f"fm.{v}.beta", at_ms, at_ms + 5 * MINUTE_MS) for v in variations) for at_ms in steps
        ]
    health = client.ask("/api/health").json()
    advice = [said for said in health["advice"] if not said.startswith("KairosDB: store answer")]  # a busy machine
    assert (health["serving_dc"], advice) == (DAL, [])
    assert health["status"] == ("degraded" if health["advice"] else "ok")
    assert [(dc["dc"], dc["state"], dc["is_serving"]) for dc in health["dcs"]] == [
        (DAL, "healthy", True),
        (CDC, "healthy", False),
    ]
    assert health["store"]["reachable"]
    assert health["failovers"] == []


def test_a_sealed_range_may_be_kept(light: Client, case: Served) -> None:
    """It has an ETag, and is not sent again to who has it; one with an open minute has none."""
    start_ms, end_ms = ranges(case)[1]
    path = f"{PATH}/{BUTTON}"
    asked: dict[str, Any] = {"from": start_ms, "to": end_ms}
    first = light.ask(path, **asked)
    assert first.headers["cache-control"].startswith("private, max-age=")
    again = light.ask(path, **asked, headers={"If-None-Match": f'W/"x", {first.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert light.ask(path, **asked, headers={"If-None-Match": 'W/"x"'}).json() == first.json()
    other = light.ask(path, **asked, tag="device:mobile")
    assert other.headers["etag"] != first.headers["etag"]
    provisional = light.ask(path, None, **{"from": start_ms})
    assert "etag" not in provisional.headers
    assert provisional.headers["cache-control"] == "no-store"


def test_sealed_hours_are_asked_for_once(case: Served, tmp_path: Path) -> None:
    """Answers stay the same when the store has lost what they were made of: it was in memory."""
    start_ms, end_ms = case.start_ms // HOUR_MS * HOUR_MS + HOUR_MS, case.start_ms // HOUR_MS * HOUR_MS + 4 * HOUR_MS
    asked = {"from": start_ms, "to": end_ms, "measure": "assigned", "step": "5m"}
    with devstore.running(tmp_path / "store.sqlite3") as url:
        filled(url, case)
        with serving(url, case) as keeps, serving(url, case, cached_values=0) as forgets:
            before = keeps.get(f"/{CHECKOUT}/series", **asked)
            assert before == forgets.get(f"/{CHECKOUT}/series", **asked)
            for variation in ("fc_off", "fc_on"):
                name = f"{TENANT}.visit.assigned.{variation}.beta"
                requests.delete(f"{url}/api/v1/metric/{name}", timeout=10).raise_for_status()
            assert keeps.get(f"/{CHECKOUT}/series", **asked) == before
            assert forgets.get(f"/{CHECKOUT}/series", **asked) != before
            assert len(keeps.service.cache) > 0
            assert len(forgets.service.cache) == 0
