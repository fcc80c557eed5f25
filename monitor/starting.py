"""What the job does before its dataflow runs.

settings, recovery store, signals, logs; every fault is one clear message.
"""

import sys
from pathlib import Path

from bytewax import run as bytewax_run

from monitor import lifecycle, logs, operators, recovery
from monitor.config import load
from monitor.faults import ConfigError
from monitor.lifecycle import JobError
from monitor.settings import Settings
from monitor.sink import KairosSink
from monitor.source import KafkaSource
from monitor.telemetry import TELEMETRY


def prepare() -> tuple[Settings, KafkaSource, KairosSink]:
    """The settings and both ends of the job; ends the process with a message if they cannot work.

    When another program than bytewax.run asks, to draw the dataflow for example, servers and the recovery store are
    left alone.
    """
    try:
        settings = load()
        source = KafkaSource(settings.kafka, settings.time.idle_after_s * 1_000)
        sink = KairosSink(settings.kairosdb, settings.dc)
        if Path(sys.argv[0]) == Path(bytewax_run.__file__):
            _check(source, sink)
    except (ConfigError, JobError) as error:
        sys.exit(f"monitor: {error}")
    return settings, source, sink


def _check(source: KafkaSource, sink: KairosSink) -> None:
    """Prepares the process to run the job; raises JobError if it could not go on from where it was left."""
    logs.set_up()
    lifecycle.install()
    arguments = bytewax_run._parse_args()  # the only reader of all the ways to tell it
    TELEMETRY.worker = str(arguments.process_id or 0)
    resumed = {}
    if arguments.recovery_directory is not None:
        recovery.prepare(Path(arguments.recovery_directory), operators.keys())
        resumed = recovery.source_states(Path(arguments.recovery_directory))
    source.check(resumed)
    sink.list_parts()
