"""What the job does before its dataflow runs: settings, recovery store, signals, logs.

Every fault is one clear message.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bytewax import run as bytewax_run

from monitor.config.errors import ConfigError
from monitor.config.reader import load
from monitor.config.settings import Settings, milliseconds
from monitor.flow import recovery_store, steps
from monitor.flow.sink import KairosSink
from monitor.flow.source import KafkaSource
from monitor.flow.telemetry import TELEMETRY
from monitor.runtime import lifecycle, logs
from monitor.runtime.lifecycle import JobError

Source = TypeVar("Source")


def kafka_source(settings: Settings) -> KafkaSource:
    """The source that the settings describe."""
    return KafkaSource(settings.kafka, milliseconds(settings.time.idle_after_s))


def prepare(make_source: Callable[[Settings], Source]) -> tuple[Settings, Source, KairosSink]:
    """The settings and both ends of the job; ends the process with a message if they cannot work.

    When another program than bytewax.run asks, to draw the dataflow for example, servers and the recovery store are
    left alone.
    """
    try:
        settings = load()
        source = make_source(settings)
        sink = KairosSink(settings.kairosdb, settings.dc)
        if Path(sys.argv[0]) == Path(bytewax_run.__file__):
            _check(source, sink)
    except (ConfigError, JobError) as error:
        sys.exit(f"monitor: {error}")
    return settings, source, sink


def _check(source: object, sink: KairosSink) -> None:
    """Prepares the process to run the job; raises JobError if it could not go on from where it was left."""
    logs.set_up()
    lifecycle.install()
    arguments = bytewax_run._parse_args()  # the only reader of all the ways to tell it
    TELEMETRY.worker = str(arguments.process_id or 0)
    resumed = {}
    if arguments.recovery_directory is not None:
        recovery_store.prepare(Path(arguments.recovery_directory), steps.keys(), TELEMETRY.worker)
        resumed = recovery_store.source_states(Path(arguments.recovery_directory))
    if isinstance(source, KafkaSource):
        source.check(resumed)
    sink.list_parts()
