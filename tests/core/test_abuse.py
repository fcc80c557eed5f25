"""Abuse: clients that run away, tenants that flood, texts that never repeat, configurations without measure.

Each is scaled down to what proves the bound; the docstrings say how it scales. What must hold: memory stays within the
limits, the cost of an event does not grow, other tenants' numbers stay right, and the health counts show it.
"""

import gc
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.config.errors import ConfigError
from monitor.config.reader import parse
from monitor.core import classify, metrics
from monitor.core.events import EventWarning, RejectReason
from monitor.core.watermark import NEVER
from tests.support import oracle
from tests.support.driver import Core
from tests.support.example_config import example, put
from tests.support.interpreted import is_compiled
from tests.support.messages import BASE_MS, message, shop
from tests.support.oracle import Message
from tests.support.strategies import Config, configs, logs

FLAT = 1.5
"""How many more lines an event may run after abuse than before it; what grows grows by far more."""
SLICE = 500
"""Events between two looks at the cost."""
counts_lines = pytest.mark.skipif(is_compiled(), reason="compiled code runs no lines: counted where it is interpreted")


def events(count: int, at_ms: Callable[[int], int] = lambda n: n, **fields: Any) -> Iterator[Message]:
    """So many page views, told apart by their number; a field may be a function of it."""
    for number in range(count):
        own = {name: found(number) if callable(found) else found for name, found in fields.items()}
        yield message(at_ms(number), "home", **{"eventId": f"e{number}", **own})


def lines_run(core: Core, batch: Sequence[Message]) -> float:
    """Lines of Python that run per event when a batch is fed: its cost, the same on any machine at any time."""
    lines = 0

    def count(_: FrameType, what: str, __: object) -> Any:
        nonlocal lines
        lines += what == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        core.feed(batch)
    finally:
        sys.settrace(before)
    return lines / len(batch)


def held_by(fill: Callable[[], object]) -> int:
    """Bytes that are held after `fill` and were not before."""
    gc.collect()
    tracemalloc.start()
    try:
        fill()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_a_visit_without_end_is_cut_off() -> None:
    """One visit sends ten times what it may hold: so many are accepted, the rest is `visit_full` and changes nothing.

    A million events against 5,000 are the same: what is held does not depend on what is refused, nor does the cost.
    """
    limit = 500
    config = shop(events_per_visit=limit)
    log = list(events(10 * limit))
    core = Core(config)
    core.feed(log[:limit])
    totals = core.answer()
    held = held_by(lambda: core.feed(log[limit:]))
    assert core.answer() == totals == oracle.answer(config, log[: limit + SLICE]).totals
    assert core.accepted == {"uswm": limit}
    assert core.rejected == {("uswm", RejectReason.VISIT_FULL): 9 * limit}
    assert held < 20_000, "nothing is kept of what is refused"


@counts_lines
@pytest.mark.parametrize("times", ["forward", "backward"])
def test_a_long_visit_costs_no_more_per_event_at_its_end(times: str) -> None:
    """As many events of one visit as it may hold: the last cost what the first did.

    In order, the cost of one is constant: a step, and a look for its id in 8 bytes an event. Backward each event is put
    before all others, which is as late as can be: that is quadratic in what lies within the allowed lateness, so it is
    bounded by `events_per_visit`; the test holds it to what a client in order costs, times the events that it precedes.
    """
    count = 3_000 if times == "forward" else 400
    step = 1 if times == "forward" else -1
    log = list(events(count, lambda number: step * number * 10, arrives_ms=0 if step < 0 else None))
    core = Core(shop(events_per_visit=count))
    size = count // 10
    costs = [lines_run(core, log[first : first + size]) for first in range(0, count, size)]
    assert core.accepted == {"uswm": count}
    allowed = FLAT if times == "forward" else 1 + count / 10
    assert max(costs[-3:]) < allowed * min(costs[:3]), costs


@counts_lines
def test_a_full_visit_costs_little_to_refuse() -> None:
    """What is refused is not put into its place first: refusing costs no more than accepting did."""
    core = Core(shop(events_per_visit=2_000))
    log = list(events(4_000))
    accepted = min(lines_run(core, log[first : first + SLICE]) for first in range(0, 2_000, SLICE))
    refused = max(lines_run(core, log[first : first + SLICE]) for first in range(2_000, 4_000, SLICE))
    assert refused < FLAT * accepted


@counts_lines
def test_very_many_visits_of_one_event() -> None:
    """20,000 visits of one event each: the last cost what the first did, each is held in less than 100 bytes at rest.

    Then the watermark passes and nothing is left of them. A million is fifty times that, spread over 128 key groups.
    """
    count, size = 20_000, 2_000
    core = Core(shop(lateness_s=60, gap_s=60))
    costs = []
    for first in range(0, count, size):
        batch = [message(first // 100, "home", sessionId=f"visit-{n}") for n in range(first, first + size)]
        costs.append(lines_run(core, batch))
        core.restart()  # a snapshot: all go to rest
    assert max(costs[-3:]) < FLAT * min(costs[:3]), costs
    assert core.accepted == {"uswm": count}
    at_rest = core.group.sessions["uswm"].values()
    assert sum(map(len, (session for session in at_rest if isinstance(session, bytes)))) < 100 * count
    core.feed([message(300_000, "home", sessionId="later")])
    assert core.group.sessions["uswm"].keys() == {"later"}
    assert min(core.ledger.totals) * 60_000 >= BASE_MS + 240_000


def test_a_flooding_tenant_leaves_the_others_numbers_alone() -> None:
    """One tenant sends a hundred times what the other does, of every kind of nonsense: the other's numbers are those
    that it has without the first, and its share of the delay is its own.
    """
    config = shop(lateness_s=60, gap_s=60)
    config["tenants"]["flood"] = config["tenants"]["uswm"]
    quiet = list(events(60, lambda number: number * 100, sessionId=lambda number: f"s-{number % 7}"))
    core, alone = Core(config), Core(config)
    flood: list[Message] = []
    for number, its in enumerate(quiet):
        burst = list(_nonsense(number * 100, number))
        flood += burst
        core.feed([*burst[:50], its, *burst[50:]])
        alone.feed([its])
    assert core.accepted["uswm"] == alone.accepted["uswm"] == len(quiet)
    assert of_tenant(core, "uswm") == of_tenant(alone, "uswm") == oracle.answer(config, quiet).totals
    assert {key: n for key, n in core.rejected.items() if key[0] == "uswm"} == {}
    judged = oracle.answer(config, flood)
    assert Counter(core.accepted) - Counter(uswm=len(quiet)) == judged.accepted
    assert {(tenant, str(reason)): n for (tenant, reason), n in core.rejected.items()} == judged.rejected
    assert {"late", "future", "duplicate", "bad_field", "not_json"} <= {reason for _, reason in judged.rejected}


def _nonsense(now_ms: int, number: int) -> Iterator[Message]:
    """A hundred messages of tenant flood: late, early, repeated, broken, and some that are right."""
    for i in range(100):
        at_ms = (now_ms, now_ms - 61_000, now_ms + 61_000, now_ms)[i % 4]
        fields: Config = {"tenant": "flood", "sessionId": f"f-{number}-{i % 7}", "eventId": f"{i // 16}"}
        found = message(at_ms, "home", arrives_ms=now_ms, **fields)
        yield found if i % 5 else found._replace(value=(b"{", b'{"tenant": "flood"}', b"\xff")[i % 3])


def of_tenant(core: Core, tenant: str) -> dict[Any, float]:
    """A tenant's totals."""
    return {key: total for key, total in core.answer().items() if key[0].startswith(f"{tenant}.")}


def test_a_message_of_10_mib_is_not_looked_into() -> None:
    """It is `oversized`, costs next to nothing whatever is in it, and nothing of it is kept."""
    padding = "x" * (10 * 1024 * 1024)
    huge = [message(0, "home", extra=padding), message(0, "home", attributes={"page": padding})]
    huge += [message(0, "home")._replace(value=b"[" * len(padding))]
    core = Core(shop())
    held = held_by(lambda: core.feed(huge))
    assert core.rejected == {("unknown", RejectReason.OVERSIZED): 3}
    assert not core.totals
    assert held < 20_000
    tracemalloc.start()
    try:
        core.feed(huge)
        assert tracemalloc.get_traced_memory()[1] < 100_000, "decoding it would take a copy of it"
    finally:
        tracemalloc.stop()


def test_a_message_as_large_as_allowed_is_not_kept() -> None:
    """Just below `message_bytes`, all of it in the attributes and other fields: what is kept of it is small."""
    padding = "x" * 1_000_000
    log = [message(n, "home", attributes={"page": "home", "other": padding + str(n)}) for n in range(4)]
    core = Core(shop())
    held = held_by(lambda: core.feed(log))
    assert core.accepted == {"uswm": 4}
    assert held < 100_000


STRANGERS: dict[str, tuple[Callable[[int], dict[str, Any]], str, Counter[Any]]] = {
    "tenants": (
        lambda n: {"tenant": f"nobody-{n}"},
        "rejected",
        Counter({("unknown", RejectReason.UNKNOWN_TENANT): 1}),
    ),
    "event names": (lambda n: {"event": f"event-{n}"}, "accepted", Counter({"uswm": 1})),
    "tag values": (lambda n: {"attributes": {"device": f"device-{n}"}}, "accepted", Counter({"uswm": 1})),
    "numbers as tags": (lambda n: {"attributes": {"device": n / 7}}, "accepted", Counter({"uswm": 1})),
    "attributes": (lambda n: {"attributes": {f"attribute-{n}": n}}, "accepted", Counter({"uswm": 1})),
    "experiments": (
        lambda n: {"assignments": {"button_color": "red", f"experiment-{n}": "x"}},
        "warnings",
        Counter({("uswm", EventWarning.UNKNOWN_EXPERIMENT): 1}),
    ),
    "variations": (
        lambda n: {"assignments": {"button_color": f"color-{n}"}},
        "warnings",
        Counter({("uswm", EventWarning.UNKNOWN_VARIATION): 1}),
    ),
    "values": (
        lambda n: {"event": "order", "attributes": {"total": f"{n} dollars"}},
        "warnings",
        Counter({("uswm", EventWarning.BAD_VALUE): 1}),
    ),
}
"""Field of an event that never repeats -> how it is counted."""


@pytest.mark.parametrize("kind", STRANGERS)
def test_texts_that_never_repeat_are_not_kept_for_ever(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,200 distinct ones against caches of 100 entries: memory stops growing, each is counted, totals stay right.

    So ten million against the real bounds stop growing too: what counts is that every cache has one.
    """
    monkeypatch.setattr(classify, "SIGNATURES_MAX", 100)
    monkeypatch.setattr(classify, "ASSIGNMENTS_MAX", 100)
    fields, where, each = STRANGERS[kind]
    config = shop(lateness_s=30, gap_s=30, events_per_visit=10)
    log = [message(n * 1_000, "home", sessionId=f"s-{n // 5}", **fields(n)) for n in range(1_200)]
    exact, core = Core(config), Core(config)
    exact.feed(log)
    counted: Counter[Any] = getattr(exact, where)
    assert {key: counted[key] for key in each} == {key: n * len(log) for key, n in each.items()}
    assert exact.answer() == oracle.answer(config, log).totals
    listed = {tag for _, _, tags in exact.answer() for tag in tags}
    assert {value for tag, value in listed if tag == "device"} <= {"mobile", "desktop", "other", "unknown"}

    def fill(part: Iterable[Message]) -> None:
        core.feed(part)
        core.restart()
        core.totals.clear()  # what the driver collects, as the store does

    held = []
    tracemalloc.start()
    try:
        fill(log[:600])
        for first in range(600, 1_200, 200):  # twice what a cache takes: it is as full at each look
            fill(log[first : first + 200])
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert held[-1] - held[0] < 600 * 100, f"{held} bytes after each 200 distinct ones"


def test_ten_thousand_distinct_texts_of_every_kind_are_small() -> None:
    """Event names, tag values and assignments against the real bounds: each distinct event leaves little behind."""
    core = Core(shop())

    def fill(numbers: Iterable[int]) -> None:
        core.group.feed(map(_raw, numbers))
        core.group.take()
        core.restart()

    fill(range(8_000))
    assert held_by(lambda: fill(range(8_000, 10_000))) < 2_000 * 2_000, "the event in its visit included"
    assert classify.SIGNATURES_MAX <= 65_536
    assert classify.ASSIGNMENTS_MAX <= 65_536


def _raw(n: int) -> tuple[bytes | None, bytes | None, int]:
    fields: Config = {
        "event": f"event-{n}",
        "attributes": {"device": f"d{n}"},
        "assignments": {"button_color": "red", f"x{n}": "y"},
    }
    found = message(n, None, sessionId=f"s-{n % 50}", **fields)
    return found.key, found.value, found.timestamp


@counts_lines
def test_500_experiments() -> None:
    """A tenant of 500 experiments loads, runs and is right; an event costs by the experiments that it is assigned to.

    There are 1,000 variations. What an event in all 500 costs is bounded by so much for each of them.
    """
    config = wide(500)
    core = Core(config)
    one = list(events(300, sessionId=lambda n: f"one-{n % 30}", assignments={"e7": "e7-a"}))
    all_of_them = {f"e{i}": f"e{i}-b" for i in range(500)}
    full = list(events(60, lambda n: 300 + n, sessionId=lambda n: f"all-{n % 10}", assignments=all_of_them))
    core.feed([*one[:30], *full[:10]])
    cheap = max(lines_run(core, one[first : first + 90]) for first in range(30, 300, 90))
    dear = max(lines_run(core, full[first : first + 10]) for first in range(10, 60, 10))
    assert core.answer() == oracle.answer(config, [*one, *full]).totals
    assert core.accepted == {"uswm": 360}
    assert cheap < 200, "lines for an event in one of 500 experiments"
    assert dear < 500 * 100, "lines for an event in all of them"
    core.restart()
    core.feed(events(10, lambda n: 400 + n, sessionId=lambda n: f"all-{n}", eventId=lambda n: f"x{n}"))
    assert core.accepted == {"uswm": 370}


def wide(experiments: int) -> Config:
    """Many experiments, each with two variations and a rule of its own, over the points of the shop."""
    config = shop()
    config["tenants"]["uswm"]["experiments"] = {
        f"e{i}": {
            "control": f"e{i}-a",
            "variations": {f"e{i}-a": 1, f"e{i}-b": 1},
            "qualified_when": {"any": [{"point": "home_page"}, {"event": f"event-{i}", "where": {"device": f"d{i}"}}]},
        }
        for i in range(experiments)
    }
    return config


@counts_lines
@pytest.mark.parametrize("depth", [1, 20, 60])
def test_deep_rules_run(depth: int) -> None:
    """A rule nested so deep is right, and costs no more than its size says."""
    rule: Config = {"point": "home_page"}
    for level in range(depth):
        rule = {("all", "any")[level % 2]: [rule, {"event": "page_view", "where": {"page": "home"}}]}
    config = shop()
    config["tenants"]["uswm"]["experiments"]["button_color"]["qualified_when"] = rule
    core, log = Core(config), list(events(200, sessionId=lambda n: f"s-{n % 40}"))
    assert lines_run(core, log) < 500
    assert core.answer() == oracle.answer(config, log).totals
    core.restart()


@pytest.mark.parametrize("depth", [100, 250, 300, 1_000, 5_000])
def test_rules_too_deep_are_refused_or_run(depth: int) -> None:
    """However deep: a configuration error, or a job that runs; never a crash of the interpreter or a traceback."""
    rule: Config = {"point": "home_page"}
    for _ in range(depth):
        rule = {"all": [rule]}
    config = shop()
    config["tenants"]["uswm"]["experiments"]["button_color"]["qualified_when"] = rule
    try:
        core = Core(config)
    except ConfigError:
        return
    core.feed(events(3))
    core.restart()
    assert core.accepted == {"uswm": 3}


def test_totals_are_forgotten_whatever_comes() -> None:
    """Hours of traffic: the ledger holds the minutes within the lateness, the group the visits within both times."""
    core = Core(shop(lateness_s=60, gap_s=60))
    for hour in range(6):
        begin_ms = hour * 3_600_000
        core.feed([message(begin_ms + n * 10_000, "home", sessionId=f"s-{n}") for n in range(360)])
    assert len(core.ledger.totals) <= 3
    assert len(core.group.sessions["uswm"]) <= 6 * 4
    assert core.group.watermark.value_ms > NEVER
    assert core.ledger.size() < 100


MUTATIONS = st.lists(
    st.tuples(st.integers(0, 10**6), st.integers(0, 6), st.binary(min_size=1, max_size=6)), max_size=12
)


def mutated(value: bytes, at: int, how: int, junk: bytes) -> bytes:
    """A message's value as damage leaves it."""
    at %= len(value) + 1
    match how:
        case 0:
            return value[:at]
        case 1:
            return value[at:]
        case 2:
            return value[:at] + junk + value[at:]
        case 3:
            return value[:at] + junk + value[at + len(junk) :]
        case 4:
            return value[:at] + value[max(0, at - len(junk)) :]
        case 5:
            return bytes(byte ^ junk[0] if i == at else byte for i, byte in enumerate(value))
        case _:
            return value.replace(b'"', b"", 1) if at % 2 else value.replace(b"1", b"9" * (at % 500), 1)


@given(data=st.data())
def test_a_log_of_damaged_messages_is_judged_as_the_oracle_does(data: st.DataObject) -> None:
    """Whole logs with bytes cut, doubled, swapped and put in anywhere: totals and every count are the oracle's."""
    config = data.draw(configs())
    log = data.draw(logs(config, messages_max=25))
    for at, how, junk in data.draw(MUTATIONS):
        victim = at % len(log)
        log[victim] = log[victim]._replace(value=mutated(log[victim].value, at // len(log), how, junk))
    wanted = oracle.answer(config, log)
    core = Core(config, sorted({str(m.partition) for m in log}))
    for first in range(0, len(log), 7):
        core.feed(islice(log, first, first + 7))
    assert core.answer() == wanted.totals
    assert +core.accepted == +wanted.accepted
    assert {(t, str(r)): n for (t, r), n in (+core.rejected).items()} == dict(wanted.rejected)
    assert {(t, str(r)): n for (t, r), n in (+core.warnings).items()} == dict(wanted.warnings)


@given(size=st.sampled_from((1, 30, 300)), data=st.data())
def test_a_configuration_of_any_size_is_compiled_or_refused(size: int, data: st.DataObject) -> None:
    """Many tags, values and points: whatever is accepted runs, and its series keep within what the check promised."""
    values = [f"v{i}" for i in range(data.draw(st.integers(1, size)))]
    config = put(example(), "tenants/uswm/tags", {f"tag{i}": values for i in range(data.draw(st.integers(0, 6)))})
    points = {f"p{i}": {"event": "page_view", "nth": i + 1} for i in range(data.draw(st.integers(0, size)))}
    config["tenants"]["uswm"]["points"] |= points
    try:
        settings = parse(config)
    except ConfigError:
        return
    (tenant,) = settings.compiled_tenants()
    core = Core(config)
    core.feed(events(2))
    core.restart()
    core.feed(events(2, lambda n: 10 + n, eventId=lambda n: f"later-{n}"))
    assert core.accepted == {"uswm": 4}
    names = metrics.metric_names(
        "uswm",
        [v for e in tenant.experiments for v, _ in e.variations],
        [(p.name, bool(p.value)) for p in tenant.points],
    )
    assert {name for name, _, _ in core.answer()} <= set(names)
