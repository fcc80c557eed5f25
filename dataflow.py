"""The job: events from Kafka, per visit, to totals per minute in KairosDB.

`python -m bytewax.run dataflow:flow` runs it; MONITOR_CONFIG names the configuration file.
"""

import bytewax.operators as op
import bytewax.operators.windowing as win
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from monitor.config.settings import Settings
from monitor.core.metrics import DataPoint
from monitor.flow import start, steps
from monitor.flow.simulated_source import simulated_source
from monitor.flow.source import Chunk
from monitor.flow.start import kafka_source


def build(source: Source[Chunk], sink: Sink[tuple[str, list[DataPoint]]], settings: Settings) -> Dataflow:
    """The dataflow: one line a step; what each does is said in steps.py."""
    measures = steps.measures(settings)
    clock, windows = steps.FlushClock(), steps.flush_windows(settings.time.flush_s)

    flow = Dataflow("monitor")
    chunks = op.input("source", flow, source)
    messages = op.flat_map_batch("route", chunks, steps.route(measures))
    tallies = op.stateful_batch("sessions", messages, steps.sessions(measures))
    changes = op.flat_map_batch("regroup", tallies, steps.regroup(measures))
    flushed = win.fold_window(
        "flush", changes, clock, windows, steps.nothing, steps.accumulate, steps.accumulate, ordered=False
    )
    points = op.stateful_batch("totals", flushed.down, steps.TotalsStep)
    op.output("kairosdb", points, sink)
    op.raises("never_late", flushed.late)
    return flow


SOURCES = {"flow": kafka_source, "simulated_flow": simulated_source}
"""The flows that can be run, and where their events come from."""


def __getattr__(name: str) -> Dataflow:
    """A flow is made when it is asked for: importing this module reads no configuration."""
    if name not in SOURCES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    settings, source, sink = start.prepare(SOURCES[name])
    return build(source, sink, settings)
