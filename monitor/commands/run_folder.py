"""What `monitor run` leaves in its folder for other commands: where its store is, and the messages that it has read."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from monitor.commands.options import RUN_FOLDER
from monitor.config.reader import load
from monitor.config.settings import Settings
from monitor.runtime.errors import MonitorError
from monitor.topics.kafka import TopicError

RUN_FILE = "run.json"
MESSAGES_FOLDER = "messages"
"""The recorded log of a run, in parts."""


class NoRunError(MonitorError):
    """The folder is not one of a `monitor run`; or a command was told of two sources of messages."""


class RunFile(Struct, frozen=True):
    """The content of RUN_FILE: the configuration file, and the addresses of the store and of the page."""

    config: str
    store: str
    page: str


class Sources(NamedTuple):
    """What a command reads: settings, a recorded log (None: the topics), and the address of the KairosDB."""

    settings: Settings
    log: Path | None
    store: str


@contextmanager
def run_suggested() -> Iterator[None]:
    """Adds to an error of a topic that a run, which uses none, is read with --run, if there is one in its folder."""
    try:
        yield
    except TopicError as error:
        if not (RUN_FOLDER / RUN_FILE).is_file():
            raise
        message = f"{error}; the `monitor run` in {RUN_FOLDER} uses no Kafka: say --run {RUN_FOLDER} to read it"
        raise NoRunError(message) from error


def write_run_file(folder: Path, run: RunFile) -> None:
    """Leaves it for other commands."""
    (folder / RUN_FILE).write_bytes(msgspec.json.encode(run) + b"\n")


def sources(config: Path, log: Path | None, run: Path | None) -> Sources:
    """The sources that the options name: those of a run if there is one. Raises NoRunError or ConfigError."""
    if run is None:
        settings = load(config)
        return Sources(settings, log, settings.kairosdb.url)
    if log is not None:
        message = "--run names the log too: leave --log out"
        raise NoRunError(message)
    found = read_run_file(run)
    settings = load(found.config, {**os.environ, "MONITOR_KAIROSDB__URL": found.store})
    return Sources(settings, run / MESSAGES_FOLDER, found.store)


def read_run_file(folder: Path) -> RunFile:
    """What a run has left; raises NoRunError if none has."""
    path = folder / RUN_FILE
    if not path.is_file():
        message = f"{folder} must be the folder of a `monitor run`; there is no {path}"
        raise NoRunError(message)
    try:
        return msgspec.json.decode(path.read_bytes(), type=RunFile)
    except msgspec.DecodeError as error:
        message = f"{path} must be the file that `monitor run` writes: {error}"
        raise NoRunError(message) from error
