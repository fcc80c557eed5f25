"""What the job does before its dataflow runs: settings, recovery store, signals, logs; every fault is one clear message."""

import argparse
import os
import sys
from pathlib import Path

from bytewax import run as bytewax_run

from monitor import lifecycle, logs, operators, recovery
from monitor.config import ConfigError, Settings, load
from monitor.lifecycle import JobError
from monitor.sink import KairosSink
from monitor.source import KafkaSource
from monitor.telemetry import TELEMETRY


def prepare() -> tuple[Settings, KafkaSource, KairosSink]:
    """The settings and both ends of the job; ends the process with a message if they cannot work."""
    logs.set_up()
    lifecycle.install()
    try:
        settings = load()
        arguments = run_arguments()
        TELEMETRY.worker = str(arguments.process_id or 0)
        if arguments.recovery_directory is not None:
            recovery.prepare(Path(arguments.recovery_directory), operators.keys())
    except (ConfigError, JobError) as error:
        sys.exit(f"monitor: {error}")
    source = KafkaSource(settings.kafka, settings.time.idle_after_s * 1_000)
    return settings, source, KairosSink(settings.kairosdb, settings.dc)


def run_arguments() -> argparse.Namespace:
    """What `bytewax.run` was told, by arguments or BYTEWAX_* variables; nothing if another program runs."""
    if Path(sys.argv[0]) != Path(bytewax_run.__file__):
        return argparse.Namespace(recovery_directory=os.environ.get("BYTEWAX_RECOVERY_DIRECTORY"), process_id=None)
    return bytewax_run._parse_args()  # the only reader of all of its ways to be told
