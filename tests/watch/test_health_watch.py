"""Trouble of the monitor's health is told like a verdict: with tenant and reason, under ids equal in all watchers."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from monitor import devstore
from monitor.alerts.changes import Change
from monitor.serve.health_moments import last_minute_ms
from monitor.serve.service import Service
from monitor.verdicts.judge import State
from monitor.watch.audit import Audit
from monitor.watch.health_watch import MISSED_MINUTES_MAX, HealthWatch
from monitor.watch.lasting import BEGINS_MINUTES, ENDS_MINUTES
from tests.support import served
from tests.support.verdict_case import NOW_MS, serving

MINUTE_MS = 60_000
BURST_MS = (NOW_MS - 60 * MINUTE_MS) // MINUTE_MS * MINUTE_MS
BURST_MINUTES = 10
RATE_MINUTES = 5
"""Messages are judged by those of so many minutes."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A store of two mirrors with a burst of events from the future."""
    with devstore.running(tmp_path_factory.mktemp("health") / "store.sqlite3") as url:
        for dc in ("dal", "cdc"):
            served.report(url, dc, BURST_MS - 120 * MINUTE_MS, NOW_MS, lateness_s=600)
            points = []
            for at_ms in range(BURST_MS - 60 * MINUTE_MS + 5_000, NOW_MS, 10_000):
                points.append(("monitor.events", at_ms, {"dc": dc, "tenant": "t"}, 100))
                if BURST_MS <= at_ms < BURST_MS + BURST_MINUTES * MINUTE_MS:
                    tags = {"dc": dc, "tenant": "t", "reason": "future"}
                    points.append(("monitor.rejected", at_ms, tags, 50))
                    of = {"dc": dc, "tenant": "t", "tag": "device", "value": "mobile"}
                    points.append(("monitor.future", at_ms, of, 50))
            served.post(url, points)
        yield url


class Clock:
    """A service at a moment that can be set."""

    def __init__(self, service: Service, now_ms: int) -> None:
        self.now_ms = now_ms
        self.service = replace(service, now_ms=lambda: self.now_ms)


@pytest.fixture
def clock(url: str) -> Iterator[Clock]:
    with serving(url) as client:
        yield Clock(client.service, BURST_MS)


@pytest.fixture
def audit(tmp_path: Path) -> Iterator[Audit]:
    trail = Audit(tmp_path / "watch.sqlite3")
    yield trail
    trail.close()


def watched(clock: Clock, audit: Audit, minutes: int) -> list[Change]:
    """What a watcher tells that looks twice in each of so many minutes."""
    told: list[Change] = []
    watch = HealthWatch(clock.service, audit, told.extend)
    for _ in range(2 * minutes):
        clock.now_ms += MINUTE_MS // 2
        watch.once()
    return told


def test_a_burst_of_future_events_is_told_and_ends(clock: Clock, audit: Audit) -> None:
    """It names tenant and reason, once for both mirrors; it ends when no such message is in the last minutes."""
    begun, ended = watched(clock, audit, 30)
    assert (begun.tenant, begun.experiment, begun.check) == ("t", "", "health/future")
    assert (begun.state, begun.previous) == (State.WARN, State.HEALTHY)
    assert begun.at_ms == BURST_MS + BEGINS_MINUTES * MINUTE_MS
    assert begun.since_ms == BURST_MS + MINUTE_MS
    assert "of the messages of t were rejected as future in 5 minutes" in begun.words
    assert "clocks" in begun.words
    assert "device mobile (100 %)" in begun.words
    assert (begun.details["reason"], list(begun.details["by_tag"])) == ("future", ["device"])
    assert (ended.check, ended.state, ended.is_resolved) == (begun.check, State.HEALTHY, True)
    assert ended.at_ms == BURST_MS + (BURST_MINUTES + RATE_MINUTES + ENDS_MINUTES - 1) * MINUTE_MS
    assert [(change.id, change.state) for change in audit.changes()] == [(of.id, of.state) for of in (begun, ended)]
    assert audit.latest("t", "") == {}


def test_another_watcher_says_the_same_under_the_same_ids(clock: Clock, audit: Audit, tmp_path: Path) -> None:
    """Though it looks at other moments."""
    one = watched(clock, audit, 12)
    other = Audit(tmp_path / "other.sqlite3")
    clock.now_ms = BURST_MS + 17_000
    assert watched(clock, other, 12) == one != []
    other.close()


def test_a_watcher_that_starts_again_tells_the_end_only(clock: Clock, audit: Audit) -> None:
    """That it began is in the audit trail."""
    (begun,) = watched(clock, audit, 8)
    (ended,) = watched(clock, audit, 30)
    assert (begun.state, ended.state) == (State.WARN, State.HEALTHY)


def test_what_was_not_told_is_told_at_the_next_look(clock: Clock, audit: Audit) -> None:
    """With the same id; the missed minutes are judged in their order."""
    clock.now_ms = BURST_MS
    told: list[Change] = []
    can_tell = False

    def tell(changes: Sequence[Change]) -> None:
        if not can_tell:
            msg = "the disk is full"
            raise OSError(msg)
        told.extend(changes)

    watch = HealthWatch(clock.service, audit, tell)
    failures = 0
    for _ in range(7):
        clock.now_ms += MINUTE_MS
        try:
            watch.once()
        except OSError:
            failures += 1
    assert (failures > 1, list(audit.changes())) == (True, [])
    can_tell = True
    watch.once()
    assert [change.at_ms for change in told] == [BURST_MS + BEGINS_MINUTES * MINUTE_MS]


def test_minutes_without_a_store_are_judged_later_as_far_as_bounded(clock: Clock, audit: Audit) -> None:
    """A watcher never reads more than some minutes at once."""
    watch = HealthWatch(clock.service, audit, lambda _: None)
    assert watch.once() == 1
    assert watch.once() == 0
    clock.now_ms += 3 * MINUTE_MS
    assert watch.once() == 3
    clock.now_ms += 100 * MINUTE_MS
    assert watch.once() == MISSED_MINUTES_MAX


def test_a_job_that_is_silent_is_told(clock: Clock, audit: Audit) -> None:
    """Both data centers end at NOW_MS; by name, of no tenant."""
    clock.now_ms = NOW_MS
    told = watched(clock, audit, 8)
    assert {(change.tenant, change.check) for change in told} == {
        ("", "health/silent dal"),
        ("", "health/silent cdc"),
    }
    assert all(NOW_MS < change.at_ms <= last_minute_ms(clock.service) for change in told)
    assert "dal has been silent since" in told[0].words
