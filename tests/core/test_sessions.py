"""Sessions: what is accepted, rejected and noted; long visits; what is forgotten when nothing can reach it any more."""

import random
import tomllib
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.core.deltas import counts_of
from monitor.core.events import EventWarning, RejectReason
from monitor.core.sessions import NO_TENANT
from monitor.core.watermark import Progress
from tests.support import oracle
from tests.support.driver import Core
from tests.support.messages import BASE_MS, SESSION, message, shop
from tests.support.oracle import Message
from tests.support.strategies import Config, configs, logs, to_toml

MIB = 1_048_576
LATE_OF_A_VISIT = (1, None), (2, {"button_color": "red"}), (3, {"button_color": "red"})
"""Times in ms, and assignments."""


@pytest.mark.parametrize(
    ("arrived", "tenant", "reason"),
    [
        (b"x" * (MIB + 1), NO_TENANT, RejectReason.OVERSIZED),
        (b"x" * MIB, NO_TENANT, RejectReason.NOT_JSON),
        (b"{}", NO_TENANT, RejectReason.BAD_FIELD),
        (b'{"tenant": "uswm"}', "uswm", RejectReason.BAD_FIELD),
        (b'{"tenant": "nobody"}', NO_TENANT, RejectReason.BAD_FIELD),
        (message(0, tenant="nobody").value, NO_TENANT, RejectReason.UNKNOWN_TENANT),
        (message(0, tenant="unknown").value, NO_TENANT, RejectReason.UNKNOWN_TENANT),
        (message(0, assignments=["a"]).value, "uswm", RejectReason.BAD_FIELD),
        # in the order of the contract: a shape before the tenant, the tenant before times, times before the visit
        (message(0, assignments=["a"], tenant="nobody").value, NO_TENANT, RejectReason.BAD_FIELD),
        (message(60_001, tenant="nobody").value, NO_TENANT, RejectReason.UNKNOWN_TENANT),
        (message(60_001, sessionId="Undefined ", tenant="nobody").value, NO_TENANT, RejectReason.UNKNOWN_TENANT),
        (message(60_001, sessionId="Undefined ").value, "uswm", RejectReason.PLACEHOLDER_ID),
        (message(60_001, eventId="held").value, "uswm", RejectReason.FUTURE),
        (message(-600_001, eventId="held").value, "uswm", RejectReason.LATE),
        (message(5, eventId="held").value, "uswm", RejectReason.DUPLICATE),
        (message(5).value, "uswm", RejectReason.VISIT_FULL),
    ],
)
def test_a_rejected_message_is_counted(arrived: bytes, tenant: str, reason: RejectReason) -> None:
    """Under one reason, by tenant where that is known; it changes nothing and stops nothing."""
    core = Core(shop(events_per_visit=1))
    core.feed([message(0, "home", eventId="held")])
    assert not core.feed([Message(0, 1, BASE_MS, None, arrived)])
    assert core.rejected == {(tenant, reason): 1}
    core.feed([message(0, "home", sessionId="s-2")])
    assert +core.accepted == {"uswm": 2}


@pytest.mark.parametrize(
    ("at_ms", "arrives_ms", "reason"),
    [
        (60_000, 0, None),
        (60_001, 0, RejectReason.FUTURE),
        (0, 600_000, None),
        (0, 600_001, RejectReason.LATE),
    ],
)
def test_both_sides_of_late_and_future(at_ms: int, arrives_ms: int, reason: RejectReason | None) -> None:
    """An event may be ahead of its arrival by `future_tolerance_s`, and behind it by `allowed_lateness_s`."""
    core = Core(shop())
    core.feed([message(at_ms, "home", arrives_ms)])
    assert core.rejected == ({("uswm", reason): 1} if reason else {})


def test_a_late_event_with_the_variation_counts_after_one_without() -> None:
    """Once per visit, though the assignment itself came too late, and another event of the visit before it."""
    core = Core(shop())
    core.feed([message(0, "home", assignments=None)])
    late = [message(at_ms, "item", 700_000, assignments=said) for at_ms, said in LATE_OF_A_VISIT]
    core.group.feed((sent.key, sent.value, sent.timestamp) for sent in late)
    assert core.group.take()["uswm"].late == {1: 1}


def test_events_from_the_future_are_counted_by_their_tags() -> None:
    """As those of a visit would be, whatever they hold; others are not."""
    core = Core(shop())
    texts = core.compiled.tenants["uswm"].classifier.tag_sets.texts
    attributes = [{"device": "mobile"}, {"device": "mobile"}, {"device": "fridge"}, {}]
    early = [message(1_000_000 + i, "home", 0, attributes=of) for i, of in enumerate(attributes)]
    core.group.feed((sent.key, sent.value, sent.timestamp) for sent in [message(0, "home"), *early])
    tally = core.group.take()["uswm"]
    counted = [(texts(tags)["device"], events) for tags, events in tally.future.items()]
    assert sorted(counted) == [("mobile", 2), ("other", 1), ("unknown", 1)]
    assert tally.rejected == {RejectReason.FUTURE: 4}


@pytest.mark.parametrize(("behind_ms", "reason"), [(0, None), (1, RejectReason.LATE)])
def test_both_sides_of_the_watermark(behind_ms: int, reason: RejectReason | None) -> None:
    """An event behind the watermark is late although its own timestamp, from a slower clock, would let it pass."""
    core = Core(shop())
    core.feed([message(1_000_000, "home")])
    core.feed([message(400_000 - behind_ms, "home", 400_000, sessionId="s-2")])
    assert core.rejected == ({("uswm", reason): 1} if reason else {})


@pytest.mark.parametrize(("events_per_visit", "full"), [(3, False), (2, True)])
@pytest.mark.parametrize(("second_ms", "third_ms"), [(150_000, 75_000), (50_000, 40_000), (100_000, 200_000)])
def test_a_full_visit_takes_no_more(events_per_visit: int, full: bool, second_ms: int, third_ms: int) -> None:
    """The bound is `events_per_visit`: of one visit, and of two that the event would join; other visits go on."""
    config = shop(lateness_s=80, gap_s=100, events_per_visit=events_per_visit)
    log = [message(0, "home"), message(second_ms, "home"), message(third_ms, "x", max(second_ms, third_ms))]
    log.append(message(400_000, "home"))
    core = Core(config)
    core.feed(log)
    assert core.rejected == ({("uswm", RejectReason.VISIT_FULL): 1} if full else {})
    assert core.answer() == oracle.answer(config, log).totals


@pytest.mark.parametrize(
    ("second_ms", "third_ms", "duplicates"),
    [
        (100_000, 100_000, 2),  # in the visit, also at its very end
        (100_001, 100_001, 1),  # behind the gap another visit begins, in which the identity is new, once
        (200_000, 100_000, 1),  # the event that would join two visits is held by both
    ],
)
def test_an_identity_counts_once_in_a_visit(second_ms: int, third_ms: int, duplicates: int) -> None:
    """`duplicate`: the visit already holds an accepted event with this identity; another visit may."""
    config = shop(lateness_s=100, gap_s=100)
    log = [message(0, "home", eventId="same"), message(second_ms, "home", eventId="same")]
    log.append(message(third_ms, "home", second_ms, eventId="same"))
    core = Core(config)
    for arriving in log:
        core.feed([arriving])
        core.restart()
    assert core.rejected == {("uswm", RejectReason.DUPLICATE): duplicates}
    assert core.rejected == oracle.answer(config, log).rejected


def test_sessions_are_apart_by_tenant() -> None:
    """The same sessionId of two tenants is two sessions."""
    config = shop()
    config["tenants"]["other"] = config["tenants"]["uswm"]
    core = Core(config)
    core.feed([message(0, "home", eventId="same"), message(0, "home", eventId="same", tenant="other")])
    assert core.accepted == {"uswm": 1, "other": 1}


@pytest.mark.parametrize(
    ("key", "key_is_session_id", "warnings"),
    [(SESSION.encode(), True, 0), (None, True, 0), (b"x", True, 1), (b"", True, 1), (b"x", False, 0)],
)
def test_a_key_that_is_not_the_session(key: bytes | None, key_is_session_id: bool, warnings: int) -> None:
    """Is noted where the key has to be the sessionId, of rejected events too, and changes nothing."""
    core = Core(shop() | {"kafka": {"key_is_session_id": key_is_session_id}})
    core.feed([message(0, "home")._replace(key=key), message(0, "home")._replace(key=key)])
    assert core.accepted == {"uswm": 1}
    assert +core.warnings == ({("uswm", EventWarning.KEY_MISMATCH): 2 * warnings} if warnings else {})


def test_what_is_noted_of_an_accepted_event() -> None:
    """Once for each assignment that is not known and each value that is no number; the rest of the event counts."""
    core = Core(shop())
    assignments = {"x": "red", "y": "red", "button_color": "green"}
    core.feed([message(0, None, event="order", attributes={"total": "19.99"}, assignments=assignments)])
    assert +core.warnings == {
        ("uswm", EventWarning.UNKNOWN_EXPERIMENT): 2,
        ("uswm", EventWarning.UNKNOWN_VARIATION): 1,
        ("uswm", EventWarning.BAD_VALUE): 1,
    }
    core.feed([message(0, None, event="order", eventId="2", attributes={"total": 1}, assignments=None)])
    assert core.warnings.total() == 4


def test_counts_of_a_batch() -> None:
    """Accepted, rejected, and the delays of the accepted; nothing is counted twice."""
    core = Core(shop())
    batch = [message(0, "home", 5_000), message(3_000, "home", 5_000), message(0, "home", 5_000)]
    core.group.feed((m.key, m.value, m.timestamp) for m in batch)
    tally = core.group.take()["uswm"]
    assert (tally.accepted, tally.rejected) == (2, {RejectReason.DUPLICATE: 1})
    assert (tally.delay_sum_ms, tally.delay_max_ms) == (7_000, 5_000)
    assert core.group.take() == {}


def test_the_bound_on_remembered_assignments_changes_no_answer() -> None:
    """At the bound all are forgotten and read anew."""
    log = [message(i, "home", assignments={"button_color": ("red", "blue")[i % 2], f"x{i}": "y"}) for i in range(20)]
    core = Core(shop())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("monitor.core.classify.ASSIGNMENTS_MAX", 3)
        core.feed(log)
    assert core.answer() == oracle.answer(shop(), log).totals


@pytest.mark.parametrize("packed", [False, True])
def test_a_session_is_forgotten_when_nothing_can_reach_it(packed: bool) -> None:
    """It stays while W <= last + gap, and leaves memory within a minute of event time after that."""
    core = Core(shop())
    core.feed([message(30_000, "home"), message(90_000, "item")])
    if packed:
        core.restart()
    for watermark_ms, there in ((90_000 + 1_800_000, True), (90_000 + 1_800_000 + 60_000, False)):
        moved = Progress(core.partitions, "0", BASE_MS + watermark_ms + 600_000, idle=False)
        assert core.group.watermark.advance(moved)
        core.group.forget()
        assert (SESSION in core.group.sessions["uswm"]) is there
        assert (SESSION in core.group.pack().get("uswm", {})) is there


def test_a_session_whose_visits_go_on_is_kept() -> None:
    """Where it was noted first does not matter: what counts is its last event."""
    core = Core(shop())
    for i in range(40):
        core.feed([message(i * 600_000, "home")])
        if i % 3 == 0:
            core.restart()
        assert list(core.group.sessions["uswm"]) == [SESSION]
    core.feed([message(39 * 600_000 + 1_800_000 + 600_000 + 60_001, "home", sessionId="s-2")])
    assert list(core.group.sessions["uswm"]) == ["s-2"]


def test_a_forgotten_visit_cannot_be_joined() -> None:
    """An event is as near as the gap allows to a visit that is still there; one more millisecond begins another."""
    for at_ms, visits in ((1_800_000, 1), (1_800_001, 2)):
        core = Core(shop())
        core.feed([message(0, "home"), message(2_400_000, "x", sessionId="s-2"), message(at_ms, "item", 2_400_000)])
        assert sum(n for (name, *_), n in core.answer().items() if name.endswith("assigned.red.beta")) == visits + 1


@pytest.mark.parametrize("seed", range(3))
def test_a_long_visit_with_a_moving_watermark(seed: int) -> None:
    """300 events, up to the allowed lateness out of order, each fed alone: its tail settles, the totals stay exact."""
    config = shop(lateness_s=120)
    log = visit_of(300, lateness_ms=120_000, seed=seed)
    core = Core(config)
    for i, arriving in enumerate(log):
        core.feed([arriving])
        if i % 97 == 96:
            core.restart()
    wanted = oracle.answer(config, log)
    assert core.answer() == wanted.totals
    assert core.accepted == wanted.accepted == {"uswm": 300}


def test_the_longest_visit() -> None:
    """5,000 events, the most that a visit takes; the next is refused."""
    config = shop(lateness_s=120)
    log = visit_of(5_001, lateness_ms=120_000, seed=7)
    core = Core(config)
    for i in range(0, len(log), 100):
        core.feed(log[i : i + 100])
    assert (core.accepted, core.rejected) == ({"uswm": 5_000}, {("uswm", RejectReason.VISIT_FULL): 1})
    assert core.answer() == contributions(config, log[:5_000])


@given(data=st.data())
@settings(max_examples=30)
def test_small_tails_settle_like_large_ones(data: st.DataObject) -> None:
    """However often a visit forgets the events behind the watermark, the totals are the oracle's."""
    config = tomllib.loads(to_toml(data.draw(configs())))
    log = data.draw(logs(config))
    core = Core(config, sorted({str(m.partition) for m in log}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("monitor.core.visits.COMPACT_EVERY", 1)
        for arriving in log:
            core.feed([arriving])
    assert core.answer() == oracle.answer(config, log).totals


def test_corrections_are_counted_for_health() -> None:
    """They are part of what a tally reports, with everything else that was counted."""
    core = Core(shop())
    core.group.feed((m.key, m.value, m.timestamp) for m in (message(60_000, "home"), message(0, "home", 60_000)))
    counted = counts_of("uswm", [core.group.take()["uswm"]], core.compiled.tenants["uswm"])
    # the `.beta` of both scopes, and of the home page in both; `engaged` is only gained
    assert counted["monitor.corrections|tenant=uswm"] == 4


def visit_of(events: int, lateness_ms: int, seed: int) -> list[Message]:
    """A visit of one event each 5 s on average, arriving out of order by up to the lateness."""
    rng = random.Random(seed)
    arrivals = sorted(
        (i * 5_000 + rng.randrange(lateness_ms), i * 5_000 + rng.randrange(5_000), i) for i in range(events)
    )
    pages = ("home", "item", "item", "item", "cart")
    log = []
    for arrives_ms, at_ms, i in arrivals:
        fields = {"eventId": f"e{i}", "assignments": {"button_color": "blue" if i == events // 2 else "red"}}
        if i % 7 == 3:
            log.append(message(at_ms, None, arrives_ms, event="order", attributes={"total": i % 50 - 10}, **fields))
        else:
            log.append(message(at_ms, rng.choice(pages), arrives_ms, **fields))
    return log


def contributions(config: Config, log: Iterable[Message]) -> dict[oracle.Key, int]:
    """What accepted events contribute as one visit."""
    events = []
    for arrived in log:
        fields = oracle.decode(arrived.value)
        event = None if fields is None else oracle.read_event(fields, arrived.value)
        assert event is not None
        events.append(event._replace(delay=arrived.timestamp - event.time))
    return {key: n for key, n in oracle.contributions(config, "uswm", events).items() if n}
