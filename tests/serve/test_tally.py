"""The cumulative counts of a phase: whatever was read in which order, they are those of the minutes as they are now."""

import random
from collections import defaultdict

import pytest

from monitor.serve import tally as tally_module
from monitor.serve.phase_counts import slices
from monitor.serve.spans import Span
from monitor.serve.tally import Finality, Part, Tally, moments
from monitor.verdicts.restarts import plan

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
START_MS = 1_000 * HOUR_MS + 7 * MINUTE_MS
METRICS = ("off", "on")
GROUPS = [("a", "x"), ("a", "y"), ("b", "x")]
PLACES = [(), *slices({"device": ("a", "b"), "login": ("x", "y")})]

Minutes = dict[int, dict[tuple[str, tuple[str, ...]], int]]


def minutes_until(end_ms: int, seed: int) -> Minutes:
    """Counts by minute; a series that comes later, and minutes without any."""
    choose = random.Random(seed)
    minutes: Minutes = {}
    for at_ms in range(START_MS, end_ms, MINUTE_MS):
        groups = GROUPS if at_ms > START_MS + 3 * HOUR_MS else GROUPS[:1]
        minutes[at_ms] = {(m, g): choose.randrange(4) for m in METRICS for g in groups if choose.random() < 0.7}
    return minutes


def summed(minutes: Minutes, span: Span) -> Part:
    found: defaultdict[tuple[str, tuple[str, ...]], float] = defaultdict(int)
    for at_ms, counts in minutes.items():
        if span.start_ms <= at_ms < span.end_ms:
            for series, count in counts.items():
                found[series] += count
    return found


def look(tally: Tally, minutes: Minutes, sealed_ms: int, finality: dict[int, Finality], held_ms: int = 0) -> int:
    """A look at the minutes; how many parts were read."""
    parts = list(tally.lacking(sealed_ms, finality, held_ms))
    marks = moments(START_MS, sealed_ms)
    rest = Span(marks[-1] if marks else START_MS, sealed_ms)
    tally.take(sealed_ms, {part: summed(minutes, part) for part in parts}, finality, summed(minutes, rest))
    return len(parts)


def assert_is(tally: Tally, minutes: Minutes, sealed_ms: int) -> None:
    marks = [restart.start_ms for restart in plan(START_MS, sealed_ms).restarts[1:]]
    for place in PLACES:
        course = tally.course(METRICS, place, marks)
        wanted = dict(place)

        def before(end_ms: int, wanted: dict[str, str] = wanted) -> tuple[float, ...]:
            of = summed(minutes, Span(START_MS, end_ms)).items()
            return tuple(
                sum(
                    n
                    for (m, group), n in of
                    if m == metric and wanted.items() <= dict(zip(("device", "login"), group, strict=True)).items()
                )
                for metric in METRICS
            )

        assert course.counts == before(sealed_ms)
        assert course.before == {mark: before(mark) for mark in marks}
    for span, part in tally.counted(("on",), sealed_ms):
        of = summed(minutes, span).items()
        assert part == {series: count for series, count in of if series[0] == "on" and count}


def finality_of(sealed_ms: int, since: int = 0) -> dict[int, Finality]:
    return {mark: (mark + since,) for mark in moments(START_MS, sealed_ms)}


@pytest.mark.parametrize("seed", range(3))
def test_the_counts_are_those_of_the_minutes(seed: int) -> None:
    """At any rhythm of looks; each part is read once."""
    choose = random.Random(seed)
    minutes = minutes_until(START_MS + 20 * HOUR_MS, seed)
    tally, sealed_ms, read = Tally("", START_MS, ("device", "login")), START_MS, 0
    while sealed_ms < START_MS + 19 * HOUR_MS:
        sealed_ms += MINUTE_MS * choose.choice([0, 1, 5, 40, 200])
        read += look(tally, minutes, sealed_ms, finality_of(sealed_ms))
        assert_is(tally, minutes, sealed_ms)
    assert read < 23 * 6
    assert look(tally, minutes, sealed_ms, finality_of(sealed_ms)) == 0


@pytest.mark.parametrize("hours_ago", [0.5, 3, 12])
def test_what_became_final_anew_is_counted_again(hours_ago: float) -> None:
    """It replaces what was counted before, however often; nothing is added twice."""
    sealed_ms = START_MS + 19 * HOUR_MS
    minutes = minutes_until(sealed_ms, 1)
    tally = Tally("", START_MS, ("device", "login"))
    look(tally, minutes, sealed_ms, finality_of(sealed_ms))
    tally.changed_ms = sealed_ms
    again_ms = sealed_ms - round(hours_ago * HOUR_MS)
    for times in (1, 2):
        for at_ms in list(minutes):
            if at_ms > again_ms:
                minutes[at_ms] = {series: times * 3 for series in minutes[at_ms]} | {("on", ("b", "y")): times}
        finality = finality_of(sealed_ms) | {
            mark: (mark + times,) for mark in moments(START_MS, sealed_ms) if mark > again_ms
        }
        assert look(tally, minutes, sealed_ms, finality)
        assert_is(tally, minutes, sealed_ms)
        assert again_ms - HOUR_MS <= tally.changed_ms <= again_ms


def test_the_end_of_the_final_minutes_may_fall() -> None:
    """As when a job has lost its state; what is final again is counted again."""
    sealed_ms = START_MS + 19 * HOUR_MS
    minutes = minutes_until(sealed_ms, 1)
    tally = Tally("", START_MS, ("device", "login"))
    for hours, since in ((19, 0), (12, 0), (13, 1), (19, 2)):
        of_look = START_MS + hours * HOUR_MS
        look(tally, minutes, of_look, finality_of(of_look, since))
        assert_is(tally, minutes, of_look)


def test_hours_beyond_the_bound_are_dropped_but_not_their_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restarts there are lost, which only loses power."""
    sealed_ms = START_MS + 19 * HOUR_MS
    minutes = minutes_until(sealed_ms, 1)
    tally = Tally("", START_MS, ("device", "login"))
    look(tally, minutes, sealed_ms, finality_of(sealed_ms))
    monkeypatch.setattr(tally_module, "MOMENTS_MAX", 20)
    look(tally, minutes, sealed_ms, finality_of(sealed_ms))
    marks = [restart.start_ms for restart in plan(START_MS, sealed_ms).restarts[1:]]
    course = tally.course(METRICS, (), marks)
    assert len(course.before) == len(tally.marks()) == 20
    assert [span.end_ms for span, _ in tally.counted(METRICS, sealed_ms)] == tally.marks()[1:]
    assert course.counts[0] == sum(n for (m, _), n in summed(minutes, Span(START_MS, sealed_ms)).items() if m == "off")
    assert look(tally, minutes, sealed_ms, finality_of(sealed_ms)) == 0
    restored = Tally("", START_MS, ("device", "login"))
    restored.restore(tally.series, tally.rows())
    assert restored.is_whole(sealed_ms - HOUR_MS)
    assert not restored.is_whole(sealed_ms + HOUR_MS)
