"""Who is told of what: the mildest state, routes, quiet repeat, what is over, and groups."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.alerts.changes import Change, Message, grouped, severity
from monitor.alerts.routes import UNKNOWN, is_routed, judged
from monitor.config.alerts import AlertsTable, Route
from monitor.verdicts.judge import State
from tests.support.alert_case import AT_MS, change, delivered, settings, telling, webhook
from tests.support.alert_receiver import AlertReceiver

HOUR = AlertsTable(repeat_s=3_600)
NO_ALARMS = [State.TOO_EARLY, State.WITHHELD, State.NO_DATA]


def told(changes: list[Change], route: Route | None = None, alerts: AlertsTable = HOUR) -> list[State]:
    """The states of the changes that are told, one check's in this order."""
    standing, states = UNKNOWN, []
    for one in changes:
        is_told, standing = judged(one, route or Route(), alerts, standing)
        states += [one.state] if is_told else []
    return states


@pytest.mark.parametrize("least", ["note", "warn", "hold", "stop"])
@pytest.mark.parametrize("is_of_route", [True, False])
def test_the_mildest_state_that_is_told(least: Any, is_of_route: bool) -> None:
    """That one and all that are more severe; of a route, or of all."""
    route = Route(from_state=least) if is_of_route else Route()
    alerts = AlertsTable(from_state="stop" if is_of_route else least)
    levels = [State.NOTE, State.WARN, State.HOLD, State.STOP]
    for state in [*NO_ALARMS, *levels]:
        expected = [state] if state in levels[levels.index(State(least)) :] else []
        assert told([change(state)], route, alerts) == expected


def test_a_check_that_was_told_is_told_when_it_is_healthy_again() -> None:
    """Once, and not if it never was told."""
    healthy = [change(State.HEALTHY, minute=minute) for minute in (5, 6)]
    assert told([change(State.HOLD), *healthy]) == [State.HOLD, State.HEALTHY]
    assert told([change(State.WARN), *healthy]) == []


@pytest.mark.parametrize("state", [*NO_ALARMS, State.NOTE, State.WARN])
def test_only_health_ends_an_alarm(state: State) -> None:
    """What is milder than the route asks, withheld or without data, is no end; health after it is."""
    changes = [change(State.HOLD), change(state, minute=1), change(State.HEALTHY, minute=2)]
    assert told(changes) == [State.HOLD, State.HEALTHY]


def test_a_repetition_is_quiet_until_its_time_is_over() -> None:
    """Both sides of the boundary: 59 minutes after the last notice none, 60 minutes after it one."""
    between = [change(State.WARN, minute=minute) for minute in (1, 30)]
    assert told([change(), *between, change(minute=59)]) == [State.HOLD]
    assert told([change(), *between, change(minute=60)]) == [State.HOLD, State.HOLD]


def test_a_state_that_rises_is_told_at_once_and_one_that_falls_is_not() -> None:
    """Above the last notice; after it was over, any alarm rises."""
    assert told([change(), change(State.STOP, minute=1)]) == [State.HOLD, State.STOP]
    assert told([change(State.STOP), change(minute=1), change(State.STOP, minute=2)]) == [State.STOP]
    assert told([change(State.STOP), change(minute=60)]) == [State.STOP, State.HOLD]
    flapping = [change(), change(State.HEALTHY, minute=1), change(minute=2)]
    assert told(flapping) == [State.HOLD, State.HEALTHY, State.HOLD]


def test_what_is_older_than_known_tells_nothing() -> None:
    """A caller that starts again may tell old changes anew."""
    hold, healthy = change(), change(State.HEALTHY, minute=10)
    assert told([hold, healthy, change(State.STOP, minute=9)]) == [State.HOLD, State.HEALTHY]
    assert told([hold, healthy, change(State.STOP, minute=10)]) == [State.HOLD, State.HEALTHY, State.STOP]


@given(st.lists(st.tuples(st.sampled_from(State), st.integers(0, 30)), max_size=30), st.integers(0, 20))
def test_a_target_always_knows_whether_there_is_an_alarm(drawn: list[tuple[State, int]], repeat_min: int) -> None:
    """Whatever the changes: it never hears twice that a check is well, first hears of an alarm, and within the quiet
    time no two alarms unless the state rises or was over.
    """
    changes, minute = [], 0
    for state, minutes in drawn:
        minute += minutes
        changes.append(change(state, minute=minute))
    alerts = AlertsTable(repeat_s=60 * repeat_min)
    standing, last = UNKNOWN, None
    for one in changes:
        is_told, standing = judged(one, Route(), alerts, standing)
        if severity(one.state) >= severity(State.HOLD) and (last is None or last.is_resolved):
            assert is_told, "an alarm that nobody knows of"
        if one.is_resolved:
            assert is_told == (last is not None and not last.is_resolved)
        elif is_told and last is not None and not last.is_resolved:
            assert severity(one.state) > severity(last.state) or one.at_ms - last.at_ms >= 60_000 * repeat_min
        last = one if is_told else last


@pytest.mark.parametrize(
    ("route", "is_led"),
    [
        ({}, True),
        ({"tenants": ["uswm"]}, True),
        ({"tenants": ["other"]}, False),
        ({"experiments": ["button_color", "fast_checkout"]}, True),
        ({"experiments": ["button_color"]}, False),
        ({"checks": ["order"]}, True),
        ({"checks": ["order fewer fc_on"]}, True),
        ({"checks": ["order fewer"]}, False),
        ({"checks": ["split"]}, False),
        ({"tenants": ["uswm"], "experiments": ["fast_checkout"], "checks": ["split", "order"]}, True),
        ({"tenants": ["uswm"], "experiments": ["fast_checkout"], "checks": ["split"]}, False),
    ],
)
def test_a_route_leads_by_tenant_experiment_and_check(route: dict[str, Any], is_led: bool) -> None:
    """All that it names must hold; a check by its whole text or its first word."""
    assert is_routed(change(), Route(**route)) is is_led


def test_each_target_has_its_own_route_and_memory(tmp_path: Path) -> None:
    """One that asks for less gets less, and hears of the end of what it was told only."""
    with AlertReceiver() as all_of_it, AlertReceiver() as some:
        table = {"all": {"url": all_of_it.url, "from_state": "note"}, "some": {"url": some.url, "checks": ["split"]}}
        with telling(settings(webhooks=table), tmp_path / "outbox") as teller:
            for minute, state in enumerate([State.NOTE, State.HOLD, State.HEALTHY]):
                teller.tell([change(state, minute=minute), change(state, minute=minute, check="split")], AT_MS)
                delivered(teller)
    assert [(d["state"], len(d["changes"])) for d in all_of_it.documents] == [("note", 2), ("hold", 2), ("healthy", 2)]
    assert [(d["state"], len(d["changes"])) for d in some.documents] == [("hold", 1), ("healthy", 1)]


def test_what_a_target_knows_survives_a_restart(tmp_path: Path) -> None:
    """It is quiet, and hears the end."""
    with AlertReceiver() as receiver:
        for one in [change(), change(minute=5), change(State.HEALTHY, minute=9), change(State.HEALTHY, minute=10)]:
            with telling(settings(webhooks=webhook(receiver.url)), tmp_path / "outbox") as teller:
                teller.tell([one], AT_MS)
                delivered(teller)
    assert [document["state"] for document in receiver.documents] == ["hold", "healthy"]


def test_changes_of_an_experiment_are_one_message(tmp_path: Path) -> None:
    """Within one call, in order of time; the message's state is the worst of them."""
    first, worst, other = change(minute=1), change(State.STOP, check="split"), change(experiment="button_color")
    with AlertReceiver() as receiver, telling(settings(webhooks=webhook(receiver.url)), tmp_path / "outbox") as teller:
        assert teller.tell([first, worst, other], AT_MS) == 2
        delivered(teller)
        assert [sorted(attempt.changes) for attempt in teller.attempts()] == [sorted([first.id, worst.id]), [other.id]]
    assert [(d["experiment"], d["state"]) for d in receiver.documents] == [
        ("fast_checkout", "stop"),
        ("button_color", "hold"),
    ]
    assert [one["id"] for one in receiver.documents[0]["changes"]] == [worst.id, first.id]


def test_the_key_of_a_group_is_that_of_its_changes() -> None:
    """In any order; of one change it is its id, of others it is another."""
    one, two, three = change(), change(check="split"), change(check="crossed")
    assert Message((one, two)).key == Message((two, one)).key
    assert Message((one,)).key == one.id
    assert len({Message((one, two)).key, Message((one, three)).key, Message((one, two, three)).key}) == 3
    assert [len(message.changes) for message in grouped([one, change(tenant="other"), two])] == [2, 1]


def test_a_change_that_was_told_joins_no_other_message(tmp_path: Path) -> None:
    """A caller that tells it again with a further one tells the further one only."""
    with AlertReceiver() as receiver, telling(settings(webhooks=webhook(receiver.url)), tmp_path / "outbox") as teller:
        teller.tell([change()], AT_MS)
        teller.tell([change(), change(check="split")], AT_MS)
        delivered(teller)
    assert receiver.keys == [change().id, change(check="split").id]


@pytest.mark.parametrize("check", ["health", "health/future", "health/dead_letters", "health/dead_letters dal"])
def test_a_check_of_health_is_chosen_by_kind_or_group(check: str) -> None:
    """By all that it begins with."""
    trouble = change(State.WARN, check="health/dead_letters dal", experiment="")
    assert is_routed(trouble, Route(checks=[check])) == (check != "health/future")
