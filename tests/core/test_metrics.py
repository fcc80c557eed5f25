"""Names, series and totals: what is counted becomes the changes of few totals, until their minute is sealed."""

import tomllib
from collections import Counter
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.codes import SCOPES, MetricKey
from monitor.core.deltas import Deltas, SeriesTable, add_deltas, counts_of, deltas_of
from monitor.core.events import EventWarning, RejectReason
from monitor.core.ledger import Ledger
from monitor.core.metrics import SIXTEENTHS, DataPoint, health_series, metric_name, metric_names, sixteenth_metric_name
from monitor.core.sessions import Tally
from monitor.core.watermark import NEVER
from tests.support import oracle
from tests.support.driver import Core
from tests.support.messages import BASE_MS, MINUTE_MS, message, shop
from tests.support.strategies import Config, configs, logs, to_toml

NAMES = [
    (MetricKey("e", "assigned", "red", None, "beta"), "uswm.visit.assigned.red.beta"),
    (MetricKey("e", "crossed", "red", None, "beta"), "uswm.visit.crossed.red.beta"),
    (MetricKey("e", "tardy", "red", None, "beta"), "uswm.visit.tardy.red.beta"),
    (MetricKey("e", "fm", "red", "item_page", None), "uswm.visit.fm.red.item_page"),
    (MetricKey("e", "fm", "red", "item_page", "beta"), "uswm.visit.fm.red.item_page.beta"),
    (MetricKey("e", "assigned", "red", "order", "sum"), "uswm.visit.assigned.red.order.sum"),
    (MetricKey("e", "assigned", "red", "order", "sumsq"), "uswm.visit.assigned.red.order.sumsq"),
]
METRIC_GROUPS = 7


@pytest.mark.parametrize(("metric_key", "name"), NAMES)
def test_the_name_of_a_metric(metric_key: MetricKey, name: str) -> None:
    """`T.visit.SCOPE.V[.P][.part]`; the experiment is a tag, since variations are unique in a tenant."""
    assert metric_name("uswm", metric_key) == name


def test_all_names_of_an_experiment() -> None:
    """Each once, for a point without a value and one with."""
    names = metric_names("uswm", ["red"], [("item_page", False), ("order", True)])
    assert len(names) == len(set(names)) == 2 + 2 * (1 + 2 + 4)
    assert set(names) >= {name for _, name in NAMES}


@given(data=st.data())
def test_no_other_name_is_ever_counted(data: st.DataObject) -> None:
    """Whatever a log comes to, its names are among those listed for its tenant, variations and points."""
    config: Config = tomllib.loads(to_toml(data.draw(configs())))
    log = data.draw(logs(config))
    listed = set()
    for name, tenant in config["tenants"].items():
        points = [(point, "value" in table) for point, table in tenant["points"].items()]
        for experiment in tenant["experiments"].values():
            listed |= set(metric_names(name, experiment["variations"], points))
        for scope, sixteenth, point in product(SCOPES, range(SIXTEENTHS), (None, *tenant["points"])):
            listed.add(sixteenth_metric_name(name, scope, sixteenth, point))
    core = Core(config, sorted({str(m.partition) for m in log}))
    core.feed(log)
    assert {series.split("|")[0] for series, _ in core.totals} <= listed
    assert {name for name, _, _ in oracle.answer(config, log).totals} <= listed


def test_a_series_is_the_same_in_every_process() -> None:
    """Name, experiment and tags in the order of the configuration; its key group depends on nothing else."""
    once, again = fed(), fed()
    assert once == again
    texts = {series for deltas in once.values() for changes in deltas.values() for series in changes}
    assert "uswm.visit.fm.red.home_page.beta|experiment=button_color|device=mobile|login=true" in texts
    assert set(once) <= set(range(METRIC_GROUPS))
    assert len(once) > 1


def test_a_series_has_one_key_group() -> None:
    """All changes of a series go to one ledger, whatever other series there are."""
    homes: dict[str, set[int]] = {}
    for group, deltas in fed().items():
        for changes in deltas.values():
            for series in changes:
                homes.setdefault(series, set()).add(group)
    assert all(len(groups) == 1 for groups in homes.values())


def test_changes_of_zero_are_left_out() -> None:
    """What one tally counted and another took back is no change, and neither is an empty cell."""
    core = Core(shop())
    core.group.feed([(None, message(60_000, "home").value, BASE_MS + 60_000)])
    first = core.group.take()["uswm"]
    core.group.feed([(None, message(0, "home", assignments=None).value, BASE_MS + 60_000)])  # before the assignment
    second = core.group.take()["uswm"]
    table = SeriesTable(core.compiled.tenants["uswm"], METRIC_GROUPS)
    assert flat(deltas_of([first], table))
    summed = Counter(flat(deltas_of([first, second], table)))
    apart = Counter(flat(deltas_of([first], table)))
    apart.update(flat(deltas_of([second], table)))
    assert 0 not in summed.values()
    assert summed == {key: change for key, change in apart.items() if change}
    assert deltas_of([Tally()], table) == deltas_of([], table) == {}


def test_a_move_within_a_cell_is_no_change() -> None:
    """The first event of a minute that a late one of the same minute and tags displaces: `.beta` stays as it is."""
    core = Core(shop())
    core.feed([message(50_000, "item")])
    changed = core.feed([message(10_000, "item", 50_000)])
    assert {series.split("|")[0] for changes in changed.values() for series in changes} == {
        "uswm.visit.assigned.red.item_page",
        "uswm.visit.assigned.red.engaged",
        "uswm.visit.assigned.red.engaged.beta",
    }


def test_adding_changes() -> None:
    """Changes are summed per minute and series; those added stay as they were."""
    into: Deltas = {1: {"a": 1}}
    more: Deltas = {1: {"a": 2, "b": 3}, 2: {"a": -1}}
    add_deltas(into, more)
    add_deltas(into, more)
    assert into == {1: {"a": 5, "b": 6}, 2: {"a": -2}}
    assert more == {1: {"a": 2, "b": 3}, 2: {"a": -1}}


def test_a_ledger_gives_absolute_totals() -> None:
    """One point for each total that was touched, at the start of its minute; a total that falls to 0 is a point too."""
    ledger = Ledger()
    assert ledger.apply({3: {"a": 2, "b": 1}}) == [DataPoint("a", 180_000, 2), DataPoint("b", 180_000, 1)]
    assert ledger.apply({3: {"a": -2}, 4: {"a": 5}}) == [DataPoint("a", 180_000, 0), DataPoint("a", 240_000, 5)]
    assert ledger.apply({3: {"b": 0}, 5: {}}) == [DataPoint("b", 180_000, 1)], "touched, so written again"
    assert ledger.apply({3: {"a": 1, "b": -3}}) == [DataPoint("a", 180_000, 1), DataPoint("b", 180_000, -2)]


@given(st.lists(st.dictionaries(st.integers(0, 2), st.dictionaries(st.sampled_from("abc"), st.integers(-3, 3)))))
def test_the_last_points_are_the_sums(batches: list[Deltas]) -> None:
    """However changes are cut into batches, the last point of each total is the sum of its changes."""
    ledger, last = Ledger(), dict[tuple[str, int], float]()
    sums: Counter[tuple[str, int]] = Counter()
    for batch in batches:
        last |= {(point.series, point.timestamp_ms): point.value for point in ledger.apply(batch)}
        sums.update({(s, minute * MINUTE_MS): n for minute, changes in batch.items() for s, n in changes.items()})
    assert {key: n for key, n in last.items() if n} == {key: n for key, n in sums.items() if n}


def test_a_minute_is_sealed_when_every_group_has_passed_its_end() -> None:
    """Both sides of the end of the minute, and of the last group that has to pass it."""
    ledger = Ledger()
    ledger.apply({0: {"a": 1}, 1: {"a": 2, "b": 3}, 2: {"a": 4}})
    assert ledger.size() == 4
    assert ledger.seal({0: 10 * MINUTE_MS}, 2) == NEVER
    assert ledger.size() == 4
    assert ledger.seal({1: MINUTE_MS - 1}, 2) == MINUTE_MS - 1
    assert ledger.size() == 4
    assert ledger.seal({1: MINUTE_MS}, 2) == MINUTE_MS
    assert set(ledger.totals) == {1, 2}
    assert ledger.seal({1: 2 * MINUTE_MS - 1}, 2) == 2 * MINUTE_MS - 1
    assert set(ledger.totals) == {1, 2}
    assert ledger.seal({0: 11 * MINUTE_MS, 1: 3 * MINUTE_MS}, 2) == 3 * MINUTE_MS
    assert (ledger.totals, ledger.size()) == ({}, 0)


def test_the_watermark_of_a_group_never_falls() -> None:
    """A group that starts anew, or is told twice, does not open what is sealed."""
    ledger = Ledger(watermarks={0: 5 * MINUTE_MS})
    assert ledger.seal({0: MINUTE_MS}, 1) == 5 * MINUTE_MS
    assert ledger.seal({}, 1) == 5 * MINUTE_MS


def test_the_series_of_health() -> None:
    """`monitor.NAME` with its tags."""
    assert health_series("watermark_s") == "monitor.watermark_s"
    assert health_series("lag", topic="t", partition="0") == "monitor.lag|topic=t|partition=0"


def test_what_a_tally_counts() -> None:
    """Each counter of the contract under its name, and none where nothing was counted."""
    assert counts_of("uswm", [Tally()], None) == {}
    tally = Tally()
    tally.accepted, tally.delay_sum_ms, tally.corrections = 2, 7_000, 3
    tally.rejected[RejectReason.NOT_JSON] = 4
    tally.warnings[EventWarning.KEY_MISMATCH] = 6
    tally.bad_values[2] = 5
    tally.late[1] = 7
    tally.future |= {0: 8, 5: 2}
    assert counts_of("uswm", [tally], Core(shop()).compiled.tenants["uswm"]) == {
        "monitor.events|tenant=uswm": 2,
        "monitor.rejected|tenant=uswm|reason=not_json": 4,
        "monitor.noted|tenant=uswm|reason=key_mismatch": 6,
        "monitor.noted|tenant=uswm|reason=bad_value|point=order": 5,
        "monitor.late|tenant=uswm|experiment=button_color|variation=red": 7,
        "monitor.future|tenant=uswm|tag=device|value=mobile": 8,
        "monitor.future|tenant=uswm|tag=device|value=desktop": 2,
        "monitor.future|tenant=uswm|tag=login|value=true": 8,
        "monitor.future|tenant=uswm|tag=login|value=false": 2,
        "monitor.corrections|tenant=uswm": 3,
        "monitor.delay_ms.sum|tenant=uswm": 7_000,
        "monitor.delay_ms.count|tenant=uswm": 2,
    }


def test_a_good_value_is_not_noted() -> None:
    """Counters hold what was counted since the last flush: nothing, of notes, for an event with a good value."""
    core = Core(shop())
    arriving = message(0, None, event="order", attributes={"total": 1})
    core.group.feed([(arriving.key, arriving.value, arriving.timestamp)])
    counts = counts_of("uswm", [core.group.take()["uswm"]], core.compiled.tenants["uswm"])
    assert not [series for series in counts if series.startswith("monitor.noted")]


def fed() -> dict[int, Deltas]:
    """The changes of a small visit, by metric key group."""
    core = Core(shop())
    attributes = {"page": "home", "device": "mobile", "loggedIn": True}
    core.group.feed((m.key, m.value, m.timestamp) for m in [message(0, attributes=attributes)])
    return deltas_of([core.group.take()["uswm"]], SeriesTable(core.compiled.tenants["uswm"], METRIC_GROUPS))


def flat(groups: dict[int, Deltas]) -> dict[tuple[str, int], int]:
    """The changes of all key groups."""
    return {
        (series, minute): change
        for deltas in groups.values()
        for minute, changes in deltas.items()
        for series, change in changes.items()
    }
