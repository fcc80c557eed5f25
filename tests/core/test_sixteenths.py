"""Live A/A: unique counts by sixteenth of the sessions, exact whatever comes late."""

from collections import Counter
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core import sixteenths
from monitor.core.metrics import SIXTEENTHS, sixteenth_metric_name
from monitor.core.sixteenths import sixteenth_of
from monitor.flow.keys import SESSION_GROUPS
from tests.support import oracle
from tests.support.driver import Core
from tests.support.messages import BASE_MS, SESSION, message, names_of, shop
from tests.support.oracle import Message
from tests.support.strategies import Config

SIXTEENTH = f"aa-{crc32(SESSION.encode()) % 16:02d}"


def watched(**aa: bool) -> Config:
    """The shop with live A/A: of the tenant, of the experiment, of both."""
    config = shop()
    tenant = config["tenants"]["uswm"]
    if "tenant" in aa:
        tenant["aa"] = aa["tenant"]
    if "experiment" in aa:
        tenant["experiments"]["button_color"]["aa"] = aa["experiment"]
    return config


def counted(core: Core) -> dict[tuple[str, int], int | float]:
    """What is counted by sixteenth, by name after `T.visit.` and minute."""
    return {key: total for key, total in names_of(core).items() if ".aa-" in key[0]}


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20))
def test_a_sixteenth_is_that_of_the_key_group(session_id: str) -> None:
    """crc32 modulo 16 is the session key group, crc32 modulo 128, modulo 16."""
    group = crc32(session_id.encode()) % SESSION_GROUPS
    assert group % SIXTEENTHS == sixteenth_of(session_id) == crc32(session_id.encode()) % 16


def test_the_names_of_sixteenths() -> None:
    """Two digits, in the place of the variation; unique counts only."""
    assert sixteenth_metric_name("uswm", "fm", 3, "order") == "uswm.visit.fm.aa-03.order.beta"
    assert sixteenth_metric_name("uswm", "assigned", 15, None) == "uswm.visit.assigned.aa-15.beta"


def test_a_visit_counts_in_its_sixteenth() -> None:
    """Once for each `.beta` of both scopes, whatever the variation and the tags: these are no tags of the counter."""
    core = Core(watched(tenant=True))
    order = message(120_000, None, event="order", attributes={"total": 5})
    core.feed([message(0, "item"), message(60_000, "home"), order])
    wanted = {("assigned.{}.beta", 0), ("assigned.{}.item_page.beta", 0), ("assigned.{}.home_page.beta", 1)}
    wanted |= {("assigned.{}.engaged.beta", 1), ("assigned.{}.order.beta", 2), ("fm.{}.order.beta", 2)}
    wanted |= {("fm.{}.beta", 1), ("fm.{}.home_page.beta", 1), ("fm.{}.engaged.beta", 1)}
    assert counted(core) == {(name.format(SIXTEENTH), minute): 1 for name, minute in wanted}
    tags = {tags for name, _, tags in core.answer() if ".aa-" in name}
    assert tags == {(("dc", "dal"), ("experiment", "button_color"))}


@pytest.mark.parametrize(
    ("aa", "is_on"),
    [
        ({}, False),
        ({"tenant": False}, False),
        ({"tenant": True}, True),
        ({"experiment": True}, True),
        ({"tenant": True, "experiment": False}, False),
        ({"tenant": False, "experiment": True}, True),
    ],
)
def test_an_experiment_says_whether_it_is_counted(aa: dict[str, bool], is_on: bool) -> None:
    """Its own `aa` overrides the tenant's; without any there is none."""
    core = Core(watched(**aa))
    core.feed([message(0, "home")])
    assert bool(counted(core)) is is_on
    assert core.answer() == oracle.answer(watched(**aa), [message(0, "home")]).totals


def test_a_late_event_moves_the_count() -> None:
    """The correction of the variation's counter is one of the sixteenth's too."""
    core = Core(watched(tenant=True))
    core.feed([message(60_000, "home")])
    assert counted(core)[f"assigned.{SIXTEENTH}.beta", 1] == 1
    core.feed([message(0, "home", 60_000, assignments={"button_color": "blue"})])
    found = counted(core)
    assert (found[f"assigned.{SIXTEENTH}.beta", 0], found.get((f"assigned.{SIXTEENTH}.beta", 1))) == (1, None)
    assert (found[f"fm.{SIXTEENTH}.home_page.beta", 0], found.get((f"fm.{SIXTEENTH}.home_page.beta", 1))) == (1, None)


def test_the_sixteenths_of_a_minute_are_its_variations_together() -> None:
    """Over many sessions: the sum over sixteenths is the sum over variations, of every unique count."""
    config = watched(tenant=True)
    config["tenants"]["uswm"]["experiments"]["other"] = {
        "control": "a",
        "variations": {"a": 1, "b": 1},
        "qualified_when": {"event": "order"},
        "aa": False,
    }
    log = many_sessions()
    core = Core(config)
    core.feed(log)
    sums: Counter[tuple[str, bool, str]] = Counter()
    for (name, _, tags), total in core.answer().items():
        _, _, scope, variation, *rest = name.split(".")
        if scope in ("assigned", "fm") and rest[-1] == "beta" and ("experiment", "button_color") in tags:
            sums[scope, variation.startswith("aa-"), ".".join(rest)] += int(total)
    assert len(sums) > 8
    assert all(total == sums[scope, not by_sixteenth, rest] for (scope, by_sixteenth, rest), total in sums.items())
    assert {name.split(".")[3] for name, _, _ in core.answer() if ".aa-" in name} == {f"aa-{n:02d}" for n in range(16)}
    assert core.answer() == oracle.answer(config, log).totals


def test_what_is_remembered_of_contributions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the bound all is forgotten and looked up anew; the counts stay right."""
    monkeypatch.setattr(sixteenths, "SIXTEENTH_KEYS_BYTES_MAX", 1_000)
    core, log = Core(watched(tenant=True)), many_sessions()
    table = sixteenths.SixteenthTable(core.compiled.tenants["uswm"], groups=1)
    for first in range(len(table._counter_of)):
        for second in range(len(table._counter_of)):
            table.counters((first, second))
            assert len(table.remembered) <= 5
    core.feed(log)
    assert core.answer() == oracle.answer(watched(tenant=True), log).totals


def many_sessions() -> list[Message]:
    """Visits of 200 sessions in both variations, out of order."""
    log: list[Message] = []
    for number in range(200):
        variation = ("red", "blue")[number % 2]
        fields: dict[str, Any] = {"sessionId": f"s-{number}", "assignments": {"button_color": variation}}
        log += [
            message(60_000, "home", 60_000 + number, **fields),
            message(30_000, "item", 60_000 + number, **fields),
            message(90_000, None, 90_000, event="order", attributes={"total": number, "device": "mobile"}, **fields),
        ]
    assert log[0].timestamp == BASE_MS + 60_000
    return log
