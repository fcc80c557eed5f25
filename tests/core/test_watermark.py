"""The watermark never falls and waits for every partition but the idle ones; what may be said of a quiet partition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.watermark import NEVER, Progress, Watermark, smallest
from monitor.flow.end_offsets import EndOffset, IdleDetector

PARTITIONS = ("t/0", "t/1", "t/2")
LATENESS_MS = 1_000
IDLE_AFTER_MS = 30_000


def test_never_until_every_partition_is_known() -> None:
    """A group that has heard of one partition does not take it for all there are."""
    watermark = Watermark(LATENESS_MS)
    assert not watermark.advance(heard(0, 5_000))
    assert not watermark.advance(heard(1, 9_000))
    assert watermark.value_ms == NEVER
    assert watermark.advance(heard(2, 7_000))
    assert watermark.value_ms == 5_000 - LATENESS_MS


def test_the_slowest_partition_counts() -> None:
    """The watermark follows the least of the largest timestamps, less the allowed lateness; it tells when it rises."""
    watermark = ready(5_000, 6_000, 7_000)
    assert not watermark.advance(heard(2, 90_000))
    assert watermark.advance(heard(0, 5_001))
    assert watermark.value_ms == 5_001 - LATENESS_MS
    assert watermark.advance(heard(0, 99_000))
    assert watermark.value_ms == 6_000 - LATENESS_MS


def test_a_timestamp_that_falls_changes_nothing() -> None:
    """Producers' clocks may: the largest timestamp stays."""
    watermark = ready(5_000, 6_000, 7_000)
    assert not watermark.advance(heard(0, 1))
    assert watermark.value_ms == 5_000 - LATENESS_MS
    assert watermark.highs() == {"t/0": 5_000, "t/1": 6_000, "t/2": 7_000}


def test_an_idle_partition_does_not_hold_the_others_back() -> None:
    """Not even one that was never read; when it moves again, the watermark waits for it, without falling."""
    watermark = Watermark(LATENESS_MS)
    watermark.advance(heard(0, 5_000))
    watermark.advance(heard(1, 6_000))
    assert watermark.advance(heard(2, NEVER, idle=True))
    assert watermark.value_ms == 5_000 - LATENESS_MS
    assert not watermark.advance(heard(2, 2_000))
    assert not watermark.advance(heard(0, 50_000))
    assert watermark.value_ms == 5_000 - LATENESS_MS
    watermark.advance(heard(2, 70_000))
    assert watermark.value_ms == 6_000 - LATENESS_MS


def test_all_partitions_idle() -> None:
    """Then nothing moves: the watermark stays where it is."""
    watermark = ready(5_000, 6_000, 7_000)
    for partition, high_ms in enumerate((5_000, 6_000, 7_000)):
        watermark.advance(heard(partition, high_ms, idle=True))
    assert watermark.value_ms == 7_000 - LATENESS_MS  # that of the last to be left out
    fresh = Watermark(LATENESS_MS)
    for partition in range(3):
        assert not fresh.advance(heard(partition, NEVER, idle=True))
    assert fresh.value_ms == NEVER


def test_a_partition_that_is_gone_does_not_count() -> None:
    """The run's partitions come with each progress: one of an earlier run is no longer waited for."""
    watermark = Watermark(LATENESS_MS, highs={"t/0": 5_000, "gone/0": 1})
    assert watermark.advance(Progress(("t/0",), "t/0", 5_000, idle=False))
    assert watermark.value_ms == 5_000 - LATENESS_MS


def test_a_restart_goes_on() -> None:
    """With the value and the largest timestamps of before; a partition that was idle is waited for until heard of."""
    before = ready(5_000, 6_000, 7_000)
    after = Watermark(LATENESS_MS, before.value_ms, before.highs())
    assert after.value_ms == before.value_ms
    assert not after.advance(heard(0, 4_000))
    assert after.advance(heard(0, 5_500))
    assert after.value_ms == 5_500 - LATENESS_MS


ANNOUNCED = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 20_000), st.booleans()))


@given(announced=ANNOUNCED)
def test_it_never_falls_and_is_never_ahead(announced: list[tuple[int, int, bool]]) -> None:
    """Whatever comes: each rise is told, and it rises to exactly the least of the partitions that are not idle."""
    watermark = Watermark(LATENESS_MS)
    highs, idle = dict.fromkeys(range(3), NEVER), dict.fromkeys(range(3), False)
    for partition, high_ms, is_idle in announced:
        before = watermark.value_ms
        highs[partition], idle[partition] = max(highs[partition], high_ms), is_idle
        risen = watermark.advance(heard(partition, high_ms, idle=is_idle))
        least = min((highs[p] for p in range(3) if not idle[p]), default=NEVER)
        assert watermark.value_ms == max(before, NEVER if least == NEVER else least - LATENESS_MS)
        assert risen is (watermark.value_ms > before)


def test_partitions_that_are_not_listed_yet_bound_it() -> None:
    """It does not pass the moment as of which the list is known to be complete, and does not fall with the list."""
    watermark = Watermark(1_000)
    only = Progress(("t/0",), "t/0", 9_000, idle=False, complete_ms=5_000)
    assert watermark.advance(only)
    assert watermark.value_ms == 4_000
    assert not watermark.advance(only._replace(high_ms=20_000))
    assert watermark.advance(only._replace(complete_ms=30_000))
    assert watermark.value_ms == 19_000
    assert not watermark.advance(only._replace(partitions=("t/0", "t/1"), complete_ms=40_000))
    assert watermark.value_ms == 19_000


@pytest.mark.parametrize(
    ("watermarks", "expected"),
    [({}, NEVER), ({0: 5}, NEVER), ({0: 5, 1: 3}, 3), ({0: NEVER, 1: 3}, NEVER), ({0: 5, 1: 3, 2: 1}, 3)],
)
def test_the_smallest_of_the_groups(watermarks: dict[int, int], expected: int) -> None:
    """What both of two groups have passed; never, while one was not heard of; others do not matter."""
    assert smallest(watermarks, range(2)) == expected


@pytest.mark.parametrize(
    ("position", "end", "bound_ms"),
    [
        (4, EndOffset(100_000, 5), NEVER),  # there is more to read
        (5, EndOffset(100_000, 5), 70_000),
        (6, EndOffset(100_000, 5), 70_000),  # an answer older than what was read since
    ],
)
def test_the_bound_that_a_broker_confirms(position: int, end: EndOffset, bound_ms: int) -> None:
    """Nothing below the moment of the question, less `idle_after_s` for clocks, can be appended any more."""
    assert IdleDetector(IDLE_AFTER_MS).confirm(position, end) == bound_ms


def test_the_bound_follows_the_answers() -> None:
    """Silence alone moves nothing: the same old answer gives the same bound."""
    quiet = IdleDetector(IDLE_AFTER_MS)
    assert [quiet.confirm(5, EndOffset(at_ms, 5)) for at_ms in (100_000, 100_000, 101_000)] == [70_000, 70_000, 71_000]


@pytest.mark.parametrize(
    ("asked_ms", "now_ms", "idle"),
    [
        ((), 100_000, False),
        ((100_000,), 100_000, False),  # one answer is no silence
        ((100_000, 129_999), 129_999, False),
        ((100_000, 130_000), 130_000, True),
        ((100_000, 115_000, 130_000), 159_999, True),
        ((100_000, 115_000, 130_000), 160_000, False),  # cut off from a broker that may go on appending
    ],
)
def test_idle_by_answers_that_are_not_old(asked_ms: tuple[int, ...], now_ms: int, idle: bool) -> None:
    """After `idle_after_s` of answers that nothing lies beyond, and only while such answers still come."""
    quiet = IdleDetector(IDLE_AFTER_MS)
    for at_ms in asked_ms:
        quiet.confirm(5, EndOffset(at_ms, 5))
    assert quiet.is_idle(now_ms) is idle


def test_a_message_breaks_the_silence() -> None:
    """From then on the time counts anew, from the next answer."""
    quiet = IdleDetector(IDLE_AFTER_MS)
    for at_ms in (100_000, 130_000):
        quiet.confirm(5, EndOffset(at_ms, 5))
    assert quiet.is_idle(130_000)
    quiet.broken()
    assert not quiet.is_idle(130_000)
    quiet.confirm(6, EndOffset(131_000, 6))
    assert not quiet.is_idle(131_000)
    quiet.confirm(6, EndOffset(161_000, 6))
    assert quiet.is_idle(161_000)


def test_an_answer_that_there_is_more_ends_the_silence() -> None:
    """Even before a message was read."""
    quiet = IdleDetector(IDLE_AFTER_MS)
    for at_ms in (100_000, 130_000):
        quiet.confirm(5, EndOffset(at_ms, 5))
    assert quiet.confirm(5, EndOffset(145_000, 6)) == NEVER
    assert not quiet.is_idle(145_000)


def heard(partition: int, high_ms: int, idle: bool = False) -> Progress:
    """Progress of one of the three partitions."""
    return Progress(PARTITIONS, PARTITIONS[partition], high_ms, idle)


def ready(*highs_ms: int) -> Watermark:
    """A watermark that has heard of all partitions."""
    watermark = Watermark(LATENESS_MS)
    for partition, high_ms in enumerate(highs_ms):
        watermark.advance(heard(partition, high_ms))
    return watermark
