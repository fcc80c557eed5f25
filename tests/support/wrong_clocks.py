"""A log of a topic on which producers set the timestamps, and some of their clocks are wrong."""

import random
from collections.abc import Callable

from tests.support.messages import BASE_MS, message
from tests.support.oracle import Message

YEAR_MS = 365 * 86_400_000
WRONG: dict[str, Callable[[int], int]] = {
    "ahead": lambda stamp_ms: stamp_ms + YEAR_MS,
    "an hour ahead": lambda stamp_ms: stamp_ms + 3_600_000,
    "behind": lambda stamp_ms: stamp_ms - 3 * YEAR_MS,
    "a quarter of an hour behind": lambda stamp_ms: stamp_ms - 900_000,
    "seconds": lambda stamp_ms: stamp_ms // 1_000,
    "microseconds": lambda stamp_ms: stamp_ms * 1_000,
    "none": lambda _: -1,
}
"""What a producer may write in place of the time, of the right one."""
RUN, IN_ALL = 100, 1_000
"""So many successive messages of so many may be wrong."""


def is_wrong(number: int, where: str) -> bool:
    """Whether the n-th message of a partition is: in a run at the beginning of 1,000, at their end, or each tenth."""
    place = number % IN_ALL
    return {"first": place < RUN, "last": place >= IN_ALL - RUN, "tenth": place % 10 == 9}[where]


def wrong_log(
    seed: int, kind: str, where: str, count: int, partitions: int = 1, step_ms: int = 2_000, wrong_times: float = 0.5
) -> list[Message]:
    """A message each `step_ms`; right clocks are up to 2 s apart. Some of the wrong messages have wrong event times."""
    rng = random.Random(seed)
    offsets = [0] * partitions
    log: list[Message] = []
    for number in range(count):
        partition = number % partitions
        session, now_ms = f"s-{number // 40 % 50}-{partition}", number * step_ms
        time_ms, stamp_ms = now_ms - rng.choice((0, 0, 500, 30_000, 590_000)), BASE_MS + now_ms + rng.randrange(2_000)
        if is_wrong(offsets[partition], where):
            stamp_ms = WRONG[kind](stamp_ms)
            if rng.random() < wrong_times and stamp_ms > 0:
                time_ms = stamp_ms - BASE_MS - rng.choice((0, 500, 30_000))
        again = rng.random() < 0.05 and not any(is_wrong(offsets[partition] - back, where) for back in (0, 1))
        page, event_id = rng.choice(("home", "item")), f"e-{number - partitions if again else number}"
        of_event = message(time_ms, page, sessionId=session, eventId=event_id)
        log.append(of_event._replace(partition=partition, offset=offsets[partition], timestamp=stamp_ms))
        offsets[partition] += 1
    return log
