"""State over a restart, also with changed definitions: what did not change stays exact, what is gone is dropped."""

import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.core.visits import runs
from monitor.core.watermark import NEVER
from monitor.flow.snapshots import (
    VERSION,
    Plain,
    group_state,
    ledger_state,
    packed_definitions,
    restored_group,
    restored_ledger,
)
from monitor.runtime.errors import JobError
from tests.support import oracle
from tests.support.driver import Core, Key, compiled_of
from tests.support.messages import SESSION, message, names_of, shop
from tests.support.strategies import POINT, TENANT, Config, configs, logs, rules, to_toml

TENANT_NAME = "uswm"
UNRELATED_TAGS = {
    "page": ["home", "item"],
    "device": ["mobile"],
    "amount": {"attribute": "total", "values": ["1", "2"]},
}


@st.composite
def unrelated_changes(draw: st.DrawFn, config: Config, experiment: str) -> Config:
    """The configuration with everything reordered, and what the experiment does not need added and removed."""
    tenant = config["tenants"][TENANT_NAME]
    names = some_of(draw, tenant["experiments"]) | {experiment}
    experiments: Config = {name: tenant["experiments"][name] for name in names}
    needed = {point for e in experiments.values() for point in points_in(e["qualified_when"])}
    points: Config = {name: tenant["points"][name] for name in needed | some_of(draw, tenant["points"])}
    points |= draw(st.fixed_dictionaries({}, optional={"new-1": POINT, "new-2": POINT}))
    if draw(st.booleans()) and points:
        rule = draw(rules(tuple(sorted(points)), 2))
        experiments["new"] = {"control": "n1", "variations": {"n1": 1, "n2": 2}, "qualified_when": rule}
    variations = reordered(draw, experiments[experiment]["variations"])
    experiments[experiment] = experiments[experiment] | {"variations": variations}
    tags = tenant.get("tags", {})
    if draw(st.booleans()):
        tags = tags | UNRELATED_TAGS
        tags = {name: tags[name] for name in some_of(draw, tags)}
    changed = {
        "points": reordered(draw, points),
        "experiments": reordered(draw, experiments),
        "tags": reordered(draw, tags),
    }
    changed |= {"aa": tenant["aa"]} if "aa" in tenant else {}
    others = {name: config["tenants"][name] for name in some_of(draw, config["tenants"])}
    if draw(st.booleans()):
        others["newcomer"] = draw(TENANT)
    return config | {"tenants": reordered(draw, others | {TENANT_NAME: changed})}


@given(data=st.data())
def test_an_unchanged_experiment_stays_exact(data: st.DataObject) -> None:
    """Whatever else of the configuration changes over a restart, its totals are those of a run without the change.

    Tags may change too: then its totals over all tags are the same, late corrections included.
    """
    old: Config = tomllib.loads(to_toml(data.draw(configs())))
    experiment = data.draw(st.sampled_from(sorted(old["tenants"][TENANT_NAME]["experiments"])))
    new = tomllib.loads(to_toml(data.draw(unrelated_changes(old, experiment))))
    log = data.draw(logs(data.draw(st.sampled_from((old, new)))))
    partitions = sorted({str(arriving.partition) for arriving in log})
    straight, changed = Core(old, partitions), Core(old, partitions)
    straight.feed(log)
    at = data.draw(st.integers(0, len(log)))
    changed.feed(log[:at])
    reconfigure(changed, new)
    changed.feed(log[at:])
    same_tags = old["tenants"][TENANT_NAME].get("tags", {}) == new["tenants"][TENANT_NAME].get("tags", {})
    points = old["tenants"][TENANT_NAME]["points"].keys() & new["tenants"][TENANT_NAME]["points"].keys()
    assert of_experiment(changed.answer(), experiment, points, same_tags) == of_experiment(
        straight.answer(), experiment, points, same_tags
    )


@given(data=st.data())
@settings(max_examples=40)
def test_any_other_configuration_takes_the_state(data: st.DataObject) -> None:
    """Whatever the next configuration is, the job goes on: visits of before are read, and can be written again."""
    old, new = (tomllib.loads(to_toml(data.draw(configs()))) for _ in range(2))
    log = data.draw(logs(old))
    core = Core(old, sorted({str(arriving.partition) for arriving in log}))
    at = data.draw(st.integers(0, len(log)))
    core.feed(log[:at])
    reconfigure(core, new)
    core.feed(log[at:])
    core.restart()


def test_what_a_new_experiment_counts_of_a_visit_that_is_under_way() -> None:
    """What was counted stays counted; the new experiment begins empty and counts from now on."""
    core = Core(shop())
    core.feed([message(0, "home")])
    config = shop()
    config["tenants"]["uswm"]["experiments"]["new"] = {
        "control": "n1",
        "variations": {"n1": 1, "n2": 1},
        "qualified_when": {"point": "home_page"},
    }
    reconfigure(core, config)
    core.feed([message(60_000, "item", assignments={"new": "n2"}), message(120_000, "home", assignments=None)])
    found = names_of(core)
    assert found["assigned.red.home_page", 0] == found["assigned.red.home_page", 2] == 1
    assert found["assigned.n2.beta", 1] == found["assigned.n2.home_page.beta", 2] == 1
    assert found["fm.n2.beta", 1] == 1  # the rule was met before


@pytest.mark.parametrize("at_s", [0, 5, 45, 60, 90, 125, 150, 200])
def test_a_raised_gap_joins_from_now_on(at_s: int) -> None:
    """Visits that are nearer to each other than the new gap stay as counted; an event joins two neighbours at most."""
    core = Core(shop(gap_s=30, lateness_s=30), ("0", "1"))  # the second partition holds the watermark back
    core.feed([message(at * 1_000, "item", at * 1_000) for at in (0, 10, 60, 120, 130)])
    reconfigure(core, shop(gap_s=300, lateness_s=300))
    core.feed([message(at_s * 1_000, "home", 210_000, eventId="late")])
    core.restart()
    (session,) = core.group.sessions["uswm"].values()
    assert isinstance(session, bytes)
    visits = list(runs(core.compiled.tenants["uswm"].packer.unpack(session)))
    assert sum(len(visit.ids) for visit in visits) == 8 * 6
    assert len(visits) == (2 if at_s in (45, 90) else 3)
    assert all(earlier.last_ms < later.first_ms for later, earlier in pairwise(visits))
    assigned = [total for (name, _), total in names_of(core).items() if name == "assigned.red.beta"]
    assert sum(assigned) == len(visits)


@pytest.mark.parametrize("said", ["red", "crimson"])
def test_a_visit_goes_on_under_the_names_of_a_rename(said: str) -> None:
    """It is not assigned anew, whichever name events carry; a late event takes back under the new name."""
    core = Core(shop())
    core.feed([message(60_000, "home")])
    config = shop()
    experiment = config["tenants"]["uswm"]["experiments"].pop("button_color")
    experiment |= {"variations": {"blue": 1, "crimson": 1}, "aliases": {"red": "crimson"}, "names": ["button_color"]}
    config["tenants"]["uswm"]["experiments"]["button"] = experiment
    reconfigure(core, config)
    core.feed([message(120_000, "item", assignments={"button": said})])
    assert names_of(core)["fm.crimson.item_page.beta", 2] == 1
    assert ("assigned.crimson.beta", 2) not in names_of(core)
    core.feed([message(0, "home", 120_000)])
    found = names_of(core)
    beta = {name: total for name, total in found.items() if name[0].endswith(("assigned.red.beta", "crimson.beta"))}
    assert beta == {
        ("assigned.red.beta", 1): 1,
        ("assigned.crimson.beta", 1): -1,
        ("assigned.crimson.beta", 0): 1,
        ("fm.crimson.beta", 1): -1,
        ("fm.crimson.beta", 0): 1,
        ("tardy.crimson.beta", 0): 1,
    }


def test_experiments_that_are_put_together_go_on_as_one() -> None:
    """A visit has one state of an experiment: that of the first of its names that there was."""
    config = shop()
    experiments = config["tenants"]["uswm"]["experiments"]
    experiments["other"] = experiments["button_color"]
    core = Core(config)
    core.feed([message(0, "home", assignments={"button_color": "red", "other": "blue"})])
    merged = shop()
    merged["tenants"]["uswm"]["experiments"] = {"one": {**experiments["other"], "names": ["other", "button_color"]}}
    reconfigure(core, merged)
    core.feed([message(60_000, "item", assignments=None)])
    found = names_of(core)
    assert found["fm.blue.item_page", 1] == 1
    assert ("fm.red.item_page", 1) not in found


def test_what_is_no_longer_defined_is_dropped() -> None:
    """A visit of an experiment that was taken away counts no more; if that returns, the visit is assigned anew."""
    core = Core(shop())
    core.feed([message(0, "home")])
    config = shop()
    config["tenants"]["uswm"]["experiments"] = {}
    reconfigure(core, config)
    assert not core.feed([message(60_000, "home")])
    reconfigure(core, shop())
    core.feed([message(120_000, "home", assignments={"button_color": "blue"})])
    assert names_of(core)["assigned.blue.beta", 2] == 1


def test_sessions_of_an_unknown_tenant_are_dropped() -> None:
    """A tenant that is gone leaves nothing behind; if it comes back, it begins anew."""
    core = Core(shop())
    core.feed([message(0, "home")])
    config = shop()
    config["tenants"] = {"other": config["tenants"]["uswm"]}
    reconfigure(core, config)
    assert core.group.sessions == {"other": {}}
    reconfigure(core, shop())
    assert core.group.sessions == {"uswm": {}}


def test_the_same_configuration_leaves_the_bytes_alone() -> None:
    """A session goes from snapshot to snapshot as it is."""
    core = Core(shop())
    core.feed([message(0, "home")])
    before = core.group.pack()["uswm"][SESSION]
    core.restart()
    assert core.group.sessions["uswm"][SESSION] == before


def test_a_restart_keeps_the_watermark() -> None:
    """And how far each partition has been read; a new group, and a new ledger, know nothing."""
    core = Core(shop(), ("0", "1"))
    core.feed([message(0, "home"), message(5_000, "home")._replace(partition=1)])
    before = core.group.watermark
    core.restart()
    assert core.group.watermark is not before
    assert (core.group.watermark.value_ms, core.group.watermark.highs()) == (before.value_ms, before.highs())
    assert restored_group(None, core.compiled).watermark.value_ms == NEVER
    assert restored_ledger(None).totals == {}


def test_a_ledger_comes_back() -> None:
    """With its totals and watermarks, and independent of the one that it was written from."""
    core = Core(shop())
    core.feed([message(0, "home")])
    state = ledger_state(core.ledger)
    back = restored_ledger(state)
    assert (back.totals, back.watermarks) == (core.ledger.totals, core.ledger.watermarks)
    core.feed([message(1, "home")])
    assert restored_ledger(state).totals != core.ledger.totals


def test_state_is_plain() -> None:
    """Snapshots hold nothing of our own classes, which the next version may have changed."""
    core = Core(shop())
    core.feed([message(60_000, "home"), message(0, "item", 60_000), message(60_000, "home", sessionId="s-2")])
    allowed = {dict, tuple, list, str, bytes, int, type(None)}
    assert {type(part) for part in parts(group_of(core))} <= allowed
    assert {type(part) for part in parts(ledger_state(core.ledger))} <= allowed


@pytest.mark.parametrize("version", [0, VERSION + 1, None])
def test_state_of_another_version_is_refused(version: int | None) -> None:
    """With a message that says what to do, before anything of it is read."""
    core = Core(shop())
    core.feed([message(0, "home")])
    with pytest.raises(JobError, match="another version of the monitor"):
        restored_group({"version": version, "new": "form"}, core.compiled)
    with pytest.raises(JobError, match="another version of the monitor"):
        restored_ledger(ledger_state(core.ledger) | {"version": version})


def group_of(core: Core) -> Plain:
    """The state of a core's session group."""
    definitions = {name: packed_definitions(tenant.program.tenant) for name, tenant in core.compiled.tenants.items()}
    return group_state(core.group, definitions)


def reconfigure(core: Core, config: Config) -> None:
    """A restart with another configuration."""
    state = group_of(core)
    core.compiled = compiled_of(config)
    core.group = restored_group(state, core.compiled)


def some_of(draw: st.DrawFn, table: Mapping[str, Any]) -> set[str]:
    """Some of the names."""
    return draw(st.sets(st.sampled_from(sorted(table)))) if table else set()


def reordered(draw: st.DrawFn, table: Mapping[str, Any]) -> dict[str, Any]:
    """The table in another order."""
    return {name: table[name] for name in draw(st.permutations(sorted(table)))}


def points_in(rule: Config) -> Iterator[str]:
    """The points that a rule names."""
    if "point" in rule:
        yield rule["point"]
    for part in (*rule.get("all", ()), *rule.get("any", ())):
        yield from points_in(part)


def of_experiment(
    totals: Mapping[Key, float], experiment: str, points: set[str], with_tags: bool
) -> dict[tuple[str, int, oracle.Tags], float]:
    """The totals of one experiment, without those of other points; over all tags, if these do not matter."""
    found: defaultdict[tuple[str, int, oracle.Tags], float] = defaultdict(float)
    for (name, minute, tags), total in totals.items():
        tenant, _, _, _, *what = name.split(".")
        mine = tenant == TENANT_NAME and ("experiment", experiment) in tags
        if mine and (what == ["beta"] or what[0] in points):
            found[name, minute, tags if with_tags else ()] += total
    return {key: total for key, total in found.items() if total}


def parts(value: object) -> Iterator[object]:
    """A value and all that it holds."""
    yield value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from parts(key)
            yield from parts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from parts(inner)
