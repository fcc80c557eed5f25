"""The job's start, before its dataflow runs: settings, recovery store, signals, logs. Each error is one message."""

import atexit
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from bytewax import run as bytewax_run

from monitor import __version__
from monitor.config.errors import ConfigError
from monitor.config.reader import config_hash, load
from monitor.config.settings import Settings, milliseconds
from monitor.flow import keys, recovery_errors, recovery_prepare
from monitor.flow.job_log import JOB_LOG
from monitor.flow.sink import KairosSink
from monitor.flow.source import KafkaSource
from monitor.flow.telemetry import TELEMETRY
from monitor.runtime import logs, memory, reporting, set_back, signals
from monitor.runtime.errors import MonitorError

Source = TypeVar("Source")


class RunOptions(NamedTuple):
    """The options of bytewax.run that a start depends on."""

    worker: str
    """The number of this process in its cluster."""
    recovery_directory: Path | None
    processes: int
    """How many processes the cluster has."""


def kafka_source(settings: Settings) -> KafkaSource:
    """The source that the settings describe."""
    return KafkaSource(settings.kafka, milliseconds(settings.time.idle_after_s))


def prepare(make_source: Callable[[Settings], Source]) -> tuple[Settings, Source, KairosSink]:
    """The settings, the source and the sink; ends the process with a message if they cannot work.

    Servers and the recovery store are left alone unless bytewax.run is what runs: another program may import a flow
    to draw it, for example.
    """
    try:
        settings = load()
        source = make_source(settings)
        sink = KairosSink(settings.kairosdb, settings.dc)
        if is_run_by_engine():
            _prepare_process(settings, source, sink)
    except (ConfigError, MonitorError) as error:
        sys.exit(f"monitor: {error}")
    return settings, source, sink


def is_run_by_engine() -> bool:
    """True in a process that `python -m bytewax.run` started."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)  # None in scripts and consoles
    return spec is not None and spec.name == bytewax_run.__name__


def run_options() -> RunOptions:
    """The options that bytewax.run was started with, from its command line and environment.

    Its private parser reads them: the engine has no public one and passes a flow no options, and a second parser would
    have to repeat its three ways to number a process. The engine's version is pinned, and a test covers this.
    """
    options = bytewax_run._parse_args()
    directory = options.recovery_directory
    addresses = options.addresses.split(";") if options.addresses else ()
    return RunOptions(
        str(options.process_id or 0), None if directory is None else Path(directory), max(1, len(addresses))
    )


def _prepare_process(settings: Settings, source: object, sink: KairosSink) -> None:
    """Prepares the process to run the job; raises MonitorError if the job could not resume.

    Ends the process if it is asked to stop while it waits for the others of its cluster.
    """
    logs.set_up()
    signals.install()
    set_back.watch()
    options = run_options()
    reporting.install(lambda error: recovery_errors.explained(error, options.recovery_directory))
    memory.tune_collector()
    TELEMETRY.worker = options.worker
    prepared = None
    if options.recovery_directory is not None:
        prepared = recovery_prepare.prepare(options.recovery_directory, keys.keys_by_step(), options.worker)
    if isinstance(source, KafkaSource):
        source.check({} if prepared is None else prepared.source_states)
    sink.list_parts()
    # last, so that a process which cannot work has said so before the others go on
    if prepared is not None and not recovery_prepare.begin(prepared, options.processes):
        sys.exit(0)
    _log_start(settings, source, options)
    if options.processes > 1:
        signals.connecting(JOB_LOG.stopped)


def _log_start(settings: Settings, source: object, options: RunOptions) -> None:
    """Logs with what the job begins, and sees to it that its end is logged; notices become gauges."""
    begins, notices = (source.begins, source.notices) if isinstance(source, KafkaSource) else ({}, {})
    for topic, names in notices.items():
        for name in names:
            TELEMETRY.gauge("notice", 1, topic=topic, notice=name)
    JOB_LOG.started(
        begins,
        notices,
        version=__version__,
        config_hash=config_hash(settings),
        dc=settings.dc,
        process=int(options.worker),
        processes=options.processes,
        topics=list(notices),
        recovery_directory=None if options.recovery_directory is None else str(options.recovery_directory),
    )
    atexit.register(JOB_LOG.stopped)
