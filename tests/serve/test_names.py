"""Whose series are whose: variations that share a name, variations and experiments that were renamed."""

from collections.abc import Iterator
from typing import Any

import pytest

from monitor import devstore
from monitor.config import reader
from monitor.config.stored_names import stored_experiments, stored_metrics
from monitor.page import queries
from monitor.page.queries import QueriedNumber
from monitor.serve.models import Scope, Served, ServingReason
from monitor.serve.spans import moment
from tests.support import served
from tests.support.served import HOUR_MS, MINUTE_MS, Client
from tests.support.served import Served as Case

NOW_MS = 1_795_500_000_000
CONFIG: dict[str, Any] = {
    "dc": "dal",
    "serve": {"dcs": ["dal", "cdc"]},
    "tenants": {
        "t": {
            "tags": {"device": ["mobile", "desktop"]},
            "points": {"order": {"event": "order"}},
            "experiments": {
                name: {
                    "control": "off",
                    "variations": {"off": 1, "on": 1},
                    "qualified_when": {"point": "order"},
                    **more,
                }
                for name, more in {
                    "first": {},
                    "second": {
                        "aliases": {"Blue (old)": "on", "enabled": "on", "0": "off", "aa-03": "on"},
                        "names": ["Second one", "two"],
                    },
                }.items()
            },
        }
    },
}
COUNTS = {
    ("first", "off"): 100,
    ("first", "on"): 110,
    ("second", "off"): 40,
    ("second", "on"): -5,
    ("second", "enabled"): 30,
    ("two", "enabled"): 20,
    ("two", "0"): 3,
    ("three", "on"): 1_000,
    ("first", "enabled"): 5_000,
    ("second", "aa-03"): 7_000,
}
"""(tag experiment, variation in the metric's name) -> assigned visits in each of two minutes."""
TRUE = {"first": {"off": 200, "on": 220}, "second": {"off": 86, "on": 90}}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The API over a store in which both mirrors have these visits."""
    with devstore.running(tmp_path_factory.mktemp("names") / "store.sqlite3") as url:
        for dc in ("dal", "cdc"):
            served.report(url, dc, NOW_MS - 4 * HOUR_MS, NOW_MS)
            served.post(
                url,
                [
                    (f"t.visit.{scope}.{variation}.{part}", at_ms, {"dc": dc, "experiment": of, "device": "mobile"}, n)
                    for (of, variation), n in COUNTS.items()
                    for scope, part in (("assigned", "beta"), ("fm", "beta"), ("fm", "order.beta"), ("fm", "order"))
                    for at_ms in (NOW_MS - 2 * MINUTE_MS, NOW_MS - 3 * HOUR_MS)
                ],
            )
        case = Case(CONFIG, None, 0, NOW_MS, {})  # type: ignore[arg-type]
        with served.serving(url, case, dcs=["dal", "cdc"]) as client:
            yield client


@pytest.mark.parametrize("experiment", TRUE)
def test_answers_add_what_is_stored_under_old_names(client: Client, experiment: str) -> None:
    """And nothing of another experiment that has a variation of the same name."""
    path = f"/api/tenants/t/experiments/{experiment}"
    answer = client.ask(path).json()
    assert {v["variation"]: v["assigned"] for v in answer["variations"]} == TRUE[experiment]
    assert {v["variation"]: v["points"][0]["visits"] for v in answer["variations"]} == TRUE[experiment]
    (group,) = client.ask(path + "/breakdown", by="device").json()["groups"]
    assert {v["variation"]: v["qualified"] for v in group["variations"]} == TRUE[experiment]
    lines = client.ask(path + "/series", measure="assigned").json()["lines"]
    assert {line["variation"]: sum(p["value"] for p in line["points"]) for line in lines} == TRUE[experiment]


def test_states_add_what_is_stored_under_old_names(client: Client) -> None:
    """Counts of the day and of the last minutes, and the first visit."""
    states = client.ask("/api/tenants/t/experiments").json()["experiments"]
    for state in states:
        assert state["assigned_by_variation"] == TRUE[state["experiment"]]
        recent = {name: sum(counts) * 2 for name, counts in state["assigned_recent"].items()}
        assert recent == TRUE[state["experiment"]]
        assert state["first_assigned"] == f"{moment(NOW_MS - 3 * HOUR_MS):%Y-%m-%dT%H:%M:00Z}"


def test_only_texts_that_were_names_are_asked_for() -> None:
    """An alias with a space was never part of a metric's name, nor such a name a tag."""
    table = reader.parse(CONFIG).tenants["t"].experiments["second"]
    assert stored_experiments("second", table) == ("second", "two")
    assert stored_metrics(["t.visit.fm.on.order.beta", "t.visit.fm.off.beta"], table) == {
        "t.visit.fm.on.order.beta": "t.visit.fm.on.order.beta",
        "t.visit.fm.enabled.order.beta": "t.visit.fm.on.order.beta",
        "t.visit.fm.off.beta": "t.visit.fm.off.beta",
        "t.visit.fm.0.beta": "t.visit.fm.off.beta",
    }


def test_the_query_behind_a_number_has_the_old_names() -> None:
    """One metric for each name, all filtered by the experiment's names."""
    table = reader.parse(CONFIG).tenants["t"].experiments["second"]
    number = QueriedNumber("t", "second", "on", "assigned", None, Scope.QUALIFIED)
    stretch = Served(start=moment(0), end=moment(HOUR_MS), dc="dal", reason=ServingReason.PREFERRED)
    metrics = queries.body(number, stretch, {}, table)["metrics"]
    assert [metric["name"] for metric in metrics] == ["t.visit.assigned.on.beta", "t.visit.assigned.enabled.beta"]
    assert {tuple(metric["tags"]["experiment"]) for metric in metrics} == {("second", "two")}
