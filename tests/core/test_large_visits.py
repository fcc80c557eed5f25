"""How large visits are: their events and values by variation and point, as an independent count of the log says."""

import random
from collections.abc import Mapping
from typing import Any

import pytest

from monitor.core.metrics import health_series
from monitor.core.visits import LARGE_EVENTS
from tests.support import oracle
from tests.support.driver import Core
from tests.support.messages import message, shop
from tests.support.oracle import Message
from tests.support.strategies import Config

EVENTS = "largest_visit.events"
VALUE = "largest_visit.value"


def largest(core: Core, what: str) -> dict[tuple[str, str], int]:
    """The gauge of the last batch by variation and point."""
    found = {}
    for variation in ("blue", "red"):
        for point in ("home_page", "item_page", "order", "engaged"):
            series = health_series(what, tenant="uswm", experiment="button_color", variation=variation, point=point)
            if series in core.maxima:
                found[variation, point] = core.maxima[series]
    return found


def qualified(config: Config, log: list[Message], part: str = "") -> dict[tuple[str, str], int]:
    """What the only visit of a log has of each point in scope `fm`, over all minutes and tags, by the oracle."""
    totals: dict[tuple[str, str], int] = {}
    for (name, _, _), total in oracle.answer(config, log).totals.items():
        _, _, scope, variation, point, *parts = name.split(".")
        if scope == "fm" and point != "beta" and parts == ([part] if part else []):
            totals[variation, point] = totals.get((variation, point), 0) + int(total)
    return totals


def order(at_ms: int, total: float, arrives_ms: int | None = None, **fields: Any) -> Message:
    """An order of this total."""
    named = {"event": "order", "eventId": f"o-{at_ms}", "attributes": {"total": total}}
    return message(at_ms, None, arrives_ms, **named | fields)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("restarts", [False, True])
def test_the_events_of_a_large_visit_are_counted(seed: int, restarts: bool) -> None:
    """In any order of arrival, with variations that move, joined visits and restarts: what the oracle counts of it."""
    config, draw = shop(gap_s=300, lateness_s=300), random.Random(seed)
    times = draw.sample(range(0, 290_000, 1_000), 60)
    log = []
    for at_ms in times:
        page = draw.choice(["home", "item", None])
        said = draw.choice([{}, {"button_color": "blue"}, {"button_color": "red"}])
        one = message(at_ms, page, 290_000, assignments=said) if page else order(at_ms, 2.5, 290_000, assignments=said)
        log.append(one)
    core = Core(config)
    for number, one in enumerate(log):
        core.feed([one])
        if restarts and number % 7 == 3:
            core.restart()
    expected = qualified(config, log)
    assert {of: size for of, size in expected.items() if size >= LARGE_EVENTS} == largest(core, EVENTS)
    assert len(core.answer()) > 20


def test_only_a_visit_with_many_events_is_large() -> None:
    """One below the bound is no large visit; the next event makes it one, with the events before it."""
    core = Core(shop())
    core.feed([message(1_000 * number, "home") for number in range(LARGE_EVENTS - 1)])
    assert largest(core, EVENTS) == {}
    core.feed([message(100_000, "home")])
    assert largest(core, EVENTS) == {("red", "home_page"): LARGE_EVENTS}


def test_the_largest_of_a_batch_is_shown() -> None:
    """Of several visits the largest, by variation; a batch without such a visit says nothing."""
    core = Core(shop())
    sizes: Mapping[tuple[str, str], int] = {("a", "red"): 30, ("b", "red"): 45, ("c", "blue"): 25, ("d", "blue"): 5}
    log = [
        message(1_000 * number, "home", 60_000, sessionId=session, assignments={"button_color": variation})
        for (session, variation), size in sizes.items()
        for number in range(size)
    ]
    core.feed(log)
    assert largest(core, EVENTS) == {("red", "home_page"): 45, ("blue", "home_page"): 25}
    core.feed([message(100_000, "home", sessionId="d", assignments={"button_color": "blue"})])
    assert largest(core, EVENTS) == {}


def test_joined_visits_are_one_large_visit() -> None:
    """An event between two visits adds the events of the later one to those of the earlier one."""
    core = Core(shop(gap_s=100, lateness_s=100))
    first = [message(1_000 * number, "home") for number in range(25)]
    second = [message(170_000 + 1_000 * number, "home") for number in range(10)]
    core.feed(first + second)
    assert largest(core, EVENTS) == {("red", "home_page"): 25}
    core.feed([message(100_000, "item", 190_000)])
    assert largest(core, EVENTS) == {("red", "home_page"): 35}


def test_a_visit_grows_while_its_beginning_is_forgotten() -> None:
    """Events behind the watermark are no longer there, and stay counted."""
    core = Core(shop(lateness_s=10))
    for first in range(0, 200, 10):
        core.feed([message(1_000 * number, "home") for number in range(first, first + 10)])
    assert largest(core, EVENTS) == {("red", "home_page"): 200}


def test_the_largest_value_has_no_sign() -> None:
    """The sum of a visit's values in scope `fm`, in scaled units; also that of refunds."""
    config, core = shop(), Core(shop())
    log = [message(0, "home"), order(1_000, 10.25), order(2_000, 5), message(0, "home", sessionId="s-2")]
    log += [order(3_000, -400.5, sessionId="s-2"), order(4_000, 99, sessionId="s-3")]
    core.feed(log)
    assert largest(core, VALUE) == {("red", "order"): 40_050}
    core.feed([order(5_000, 1)])
    assert largest(core, VALUE) == {
        ("red", "order"): qualified(config, [*log[:3], order(5_000, 1)], "sum")["red", "order"]
    }
