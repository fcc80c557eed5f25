"""The work in the shape that Bytewax's own guides suggest: the stock KafkaSource, one key per session, one key per
(metric, minute), one item per event and per change. No recovery.

What a session contributes is computed as in plain.py: a session that gets an event is counted anew, and the difference
goes on.

    python -m bench.peers.naive_bytewax BROKERS TOPIC
"""

import time
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, TypeAlias

import bytewax.operators as op
import typer
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main

from bench import load
from bench.figures import Figures, most_memory_bytes, report, used_cpu_s
from bench.peers.plain import Gathered, Kept
from bench.totals import Key, Totals, digest

Session: TypeAlias = tuple[Kept, ...]
"""A session's events. What they contribute is not kept: the engine deep-copies the state of every key it touched."""
Change: TypeAlias = tuple[Key, int]
"""A total, and by how much it changes; or what it comes to."""


class Naive:
    """The functions of the steps, and what has come out of them."""

    def __init__(self, config: load.Config) -> None:
        self._gathered = Gathered(config)
        self.messages = 0
        self.found: Totals = {}

    def flow(self, brokers: str, topic: str) -> Dataflow:
        """The dataflow."""
        flow = Dataflow("naive")
        messages = op.input("kafka", flow, KafkaSource([brokers], [topic], tail=False))
        events = op.flat_map("decode", messages, self._decode)
        changes = op.stateful_map("session", events, self._session)
        keyed = op.flat_map("key", changes, _by_total)
        sums = op.stateful_map("sum", keyed, _add)
        op.output("out", sums, _Sink(self.found))
        return flow

    def _decode(self, message: Any) -> Iterator[tuple[str, tuple[str, Kept]]]:
        """An event with its key, unless it is rejected."""
        self.messages += 1
        accepted = self._gathered.accept(message.value, message.timestamp[1])
        if accepted is not None:
            tenant, session_id, event = accepted
            yield f"{tenant}/{session_id}", (tenant, event)

    def _session(self, events: Session | None, item: tuple[str, Kept]) -> tuple[Session, list[Change]]:
        """Takes an event into its session; what that changes."""
        tenant, event = item
        before = self._gathered.contributions(tenant, events) if events else {}
        events = (*(events or ()), event)
        after = self._gathered.contributions(tenant, events)
        key, every = self._gathered.tenants[tenant].key, after.keys() | before.keys()
        changed = {counter: after.get(counter, 0) - before.get(counter, 0) for counter in every}
        return events, [(key(counter), change) for counter, change in changed.items() if change]


def _by_total(item: tuple[str, list[Change]]) -> Iterator[tuple[str, Change]]:
    for key, change in item[1]:
        yield "|".join(map(str, key)), (key, change)


def _add(total: int | None, item: Change) -> tuple[int, Change]:
    key, change = item
    total = (total or 0) + change
    return total, (key, total)


class _Sink(DynamicSink[tuple[str, Change]]):
    """Keeps the last total of each."""

    def __init__(self, found: Totals) -> None:
        self._found = found

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "_Partition":
        return _Partition(self._found)


class _Partition(StatelessSinkPartition[tuple[str, Change]]):
    def __init__(self, found: Totals) -> None:
        self._found = found

    def write_batch(self, items: Iterable[tuple[str, Change]]) -> None:
        for _, (key, total) in items:
            self._found[key] = total


def measure(brokers: str, topic: str) -> Figures:
    """Reads the topic to its end."""
    naive = Naive(load.config())
    flow = naive.flow(brokers, topic)
    used_s, began_s = used_cpu_s(), time.perf_counter()
    run_main(flow)
    cpu_s, wall_s = used_cpu_s() - used_s, time.perf_counter() - began_s
    return Figures("naive Bytewax", naive.messages, cpu_s, wall_s, most_memory_bytes(), digest(naive.found))


def main(brokers: Annotated[str, typer.Argument()], topic: Annotated[str, typer.Argument()]) -> None:
    """Measures naive Bytewax and prints its figures as JSON."""
    report(measure(brokers, topic))


if __name__ == "__main__":
    typer.run(main)
