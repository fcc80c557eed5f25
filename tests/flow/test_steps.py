"""The steps of the dataflow, called directly: what goes to which key group, and what is kept between calls."""

import pickle
from datetime import UTC, datetime
from typing import Any
from zlib import crc32

import pytest
from bytewax.operators.windowing import ClockLogic

from monitor.core.sessions import Message as Raw
from monitor.core.watermark import NEVER, Progress
from monitor.flow.changes import Changes
from monitor.flow.flush import FlushClock, accumulate, nothing
from monitor.flow.keys import (
    HEALTH_GROUP,
    METRIC_GROUPS,
    SESSION_GROUPS,
    keys_by_step,
    metric_group_key,
    session_group_key,
)
from monitor.flow.regroup import Regroup
from monitor.flow.sessions import Tallied, sessions
from monitor.flow.telemetry import Telemetry
from monitor.flow.totals import TotalsStep
from monitor.runtime import signals
from monitor.runtime.errors import JobError
from tests.support.driver import compiled_of
from tests.support.messages import BASE_MS, MINUTE_MS, message, shop

MINUTE = BASE_MS // MINUTE_MS
SERIES = "uswm.visit.fm.red.beta|experiment=button_color"


def test_the_key_groups_have_their_numbers_in_their_keys() -> None:
    """A recovery store made with another number of groups is told by its keys alone."""
    assert (session_group_key(7), metric_group_key(7)) == ("007/128", "07/16")
    assert {step: len(keys) for step, keys in keys_by_step().items()} == {
        "sessions": SESSION_GROUPS,
        "flush": METRIC_GROUPS + 1,
        "totals": METRIC_GROUPS + 1,
    }


def test_a_session_group_goes_on_from_its_snapshot() -> None:
    """The pickled state needs no class of ours; the group that is built from it knows sessions and watermark."""
    build = sessions(compiled_of(shop(lateness_s=60)))
    raw = _raw(0, "home")
    step = build(None)
    step.on_batch([(3, [raw]), (3, _progress(90_000))])
    data = pickle.dumps(step.snapshot())
    assert b"monitor" not in data
    again = build(pickle.loads(data))
    (tallied,), discard = again.on_batch([(3, [raw, _raw(29_999, "home", arrives_ms=30_000), _raw(31_000, "item")])])
    tally = tallied.tallies["uswm"]
    assert (tallied.group, tallied.watermark_ms, discard) == (3, BASE_MS + 30_000, False)
    assert (tally.accepted, dict(tally.rejected)) == (1, {"late": 2})


def test_a_session_group_remembers_how_far_each_partition_was() -> None:
    """After a restart one partition's progress is enough for the watermark to rise where the others were further."""
    build = sessions(compiled_of(shop(lateness_s=60)))
    told = [Progress(("0", "1"), name, BASE_MS + ms, idle=False) for name, ms in (("0", 90_000), ("1", 200_000))]
    step = build(None)
    step.on_batch([(0, progress) for progress in told])
    (tallied,), _ = build(step.snapshot()).on_batch([(0, told[0]._replace(high_ms=BASE_MS + 150_000))])
    assert tallied.watermark_ms == BASE_MS + 90_000


def test_progress_counts_from_where_it_stands() -> None:
    """Messages ahead of the progress are judged by the watermark as it was, those behind it by the new one."""
    step = sessions(compiled_of(shop(lateness_s=60)))(None)
    old = [_raw(at_ms, "home", arrives_ms=0) for at_ms in (-1, -2)]
    (tallied,), _ = step.on_batch([(0, old[:1]), (0, _progress(60_000)), (0, old[1:])])
    assert (tallied.tallies["uswm"].accepted, dict(tallied.tallies["uswm"].rejected)) == (1, {"late": 1})


def test_a_snapshot_does_not_change_with_the_group() -> None:
    """The engine pickles later what snapshot() gave: messages that come in between must not show in it."""
    step = sessions(compiled_of(shop()))(None)
    step.on_batch([(0, [_raw(0, "home")])])
    plain = step.snapshot()
    before = pickle.dumps(plain)
    step.on_batch([(0, [_raw(1, "item"), _raw(-1, "home"), _raw(2, "home", sessionId="s-2")]), (0, _progress(10**9))])
    assert pickle.dumps(plain) == before


def test_state_of_another_format_is_refused() -> None:
    """A snapshot with an unknown version is one clear error, in both steps that keep state."""
    for build in (sessions(compiled_of(shop())), TotalsStep):
        state = build(None).snapshot() | {"version": 99}
        with pytest.raises(JobError, match=r"another version .* \(state format 99, this one reads 1, 2, 3\)"):
            build(state)


def test_changes_go_to_the_group_of_their_series() -> None:
    """Deltas of all session groups are summed; a series is always in group crc32(series) % 16."""
    compiled = compiled_of(shop())
    build = sessions(compiled)
    tallied = []
    for group, session in enumerate(("s-1", "s-2")):
        (one,), _ = build(None).on_batch([(group, [_raw(0, "home", sessionId=session)])])
        tallied.append((session_group_key(group), one))
    changes = dict(Regroup(compiled)(tallied))
    deltas = {
        (series, minute): (change, int(key[:2]))
        for key, of_group in changes.items()
        for minute, of_minute in of_group.deltas.items()
        for series, change in of_minute.items()
    }
    assert {change for change, _ in deltas.values()} == {2}
    assert {series.split("|")[0] for series, _ in deltas} == {
        f"uswm.visit.{scope}.red.{part}"
        for scope in ("assigned", "fm")
        for part in ("beta", "home_page", "home_page.beta")
    }
    assert all(group == crc32(series.encode()) % METRIC_GROUPS for (series, _), (_, group) in deltas.items())
    health = changes[metric_group_key(HEALTH_GROUP)]
    assert not health.deltas
    assert health.counts["monitor.events|tenant=uswm"] == 2


def test_watermarks_are_told_to_every_metric_group_once() -> None:
    """A session group's watermark goes to all 17 metric groups when it has risen, and not again before it rises."""
    regroup = Regroup(compiled_of(shop()))

    def told(*watermarks: tuple[int, int]) -> list[dict[int, int]]:
        items = [("", Tallied(group, {}, watermark_ms)) for group, watermark_ms in watermarks]
        return [changes.watermarks for _, changes in regroup(items) if changes.watermarks]

    assert told((0, NEVER), (1, 500)) == [{1: 500}] * (METRIC_GROUPS + 1)
    assert told((0, NEVER), (1, 500)) == []
    assert told((0, 400), (1, 501)) == [{0: 400, 1: 501}] * (METRIC_GROUPS + 1)


def test_a_message_of_no_known_tenant_is_counted_as_unknown() -> None:
    """Rejects reach the health group under the tenant `unknown`, and make no series of a stranger's text."""
    compiled = compiled_of(shop())
    raw = [_raw(0, "home", tenant="a|b=c"), (b"k", b"{", BASE_MS)]
    (tallied,), _ = sessions(compiled)(None).on_batch([(0, raw)])
    ((_, changes),) = Regroup(compiled)([("", tallied)])
    assert changes.group == HEALTH_GROUP
    assert {series: n for series, n in changes.counts.items() if series.startswith("monitor.rejected")} == {
        "monitor.rejected|tenant=unknown|reason=unknown_tenant": 1,
        "monitor.rejected|tenant=unknown|reason=not_json": 1,
    }


def test_the_process_tells_of_itself_at_most_once_a_second() -> None:
    """Memory and processor time come with the first batch, and not with one right after it."""
    regroup = Regroup(compiled_of(shop()))
    ((key, changes),) = regroup([])
    assert key == metric_group_key(HEALTH_GROUP)
    assert changes.gauges["monitor.memory_bytes|worker=0", ""] > 1_000_000
    assert "monitor.cpu_ms|worker=0" in changes.counts
    assert regroup([]) == []


def test_the_last_report_is_written_whenever_it_comes() -> None:
    """At the end of a run each session group says that it was all; the process then tells of itself once more."""
    step = sessions(compiled_of(shop()))(None)
    assert step.on_eof() == ([], False), "a group that nothing has reached has nothing to say"
    step.on_batch([(5, _progress(700_000))])
    (last,), discarded = step.on_eof()
    assert (last, discarded) == (Tallied(5, {}, BASE_MS + 100_000, last=True), False)
    regroup = Regroup(compiled_of(shop()))
    regroup([])
    reported = {key: changes for key, changes in regroup([("", last)])}
    assert reported[metric_group_key(HEALTH_GROUP)].gauges["monitor.memory_bytes|worker=0", ""] > 1_000_000
    assert reported[metric_group_key(HEALTH_GROUP)].watermarks == {5: BASE_MS + 100_000}


def test_progress_that_asks_for_a_restart_stops_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process has session groups, also one that reads no partition: this is how it learns of it."""
    asked: list[bool] = []
    monkeypatch.setattr(signals, "restart", lambda: asked.append(True))
    step = sessions(compiled_of(shop()))(None)
    step.on_batch([(5, _progress(0))])
    assert not asked
    step.on_batch([(5, _progress(0)._replace(restart=True))])
    assert asked


def test_changes_accumulate() -> None:
    """Deltas and counts are added, watermarks and maxima rise, of a gauge the last part told is kept."""
    one = _changes({MINUTE: {"a": 1, "b": 2}}, {0: 5, 1: 5}, {"c": 1}, {"m": 7}, {("g", "p"): 1, ("g", "q"): 1})
    two = _changes({MINUTE: {"a": -1}, MINUTE + 1: {"a": 4}}, {0: 6, 1: 4}, {"c": 2}, {"m": 3}, {("g", "p"): 0})
    # From another process, changes come as the plain tuples that they are pickled as.
    for second in (two, pickle.loads(pickle.dumps(two))):
        summed = accumulate(accumulate(nothing(), one), second)
        assert summed == _changes(
            {MINUTE: {"a": 0, "b": 2}, MINUTE + 1: {"a": 4}},
            {0: 6, 1: 5},
            {"c": 3},
            {"m": 7},
            {("g", "p"): 0, ("g", "q"): 1},
        )
    assert one.deltas == {MINUTE: {"a": 1, "b": 2}}, "what crosses a step is not changed"
    assert accumulate(one, None) is one


def test_changes_are_pickled_as_a_plain_tuple() -> None:
    """No class path of ours in the state format; what was accumulated before a snapshot goes on as a tuple."""
    changes = _changes({MINUTE: {SERIES: 1}}, {0: 5}, {}, {}, {})
    data = pickle.dumps(changes)
    assert b"monitor" not in data
    assert type(pickle.loads(data)) is tuple
    assert accumulate(pickle.loads(data), changes) == _changes({MINUTE: {SERIES: 2}}, {0: 5}, {}, {}, {})


def test_a_flush_clock_does_not_go_back() -> None:
    """After a restart with the machine's clock set back, it goes on from where it was, at the pace of the new one."""
    clock = _Clock(BASE_MS)
    before = FlushClock(clock).build(None)
    clock.now = BASE_MS + 3_000
    before.before_batch()
    left = before.snapshot()
    assert left == _utc(BASE_MS + 3_000)

    clock.now = BASE_MS - 7_000
    after = FlushClock(clock).build(left)
    assert after.on_item(None) == (left, left)
    clock.now += 1
    assert after.on_notify() == _utc(BASE_MS + 3_001)
    assert after.on_item(None) == (_utc(BASE_MS + 3_001),) * 2
    assert _wakes_in_s(after, BASE_MS + 13_001) == pytest.approx(10, abs=1)
    assert after.on_eof() == datetime.max.replace(tzinfo=UTC), "at the end all windows close"


def test_a_flush_clock_takes_a_later_time_as_it_is() -> None:
    """After a downtime with a right clock there is no lead."""
    clock = FlushClock(_Clock(BASE_MS + 60_000)).build(_utc(BASE_MS))
    assert clock.on_item(None)[0] == _utc(BASE_MS + 60_000)
    assert _wakes_in_s(clock, BASE_MS + 70_000) == pytest.approx(10, abs=1)


def test_totals_are_absolute() -> None:
    """Each flush gives the totals of what was touched, those corrected to 0 and those that stay as they were too."""
    step = TotalsStep(None)
    assert _points(step, _changes({MINUTE: {SERIES: 2, "other": 1}})) == [(SERIES, BASE_MS, 2), ("other", BASE_MS, 1)]
    assert _points(step, _changes({MINUTE: {SERIES: 1, "other": 0}})) == [(SERIES, BASE_MS, 3), ("other", BASE_MS, 1)]
    assert _points(step, _changes({MINUTE: {SERIES: -3}, MINUTE + 1: {SERIES: 3}})) == [
        (SERIES, BASE_MS, 0),
        (SERIES, BASE_MS + MINUTE_MS, 3),
    ]
    assert step.on_batch([(0, _changes())]) == ([], False)


def test_totals_go_on_from_their_snapshot() -> None:
    """A ledger built from a snapshot adds to what it had; the snapshot itself is not changed by it."""
    step = TotalsStep(None)
    _points(step, _changes({MINUTE: {SERIES: 2}}, {0: 5}))
    plain = step.snapshot()
    data = pickle.dumps(plain)
    assert b"monitor" not in data
    assert _points(step, _changes({MINUTE: {SERIES: 1}})) == [(SERIES, BASE_MS, 3)]
    assert pickle.dumps(plain) == data
    # Flushed changes come as a plain tuple where the window was open at a restart.
    flushed = pickle.loads(pickle.dumps(_changes({MINUTE: {SERIES: 1}})))
    assert _points(TotalsStep(pickle.loads(data)), flushed) == [(SERIES, BASE_MS, 3)]


def test_sealed_minutes_are_forgotten() -> None:
    """Totals are held until every session group has passed the end of their minute, and not longer."""
    telemetry = Telemetry()
    step = TotalsStep(None, telemetry=telemetry)
    _points(step, _changes({MINUTE: {SERIES: 1}, MINUTE + 1: {SERIES: 1}}))
    end_ms = BASE_MS + MINUTE_MS
    step.on_batch([(0, _changes(watermarks=dict.fromkeys(range(SESSION_GROUPS - 1), end_ms)))])
    assert set(step.snapshot()["totals"]) == {MINUTE, MINUTE + 1}, "one group was not heard of"
    step.on_batch([(0, _changes(watermarks={SESSION_GROUPS - 1: end_ms - 1}))])
    assert set(step.snapshot()["totals"]) == {MINUTE, MINUTE + 1}, "one group is a millisecond before the end"
    step.on_batch([(0, _changes(watermarks={SESSION_GROUPS - 1: end_ms}))])
    assert set(step.snapshot()["totals"]) == {MINUTE + 1}
    assert telemetry.take().gauges["monitor.totals", metric_group_key(0)] == 1


def test_health_timestamps_strictly_increase() -> None:
    """Flushes at the same moment, or with a clock that stands, do not overwrite each other's counters."""
    clock = _Clock(BASE_MS)
    step = TotalsStep(None, clock)
    counted = _changes(counts={"monitor.events|tenant=uswm": 1}, group=HEALTH_GROUP)
    (points,), _ = step.on_batch([(0, counted), (1, counted)])
    stamps = [point.timestamp_ms for point in points]
    clock.now += 500
    stamps += [at_ms for _, at_ms, _ in _points(step, counted)]
    assert stamps == [BASE_MS, BASE_MS + 1, BASE_MS + 500]


def test_gauges_are_summed_over_their_parts() -> None:
    """Each process tells its own parts; those that are not told anew keep their value; maxima are passed on."""
    step = TotalsStep(None, _Clock(BASE_MS))
    told = _changes(gauges={("monitor.sessions", "000/128"): 3, ("monitor.sessions", "001/128"): 4}, group=HEALTH_GROUP)
    assert _points(step, told) == [("monitor.sessions", BASE_MS, 7)]
    maxima = {"monitor.delay_ms.max|tenant=uswm": 9}
    more = _changes(gauges={("monitor.sessions", "001/128"): 1}, maxima=maxima, group=HEALTH_GROUP)
    assert _points(step, more) == [
        ("monitor.delay_ms.max|tenant=uswm", BASE_MS + 1, 9),
        ("monitor.sessions", BASE_MS + 1, 4),
    ]


def test_the_watermark_is_reported_in_seconds() -> None:
    """It is the least of all session groups', rounded down, and not told before all are heard of."""
    step = TotalsStep(None, _Clock(BASE_MS))
    counts = {"monitor.events|tenant=uswm": 1}
    most = dict.fromkeys(range(1, SESSION_GROUPS), BASE_MS + 5_000)
    assert len(_points(step, _changes(watermarks=most, counts=counts, group=HEALTH_GROUP))) == 1
    points = _points(step, _changes(watermarks={0: BASE_MS + 1_999}, counts=counts, group=HEALTH_GROUP))
    assert ("monitor.watermark_s", BASE_MS + 1, BASE_MS // 1_000 + 1) in points


def _raw(at_ms: int, page: str, arrives_ms: int | None = None, **fields: Any) -> Raw:
    made = message(at_ms, page, arrives_ms, **fields)
    return made.key, made.value, made.timestamp


def _progress(high_ms: int) -> Progress:
    """How far the only partition is, in ms after the base."""
    return Progress(("0",), "0", BASE_MS + high_ms, idle=False)


def _changes(
    deltas: dict[int, dict[str, int]] | None = None,
    watermarks: dict[int, int] | None = None,
    counts: dict[str, int] | None = None,
    maxima: dict[str, int] | None = None,
    gauges: dict[tuple[str, str], int] | None = None,
    group: int = 0,
) -> Changes:
    return Changes(group, deltas or {}, watermarks or {}, counts or {}, maxima or {}, gauges or {})


def _points(step: TotalsStep, changes: Changes) -> list[tuple[str, int, float]]:
    emitted, discard = step.on_batch([(0, changes)])
    assert not discard
    return [(point.series, point.timestamp_ms, point.value) for points in emitted for point in points]


class _Clock:
    """A clock that shows what it is set to."""

    def __init__(self, now_ms: int) -> None:
        self.now = now_ms

    def now_ms(self) -> int:
        return self.now


def _wakes_in_s(clock: ClockLogic[Any, datetime], time_ms: int) -> float:
    """In how many seconds of the machine's clock the engine is told to wake the key up for a time of its clock."""
    wakes = clock.to_system_utc(_utc(time_ms))
    assert wakes is not None
    return (wakes - datetime.now(UTC)).total_seconds()


def _utc(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1_000, UTC)
