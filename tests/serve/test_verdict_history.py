"""Evidence and the goal's difference over time, from a store."""

import math
from collections.abc import Iterator

import pytest

from monitor import devstore
from monitor.config.reader import parse
from monitor.serve import answers
from monitor.serve.anytime import Intervals
from monitor.serve.goal_course import goal_courses, step_ms
from monitor.serve.service import Service, open_service
from monitor.serve.spans import HOUR_MS, Span
from monitor.serve.verdict_history import evidence
from monitor.verdicts import sequences
from tests.support import served
from tests.support.verdict_case import CONFIG, LATENESS_S, NOW_MS, begins_ms, broken_ms, fill

MINUTE_MS = 60_000
BEGINS_MS, BROKEN_MS = begins_ms(), broken_ms()
SEALED_MS = (NOW_MS - LATENESS_S * 1_000) // MINUTE_MS * MINUTE_MS - MINUTE_MS
CHECK = "guardrail order on"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service over a store with an incident, and with evidence of two watchers that grows by the minute."""
    with devstore.running(tmp_path_factory.mktemp("history") / "store.sqlite3") as url:
        fill(url)
        tags = {"tenant": "t", "experiment": "checkout", "check": CHECK.replace(" ", "/")}
        served.post(
            url,
            [
                ("monitor.verdict.ln_e", at_ms, tags | {"dc": dc}, (at_ms - BEGINS_MS) / MINUTE_MS / 100)
                for at_ms in range(BEGINS_MS, SEALED_MS, MINUTE_MS)
                for dc in ("dal", "cdc")
            ],
        )
        settings = parse({**CONFIG, "serve": {"dcs": ["dal", "cdc"]}})
        with open_service(settings, url, lambda: NOW_MS) as service:
            yield service


def test_a_step_has_its_largest_evidence_once(service: Service) -> None:
    """Of two watchers that say the same, and again from the cache."""
    span = Span(BROKEN_MS, BROKEN_MS + 2 * HOUR_MS)
    first = evidence(service, [("t", "checkout")], span, 10 * MINUTE_MS)
    points = first["t", "checkout", CHECK]
    assert [at for at, _ in points] == list(range(span.start_ms, span.end_ms, 10 * MINUTE_MS))
    assert points[0][1] == pytest.approx(((BROKEN_MS - BEGINS_MS) / MINUTE_MS + 9) / 100)
    assert evidence(service, [("t", "checkout")], span, 10 * MINUTE_MS) == first
    assert evidence(service, [("t", "young")], span, 10 * MINUTE_MS) == {}


def test_little_evidence_can_be_left_out(service: Service) -> None:
    """Only steps above a bound, which need no memory for the others."""
    span = Span(BEGINS_MS, SEALED_MS)
    points = evidence(service, [("t", "checkout")], span, 10 * MINUTE_MS, above=5.0)["t", "checkout", CHECK]
    assert all(ln_e > 5 for _, ln_e in points)
    assert points[0][0] - BEGINS_MS <= 500 * MINUTE_MS


@pytest.mark.parametrize("minutes", [5, 60])
def test_the_difference_is_that_of_all_visits_so_far(service: Service, minutes: int) -> None:
    """At the end of each step; at the last one that of the whole span, with the band of the formula."""
    span = Span(BEGINS_MS, SEALED_MS)
    (points,) = goal_courses(service, "t", "checkout", "order", span, minutes * MINUTE_MS).values()
    assert [point.at_ms for point in points] == sorted({point.at_ms for point in points})
    assert points[-1].at_ms == span.end_ms
    steps = range(BEGINS_MS, SEALED_MS, MINUTE_MS)
    visits = sum(2 * (20 + number % 3) for number, _ in enumerate(steps))
    orders = [4 * len(steps), 4 * len(steps) - 2 * len([at for at in steps if at >= BROKEN_MS])]
    control, variation = (sequences.rate(count, visits) for count in orders)
    assert control is not None
    assert variation is not None
    expected = sequences.difference(variation, control)
    low, high = sequences.band(expected, 0.05, sequences.rho(0.05))
    assert points[-1][1:] == pytest.approx((expected.value, low, high))
    before = [point for point in points if point.at_ms <= BROKEN_MS]
    assert before
    assert all(point.difference == 0 and point.low < 0 < point.high for point in before)


def test_without_conversions_there_is_no_difference(service: Service) -> None:
    """Of a point that no visit has, in no step."""
    (points,) = goal_courses(service, "t", "young", "order", Span(BEGINS_MS, SEALED_MS), 5 * MINUTE_MS).values()
    assert points == []


def test_an_answer_has_the_intervals_that_were_asked_for(service: Service) -> None:
    """Over the whole phase the one valid at every look is the last band of the course; the fixed one is inside."""
    span = Span(BEGINS_MS, SEALED_MS)
    (points,) = goal_courses(service, "t", "checkout", "order", span, HOUR_MS).values()
    found = {}
    for kind in Intervals:
        (_, variation) = answers.experiment(service, "t", "checkout", span, intervals=kind).variations
        found[kind] = next(of for of in variation.points if of.point == "order").rate_difference
    anytime, fixed = found[Intervals.ANYTIME], found[Intervals.FIXED]
    assert anytime is not None
    assert fixed is not None
    assert (anytime.absolute, anytime.low, anytime.high) == pytest.approx(points[-1][1:])
    assert anytime.low is not None
    assert anytime.high is not None
    assert fixed.low is not None
    assert fixed.high is not None
    assert anytime.low < fixed.low < fixed.high < anytime.high


def test_steps_fit_the_phase() -> None:
    """At most 300, or an hour each."""
    for hours, minutes in ((1, 1), (5, 1), (5.1, 5), (25, 5), (26, 15), (75, 15), (76, 60), (700, 60)):
        assert step_ms(Span(0, math.ceil(hours * HOUR_MS))) == minutes * MINUTE_MS
