"""What a visit contributes is a function of the set of its events; what comes late corrects it, minute by minute."""

import math
import tomllib
from collections import Counter, defaultdict
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.config.errors import ConfigError
from monitor.core.classify import measure
from monitor.core.definitions import MeasurementPoint, Predicate, Value
from monitor.core.deltas import Deltas
from monitor.core.states import Contributions
from monitor.core.visits import Visit
from tests.support import oracle
from tests.support.driver import Core
from tests.support.messages import BASE_MS, MINUTE_MS, message, names_of, shop
from tests.support.oracle import Message
from tests.support.strategies import Config, arrivals, configs, logs, to_toml

WORKED_EXAMPLE = {
    "item@12": "assigned.beta@12 +1, assigned.item_page@12 +1, assigned.item_page.beta@12 +1",
    "home@14": "assigned.home_page@14 +1, assigned.home_page.beta@14 +1, "
    "fm.beta@14 +1, fm.home_page@14 +1, fm.home_page.beta@14 +1",
    "item@15": "assigned.item_page@15 +1, fm.item_page@15 +1, fm.item_page.beta@15 +1",
    "home@10": "assigned.beta@10 +1, assigned.beta@12 -1, assigned.home_page@10 +1, "
    "assigned.home_page.beta@10 +1, assigned.home_page.beta@14 -1, fm.beta@10 +1, fm.beta@14 -1, fm.home_page@10 +1, "
    "fm.home_page.beta@10 +1, fm.home_page.beta@14 -1, fm.item_page@12 +1, fm.item_page.beta@12 +1, "
    "fm.item_page.beta@15 -1",
}


@pytest.mark.parametrize("restarts", [False, True])
def test_the_worked_example_delta_by_delta(restarts: bool) -> None:
    """Each arrival of the contract's table changes exactly what its line says, also to a visit that was at rest."""
    core = Core(worked_example())
    for arrival, line in WORKED_EXAMPLE.items():
        assert written(core.feed([arriving(arrival)])) == sorted(line.split(", "))
        if restarts:
            core.restart()


def test_corrections_are_the_negative_deltas() -> None:
    """The late event of the worked example takes back five things; what comes in order takes back nothing."""
    core = Core(worked_example())
    for arrival, line in WORKED_EXAMPLE.items():
        arrived = arriving(arrival)
        core.group.feed([(arrived.key, arrived.value, arrived.timestamp)])
        assert core.group.take()["uswm"].corrections == line.count("-1")
    assert WORKED_EXAMPLE["home@10"].count("-1") == 5


@given(data=st.data())
def test_no_delta_before_the_event(data: st.DataObject) -> None:
    """Causality: an event at time t changes no minute before t's; a rejected message changes nothing."""
    config = tomllib.loads(to_toml(data.draw(configs())))
    core = Core(config)
    for arriving in data.draw(logs(config)):
        accepted = core.accepted.total()
        changed = core.feed([arriving._replace(partition=0)])
        if core.accepted.total() == accepted:
            assert not changed
        elif changed:
            fields = oracle.decode(arriving.value)
            assert fields is not None
            assert min(changed) >= fields["time"] // MINUTE_MS


@given(data=st.data())
def test_totals_are_sound_at_every_moment(data: st.DataObject) -> None:
    """No count is negative; per key `fm` <= `assigned` and `.beta` <= its total; over all keys also for `.beta`."""
    config = tomllib.loads(to_toml(data.draw(configs())))
    log = data.draw(logs(config))
    core = Core(config, sorted({str(m.partition) for m in log}))
    for arriving in log:
        core.feed([arriving])
        totals = {key: n for key, n in core.answer().items() if not key[0].endswith((".sum", ".sumsq"))}
        visits: defaultdict[str, float] = defaultdict(float)
        for (name, minute, tags), total in totals.items():
            assert total > 0
            if name.endswith(".beta"):
                visits[name] += total
                has_total = name.count(".") > 4 and ".aa-" not in name
                assert not has_total or total <= totals[name.removesuffix(".beta"), minute, tags]
            elif ".visit.fm." in name:
                assert total <= totals[in_assigned(name), minute, tags]
        assert all(n <= visits[in_assigned(name)] for name, n in visits.items())


def in_assigned(name: str) -> str:
    """The same in scope `assigned`."""
    return name.replace(".visit.fm.", ".visit.assigned.")


@given(data=st.data())
def test_any_order_batching_or_repetition_gives_the_same_totals(data: st.DataObject) -> None:
    """Accepted events come to the same in whatever order and batches, repeated, with restarts in between."""
    config: Config = tomllib.loads(to_toml(data.draw(configs())))
    config["time"] |= {"session_gap_s": 1_800, "allowed_lateness_s": 1_800}
    config.pop("limits", None)
    log = accepted_in_any_order(config, data.draw(logs(config)))
    again = data.draw(st.lists(st.sampled_from(log), max_size=4)) if log else []
    core = Core(config)
    for batch in data.draw(arrivals(log + again)):
        core.feed(batch)
        if data.draw(st.booleans()):
            core.restart()
    assert core.answer() == oracle.answer(config, log).totals
    assert core.accepted.total() == len(log)


def test_all_orders_of_one_visit() -> None:
    """A small visit with an assignment, a qualification, a crossing, `nth` and values, in each of its 120 orders."""
    config = shop(lateness_s=1_800)
    visit = [
        message(0, "item", 300_000, assignments=None),
        message(60_000, "item", 300_000),
        message(60_000, "home", 300_000, assignments=None),
        message(
            190_000, None, 300_000, event="order", attributes={"total": 19.99}, assignments={"button_color": "blue"}
        ),
        message(250_000, None, 300_000, event="order", attributes={"total": -5}, assignments=None),
    ]
    wanted = oracle.answer(config, visit).totals
    for order in permutations(visit):
        core = Core(config)
        core.feed(order)
        assert core.answer() == wanted


@pytest.mark.parametrize(
    ("second_ms", "late_ms", "visits"), [(150_000, 75_000, 1), (180_000, 100_000, 1), (180_000, 100_001, 2)]
)
def test_a_late_event_joins_two_visits(second_ms: int, late_ms: int, visits: int) -> None:
    """Neighbours of at most the gap (100 s) are one visit, also when the event between them comes last."""
    config = shop(lateness_s=80, gap_s=100)
    log = [message(0, "home"), message(second_ms, "item", assignments={"button_color": "blue"})]
    log.append(message(late_ms, "item", second_ms, assignments=None))
    core = Core(config)
    core.feed(log[:2])
    assert counts(core, "assigned.red.beta", "assigned.blue.beta", "crossed.red.beta") == [1, 1, 0]
    core.feed(log[2:])
    assert counts(core, "assigned.red.beta", "assigned.blue.beta", "crossed.red.beta") == [1, visits - 1, 2 - visits]
    assert core.answer() == oracle.answer(config, log).totals


def test_events_of_equal_time_are_ordered_by_their_identity() -> None:
    """Of two assignments at one millisecond that of the smaller eventId is the visit's, whichever arrives first."""
    a = message(0, "home", eventId="a", assignments={"button_color": "blue"})
    b = message(0, "home", eventId="b", assignments={"button_color": "red"})
    for log in ([a, b], [b, a]):
        core = Core(shop())
        core.feed(log)
        assert names_of(core)["assigned.blue.home_page", 0] == 2
        assert names_of(core)["crossed.blue.beta", 0] == 1
        assert ("assigned.red.beta", 0) not in names_of(core)


def test_what_is_at_the_same_time_as_the_assignment_counts() -> None:
    """Since compares times: what is ordered before the assignment, but is not earlier, counts."""
    log = [message(0, "item", eventId="a", assignments=None), message(0, "home", eventId="b")]
    for order in (log, log[::-1]):
        core = Core(shop())
        core.feed(order)
        assert names_of(core)["fm.red.item_page.beta", 0] == 1


def test_nth_counts_only_the_nth() -> None:
    """The second page view counts, not the third; a late one before them moves it."""
    core = Core(shop())
    core.feed([message(60_000, "home"), message(120_000, "item"), message(180_000, "item")])
    assert {minute for name, minute in names_of(core) if name == "assigned.red.engaged"} == {2}
    core.feed([message(0, "item", 180_000)])
    assert {minute for name, minute in names_of(core) if name == "assigned.red.engaged"} == {1}


def test_the_nth_that_comes_before_the_assignment() -> None:
    """Matches are counted over the whole visit: neither the second, before the assignment, counts, nor the third."""
    core = Core(shop())
    core.feed([message(0, "item", assignments=None), message(1, "item", assignments=None), message(2, "item")])
    assert not [name for name, _ in names_of(core) if "engaged" in name]


def test_sums_of_values() -> None:
    """`.sum` is the sum of x, `.sumsq` the square of the visit's sum; a refund makes them fall; bad values count 0."""
    core = Core(shop())
    totals = [20.0, -5, "x", None, 0.005]
    core.feed(
        [message(i, None, 5, event="order", eventId=f"o{i}", attributes={"total": x}) for i, x in enumerate(totals)]
    )
    found = names_of(core)
    assert (found["assigned.red.order", 0], found["assigned.red.order.beta", 0]) == (5, 1)
    assert (found["assigned.red.order.sum", 0], found["assigned.red.order.sumsq", 0]) == (1_500, 1_500**2)
    core.feed([message(60_000, None, event="order", attributes={"total": -15})])
    assert names_of(core)["assigned.red.order.sumsq", 1] == -(1_500**2)
    assert sum(n for (name, _), n in names_of(core).items() if name == "assigned.red.order.sum") == 0


@pytest.mark.parametrize(
    ("attribute", "scale", "x"),
    [
        (5.55, 100, 555),
        (2, 1, 2),
        (0.5, 1, 0),  # half to even, as Python and IEEE 754 round
        (1.5, 1, 2),
        (2.5, 1, 2),
        (-0.5, 1, 0),
        (-1.5, 1, -2),
        (1_000, 1, 1_000),
        (1_000.4, 1, 1_000),
        (1_001, 1, 1_000),
        (-1_001, 1, -1_000),
        (10**400, 1, 1_000),
        (10**400, 0.5, 1_000),
        (-(10**400), 0.5, -1_000),
        (10**400, -0.5, -1_000),
        (1e300, 1e300, 1_000),
        (-1e300, 1e300, -1_000),
        (0, 1e300, 0),
        (math.inf, 1, None),
        (-math.inf, 1, None),
        (True, 1, None),
        ("2", 1, None),
        (None, 1, None),
        ([1], 1, None),
    ],
)
def test_a_measured_value(attribute: Any, scale: float, x: int | None) -> None:
    """x = round(attribute * scale), clipped to [-max, max]; None for what is no finite number."""
    assert measure(MeasurementPoint("p", Predicate(), value=Value("total", scale, 1_000)), attribute) == x


def test_any_number_of_tag_combinations_is_counted_or_refused() -> None:
    """Fourteen tags of eight values are 10^14 combinations: each event is counted at its minute under its own tags."""
    config = shop()
    config["tenants"]["uswm"]["tags"] = {f"t{i}": [f"v{j}" for j in range(8)] for i in range(14)}
    log = [message(i * 60_000, "home", attributes={f"t{j}": f"v{(i + j) % 9}" for j in range(14)}) for i in range(9)]
    try:
        core = Core(config)
    except ConfigError as refused:
        assert "tags" in refused.errors[0].place  # noqa: PT017 - counting is as good
        return
    core.feed(log)
    assert core.answer() == oracle.answer(config, log).totals


@given(data=st.data())
@settings(max_examples=50)
def test_transitions_that_are_forgotten_are_found_anew(data: st.DataObject) -> None:
    """The bound on remembered transitions changes no answer."""
    config = tomllib.loads(to_toml(data.draw(configs())))
    log = data.draw(logs(config))
    core = Core(config, sorted({str(m.partition) for m in log}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("monitor.core.attribution.TRANSITIONS_MAX", 1)
        core.feed(log)
    assert core.answer() == oracle.answer(config, log).totals


@given(data=st.data())
@settings(max_examples=50)
def test_one_event_is_a_step_of_one(data: st.DataObject) -> None:
    """`step_one` leaves out only what cannot change anything: from any state it equals `step` with one event."""
    config = tomllib.loads(to_toml(data.draw(configs())))
    core = Core(config, ("0",))
    core.feed(data.draw(logs(config)))
    for name, sessions in core.group.sessions.items():
        program = core.compiled.tenants[name].program
        decoded = [session for session in sessions.values() if isinstance(session, Visit)]
        entries = [entry for visit in decoded for entry in visit.tail]
        states = [program.initial, *(entry.before for entry in entries if entry.before is not None)]
        for state in states[:20]:
            for entry in entries[:20]:
                one, many = Contributions(), Contributions()
                after_one = program.step_one(state, entry, one, variations_are_new=True)
                after_many = program.step(state, [entry], many)
                assert after_one.equals(after_many)
                assert (one.increments, one.amounts) == (many.increments, many.amounts)


def counts(core: Core, *names: str) -> list[float]:
    """Totals over all minutes and tags."""
    totals = names_of(core)
    return [sum(total for (name, _), total in totals.items() if name == wanted) for wanted in names]


def worked_example() -> Config:
    """The two points of the worked example."""
    config = shop()
    points = config["tenants"]["uswm"]["points"]
    config["tenants"]["uswm"]["points"] = {name: points[name] for name in ("home_page", "item_page")}
    config["time"]["tardy_s"] = 300
    return config


def arriving(arrival: str) -> Message:
    """The message of a line of the worked example, such as `item@12`; all arrive in minute 15."""
    page, minute = arrival.split("@")
    return message(int(minute) * MINUTE_MS, page, 15 * MINUTE_MS)


def written(changed: Deltas) -> list[str]:
    """Deltas as the worked example writes them."""
    return sorted(
        f"{series.split('|')[0].replace('.red', '').split('.', 2)[2]}@{minute - BASE_MS // MINUTE_MS} {delta:+d}"
        for minute, changes in changed.items()
        for series, delta in changes.items()
    )


def accepted_in_any_order(config: Config, log: list[Message]) -> list[Message]:
    """The events of a log that are accepted whatever the order: they arrive at one moment, no identity comes twice."""
    now_ms = max(message.timestamp for message in log)
    found: dict[tuple[str, str, str], Message] = {}
    for arriving in log:
        moved = Message(0, 0, now_ms, arriving.key, arriving.value)
        verdict = oracle.classify(config, moved, {})
        if verdict.reason is None and verdict.event is not None:
            event = verdict.event
            found.setdefault((event.tenant, event.session_id, event.event_id), moved)
    assert not Counter(oracle.answer(config, list(found.values())).rejected)
    return list(found.values())
