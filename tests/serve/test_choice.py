"""The choice of the data center for each minute: exactly one, deterministic, and steady."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.core.codes import MINUTE_MS
from monitor.serve.failover import Evidence, Report, Rules, Stretch, lookback_ms, minutes, sealed_until_ms
from monitor.serve.models import DcState, ServingReason

RULES = Rules(stale_after_ms=30_000, behind_ms=60_000, return_after_ms=120_000, fewer_share=0.05, fewer_visits=10)
LATENESS_MS = 10 * MINUTE_MS
FLUSH_MS = 10_000
ORDER = ("dal", "cdc")
T0 = 1_795_491_000_000 // MINUTE_MS * MINUTE_MS
"""The first minute of the tests."""


def at(minute: float) -> int:
    """A moment, in minutes after the first."""
    return T0 + round(minute * MINUTE_MS)


def reports(*spans: tuple[float, float], behind_ms: int = 0) -> list[Report]:
    """What a healthy job writes from one minute to before another, with its watermark right behind the lateness."""
    return [
        Report(at_ms, at_ms - LATENESS_MS - behind_ms)
        for begin, end in spans
        for at_ms in range(at(begin), at(end), FLUSH_MS)
    ]


def evidence(now: float, order: Sequence[str] = ORDER, rules: Rules = RULES, **told: list[Report]) -> Evidence:
    return Evidence(order, told, at(now), rules)


def serving(known: Evidence, begin: float, end: float, visits: Mapping[str, Mapping[int, int]] | None = None) -> str:
    """Who serves each minute: a letter for each, of the data center's name."""
    stretches = minutes(known, at(begin), at(end), visits or {})
    return "".join(s.dc[0] * ((s.end_ms - s.start_ms) // MINUTE_MS) for s in stretches)


def test_the_preferred_one_serves_while_it_is_in_order() -> None:
    """All minutes, sealed and open, and the present."""
    known = evidence(30, dal=reports((-60, 30)), cdc=reports((-60, 30)))
    assert minutes(known, at(0), at(31), {}) == [Stretch(at(0), at(31), "dal", ServingReason.PREFERRED)]
    assert sealed_until_ms(known, minutes(known, at(0), at(31), {})) == at(19)


def test_another_serves_what_the_stopped_one_left_open() -> None:
    """What was sealed before stays; open minutes and the present are another's after `stale_after_s`, not before."""
    dal, cdc = reports((-60, 20)), reports((-60, 60))
    before = evidence(20 + 19 / 60, dal=dal, cdc=cdc)
    assert before.present().dc == "dal"
    after = evidence(20 + 21 / 60, dal=dal, cdc=cdc)
    assert after.present()[2:] == ("cdc", ServingReason.STALE)
    assert serving(after, 0, 20) == "d" * 9 + "c" * 11
    assert after.state("dal", after.now_ms) is DcState.STALE


def test_the_stopped_one_serves_again_after_a_while_in_order() -> None:
    """Caught up, it has to be in order for `return_after_s`; what the other has sealed meanwhile stays the other's."""
    dal, cdc = reports((-60, 20), (40, 80)), reports((-60, 80))
    recovering = evidence(41, dal=dal, cdc=cdc)
    assert recovering.present()[2:] == ("cdc", ServingReason.RECOVERING)
    known = evidence(60, dal=dal, cdc=cdc)
    assert known.present().dc == "dal"
    assert serving(known, 0, 60) == "d" * 9 + "c" * 22 + "d" * 29
    # what was once sealed where it was served is served there for good
    later = evidence(80, dal=dal, cdc=cdc)
    assert serving(later, 0, 50) == serving(known, 0, 50)


def test_one_that_catches_up_is_behind_until_it_has() -> None:
    """It reports, but its watermark says that it has not come far."""
    slow = [Report(at_ms, at(10) + (at_ms - at(40)) * 5 - LATENESS_MS) for at_ms in range(at(40), at(46), FLUSH_MS)]
    known = evidence(46, dal=[*reports((-60, 20)), *slow], cdc=reports((-60, 46)))
    assert known.present()[2:] == ("cdc", ServingReason.BEHIND)
    assert serving(known, 30, 46) == "c" * 16


def test_one_that_lost_its_state_loses_the_minutes_that_it_writes_anew() -> None:
    """Its watermark has fallen: what it had sealed beyond it, it now overwrites with the beginnings of totals."""
    again = [Report(at_ms, at(-50) + (at_ms - at(20)) * 4) for at_ms in range(at(20), at(25), FLUSH_MS)]
    dal, cdc = [*reports((-60, 20)), *again], reports((-60, 60))
    known = evidence(25, dal=dal, cdc=cdc)
    assert serving(known, -60, 20) == "d" * 10 + "c" * 70
    assert known.present()[2:] == ("cdc", ServingReason.BEHIND)


def test_both_stopped_and_one_back() -> None:
    """The one that went further serves until the other has come as far; never neither, never both."""
    dal, cdc = reports((-60, 20)), reports((-60, 25))
    known = evidence(60, dal=dal, cdc=cdc)
    assert known.present()[2:] == ("cdc", ServingReason.STALE)
    back = evidence(60.5, dal=[*dal, *reports((60, 61))], cdc=cdc)
    assert back.present().dc == "dal"
    assert serving(back, 30, 60) == "d" * 30


def test_one_that_never_reported_is_missing() -> None:
    """Another serves then, if it reports; else the preferred one, with nothing."""
    assert evidence(10, cdc=reports((-60, 10))).present()[2:] == ("cdc", ServingReason.MISSING)
    nobody = evidence(10)
    assert nobody.present().dc == "dal"
    assert nobody.state("dal", at(10)) is DcState.MISSING
    assert serving(nobody, 0, 10) == "d" * 10


def test_a_less_complete_minute_is_served_by_another() -> None:
    """On minutes that both had the time to count, and for `return_after_s` afterwards."""
    known = evidence(40, dal=reports((-60, 40)), cdc=reports((-60, 40)))
    full = {at(minute): 1_000 for minute in range(-10, 41)}
    lossy = full | {at(5): 900, at(20): 960, at(21): 991}
    assert serving(known, 0, 30, {"dal": lossy, "cdc": full}) == "d" * 5 + "cc" + "d" * 23
    assert serving(known, 6, 30, {"dal": lossy, "cdc": full}) == "c" + "d" * 23
    assert serving(known, 0, 30, {"dal": full, "cdc": lossy}) == "d" * 30
    (_, second, _) = minutes(known, at(0), at(30), {"dal": lossy, "cdc": full})
    assert second.reason is ServingReason.LESS_COMPLETE


def test_both_lack_something() -> None:
    """Of each minute the most complete one, even within the time after a loss of the other."""
    known = evidence(40, dal=reports((-60, 40)), cdc=reports((-60, 40)))
    full = {at(minute): 1_000 for minute in range(-10, 41)}
    assert serving(known, 0, 10, {"dal": full | {at(5): 0}, "cdc": full | {at(6): 0}}) == "dddddcdddd"


def test_a_minute_that_one_had_no_time_to_count_says_nothing() -> None:
    """Just now the other has more: that is the time between two flushes."""
    known = evidence(40, dal=reports((-60, 40)), cdc=reports((-60, 40)))
    full = {at(minute): 1_000 for minute in range(-10, 41)}
    assert serving(known, 30, 41, {"dal": full | {at(39): 10, at(40): 0}, "cdc": full}) == "d" * 11


@pytest.mark.parametrize("order", [("dal",), ("cdc", "dal"), ("dal", "cdc", "ord")])
def test_any_number_of_data_centers(order: tuple[str, ...]) -> None:
    """The first of the order; one alone serves whatever its state."""
    known = evidence(30, order, dal=reports((-60, 20)), cdc=reports((-60, 30)), ord=reports((-60, 30)))
    assert known.present().dc == ("dal" if order == ("dal",) else "cdc")


JITTER = st.lists(st.integers(1_000, RULES.stale_after_ms), min_size=250, max_size=250)
GAPS = st.lists(st.sampled_from((1_000, 10_000, 29_999, 30_001, 90_000, 700_000)), min_size=1, max_size=60)
PROGRESS = st.lists(st.integers(-200_000, 200_000), min_size=60, max_size=60)
COUNTS = st.lists(st.sampled_from((0, 5, 15, 900, 990, 1_000)), min_size=60, max_size=60)


def told(gaps: Sequence[int], slips_ms: Sequence[int]) -> list[Report]:
    at_ms, found = at(-70), []
    for gap_ms, slip_ms in zip(gaps, slips_ms, strict=False):
        at_ms += gap_ms
        found.append(Report(at_ms, at_ms - LATENESS_MS + slip_ms))
    return found


@settings(max_examples=40)
@given(GAPS, PROGRESS, GAPS, PROGRESS, st.integers(0, 80), COUNTS, COUNTS)
def test_each_minute_is_served_by_exactly_one(
    dal_gaps: list[int],
    dal_slips: list[int],
    cdc_gaps: list[int],
    cdc_slips: list[int],
    now: int,
    dal_counts: list[int],
    cdc_counts: list[int],
) -> None:
    """Whatever was reported: the stretches are the range, and what a minute's choice is does not depend on the range,
    nor on evidence from before the lookback, nor on who asks.
    """
    dal, cdc = told(dal_gaps, dal_slips), told(cdc_gaps, cdc_slips)
    visits = {
        dc: {at(minute - 10): count for minute, count in enumerate(counts)}
        for dc, counts in (("dal", dal_counts), ("cdc", cdc_counts))
    }
    known = evidence(now, dal=dal, cdc=cdc)
    stretches = minutes(known, at(0), at(40), visits)
    assert [stretch.start_ms for stretch in stretches[1:]] == [stretch.end_ms for stretch in stretches[:-1]]
    assert (stretches[0].start_ms, stretches[-1].end_ms) == (at(0), at(40))
    assert all(left[2:] != right[2:] for left, right in pairwise(stretches))
    whole = serving(known, 0, 40, visits)
    assert whole == "".join(serving(known, minute, minute + 1, visits) for minute in range(40))
    assert whole == serving(evidence(now, dal=dal, cdc=cdc), 0, 40, visits)


@given(GAPS, PROGRESS, GAPS, PROGRESS)
def test_the_present_does_not_depend_on_how_far_back_one_looks(
    dal_gaps: list[int], dal_slips: list[int], cdc_gaps: list[int], cdc_slips: list[int]
) -> None:
    """With the reports of the lookback and the last one before, the same serve as with all that there ever were."""
    dal, cdc = told(dal_gaps, dal_slips), told(cdc_gaps, cdc_slips)

    def cut(all_of_them: list[Report]) -> list[Report]:
        first_ms = at(0) - lookback_ms(RULES)
        before = [report for report in all_of_them if report.at_ms < first_ms]
        return before[-1:] + all_of_them[len(before) :]

    whole, short = evidence(30, dal=dal, cdc=cdc), evidence(30, dal=cut(dal), cdc=cut(cdc))
    for moment in range(at(0), at(30), 7_000):
        assert served_at(whole, moment) == served_at(short, moment)


def served_at(known: Evidence, moment_ms: int) -> str:
    return next(s.dc for s in known.moments if s.start_ms <= moment_ms < s.end_ms)


@settings(max_examples=30)
@given(JITTER, JITTER, st.lists(st.integers(-29_000, 29_000), min_size=250, max_size=250))
def test_jitter_makes_no_switch(dal_gaps: list[int], cdc_gaps: list[int], slips: list[int]) -> None:
    """Reports that come unevenly, but within `stale_after_s`, watermarks that are apart, but not by `behind_s`."""
    dal, cdc = told(dal_gaps, [0] * 250), told(cdc_gaps, slips)
    now_ms = min(dal[-1].at_ms, cdc[-1].at_ms)
    known = Evidence(ORDER, {"dal": dal, "cdc": cdc}, now_ms, RULES)
    assert {stretch.dc for stretch in known.moments if stretch.end_ms > dal[0].at_ms} <= {"dal"} | (
        {"cdc"} if cdc[0].at_ms < dal[0].at_ms else set()
    )


def turns(known: Evidence, since: float) -> list[tuple[str, int]]:
    """Who served the present from a moment on, each with when it began."""
    found: list[tuple[str, int]] = []
    for stretch in known.moments:
        if found and found[-1][0] == stretch.dc:
            continue
        found.append((stretch.dc, stretch.start_ms))
    return [turn for turn in found if turn[1] >= at(since)]


def test_one_that_serves_while_it_recovers_goes_on_to() -> None:
    """Both were ailing at the same time: the one that came back first serves until the preferred one is in order."""
    dal, cdc = reports((-60, 20), (31, 60)), reports((-60, 20), (30, 60))
    assert turns(evidence(60, dal=dal, cdc=cdc), 15) == [("cdc", at(30)), ("dal", at(33))]
    assert turns(evidence(60, dal=cdc, cdc=dal), 15) == []
    started = evidence(60, dal=reports((31, 60)), cdc=reports((30, 60)))
    assert turns(started, 15) == [("cdc", at(30)), ("dal", at(33))]


@given(GAPS, GAPS)
def test_the_preferred_one_does_not_come_back_early(dal_gaps: list[int], cdc_gaps: list[int]) -> None:
    """While another is in order, the preferred one has been in order for `return_after_s` before it serves again."""
    dal, cdc = told(dal_gaps, [0] * 60), told(cdc_gaps, [0] * 60)
    known = evidence(80, dal=dal, cdc=cdc)
    for left, right in pairwise(known.moments):
        if left.dc == "cdc" and right.dc == "dal" and known.state("cdc", right.start_ms) is DcState.HEALTHY:
            steady = range(right.start_ms, right.start_ms - RULES.return_after_ms, -1_000)
            assert all(known.state("dal", moment) is not DcState.STALE for moment in steady)
