"""The judge is judged: by the worked example, by the invariants of the contract and on both sides of every boundary."""

from __future__ import annotations

import math
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import chain, pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.oracle import Event, Key, Message, Visit, answer, classify, contributions, holds, tag_value, value_of
from tests.support.strategies import BASE_MS, Case, Config, arrivals, cases, encode, to_toml

MINUTE_MS = 60_000
PROPERTY = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
POINTS: Config = {
    "home_page": {"event": "page_view", "where": {"page": "home"}},
    "item_page": {"event": "page_view", "where": {"page": "item"}},
    "order": {"event": "order", "value": {"attribute": "total", "scale": 100, "max": 1_000_000}},
}
WORKED_EXAMPLE = """
item@12: assigned.beta@12 +1, assigned.item_page@12 +1, assigned.item_page.beta@12 +1
home@14: assigned.home_page@14 +1, assigned.home_page.beta@14 +1, \
fm.beta@14 +1, fm.home_page@14 +1, fm.home_page.beta@14 +1
item@15: assigned.item_page@15 +1, fm.item_page@15 +1, fm.item_page.beta@15 +1
home@10: assigned.beta@10 +1, assigned.beta@12 -1, assigned.home_page@10 +1, \
assigned.home_page.beta@10 +1, assigned.home_page.beta@14 -1, fm.beta@10 +1, fm.beta@14 -1, fm.home_page@10 +1, \
fm.home_page.beta@10 +1, fm.home_page.beta@14 -1, fm.item_page@12 +1, fm.item_page.beta@12 +1, fm.item_page.beta@15 -1
"""


@pytest.mark.parametrize("arrived", range(1, 5))
def test_the_worked_example_line_by_line(arrived: int) -> None:
    """The difference between the answers before and after an arrival is exactly what its line of the table says."""
    lines = [line.split(": ") for line in WORKED_EXAMPLE.strip().splitlines()]
    steps = [(page, int(minute)) for page, minute in (arrival.split("@") for arrival, _ in lines)]
    log = [message(page=page, time=at(minute), timestamp=at(15), eventId=page + str(minute)) for page, minute in steps]
    config = CONFIG | {"time": {"tardy_s": 300}}
    before, after = answer(config, log[: arrived - 1]), answer(config, log[:arrived])
    assert changed(before.totals, after.totals) == deltas_of(lines[arrived - 1][1])


@PROPERTY
@given(case=cases(), data=st.data())
def test_any_order_batching_or_repetition_gives_the_same_totals(case: Case, data: st.DataObject) -> None:
    """What is accepted once gives the same totals and visits in whatever order, batches and repetition it arrives."""
    patient, events = accepted_events(case)
    repeated = events[: data.draw(st.integers(0, 5))]
    batches = data.draw(arrivals(events + repeated))
    straight = answer(patient, [message_of(event) for event in events])
    shuffled = answer(patient, [message_of(event) for event in chain(*batches)])
    assert (shuffled.totals, shuffled.warnings) == (straight.totals, straight.warnings)
    assert identities(shuffled.visits) == identities(straight.visits)
    assert (shuffled.accepted.total(), shuffled.rejected.total()) == (len(events), len(repeated))


@PROPERTY
@given(case=cases(), data=st.data())
def test_only_the_order_within_a_session_matters(case: Case, data: st.DataObject) -> None:
    """Partitions may be read at any relative speed: every interleaving of the same partitions gives the same answer."""
    config, log = case
    turns = data.draw(st.permutations([message.partition for message in log]))
    queues = {turn: iter([message for message in log if message.partition == turn]) for turn in turns}
    one, other = answer(config, log), answer(config, [next(queues[turn]) for turn in turns])
    assert (one[:4], identities(one.visits)) == (other[:4], identities(other.visits))


@PROPERTY
@given(case=cases())
def test_an_event_gives_no_delta_in_a_minute_before_its_own(case: Case) -> None:
    """Causality: whenever it arrives, an event changes totals from its own minute on."""
    patient, events = accepted_events(case)
    log = [message_of(event) for event in events]
    after = Counter(answer(patient, log).totals)
    for index, event in enumerate(events):
        before = Counter(answer(patient, log[:index] + log[index + 1 :]).totals)
        moved = (key for key in before.keys() | after.keys() if before[key] != after[key])
        assert all(minute + MINUTE_MS > event.time for _, minute, _ in moved)


@PROPERTY
@given(case=cases())
def test_totals_keep_their_bounds(case: Case) -> None:
    """`fm` <= `assigned`, `.beta` <= its total, and only `.sum` and `.sumsq` may be negative.

    Per key for counts, and for a point's `.beta` against its count; the `.beta` of `fm`, `crossed` and `tardy` may
    stand at a later event than that of `assigned`, so these are compared over all minutes and tags.
    """
    totals = Counter(answer(*case).totals)
    overall = by_name(totals)
    for (name, minute, tags), total in totals.items():
        tenant, visit, _, variation, *point = name.split(".")
        assigned = ".".join((tenant, visit, "assigned", variation, *point))
        if point[-1] not in ("sum", "sumsq"):
            assert 0 < total <= overall[name] <= overall[assigned]
            is_alone = len(point) == 1 or variation.startswith("aa-")
            assert is_alone or total <= totals[name.removesuffix(".beta"), minute, tags]
            assert point[-1] == "beta" or total <= totals[assigned, minute, tags]


@PROPERTY
@given(case=cases())
def test_a_beta_counts_each_visit_once_and_sumsq_is_the_sum_of_squared_sums(case: Case) -> None:
    """Over all minutes and tags `.beta` is the number of visits, `.sumsq` the sum over visits of (sum of x) squared."""
    found = answer(*case)
    expected: Counter[str] = Counter()
    for visit in found.visits:
        own = by_name(contributions(case[0], visit.tenant, visit.events))
        expected.update(name for name in own if name.endswith(".beta") and ".aa-" not in name)
        expected.update({f"{name}sq": total**2 for name, total in own.items() if name.endswith(".sum")})
    overall = by_name(found.totals)
    single = {name: total for name, total in overall.items() if ".aa-" not in name}  # those are of several experiments
    assert {name: total for name, total in single.items() if name.endswith((".beta", ".sumsq")) and total} == +expected


@PROPERTY
@given(case=cases())
def test_every_message_is_accepted_or_rejected_once(case: Case) -> None:
    """Accepted and rejected add up to the log; visits hold what was accepted, and neighbours at most a gap apart."""
    found = answer(*case)
    assert found.accepted.total() + found.rejected.total() == len(case[1])
    assert Counter(event.tenant for visit in found.visits for event in visit.events) == found.accepted
    for visit in found.visits:
        for earlier, later in pairwise(visit.events):
            assert 0 <= later.time - earlier.time <= case[0]["time"]["session_gap_s"] * 1000


def test_drawn_cases_meet_every_rule() -> None:
    """The strategies reach every reason, note and scope, refunds and visits that join."""
    seen: Counter[str] = Counter()

    @settings(max_examples=250, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case=cases())
    def collect(case: Case) -> None:
        config, log = case
        assert repr(tomllib.loads(to_toml(config))) == repr(config)
        found = answer(config, log)
        seen.update(reason for _, reason in (*found.rejected.elements(), *found.warnings.elements()))
        seen.update(name.split(".")[2] for name, _, _ in found.totals)
        seen.update("refund" for (name, _, _), total in found.totals.items() if name.endswith(".sum") and total < 0)
        if any(len(visit.events) >= 3 for visit in found.visits):
            visits = [len(answer(config, log[:size]).visits) for size in range(len(log) + 1)]
            seen.update("joined" for before, after in pairwise(visits) if after < before)

    collect()
    rules = "oversized not_json bad_field unknown_tenant future late duplicate visit_full unknown_experiment "
    rules += "unknown_variation bad_value key_mismatch assigned fm crossed tardy refund joined"
    assert set(rules.split()) <= seen.keys()


@pytest.mark.parametrize(("apart_ms", "visits"), [(1_800_000, 1), (1_800_001, 2)])
def test_neighbours_a_gap_apart_are_one_visit(apart_ms: int, visits: int) -> None:
    """Exactly `session_gap_s` apart is one visit, a millisecond more is two; an identity holds within a visit."""
    found = answer(CONFIG, [message(time=at(10)), message(time=at(10) + apart_ms)])
    assert (len(found.visits), by_name(found.totals)["uswm.visit.assigned.red.beta"]) == (visits, visits)
    found = answer(CONFIG, [message(time=at(10), eventId="a"), message(time=at(10) + apart_ms, eventId="a")])
    assert (found.accepted["uswm"], found.rejected["uswm", "duplicate"]) == (visits, 2 - visits)


def test_an_event_that_joins_two_visits_is_judged_by_both() -> None:
    """It is a duplicate if either holds its id, finds no room if both together are full, else makes them one."""
    apart = [message(time=at(10), eventId="a"), message(time=at(69), eventId="b")]
    assert len(answer(CONFIG, apart).visits) == 2
    reasons = {("a", 3): "duplicate", ("b", 3): "duplicate", ("c", 2): "visit_full", ("c", 3): None}
    for (event_id, limit), expected in reasons.items():
        joining = message(time=at(39), timestamp=at(49), eventId=event_id)
        found = answer(CONFIG | {"limits": {"events_per_visit": limit}}, [*apart, joining])
        assert [reason for _, reason in found.rejected] == ([expected] if expected else [])
        assert len(found.visits) == (2 if expected else 1)


def test_without_an_id_the_value_is_the_identity() -> None:
    """The same bytes twice are one event; other bytes, were it only a space, are another."""
    for sent in (message(eventId=None), message(eventId="")):
        found = answer(CONFIG, [sent, sent, sent._replace(value=sent.value + b" ")])
        assert (found.accepted["uswm"], found.rejected) == (2, {("uswm", "duplicate"): 1})
        assert all(event.event_id[0] == "~" and len(event.event_id) == 17 for event in found.visits[0].events)


FIELDS: list[tuple[str | None, str, list[Any]]] = [
    (None, "time", [BASE_MS + 60_000, BASE_MS - 600_000]),
    (None, "sessionId", ["s", "\U0001f600" * 256]),
    (None, "assignments", [None, {}, {"": ""}, {"button_color": 1}, {"button_color": None}, {"\ud800": "red"}]),
    (None, "page", ["\ud800", [], {}]),
    ("future", "time", [BASE_MS + 60_001, 10**14 - 1]),
    ("late", "time", [BASE_MS - 600_001, 10**11]),
    ("unknown_tenant", "tenant", ["nobody", ""]),
    ("bad_field", "tenant", [1, None]),
    ("bad_field", "time", [0, -1, 1, 10**11 - 1, 10**14, 2**53, True, float(BASE_MS), str(BASE_MS), math.inf, None]),
    ("bad_field", "sessionId", ["", "x" * 257, "\ud800", 1, None]),
    ("bad_field", "event", ["\ud800", None]),
    ("bad_field", "eventId", [1, "\udfff", []]),
    ("bad_field", "assignments", [[], "red", 1]),
    ("placeholder_id", "sessionId", ["undefined", " NULL\n", "0"]),
    ("bad_field", "attributes", [[], "home", 1]),
]


@pytest.mark.parametrize(("reason", "name", "values"), FIELDS)
def test_bounds_of_the_fields(reason: str | None, name: str, values: list[Any]) -> None:
    """A field at its bound is accepted, a field beyond it is rejected."""
    for value in values:
        assert classify(CONFIG, message(BASE_MS, **{name: value}), {}).reason == reason, value


def test_the_order_of_checks() -> None:
    """A message that fails several checks is rejected by the first; what repairs it leads to the next."""
    config = CONFIG | {"limits": {"message_bytes": 300, "events_per_visit": 1}}
    held = {("uswm", "s-1"): answer(CONFIG, [message(eventId="a")]).visits[0].events}
    fields: Config = {"padding": "p" * 300, "time": 0, "tenant": "nobody", "eventId": "a"}
    found, late, future, on_time = [], BASE_MS - 600_001, BASE_MS + 60_001, BASE_MS
    steps = [("padding", ""), ("time", late), ("tenant", "uswm"), ("time", future), ("time", on_time), ("eventId", "b")]
    for name, repaired in [("time", 0), *steps]:
        fields[name] = repaired
        found.append(classify(config, message(BASE_MS, **fields), held).reason)
    assert found == ["oversized", "bad_field", "unknown_tenant", "late", "future", "duplicate", "visit_full"]


def test_what_is_not_a_json_object() -> None:
    """RFC 8259 and nothing more: no NaN, no byte order mark, no bytes that are not UTF-8, no other top value."""
    for value in (b"", b"[]", b"1", b"{", b'{"a": NaN}', b'{"a": "\xff"}', b'\xef\xbb\xbf{"a": 1}', b"[" * 9_999):
        assert classify(CONFIG, Message(0, 0, BASE_MS, None, value), {}).reason == "not_json", value


def test_the_bound_of_a_message() -> None:
    """A message of exactly `limits.message_bytes` is read; one byte more is not looked into."""
    for spare, reason in ((0, None), (-1, "oversized")):
        config = CONFIG | {"limits": {"message_bytes": len(message().value) + spare}}
        assert classify(config, message(), {}).reason == reason


@pytest.mark.parametrize("literal", [b"1e999", b"-1e999", b"9" * 5_000])
def test_numbers_beyond_every_float_are_json(literal: bytes) -> None:
    """They are numbers, though not finite ones."""
    sent = message(event="order", total="?")
    found = answer(CONFIG, [sent._replace(value=sent.value.replace(b'"?"', literal))])
    assert (found.accepted, found.warnings) == ({"uswm": 1}, {("uswm", "bad_value"): 1})


def test_a_minute_begins_at_its_first_millisecond() -> None:
    """59.999 s belong to the minute before, 60.000 s to the next."""
    for time, minute in ((at(1) - 1, 0), (at(1), 1)):
        assert {key[1] for key in answer(CONFIG, [message(time=time)]).totals} == {at(minute)}


@pytest.mark.parametrize(("earlier_ms", "counted"), [(0, 1), (1, 0)])
def test_events_of_equal_time_are_one_step(earlier_ms: int, counted: int) -> None:
    """An event at the time of the assignment counts, though its id puts it before; a millisecond earlier does not."""
    before = message(time=at(10) - earlier_ms, eventId="a", page="item", assignments={})
    found = answer(CONFIG, [message(time=at(10), eventId="b"), before])
    assert by_name(found.totals)["uswm.visit.assigned.red.item_page"] == counted


def test_the_first_variation_holds_and_another_is_crossed() -> None:
    """The variation is that of the first event; the first event with another one is counted as crossed, once."""
    sent = enumerate(("teal", "red", "blue", "blue"))
    found = answer(CONFIG, [message(time=at(n), assignments={"button_color": name, "x": "y"}) for n, name in sent])
    assert changed({}, found.totals) == deltas_of("assigned.beta@1 +1, crossed.beta@2 +1")
    assert found.warnings == {("uswm", "unknown_variation"): 1, ("uswm", "unknown_experiment"): 4}


@pytest.mark.parametrize(("late_ms", "tardy"), [(60_000, 0), (60_001, 1)])
def test_a_visit_is_tardy_once_from_its_assignment_on(late_ms: int, tardy: int) -> None:
    """By the first event whose message came more than `tardy_s` after it; one before the assignment does not count."""
    sent = enumerate(({}, {"button_color": "red"}, {}, {}))
    log = [message(at(n) + late_ms * (n != 1), time=at(n), assignments=assignments) for n, assignments in sent]
    found = changed({}, answer(CONFIG, log).totals)
    assert {key: n for key, n in found.items() if "tardy" in key[0]} == ({("tardy.beta", 2): 1} if tardy else {})


def test_nth_decides_what_counts_and_when_a_rule_is_met() -> None:
    """With `nth = 2` only the second matching event counts, and `{ point }` is met at its time."""
    rule = {"all": [{"point": "second"}, {"any": [{"event": "never"}, {"event": "page_view"}]}]}
    config = config_of({"second": {"event": "page_view", "nth": 2}}, rule)
    totals = answer(config, [message(time=at(minute)) for minute in (12, 10, 11)]).totals
    points = "assigned.second@11 +1, assigned.second.beta@11 +1, fm.second@11 +1, fm.second.beta@11 +1"
    assert changed({}, totals) == deltas_of(f"assigned.beta@10 +1, fm.beta@11 +1, {points}")


def test_sums_are_rounded_clipped_and_squared_over_the_visit() -> None:
    """19.99, a refund, a missing value and one beyond the maximum: the sum, its square, and one `bad_value`."""
    sent = ((10, 19.99), (11, -5), (12, None), (13, 1e9))
    found = answer(CONFIG, [message(event="order", time=at(minute), total=total) for minute, total in sent])
    orders, x = by_name(found.totals), 1_999 - 500 + 1_000_000
    assert [orders[f"uswm.visit.assigned.red.order{suffix}"] for suffix in ("", ".sum", ".sumsq")] == [4, x, x**2]
    assert found.warnings == {("uswm", "bad_value"): 1}


def test_a_wrong_key_is_noted_also_of_rejected_events() -> None:
    """`key_mismatch` is counted where keys have to be session ids: not without a key, nor for what is no event."""
    log = [message(), message(), message(time=10**11), message(tenant="nobody"), message(time=0)]
    wrong, missing = ([sent._replace(key=key) for sent in log] for key in (b"other", None))
    assert answer(CONFIG, wrong).warnings == {("uswm", "key_mismatch"): 3}
    assert answer(CONFIG, log).warnings == answer(CONFIG, missing).warnings == {}
    assert answer(CONFIG | {"kafka": {"key_is_session_id": False}}, wrong).warnings == {}


def test_conditions() -> None:
    """JSON types must agree, 1 equals 1.0, bounds are inclusive and for numbers, all parts of a table must hold."""
    table: list[tuple[Any, list[Any], list[Any]]] = [
        ("home", ["home"], ["item", None, True]),
        (1, [1, 1.0], [True, "1", None, 2]),
        (True, [True], [1, "true", False]),
        (["home", 1, False], ["home", 1.0, False], [True, 0, "1", None]),
        ({"not": ["home", 1]}, ["item", True, "1", 2], ["home", 1.0, None]),
        ({"exists": True}, ["", 0, False], [None]),
        ({"exists": False}, [None], ["", 0, False]),
        ({"min": 1}, [1, 1.5, math.inf], [0.999, True, "2", None]),
        ({"max": 1}, [1, 1.0, -math.inf], [1.001, False, "0", None]),
        ({"min": 1, "max": 2.5, "not": [2]}, [1, 2.5], [2, 2.0, 0, 3, "1"]),
    ]
    for condition, meeting, failing in table:
        assert [value for value in meeting + failing if holds(condition, value)] == meeting, condition


def test_tag_values() -> None:
    """A value in its shortest JSON text, made safe, if listed; else `other`; `unknown` if there is none."""
    listed = ["true", "0", "2", "2.5", "10000000000000000", "a_b/_"]
    assert [tag_value(value, listed) for value in (True, -0.0, 2.0, 2.5, 1e16, "a b/ü")] == listed
    assert {tag_value(value, listed) for value in (False, 1, 3.5, "mobile", "", "True")} == {"other"}
    assert {tag_value(value, listed) for value in (None, math.inf, -math.inf)} == {"unknown"}


def test_values() -> None:
    """Rounded half to even, clipped to the maximum, None if there is no finite number."""
    table: dict[int | None, list[tuple[Any, float]]] = {
        0: [(0.5, 1), (-0.5, 1), (0, 7)],
        2: [(1.5, 1), (2.5, 1), (5, 0.5), (0.024999, 100)],
        100: [(100, 1), (101, 1), (1e300, 1e300), (10**400, 0.5)],
        -100: [(-100, 1), (-101, 1), (-1e300, 1e300), (-(10**400), 0.5)],
        None: [(math.inf, 1), (True, 1), ("7", 1), (None, 1)],
    }
    for x, total, scale in ((x, *product) for x, products in table.items() for product in products):
        event = Event("uswm", "s", at(1), "e", "order", {}, {"total": total})
        assert value_of({"attribute": "total", "scale": scale, "max": 100}, event) == x, (total, scale)


def test_tags_and_names_of_a_contribution() -> None:
    """The key of a total: the whole name, the minute, and sorted tags with `dc`, `experiment` and the tenant's own."""
    tags = {"page": ["home"], "login": {"attribute": "loggedIn", "values": ["true"]}}
    config = config_of(POINTS, {"event": "never"}, tags)
    found = answer(config, [message(time=at(10), page="home", loggedIn=False)])
    expected = (("dc", "dal"), ("experiment", "button_color"), ("login", "other"), ("page", "home"))
    names = ("beta", "home_page", "home_page.beta")
    assert found.totals == {(f"uswm.visit.assigned.red.{name}", at(10), expected): 1 for name in names}


def at(minute: int) -> int:
    """The beginning of a minute, counted from that of `BASE_MS`."""
    return BASE_MS + minute * MINUTE_MS


def config_of(points: Config, rule: Config, tags: Config | None = None) -> Config:
    """A configuration of one tenant and one experiment, all else being default."""
    experiment = {"control": "blue", "variations": {"blue": 50, "red": 50}, "qualified_when": rule}
    tenant = {"tags": tags or {}, "points": points, "experiments": {"button_color": experiment}}
    return {"dc": "dal", "tenants": {"uswm": tenant}}


CONFIG = config_of(POINTS, {"point": "home_page"})


def message(timestamp: int | None = None, **given: Any) -> Message:
    """A message in variation red that arrives on time; what is given and no field of an event is an attribute."""
    fields: Config = {"tenant": "uswm", "sessionId": "s-1", "time": BASE_MS, "event": "page_view", "eventId": None}
    fields |= {"assignments": {"button_color": "red"}}
    fields |= {"attributes": {name: value for name, value in given.items() if name not in fields}} | given
    return Message(0, 0, timestamp or max(BASE_MS, fields["time"]), b"s-1", encode(fields))


def message_of(event: Event) -> Message:
    """A message that holds an event, as it was accepted."""
    names = ("tenant", "sessionId", "time", "eventId", "event", "assignments", "attributes")
    fields = dict(zip(names, event[: len(names)], strict=True))
    return Message(0, 0, event.time + event.delay, None, encode(fields))


def accepted_events(case: Case) -> tuple[Config, list[Event]]:
    """The events a log is left with, each id once, and a configuration under which all are accepted in any order."""
    visits = answer(*case).visits
    unique = {(*visit[:2], event.event_id): event for visit in visits for event in visit.events}
    time = case[0]["time"] | {"allowed_lateness_s": 10**7, "future_tolerance_s": 10**7}
    return case[0] | {"time": time, "limits": {"events_per_visit": len(unique) + 1}}, list(unique.values())


def deltas_of(text: str) -> dict[tuple[str, int], float]:
    """A line of the worked example, by name and minute."""
    return {(name, int(minute)): int(n) for name, minute, n in re.findall(r"([\w.]+)@(\d+) ([+-]\d)", text)}


def changed(before: Mapping[Key, float], after: Mapping[Key, float]) -> dict[tuple[str, int], float]:
    """The deltas other than 0, by name without prefix and variation, and by minute as in `at`."""
    sum_increments = {key: after.get(key, 0) - before.get(key, 0) for key in before.keys() | after.keys()}
    short = {name: name.removeprefix("uswm.visit.").replace(".red", "") for name, _, _ in sum_increments}
    return {(short[name], (minute - at(0)) // MINUTE_MS): n for (name, minute, _), n in sum_increments.items() if n}


def by_name(totals: Mapping[Key, float]) -> dict[str, float]:
    """Totals over all minutes and tags; names hold the variation, which is unique within a tenant."""
    found: defaultdict[str, float] = defaultdict(float)
    for (name, _, _), total in totals.items():
        found[name] += total
    return found


def identities(visits: Iterable[Visit]) -> list[tuple[str, str, list[tuple[int, str]]]]:
    """Visits in a form that can be compared, whatever their order."""
    return sorted((tenant, session, [event[2:4] for event in events]) for tenant, session, events in visits)
