"""The quick simulation: the pure core alone, crashed and replayed in other batches, against the oracle.

    python -m tests.support.core_simulation 1 2 3     # these seeds; exit status 1 if one differs

Everything is decided by the seed. What the core wrote before a crash stays in the store, as it does in KairosDB.
"""

import random
import sys
from collections.abc import Iterator, Sequence

from monitor.flow.snapshots import group_state, ledger_state, packed_definitions, restored_group, restored_ledger
from tests.support import oracle
from tests.support.driver import Core, Key
from tests.support.oracle import Message
from tests.support.scenario import Scenario, Traffic, draw
from tests.support.strategies import BASE_MS

PARTITIONS = 3
BURSTS = 30
BURST_MESSAGES = 12
STEPS_MS = (0, 1, 300, 1_000, 5_000, 20_000, 70_000)
BATCH_MAX = 25
SNAPSHOT_CHANCE = 0.3
CRASH_CHANCE = 0.25
CRASHES_MAX = 20


def differences(seed: int) -> list[str]:
    """Where the store differs from the oracle after a seed's crashes; empty as it should be."""
    scenario = draw(seed)
    config = {"dc": "sim", **scenario.config}
    log = list(_log(scenario))
    want, got = oracle.answer(config, log).totals, _store(seed, config, log)
    wrong = sorted(key for key in got.keys() | want.keys() if got.get(key, 0) != want.get(key, 0))
    return [f"{key}: {got.get(key)} stored, {want.get(key)} wanted" for key in wrong]


def _log(scenario: Scenario) -> Iterator[Message]:
    """A LogAppendTime log of the seed's traffic, in order of arrival."""
    rng, traffic = random.Random(f"log {scenario.seed}"), Traffic(scenario)
    now_ms, offsets = BASE_MS, [0] * PARTITIONS
    for _ in range(BURSTS):
        now_ms += rng.choice(STEPS_MS)
        for partition, key, value in traffic.burst(BURST_MESSAGES, PARTITIONS, frozenset(), now_ms):
            yield Message(partition, offsets[partition], now_ms, key, value)
            offsets[partition] += 1


def _store(seed: int, config: oracle.Config, log: Sequence[Message]) -> dict[Key, int | float]:
    """What is stored when the log has been read: its partitions at any relative speed, with snapshots and crashes."""
    rng = random.Random(f"crashes {seed}")
    partitions = [[message for message in log if message.partition == number] for number in range(PARTITIONS)]
    core = Core(dict(config), [str(number) for number in range(PARTITIONS)])
    offsets, crashes = [0] * PARTITIONS, 0
    saved = snapshot(core), list(offsets)
    while left := [number for number, messages in enumerate(partitions) if offsets[number] < len(messages)]:
        number = rng.choice(left)
        until = offsets[number] + rng.randint(1, BATCH_MAX)
        core.feed(partitions[number][offsets[number] : until])
        offsets[number] = until
        if rng.random() < SNAPSHOT_CHANCE:
            saved = snapshot(core), list(offsets)
        elif crashes < CRASHES_MAX and rng.random() < CRASH_CHANCE:
            crashes += 1
            offsets = list(saved[1])
            restore(core, saved[0])
    return core.answer()


State = tuple[dict[str, object], dict[str, object]]


def snapshot(core: Core) -> State:
    """The state of the core, as the job has it in a recovery store."""
    definitions = {name: packed_definitions(tenant.program.tenant) for name, tenant in core.compiled.tenants.items()}
    return group_state(core.group, definitions), ledger_state(core.ledger)


def restore(core: Core, state: State) -> None:
    """Takes the core back to a snapshot; what is stored stays."""
    core.group = restored_group(state[0], core.compiled)
    core.ledger = restored_ledger({**state[1], "totals": {minute: dict(t) for minute, t in state[1]["totals"].items()}})  # type: ignore[attr-defined]


if __name__ == "__main__":
    found = [f"seed {seed}: {text}" for seed in map(int, sys.argv[1:]) for text in differences(seed)]
    print("\n".join(found[:20]))
    sys.exit(1 if found else 0)
