"""The simulated traffic: reproducible from any second, as irregular as promised, and its truth is the judge's."""

from __future__ import annotations

import json
import tomllib
from collections import Counter, defaultdict
from functools import cache
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from monitor.config.reader import load
from monitor.simulate import KINDS, IncidentError, SimulatedMessage, Traffic, Truth, parse_incident, truth
from monitor.simulate.shop import TENANTS
from monitor.simulate.traffic import DAILY_SWING, EVENTS_PER_VISIT, HORIZON_S, RATE_MAX, RETURN_AFTER_S
from tests.support import oracle

CONFIG_FILE = Path(__file__).parents[2] / "examples/shop/monitor.toml"
CONFIG: dict[str, Any] = tomllib.loads(CONFIG_FILE.read_text())
START_MS = 1_767_614_400_000
RATE = 50.0
SECONDS = 480


def traffic(*incidents: str, seed: int = 7, rate: float = RATE, partitions: int = 4) -> Traffic:
    return Traffic(seed, START_MS, rate, [parse_incident(text, START_MS) for text in incidents], partitions)


def log_of(source: Traffic, seconds: int) -> list[SimulatedMessage]:
    return [message for k in range(seconds) for message in source.second(k)]


@cache
def messages(*incidents: str) -> tuple[SimulatedMessage, ...]:
    return tuple(log_of(traffic(*incidents), SECONDS))


@cache
def long_log() -> tuple[SimulatedMessage, ...]:
    """Long enough for what comes ten minutes late."""
    return tuple(log_of(traffic(rate=20), 1_600))


@cache
def totals(*incidents: str) -> Truth:
    return truth(messages(*incidents), CONFIG)


@cache
def decoded() -> tuple[tuple[SimulatedMessage, dict[str, Any]], ...]:
    """The messages of the long log that are events of known tenants, with their fields."""
    pairs = []
    for message in long_log():
        verdict = oracle.classify(CONFIG, oracle.Message(0, 0, message.timestamp_ms, message.key, message.value), {})
        if verdict.event is not None and verdict.reason in (None, "late"):
            pairs.append((message, json.loads(message.value)))
    return tuple(pairs)


def delays_ms() -> list[int]:
    return [message.timestamp_ms - fields["time"] for message, fields in decoded()]


def total(of: Truth, suffix: str, tenant: str = "") -> int:
    return sum(n for name, n in of.totals.items() if name.startswith(tenant) and name.endswith(suffix))


# Reproducible


def test_the_same_seed_and_settings_give_the_same_bytes() -> None:
    """Traffic is a function of its arguments; another seed gives other traffic."""
    first, again, other = traffic(), traffic(), traffic(seed=8)
    for k in range(60):
        assert first.second(k) == again.second(k)
    assert [first.second(k) for k in range(5)] != [other.second(k) for k in range(5)]


def test_the_bytes_are_the_same_on_every_python() -> None:
    """A seed means the same traffic for everybody: a change of these bytes is a change that the CHANGELOG must tell."""
    digest = sha256(repr([tuple(message) for message in log_of(traffic(), 60)]).encode()).hexdigest()
    assert digest == "fbbe3427be0574e0bdc9d51ac607d426f8ee2ea3951750468d9cce5fe0d70bfe"


def test_any_second_can_be_had_without_those_before() -> None:
    """Jumping to a second, forward or back, gives what going there second by second gives."""
    source = traffic("duplicate_storm@5", "garbage@1-20", rate=5)
    onward = [source.second(k) for k in range(RETURN_AFTER_S + 400)]
    jumping = traffic("duplicate_storm@5", "garbage@1-20", rate=5)
    times = {m: (oracle.decode(m.value) or {}).get("time") for second in onward for m in second}
    latest = max(times, key=lambda m: m.timestamp_ms - t if isinstance(t := times[m], int) and t > START_MS else 0)
    held_up = (latest.timestamp_ms - START_MS) // 1000  # a second with a message whose visit is long over
    for k in (HORIZON_S + 300, 0, 200, 201, 200, len(onward) - 1, HORIZON_S, HORIZON_S + 1, held_up):
        assert jumping.second(k) == onward[k]


def test_going_on_from_a_second_gives_the_rest() -> None:
    """Stopped after any second and started again there, the traffic goes on exactly."""
    resumed = traffic().from_second(40)
    rest = [message for _ in range(50) for message in next(resumed)]
    assert log_of(traffic(), 40) + rest == log_of(traffic(), 90)


def test_each_second_holds_its_own_arrivals_in_order() -> None:
    """Second k holds the arrivals from start + 1000 k on, for 1000 ms, in order; partitions are those of the keys."""
    source = traffic(partitions=3)
    for k in range(120):
        second = source.second(k)
        stamps = [message.timestamp_ms for message in second]
        assert stamps == sorted(stamps)
        assert all(START_MS + 1000 * k <= stamp < START_MS + 1000 * (k + 1) for stamp in stamps)
        assert {message.partition for message in second} <= {0, 1, 2}


def test_all_messages_of_a_session_have_one_partition() -> None:
    """Kafka keeps the order within a key, so a key has one partition."""
    partitions: dict[bytes, set[int]] = {}
    for message in messages():
        if message.key is not None:
            partitions.setdefault(message.key, set()).add(message.partition)
    assert all(len(found) == 1 for found in partitions.values())


@pytest.mark.parametrize(("rate", "partitions"), [(0, 1), (RATE_MAX + 1, 1), (1, 0)])
def test_settings_out_of_range_are_refused(rate: float, partitions: int) -> None:
    """A rate beyond what memory holds, or no partition, is an error at once."""
    with pytest.raises(ValueError, match="must be"):
        Traffic(1, START_MS, rate, (), partitions)


# Realistic


def test_the_rate_is_kept() -> None:
    """Once visits of every age are under way, as many messages arrive as the rate and the time of day promise."""
    expected = sum(traffic(rate=20).visits_per_s(tenant, 1_000) for tenant in TENANTS) * EVENTS_PER_VISIT
    arrived = sum(1 for message in long_log() if message.timestamp_ms >= START_MS + 400_000) / 1_200
    assert arrived == pytest.approx(expected, rel=0.08)


def test_a_day_has_its_rhythm() -> None:
    """Over a day the rate is the one asked for; at a tenant's peak it is highest."""
    source = traffic()
    for tenant in TENANTS:
        day = [source.visits_per_s(tenant, 600 * n) for n in range(144)]
        mean = RATE / EVENTS_PER_VISIT * tenant.share
        assert sum(day) / 144 == pytest.approx(mean)
        peak_s = int(3600 * (tenant.peak_hour - 12)) % 86_400  # the traffic starts at noon
        assert source.visits_per_s(tenant, peak_s) == pytest.approx(mean * (1 + DAILY_SWING))


def test_messages_arrive_late_and_repeat_as_promised() -> None:
    """About 10 % come up to 60 s late, 1 % up to 9 minutes, a few beyond 10 minutes; about 0.5 % come twice."""
    delays = delays_ms()
    assert sum(400 < delay <= 60_000 for delay in delays) / len(delays) == pytest.approx(0.10, abs=0.015)
    assert sum(60_000 < delay <= 540_000 for delay in delays) / len(delays) == pytest.approx(0.01, abs=0.004)
    assert 0 < sum(delay > 600_000 for delay in delays) / len(delays) < 0.001
    assert min(delays) >= 0
    repeats = len(decoded()) - len({message.value for message, _ in decoded()})
    assert repeats / len(decoded()) == pytest.approx(0.005, abs=0.002)


def test_events_have_the_size_of_real_ones() -> None:
    """230 to 300 bytes, but for a few percent."""
    sizes = [len(message.value) for message, _ in decoded()]
    assert sum(230 <= size <= 300 for size in sizes) / len(sizes) > 0.93
    assert max(sizes) < 400


def test_visits_are_believable() -> None:
    """About ten events a visit, a few percent of visits order, and phones order less than desktops."""
    by_visit: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for _, fields in decoded():
        by_visit.setdefault((fields["tenant"], fields["sessionId"]), []).append(fields)
    assert len(decoded()) / len(by_visit) == pytest.approx(EVENTS_PER_VISIT, rel=0.15)
    ordered: Counter[str] = Counter()
    visited: Counter[str] = Counter()
    for events in by_visit.values():
        device = events[0]["attributes"].get("device", "unknown")
        visited[device] += 1
        ordered[device] += any(event["event"] == "order" for event in events)
    assert 0.015 < sum(ordered.values()) / len(by_visit) < 0.06
    assert ordered["mobile"] / visited["mobile"] < ordered["desktop"] / visited["desktop"]


def test_tenants_differ_in_size_and_share_session_ids() -> None:
    """The largest tenant has half of the visits, the smallest a sliver; two tenants of one owner share session ids."""
    sessions: dict[str, set[str]] = {}
    for _, fields in decoded():
        sessions.setdefault(fields["tenant"], set()).add(fields["sessionId"])
    assert sessions.keys() == CONFIG["tenants"].keys()
    assert len(sessions["uswm"]) > 20 * len(sessions["jpsy"]) > 0
    assert sessions["uswm"] & sessions["usgr"]
    assert not sessions["uswm"] & sessions["cawm"]


def test_variations_are_assigned_by_weight_and_carried_on_most_events() -> None:
    """A visit is in 2 or 3 experiments; each variation gets its share; most events say so."""
    assigned: Counter[str] = Counter()
    for tenant, session, variations in {
        (f["tenant"], f["sessionId"], tuple(f["assignments"].items())) for _, f in decoded() if "assignments" in f
    }:
        assert session
        assert 2 <= len(variations) <= 4
        assigned.update(variation for _, variation in variations if tenant == "uswm")
    assert assigned["red"] / (assigned["red"] + assigned["blue"]) == pytest.approx(0.5, abs=0.05)
    assert assigned["ship_35"] / assigned["ship_off"] == pytest.approx(1 / 8, abs=0.05)
    assert sum("assignments" in fields for _, fields in decoded()) / len(decoded()) == pytest.approx(0.92, abs=0.02)


def test_every_kind_of_message_occurs() -> None:
    """Rejects of every kind that a small message earns, unknown names, bad values, bots, crossings, no keys, no ids."""
    found = truth(long_log(), CONFIG)
    assert {"not_json", "bad_field", "unknown_tenant", "future", "late", "duplicate"} <= found.rejected.keys()
    events = [fields for _, fields in decoded()]
    assert any("old_banner" in event.get("assignments", {}) for event in events)
    assert any("retired" in event.get("assignments", {}).values() for event in events)
    assert any("eventId" not in event for event in events)
    assert any(isinstance(event["attributes"].get("total"), str) for event in events)
    assert any(message.key is None for message, _ in decoded())
    assert {event["attributes"].get("device") for event in events} >= {"mobile", "desktop", "tablet", "tv", None}
    assert any(".crossed." in name for name in found.totals)
    bots = Counter(e["sessionId"] for e in events if "bot" in e["attributes"].get("userAgent", ""))
    assert bots.most_common(1)[0][1] > 100


def test_visitors_come_back() -> None:
    """Some session ids have a second visit, more than the session gap after the first, in the same variations."""
    times: dict[tuple[str, str], list[int]] = {}
    source = traffic(rate=5)
    for message in log_of(source, RETURN_AFTER_S + 1200):
        fields = oracle.decode(message.value)
        if fields and "eventId" in fields:  # malformed messages have none
            times.setdefault((fields["tenant"], fields["sessionId"]), []).append(fields["time"])
    gaps = [later - earlier for run in times.values() for earlier, later in pairwise(sorted(run))]
    assert any(gap > 1_800_000 for gap in gaps)


# Incidents


def test_broken_payments_stop_the_orders_of_one_variation_on_one_device() -> None:
    """No order of fc_on on mobile from then on, while checkouts go on; every other visit is as it was to the byte."""
    broken = messages("payment_broken@2")
    assert broken != messages()
    crossed = {m.key for m in broken if b'"fc_off"' in m.value}
    orders = [
        (m.key, json.loads(m.value)["time"] - START_MS)
        for m in broken
        if all(part in m.value for part in (b'"event":"order"', b'"device":"mobile"', b'"fc_on"'))
    ]
    assert any(at_ms < 120_000 for _, at_ms in orders)
    assert not any(at_ms > 220_000 for key, at_ms in orders if key not in crossed)
    assert b'"event":"payment_failed"' in b"".join(m.value for m in broken)
    touched = {m.key for m in set(broken) ^ set(messages()) if m.key}
    assert touched
    assert all(any(m.key == key and b'"fc_on"' in m.value for m in broken) for key in touched)
    assert total(totals("payment_broken@2"), ".fc_on.order") < 0.75 * total(totals(), ".fc_on.order")
    assert total(totals("payment_broken@2"), ".fc_off.order") == total(totals(), ".fc_off.order")


def test_a_missing_variation_is_assigned_no_more() -> None:
    """The sample ratio of button_color at uswm breaks; other tenants stay as they are."""
    missing = totals("variation_missing@2")
    assert total(missing, ".assigned.red.beta", "uswm") < 0.4 * total(missing, ".assigned.blue.beta", "uswm")
    assert total(missing, ".assigned.red.beta", "usgr") == total(totals(), ".assigned.red.beta", "usgr")


def test_a_traffic_drop_takes_most_visits_of_a_tenant() -> None:
    """90 % of cawm's visits do not happen; the other tenants' do."""
    dropped, usual = totals("traffic_drop:tenant=cawm").accepted, totals().accepted
    assert dropped["cawm"] < 0.25 * usual["cawm"]
    assert {name: n for name, n in dropped.items() if name != "cawm"} == {
        name: n for name, n in usual.items() if name != "cawm"
    }


def test_a_wrong_clock_sends_events_of_the_future() -> None:
    """Clocks five minutes ahead: events of tablets are rejected, for as long as it lasts."""
    assert totals("clock_skew@2-6").rejected["future"] > 5 * totals().rejected["future"]
    assert sum(totals("clock_skew@2-6").accepted.values()) < sum(totals().accepted.values())


def test_a_storm_of_duplicates_changes_no_total() -> None:
    """Repeats are rejected, many of them, and add nothing."""
    storm = totals("duplicate_storm@0")
    assert storm.rejected["duplicate"] > 20 * totals().rejected["duplicate"]
    assert storm.totals == totals().totals


def test_garbage_is_rejected_and_changes_no_total() -> None:
    """A fifth more messages, none of them an event."""
    flooded = totals("garbage:share=0.2")
    assert flooded.rejected["not_json"] > 20 * totals().rejected["not_json"]
    assert flooded.totals == totals().totals


def test_an_incident_starts_and_ends() -> None:
    """Until its start, traffic is the usual traffic; it is parsed from minutes or from moments."""
    late = traffic("garbage@5-6")
    assert log_of(late, 300) == log_of(traffic(), 300)
    by_minutes = parse_incident("garbage@5-6.5", START_MS)
    assert (by_minutes.start_ms, by_minutes.end_ms) == (START_MS + 300_000, START_MS + 390_000)
    assert parse_incident("garbage@2026-01-05T12:05Z/2026-01-05T13:06:30+01:00", START_MS) == by_minutes
    assert parse_incident("garbage@2026-01-05T12:05", START_MS).end_ms is None
    assert [by_minutes.covers(START_MS + ms) for ms in (299_999, 300_000, 389_999, 390_000)] == [
        False,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("payment_borken@3", ", ".join(KINDS)),
        ("", "unknown incident"),
        ("garbage@soon", "10-40"),
        ("garbage@1/2/3", "10-40"),
        ("garbage@10-10", "end after"),
        ("garbage:tenant=uswm", "it has: share"),
        ("garbage:share=2", "up to 1"),
        ("garbage:share=lots", "must be a number"),
        ("clock_skew:seconds=nan", "must be a number"),
        ("traffic_drop:tenant=ukwm", "uswm"),
    ],
)
def test_a_wrong_incident_is_told_what_there_is(text: str, says: str) -> None:
    """A text that cannot be understood is refused with what would be right."""
    with pytest.raises(IncidentError, match=says.replace("(", r"\(")):
        parse_incident(text, START_MS)


# Truth


@pytest.mark.parametrize("incidents", [(), ("duplicate_storm@3-6", "clock_skew@2", "payment_broken@4")])
def test_the_truth_is_what_the_judge_finds(incidents: tuple[str, ...]) -> None:
    """The direct pass and the tests' own reading of the contract agree on every total and every reject."""
    log = log_of(traffic(*incidents, rate=20), 500)
    judged = oracle.answer(
        CONFIG, [oracle.Message(m.partition, n, m.timestamp_ms, m.key, m.value) for n, m in enumerate(log)]
    )
    sums: defaultdict[str, float] = defaultdict(float)
    for (name, _, _), n in judged.totals.items():
        sums[name] += n
    rejected: Counter[str] = Counter()
    for (_, reason), n in judged.rejected.items():
        rejected[reason] += n
    assert truth(log, CONFIG) == Truth(
        dict(judged.accepted), dict(rejected), {name: int(n) for name, n in sums.items() if n}
    )


# The example configuration


def test_the_example_configuration_fits_the_traffic() -> None:
    """It is valid, and has the tenants, experiments and weights that the traffic has."""
    assert load(CONFIG_FILE, {}).tenants.keys() == {tenant.name for tenant in TENANTS}
    for tenant in TENANTS:
        experiments = CONFIG["tenants"][tenant.name]["experiments"]
        assert {name: e["variations"] for name, e in experiments.items()} == {
            experiment.name: dict(experiment.weights) for experiment in tenant.experiments
        }
        assert all(experiments[e.name]["control"] == e.weights[0][0] for e in tenant.experiments)
