"""A visit is tardy, once, by the first event since its assignment that came long after it happened."""

import tomllib
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.attribution import Program
from monitor.core.codes import FLAG_BITS_BEFORE
from monitor.core.migrate import migrated
from monitor.flow.snapshots import group_state, packed_definitions, restored_group
from tests.support import oracle
from tests.support.driver import Core, compiled_of
from tests.support.earlier_formats import totals_after
from tests.support.messages import BASE_MS, message, names_of, shop
from tests.support.strategies import Config, configs, logs, to_toml

ON_TIME_S = 10**7
"""A `tardy_s` that no event exceeds."""
CORRECTED = [("tardy.red.beta", 0, 1), ("tardy.red.beta", 2, -1)]


def tardy_of(core: Core) -> dict[tuple[str, int], int | float]:
    """The visits counted as tardy."""
    return {key: total for key, total in names_of(core).items() if key[0].startswith("tardy.")}


@pytest.mark.parametrize("tardy_s", [0, 10, 60])
@pytest.mark.parametrize("over_ms", [0, 1])
def test_an_event_is_tardy_beyond_its_bound(tardy_s: int, over_ms: int) -> None:
    """Exactly `tardy_s` after it happened it is not, a millisecond later it is; without a setting after 60 s."""
    config = shop()
    if tardy_s != 60:
        config["time"]["tardy_s"] = tardy_s
    core = Core(config)
    core.feed([message(0, "item", tardy_s * 1_000 + over_ms)])
    assert tardy_of(core) == ({("tardy.red.beta", 0): 1} if over_ms else {})


def test_a_visit_is_tardy_once_at_the_first_in_order() -> None:
    """Whichever of its tardy events comes first; the count moves to an earlier one, and is taken back where it was."""
    core = Core(shop())
    core.feed([message(-60_000, "item"), message(120_000, "item", 240_000), message(180_000, "home", 300_000)])
    assert tardy_of(core) == {("tardy.red.beta", 2): 1}
    changed = core.feed([message(0, "item", 300_000)])
    moved = [
        (series.split("|")[0].split(".", 2)[2], minute - BASE_MS // 60_000, change)
        for minute, changes in changed.items()
        for series, change in changes.items()
        if ".tardy." in series
    ]
    assert sorted(moved) == CORRECTED
    assert tardy_of(core) == {("tardy.red.beta", 0): 1}


@pytest.mark.parametrize(("before_ms", "tardy"), [(1, 0), (0, 1)])
def test_what_came_before_the_assignment_is_not_counted(before_ms: int, tardy: int) -> None:
    """A tardy event at the time of the assignment counts, though its id puts it before; a millisecond earlier not."""
    core = Core(shop())
    early = message(60_000 - before_ms, "item", 200_000, assignments=None, eventId="a")
    core.feed([message(60_000, "item", eventId="b"), early])
    assert sum(tardy_of(core).values()) == tardy


def test_the_copy_that_was_accepted_decides() -> None:
    """A repetition that comes late is a duplicate and makes no visit tardy; one of a tardy event takes nothing back."""
    on_time, late = message(0, "item"), message(0, "item", 120_000)
    for log, tardy in (([on_time, late], 0), ([late, on_time], 1)):
        core = Core(shop())
        core.feed(log)
        assert (core.accepted["uswm"], sum(tardy_of(core).values())) == (1, tardy)


def test_it_has_the_tags_of_its_event_and_counts_for_each_experiment() -> None:
    """All tags of the tenant, of the tardy event; once for each experiment, from its own assignment on."""
    config = shop()
    other = {"control": "a", "variations": {"a": 1}, "qualified_when": {"point": "home_page"}}
    config["tenants"]["uswm"]["experiments"]["other"] = other
    core = Core(config)
    both = {"button_color": "red", "other": "a"}
    core.feed([message(0, None, 100_000, attributes={"device": "mobile"})])
    core.feed([message(120_000, None, 300_000, assignments=both, attributes={"device": "desktop"})])
    found = {key: n for key, n in core.answer().items() if ".tardy." in key[0]}
    tags = {"dc": "dal", "experiment": "button_color", "device": "mobile", "login": "unknown"}
    others = tags | {"experiment": "other", "device": "desktop"}
    assert found == {
        ("uswm.visit.tardy.red.beta", BASE_MS, tuple(sorted(tags.items()))): 1,
        ("uswm.visit.tardy.a.beta", BASE_MS + 120_000, tuple(sorted(others.items()))): 1,
    }


def test_all_orders_of_a_visit_with_tardy_events() -> None:
    """On time and tardy, before and after the assignment, of one time, crossing: in each of the 120 orders the same."""
    config = shop(lateness_s=1_800)
    visit = [
        message(0, "item", 300_000, assignments=None),
        message(60_000, "item", 60_000, eventId="b"),
        message(60_000, "home", 300_000, eventId="a", assignments=None),
        message(120_000, "home", 120_000, assignments={"button_color": "blue"}),
        message(180_000, "item", 300_000),
    ]
    wanted = oracle.answer(config, visit).totals
    for order in permutations(visit):
        core = Core(config)
        core.feed(order)
        assert core.answer() == wanted


def test_a_tardy_event_at_rest_is_still_one() -> None:
    """It is packed as such: when an earlier event assigns the visit after a restart, it is counted."""
    core = Core(shop())
    core.feed([message(60_000, "item", 180_000, assignments=None)])
    core.restart()
    assert not core.totals
    core.feed([message(50_000, "item", 110_000)])
    assert tardy_of(core) == {("tardy.red.beta", 1): 1}
    core.restart()
    core.feed([message(70_000, "home", 180_000)])
    assert tardy_of(core) == {("tardy.red.beta", 1): 1}


@given(data=st.data())
def test_what_an_earlier_format_holds_is_not_tardy(data: st.DataObject) -> None:
    """State of format 2 is taken over at any moment: its events are not tardy, all else is exact."""
    config: Config = tomllib.loads(to_toml(data.draw(configs())))
    log = data.draw(logs(config))
    at = data.draw(st.integers(0, len(log)))
    core = Core(config | {"time": config["time"] | {"tardy_s": ON_TIME_S}}, sorted({str(m.partition) for m in log}))
    core.feed(log[:at])
    core.compiled = compiled_of(config)
    core.group = restored_group(as_of_format_2(core), core.compiled)
    core.feed(log[at:])
    assert core.answer() == totals_after(config, log, log[:at])


def as_of_format_2(core: Core) -> dict[str, object]:
    """The state of a core's session group as the version before wrote it."""
    tenants = {name: tenant.program.tenant for name, tenant in core.compiled.tenants.items()}
    state = group_state(core.group, {name: packed_definitions(tenant) for name, tenant in tenants.items()})
    before = {
        name: (definitions, migrated(sessions, tenants[name], Program(tenants[name], FLAG_BITS_BEFORE)))
        for name, (definitions, sessions) in state["tenants"].items()
    }
    return state | {"version": 2, "tenants": before}
