"""Makes `fixtures/state-v1.tar.xz`: a recovery store as this version of the monitor leaves it, with what led to it.

    python -m tests.support.make_state_fixture tests/support/fixtures/state-v3.tar.xz

In the archive: `recovery/`, the store of a job that crashed in the middle of a log, on Kafka's three partitions, with
visits under way, totals that can still change and flush windows that are open; `monitor.toml`, its configuration;
`log.ndjson`, the whole log; `points.ndjson`, what the job had written until then, the last value of each cell. A state
format that has been released is kept for ever: a new format gets a new archive, beside those that are there.
"""

import itertools
import json
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

from bytewax.inputs import AbortExecution, FixedPartitionedSource, StatefulSourcePartition
from bytewax.recovery import RecoveryConfig
from bytewax.testing import TestingSink, run_main

import dataflow
from monitor.config.reader import parse
from monitor.core.metrics import DataPoint
from monitor.core.watermark import Progress
from monitor.flow import recovery_prepare
from monitor.flow.keys import keys_by_step
from monitor.flow.source import Chunk
from monitor.flow.source_state import PartitionState, Position, position_of, state_of
from monitor.runtime.clock import CLOCK, WallClock
from tests.support import golden
from tests.support.oracle import Message
from tests.support.strategies import Config, to_toml

TOPIC = "useful-events"
CHUNK = 5
"""Messages that a partition emits at once."""
STATE_VERSION = 1
"""The format of a partition's state that the fixture holds."""
MESSAGES = 480
CRASH_AT = 240
FLUSH_S = 10
BEGIN_MS = 1_767_225_600_000
"""The clock of the job that made the store: long before any that goes on with it."""

Cells: TypeAlias = dict[tuple[str, int], float]
"""(series, timestamp in ms) -> value."""

WIDE_POINTS = {f"p{number}": {"event": "click", "where": {"total": {"min": number}}} for number in range(40)}
"""So many that masks and codes need more than 64 bits: they are kept in another form."""
CONFIG: Config = {
    "dc": "dal",
    "time": {"session_gap_s": 600, "allowed_lateness_s": 600, "future_tolerance_s": 60, "flush_s": FLUSH_S},
    "tenants": {
        "shop": tomllib.loads(golden.CORRECTIONS.text)["tenants"]["corrected"],
        "wide": {
            "points": WIDE_POINTS,
            "experiments": {
                "Search": {
                    "control": "s0",
                    "variations": {"s0": 1, "s1": 1, "s2": 0},
                    "qualified_when": {"any": [{"point": "p1"}, {"point": "p39"}]},
                }
            },
        },
    },
}


class LogPartition(StatefulSourcePartition[Chunk, PartitionState]):
    """One partition of a log, from an offset on; its state is that of a partition of Kafka."""

    def __init__(self, messages: Sequence[Message], progress: Progress, offset: int, crash_at: int | None) -> None:
        self._messages, self._progress, self._offset, self._crash_at = messages, progress, offset, crash_at

    def next_batch(self) -> list[Chunk]:
        """A few messages, or the job's end where that was asked for."""
        if self._crash_at is not None and self._offset >= self._crash_at:
            raise AbortExecution
        batch = self._messages[self._offset : self._offset + CHUNK]
        if not batch:
            raise StopIteration
        self._offset += len(batch)
        self._progress = self._progress._replace(high_ms=max(self._progress.high_ms, *(m.timestamp for m in batch)))
        return [Chunk([(m.key, m.value, m.timestamp) for m in batch], self._progress, announce=True)]

    def snapshot(self) -> PartitionState:
        """The position to resume from."""
        return state_of(Position(self._offset, self._progress.high_ms))


class LogSource(FixedPartitionedSource[Chunk, PartitionState]):
    """A log in memory as KafkaSource emits a topic; with `crash_at` partition 0 ends the job at that offset."""

    def __init__(self, log: Sequence[Message], crash_at: int | None = None) -> None:
        self._log, self._crash_at = log, crash_at
        self._parts = tuple(f"{TOPIC}/{number}" for number in sorted({m.partition for m in log}))

    def list_parts(self) -> list[str]:
        """`topic/number`."""
        return list(self._parts)

    def build_part(self, step_id: str, for_part: str, resume_state: PartitionState | None) -> LogPartition:
        """The partition, from its snapshot on."""
        number = int(for_part.rpartition("/")[2])
        position = Position(0) if resume_state is None else position_of(resume_state)
        messages = [message for message in self._log if message.partition == number]
        progress = Progress(self._parts, for_part, position.high_ms, idle=False)
        return LogPartition(messages, progress, position.offset, self._crash_at if number == 0 else None)


class Ticking:
    """A clock that goes on by a part of a flush window whenever it is read: windows close all the time."""

    def __init__(self, begin_ms: int) -> None:
        self._times = itertools.count(begin_ms, FLUSH_S * 1_000 // 200)

    def now_ms(self) -> int:
        """Another time each time."""
        return next(self._times)


def run(config: Config, source: LogSource, store: Path, clock: WallClock = CLOCK) -> list[DataPoint]:
    """Runs the job on a log, with a recovery store, until the log's end or a crash; returns what it has written."""
    out: list[tuple[str, list[DataPoint]]] = []
    flow = dataflow.build(source, TestingSink(out), parse(config), clock)
    run_main(flow, epoch_interval=timedelta(0), recovery_config=RecoveryConfig(str(store)))
    return [point for _, points in out for point in points]


def cells_of(points: Iterable[DataPoint]) -> Cells:
    """Points as a store keeps them: the last value of each cell, health metrics left out."""
    return {(p.series, p.timestamp_ms): int(p.value) for p in points if not p.series.startswith("monitor.")}


def log() -> list[Message]:
    """A log that collides with the configuration: many visits, corrections and rejects, over hours."""
    case = golden.LONG_DAY._replace(text=to_toml(CONFIG), messages=MESSAGES, topics=(3,), alive=30)
    case = case._replace(places=((0, 0), (0, 0), (0, 1), (0, 2)))
    offsets = [0, 0, 0]
    found = []
    for _, (partition, key, value, timestamp_ms) in itertools.chain.from_iterable(golden.chunks(case)):
        key = key.encode() if isinstance(key, str) else key
        assert isinstance(value, bytes)
        assert timestamp_ms is not None
        found.append(Message(partition, offsets[partition], timestamp_ms, key, value))
        offsets[partition] += 1
    return found


def as_text(message: Message) -> list[int | str | None]:
    """A message as JSON can hold it: each byte a character."""
    key = None if message.key is None else message.key.decode("latin-1")
    return [*message[:3], key, message.value.decode("latin-1")]


def as_message(text: Sequence[Any]) -> Message:
    """The message that `as_text` was of."""
    partition, offset, timestamp, key, value = text
    return Message(
        partition, offset, timestamp, None if key is None else key.encode("latin-1"), value.encode("latin-1")
    )


def main(archive: Path) -> None:
    """Writes the archive."""
    with tempfile.TemporaryDirectory() as folder:
        store, messages = Path(folder, "recovery"), log()
        recovery_prepare.prepare(store, keys_by_step())
        (store / ".worker-0").unlink()
        (store / ".preparing").unlink()
        points = run(CONFIG, LogSource(messages, CRASH_AT // 2), store, Ticking(BEGIN_MS))
        texts = {
            "monitor.toml": to_toml(CONFIG),
            "log.ndjson": "".join(json.dumps(as_text(message)) + "\n" for message in messages),
            "points.ndjson": "".join(json.dumps([*cell, value]) + "\n" for cell, value in cells_of(points).items()),
        }
        for name, text in texts.items():
            Path(folder, name).write_text(text)
        archive.parent.mkdir(exist_ok=True)
        with tarfile.open(archive, "w:xz", preset=9) as tar:
            for file in sorted(Path(folder).rglob("*")):
                if file.is_file():
                    tar.add(file, file.relative_to(folder))
    print(f"{archive}: {archive.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
