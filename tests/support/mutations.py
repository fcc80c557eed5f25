"""Faults that are planted into a copy of the job, to see that the simulations find them."""

import shutil
from pathlib import Path
from typing import NamedTuple

from tests.support.job import ROOT


class Mutation(NamedTuple):
    """In `file`, `old`, which occurs once, becomes `new`; `breaks` says what is wrong then.

    `found_by`: the quick simulation of the core, the whole job, or a file of tests, for what scenarios meet too seldom;
    `seeds`: scenarios one of which shows it, since how
    far a job has come when it is killed is not the seed's to say.
    """

    name: str
    file: str
    old: str
    new: str
    breaks: str
    found_by: str
    seeds: tuple[int, ...]


def mutated(mutation: Mutation, folder: Path) -> Path:
    """A copy of the job in `folder`, with the fault in it."""
    shutil.copytree(ROOT / "monitor", folder / "monitor", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    shutil.copy(ROOT / "dataflow.py", folder)
    path = folder / mutation.file
    text = path.read_text()
    occurs = text.count(mutation.old)
    assert occurs == 1, (
        f"{mutation.name}: the text to change must occur once in {mutation.file}; it does {occurs} times"
    )
    path.write_text(text.replace(mutation.old, mutation.new))
    return folder


MUTATIONS = (
    Mutation(
        "dropped retraction",
        "monitor/core/visits.py",
        "retracted = _cancel(gained, old.get(bucket, []))",
        "retracted = _cancel(gained, old.get(bucket, []))[1:]",
        "a correction does not take back all that it moved",
        "core",
        (1,),
    ),
    Mutation(
        "half a correction of values",
        "monitor/core/visits.py",
        "changed[bucket, key] -= amount",
        "changed[bucket, key] -= 0",
        "sums and sums of squares keep what a late event changed",
        "core",
        (1,),
    ),
    Mutation(
        "total forgotten too early",
        "monitor/core/ledger.py",
        "if (minute + 1) * MINUTE_MS <= passed_ms",
        "if minute * MINUTE_MS <= passed_ms",
        "a minute that can still change starts again at 0",
        "core",
        (1,),
    ),
    Mutation(
        "visit forgotten too early",
        "monitor/core/sessions.py",
        "reach_ms = watermark_ms - self._gap_ms",
        "reach_ms = watermark_ms + 60_000",
        "an event begins a new visit though one is within its gap",
        "core",
        (3,),
    ),
    Mutation(
        "silent partition overlooked",
        "monitor/core/watermark.py",
        "for p in progress.partitions if p not in self._idle",
        "for p in progress.partitions if p in self._highs and p not in self._idle",
        "a partition that was not heard of yet does not hold the watermark back",
        "core",
        (2,),
    ),
    Mutation(
        "largest instead of smallest",
        "monitor/core/watermark.py",
        "min(*moving, progress.complete_ms) - self._lateness_ms",
        "min(max(moving), progress.complete_ms) - self._lateness_ms",
        "the fastest partition makes the others late",
        "core",
        (1,),
    ),
    Mutation(
        "identities lost at rest",
        "monitor/core/packing.py",
        "            packed.ids,\n",
        "            bytes(len(packed.ids)),\n",
        "a repeated event is accepted after its visit was packed",
        "core",
        (2,),
    ),
    Mutation(
        "earlier visit lost at rest",
        "monitor/core/packing.py",
        "self.unpack(packed.earlier) if packed.earlier is not None else None",
        "None",
        "a late event finds no visit to join",
        "core",
        (4,),
    ),
    Mutation(
        "steps not done again to the end",
        "monitor/core/visits.py",
        "while end < len(tail) and not new.equals(old):",
        "while end < len(tail) and new.seen != old.seen:",
        "a late event changes what later ones come to, and they are not corrected",
        "core",
        (1,),
    ),
    Mutation(
        "settled too early",
        "monitor/core/visits.py",
        "final_events = bisect_left(self.tail, watermark_ms, key=_time)",
        "final_events = bisect_left(self.tail, watermark_ms + 5_000, key=_time)",
        "an event that is not late is put behind events that it should precede",
        "core",
        (9,),
    ),
    Mutation(
        "tardy with every event",
        "monitor/core/attribution.py",
        "            flags |= TARDY\n",
        "",
        "a visit is counted as tardy more than once",
        "core",
        (1,),
    ),
    Mutation(
        "tardiness lost at rest",
        "monitor/core/packing.py",
        "is_tardy = tags < 0",
        "is_tardy, tags = False, max(tags, ~tags)",
        "a late event finds those of its visit on time that were packed",
        "core",
        (1, 2, 3, 4),
    ),
    Mutation(
        "sixteenth that is not corrected",
        "monitor/core/sixteenths.py",
        "_count(rows, tally.minus.increments, -1, table)",
        "pass",
        "live A/A keeps what a late event has moved",
        "core",
        (3, 4),
    ),
    Mutation(
        "offset one too high",
        "monitor/flow/source.py",
        "state_of(Position(self._position, ",
        "state_of(Position(self._position + (self._position > 0), ",
        "a restart skips a message",
        "job",
        (1, 2),
    ),
    Mutation(
        "lost flush",
        "monitor/flow/changes.py",
        "deltas = {minute: dict(changes) for minute, changes in self.deltas.items()}",
        "deltas: Deltas = {}",
        "a snapshot forgets what waits for its flush",
        "tests/flow/test_dataflow.py",
        (),
    ),
    Mutation(
        "unfinished epoch left in the store",
        "monitor/flow/recovery_prepare.py",
        "_delete_unfinished(directory, recovery_store.read(directory, lambda store: store.resume_epoch))",
        "pass",
        "a key is resumed with what a crashed run had made of it",
        "tests/flow/test_recovery_store.py",
        (),
    ),
    Mutation(
        "snapshot that does not wait",
        "monitor/flow/sink.py",
        "self._writer.flush()\n        except",
        "pass\n        except",
        "an epoch is committed before its points are safe",
        "job",
        (21, 20, 12, 25),
    ),
    Mutation(
        "key groups of one process",
        "monitor/flow/route.py",
        "group = crc32(key) % SESSION_GROUPS",
        "group = hash(key) % SESSION_GROUPS",
        "after a restart a session is looked for in another key group",
        "job",
        (1, 2),
    ),
    Mutation(
        "partition confirmed before it is read",
        "monitor/flow/end_offsets.py",
        "if position < end.offset:",
        "if position < 0:",
        "the watermark passes what a slow consumer has not read yet",
        "tests/flow/test_source.py",
        (),
    ),
)
