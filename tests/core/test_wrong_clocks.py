"""Where the producers set the timestamps, a few wrong clocks change nothing but the fate of their own messages."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.watermark import APART_MS, NEVER, SOON_MS, STAMPS_KEPT, Stamps
from monitor.flow.stamps import packed_stamps, unpacked_stamps
from tests.support import oracle
from tests.support.driver import Core
from tests.support.messages import BASE_MS, shop
from tests.support.oracle_highs import highs
from tests.support.wrong_clocks import RUN, WRONG, is_wrong, wrong_log

APART_CLOCKS_MS = 5_000
WHERE = ("first", "last", "tenth")
THIN = 210
"""A partition's messages after which `high` has followed them, even if a run of 100 among them is wrong."""


def stamps_of(seed: int, kind: str, where: str, step_ms: int, count: int = 2_300) -> tuple[list[int], list[int]]:
    """The timestamps of a partition, and what they would be with right clocks."""
    rng = random.Random(seed)
    right = [BASE_MS + number * step_ms + rng.randrange(APART_CLOCKS_MS) for number in range(count)]
    return [WRONG[kind](stamp) if is_wrong(n, where) else stamp for n, stamp in enumerate(right)], right


@pytest.mark.parametrize("step_ms", [1, 200, 60_000])
@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("kind", WRONG)
def test_high_follows_the_right_clocks(kind: str, where: str, step_ms: int) -> None:
    """It is never ahead of the newest right one; and never more than 40 s and 110 messages, or 210 messages, behind."""
    stamps, right = stamps_of(1, kind, where, step_ms)
    partition, newest = Stamps(), 0
    for number, stamp in enumerate(stamps):
        partition.add([stamp])
        if not is_wrong(number, where):
            newest = max(newest, stamp)
        assert partition.high_ms <= newest - APART_MS
        if number >= THIN:
            behind_ms = max(SOON_MS + (THIN - RUN) * step_ms, APART_MS + THIN * step_ms)
            assert partition.high_ms >= right[number] - behind_ms - APART_CLOCKS_MS


def test_all_clocks_right() -> None:
    """A dense partition is followed more closely; a thin one needs 110 messages."""
    partition = Stamps()
    assert [partition.add([BASE_MS + number]) for number in range(109)] == [{}] * 109
    assert partition.high_ms == NEVER
    partition.add([BASE_MS + 109])
    assert partition.high_ms == BASE_MS + 9 - APART_MS
    dense = Stamps()
    dense.add([BASE_MS + number for number in range(5_000)])
    assert dense.high_ms == BASE_MS + 4_899 - APART_MS


@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(list(WRONG)),
    where=st.sampled_from(WHERE),
    step_ms=st.sampled_from((0, 3, 900, 25_000)),
    cuts=st.lists(st.integers(0, 2_300), max_size=40),
    restart=st.booleans(),
)
def test_batches_and_restarts_make_no_difference(
    seed: int, kind: str, where: str, step_ms: int, cuts: list[int], restart: bool
) -> None:
    """However the messages are cut into batches, the same are behind, by the same; the oracle says the same."""
    stamps, _ = stamps_of(seed, kind, where, step_ms)
    partition, behind = Stamps(), dict[int, int]()
    for start, end in pairwise(sorted({0, *cuts, len(stamps)})):
        behind |= {start + index: high_ms for index, high_ms in partition.add(stamps[start:end]).items()}
        if restart:
            partition = unpacked_stamps(packed_stamps(partition), partition.high_ms)
    before = enumerate(highs((0, stamp) for stamp in stamps))
    assert behind == {number: high for number, high in before if high is not None and stamps[number] < high}


def test_the_state_is_small() -> None:
    """The newest timestamps only, in a few kilobytes; any that Kafka may hold."""
    partition = Stamps()
    partition.add([BASE_MS + number * 7_919 % 100_000 for number in range(20_000)])
    partition.add([-1, 0, 2**63 - 1])
    packed = packed_stamps(partition)
    assert len(packed) < 5 * STAMPS_KEPT
    assert unpacked_stamps(packed, partition.high_ms).state() == partition.state()
    assert packed_stamps(Stamps(BASE_MS)) == b""
    assert unpacked_stamps(b"", BASE_MS).high_ms == BASE_MS


def test_a_partition_that_has_ended() -> None:
    """Too few messages for a `high`: what is certain is their smallest timestamp."""
    partition = Stamps()
    assert partition.ended() == NEVER
    partition.add([BASE_MS + 5, BASE_MS, BASE_MS + 9])
    assert partition.ended() == BASE_MS
    partition.add([BASE_MS + number for number in range(1_000)])
    assert partition.ended() == partition.high_ms > BASE_MS - APART_MS


@pytest.mark.parametrize("partitions", [1, 2])
@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("kind", WRONG)
def test_the_core_equals_the_oracle(kind: str, where: str, partitions: int) -> None:
    """In any batches, with restarts in between; and no message of a right clock is late that was not by its own."""
    log = wrong_log(2, kind, where, 1_200, partitions)
    config = shop()
    wanted = oracle.answer(config, log, create_time=True)
    rng = random.Random(kind + where)
    core = Core(config, [str(number) for number in range(partitions)], create_time=True)
    start = 0
    while start < len(log):
        end = start + rng.choice((1, 3, 40, 400))
        core.feed(log[start:end])
        start = end
        if rng.random() < 0.2:
            core.restart()
    assert core.answer() == wanted.totals
    assert core.accepted == wanted.accepted
    assert {(tenant, str(reason)): n for (tenant, reason), n in core.rejected.items()} == wanted.rejected
    assert core.group.watermark.value_ms > NEVER
    alone = oracle.answer(config, [message for message in log if not is_wrong(message.offset, where)])
    assert accepted(alone) <= accepted(wanted)


def accepted(answer: oracle.Answer) -> set[tuple[str, str, int]]:
    """The accepted events: session, identity, time."""
    return {(event.session_id, event.event_id, event.time) for visit in answer.visits for event in visit.events}
