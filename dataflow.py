"""The job: events from Kafka, per visit, to totals per minute in KairosDB.

`python -m bytewax.run dataflow:flow` runs it; MONITOR_CONFIG names the configuration file.
"""

from typing import Any

import bytewax.operators as op
import bytewax.operators.windowing as win
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from monitor import operators, starting
from monitor.metrics import Point
from monitor.settings import Settings
from monitor.source import Chunk


def build(source: Source[Chunk], sink: Sink[tuple[str, list[Point]]], settings: Settings) -> Dataflow:
    """The dataflow: one line a step; what each does is said in operators.py."""
    measures = operators.measures(settings)
    clock, windows = operators.FlushClock(), operators.flush_windows(settings.time.flush_s)

    flow = Dataflow("monitor")
    chunks = op.input("source", flow, source)
    messages = op.flat_map_batch("route", chunks, operators.route(measures))
    tallies = op.stateful_batch("sessions", messages, operators.sessions(measures))
    changes = op.flat_map_batch("regroup", tallies, operators.regroup(measures))
    flushed = win.fold_window(
        "flush", changes, clock, windows, operators.nothing, operators.accumulate, operators.accumulate, ordered=False
    )
    points = op.stateful_batch("totals", flushed.down, operators.TotalsStep)
    op.output("kairosdb", points, sink)
    op.raises("never_late", flushed.late)
    return flow


def __getattr__(name: str) -> Any:
    """`flow`, made when it is asked for: importing this module reads no configuration."""
    if name == "flow":
        settings, source, sink = starting.prepare(starting.kafka_source)
        return build(source, sink, settings)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
