"""The job as a dataflow: events from Kafka, grouped into visits, become totals per minute in KairosDB.

`python -m bytewax.run dataflow:flow` runs it; MONITOR_CONFIG names the configuration file.
"""

import bytewax.operators as op
import bytewax.operators.windowing as win
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from monitor.config.settings import Settings
from monitor.core.metrics import DataPoint
from monitor.flow import start
from monitor.flow.flush import FlushClock, accumulate, flush_windows, nothing
from monitor.flow.readback import Readback
from monitor.flow.regroup import Regroup
from monitor.flow.route import route
from monitor.flow.sessions import compile_config, sessions
from monitor.flow.simulated_source import simulated_source
from monitor.flow.source import Chunk
from monitor.flow.start import kafka_source
from monitor.flow.totals import totals
from monitor.runtime.clock import CLOCK, WallClock


def build(
    source: Source[Chunk],
    sink: Sink[tuple[str, list[DataPoint]]],
    settings: Settings,
    clock: WallClock = CLOCK,
    readback: Readback | None = None,
) -> Dataflow:
    """The dataflow, a line for each step. State is stored under the steps' names: a renamed step loses its state."""
    compiled, windows = compile_config(settings), flush_windows(settings.time.flush_s)

    flow = Dataflow("monitor")
    chunks = op.input("source", flow, source)
    messages = op.flat_map_batch("route", chunks, route(compiled))
    tallies = op.stateful_batch("sessions", messages, sessions(compiled))
    changes = op.flat_map_batch("regroup", tallies, Regroup(compiled))
    flushed = win.fold_window(
        "flush", changes, FlushClock(clock), windows, nothing, accumulate, accumulate, ordered=False
    )
    points = op.stateful_batch("totals", flushed.down, totals(clock, readback=readback))
    op.output("kairosdb", points, sink)
    op.raises("never_late", flushed.late)
    return flow


SOURCES = {"flow": kafka_source, "simulated_flow": simulated_source}
"""The flows that can be run, and the source of each."""


def __getattr__(name: str) -> Dataflow:
    """A flow is built when it is asked for: importing this module reads no configuration."""
    if name not in SOURCES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    settings, source, sink = start.prepare(SOURCES[name])
    return build(source, sink, settings, readback=sink.readback())
