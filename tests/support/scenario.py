"""What a seed stands for: traffic, and the faults that a job meets while it reads it.

A `Scenario` is data; simulation.py plays it. The seed decides everything but how fast machine and job are: played
again, the same faults come at the same seconds and requests, not in the same microseconds.
"""

import random
import tomllib
from collections import defaultdict
from typing import Literal, NamedTuple

from tests.support.faulty_server import CUT, HANG, LOST, RESET, Answer, Says, refuse, slow
from tests.support.golden import CASES
from tests.support.strategies import (
    CHOICES_MAX,
    MESSAGE_BYTES_SMALL,
    Choices,
    Config,
    Fields,
    Session,
    message_key,
    message_value,
)

PARTITIONS_MAX = 4
ALIVE = 25
"""Sessions that are under way together."""
MESSAGES_PER_SESSION = 8
DAMAGED_ONE_IN = 60
SKEW = (9, 3, 1, 5)
"""How the sessions are spread over the partitions."""
HOUR_MS = 3_600_000
AHEAD_MS = 500
"""By how much a clock may be fast when the job starts: `time.idle_after_s` is what it grants to clocks."""
LONG_ONE_IN = 25
"""So many seeds have a long outage in them: the last of each row."""
POISONED_ONE_IN = 15

Sent = tuple[int, bytes | None, bytes]
"""Partition, key and value of a message."""
Ending = Literal["end", "kill", "SIGTERM", "SIGINT"]
TIMES = ((2, 1, 5), (2, 1, 5), (60, 60, 60), (90, 30, 5), (1_800, 600, 60))
"""(session_gap_s, allowed_lateness_s, future_tolerance_s); short ones more often, for minutes are sealed with those."""
MILD = (slow(0.05), slow(0.4), slow(1.5), refuse(503), refuse(503, retry_after="1"), refuse(429), refuse(502), RESET)
SEVERE = (HANG, LOST, CUT, refuse(504, retry_after="0"))
REFUSED = refuse(500)
REFUSED_MAX = 3
"""In a round: a point that gets five of them in a row, and nothing else does, is given up, as it should be."""


class Trigger(NamedTuple):
    """When a round is ended: so many seconds after its start, at a request or at a change of the recovery store."""

    kind: Literal["seconds", "request", "snapshot"]
    amount: float


class Burst(NamedTuple):
    """Messages that are appended together, `at_s` after the start of a round."""

    at_s: float
    messages: int


class Jump(NamedTuple):
    """The machine's clock is set: so far off from then on."""

    at_s: float
    shift_ms: int


class Round(NamedTuple):
    """One start of the job and what happens until its end.

    `adds`: partitions that the topic gets before; `backlog`: messages that are appended before; `stalled`: partitions
    that get none; `slow`: the consumer gets little at a time; `outage`: KairosDB is down from when to when; `poison`:
    which of `POISONED_ONE_IN` points are refused, and how; `hang_s`: how long a request can hang.
    """

    processes: int
    adds: int
    backlog: int
    bursts: tuple[Burst, ...]
    stalled: frozenset[int]
    slow: bool
    answers: tuple[Answer, ...]
    outage: tuple[float, float] | None
    poison: tuple[int, Says] | None
    hang_s: float
    clock: tuple[Jump, ...]
    trigger: Trigger
    ending: Ending


class Scenario(NamedTuple):
    """The rounds of one job; the last is without faults and to the end of the topic."""

    seed: int
    config: Config
    partitions: int
    rounds: tuple[Round, ...]


def draw(seed: int) -> Scenario:
    """The scenario of a seed."""
    rng = random.Random(seed)
    partitions = rng.randint(1, 3)
    rounds, count = [], partitions
    processes = (1, 2, 3, 1) if rng.random() < 0.4 else (1,) * rng.randint(4, 5)
    for number, together in enumerate(processes):
        adds = int(number > 0 and count < PARTITIONS_MAX and rng.random() < 0.4)
        count += adds
        is_last = number == len(processes) - 1
        rounds.append(_last(rng, together, adds) if is_last else _round(rng, together, adds, count))
    if seed % LONG_ONE_IN == LONG_ONE_IN - 1:
        rounds[0] = rounds[0]._replace(outage=(2.5, rng.uniform(60, 120)), hang_s=25.0, ending="end")
    return Scenario(seed, _config(rng), partitions, tuple(rounds))


def _config(rng: random.Random) -> Config:
    """Some tenants of the golden cases, with times and limits of their own."""
    gap_s, lateness_s, future_s = rng.choice(TIMES)
    cases = rng.sample(CASES, rng.randint(1, len(CASES)))
    limits = {
        "message_bytes": rng.choice((MESSAGE_BYTES_SMALL, 600, 4_096)),
        "events_per_visit": rng.choice((2, 3, 8, 5_000)),
    }
    return {
        "kafka": {"key_is_session_id": rng.random() < 0.7},
        "time": {
            "session_gap_s": gap_s,
            "allowed_lateness_s": lateness_s,
            "future_tolerance_s": future_s,
            "tardy_s": lateness_s // 2,
            "idle_after_s": 1,
            "flush_s": rng.choice((0.2, 0.5, 1.0)),
        },
        "limits": dict(rng.sample(sorted(limits.items()), rng.randint(0, 2))),
        "tenants": {name: tenant for case in cases for name, tenant in tomllib.loads(case.text)["tenants"].items()},
    }


def _round(rng: random.Random, processes: int, adds: int, partitions: int) -> Round:
    bursts = tuple(Burst(rng.uniform(0, 5), rng.randint(20, 80)) for _ in range(rng.randint(2, 5)))
    down_s = rng.uniform(0.5, 4)
    poison: tuple[int, Says] = rng.randrange(POISONED_ONE_IN), rng.choice(("named", "misnamed", "unnamed"))
    ending: Ending = rng.choice(("kill", "kill", "kill", "SIGTERM", "SIGINT", "end"))
    return Round(
        processes,
        adds,
        rng.randint(0, 150),
        bursts,
        frozenset(number for number in range(1, partitions) if rng.random() < 0.3),
        rng.random() < 0.4,
        _answers(rng),
        (down_s, down_s + rng.uniform(0.5, 3)) if rng.random() < 0.3 else None,
        poison if rng.random() < 0.15 else None,
        rng.uniform(0.5, 3),
        _clock(rng),
        _trigger(rng),
        ending,
    )


def _last(rng: random.Random, processes: int, adds: int) -> Round:
    nothing = Trigger("seconds", 0)
    clock = _clock(rng)[:1]
    return Round(
        processes, adds, rng.randint(50, 150), (), frozenset(), False, (), None, None, 1.0, clock, nothing, "end"
    )


def _answers(rng: random.Random) -> tuple[Answer, ...]:
    """What KairosDB does with the first requests, one after the other; after them all is well."""
    if rng.random() < 0.25:
        return ()
    answers = rng.choices((*MILD, *SEVERE), k=rng.randint(1, 5)) + [REFUSED] * rng.randint(0, REFUSED_MAX)
    rng.shuffle(answers)
    return tuple(answers)


def _clock(rng: random.Random) -> tuple[Jump, ...]:
    """The clock at the start, and where it is set while the job runs."""
    first = rng.choice((0, 0, 0, AHEAD_MS, -2_000, -HOUR_MS, -30 * 24 * HOUR_MS))
    if rng.random() < 0.6:
        return (Jump(0.0, first),)
    return Jump(0.0, first), Jump(rng.uniform(1, 4), rng.choice((0, 2_000, -2_000, HOUR_MS, -HOUR_MS, 24 * HOUR_MS)))


def _trigger(rng: random.Random) -> Trigger:
    match rng.choice(("seconds", "seconds", "request", "snapshot")):
        case "request":
            return Trigger("request", rng.randint(1, 12))
        case "snapshot":
            return Trigger("snapshot", rng.randint(1, 12))
        case _:
            return Trigger("seconds", rng.uniform(0, 5))


class Traffic:
    """The messages of a scenario, in the order in which they are appended. A session keeps its partition."""

    def __init__(self, scenario: Scenario) -> None:
        self._rng = random.Random(f"traffic {scenario.seed}")
        self._config = scenario.config
        self._partitions: dict[int, int] = {}
        self._earlier: defaultdict[int, list[tuple[Fields, bytes]]] = defaultdict(list)
        self._sent = 0

    def burst(self, messages: int, partitions: int, stalled: frozenset[int], now_ms: int) -> list[Sent]:
        """The next messages, with times of events around `now_ms`."""
        sent: list[Sent] = []
        for _ in range(messages):
            self._sent += 1
            choices = Choices(self._rng.randbytes(2 * CHOICES_MAX))
            index = self._sent // MESSAGES_PER_SESSION + self._rng.randrange(ALIVE)
            partition = self._partitions.setdefault(index, self._rng.choices(range(partitions), SKEW[:partitions])[0])
            if partition not in stalled:
                session = Session(_session_id(index), now_ms, self._earlier[index])
                fields, value = message_value(choices, self._config, session)
                self._earlier[index].append((fields, value))
                key = message_key(choices, session.session_id, wrong_keys=True)
                sent.append((partition, key, self._perhaps_damaged(value)))
        return sent

    def _perhaps_damaged(self, value: bytes) -> bytes:
        """Now and then cut off, or with a byte that is not UTF-8: never another event."""
        if self._rng.randrange(DAMAGED_ONE_IN) or not value:
            return value
        at = self._rng.randrange(len(value))
        return value[:at] + (b"" if self._rng.random() < 0.5 else b"\xff" + value[at + 1 :])


def _session_id(index: int) -> str:
    """Ids of all kinds: plain ones mostly, others not of ASCII, and of the greatest length."""
    return (f"s-{index}", f"s-{index}", f"größe {index}", f"{index:x>256}")[index % 4]
