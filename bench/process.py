"""Processes of the whole job, started as a user starts them, and what the operating system says they have used."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bench import load
from bench.figures import OUTPUT_CHARACTERS_MAX, ROOT

COMMAND = (sys.executable, "-m", "bytewax.run", "dataflow:flow")
SNAPSHOT_S = 10


class Used(NamedTuple):
    """What a process had used when it ended."""

    cpu_s: float
    wall_s: float
    memory_bytes: int


class JobFolder(NamedTuple):
    """Where a job has its configuration, its recovery store and its log."""

    folder: Path

    def configure(self, brokers: str, topic: str, url: str, config: load.Config | None = None, **time_s: Any) -> None:
        """Writes the configuration: the reference load's, or `config`; `time_s` are keys of its table `time`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        sections = {
            "kafka": {"brokers": brokers, "topics": [topic]},
            "kairosdb": {"url": url, "dead_letters": str(self.folder / "dead-letters.jsonl")},
            "time": time_s,
        }
        (self.folder / "monitor.toml").write_text(load.toml((config or load.config()) | sections))

    @property
    def recovery(self) -> Path:
        """The recovery directory."""
        return self.folder / "recovery"

    def start(self, *arguments: str, command: Sequence[str] = COMMAND, **environment: str) -> subprocess.Popen[bytes]:
        """Starts the job with recovery; `environment` overrides settings, by the names without `MONITOR_`."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MONITOR_", "BYTEWAX_"))}
        overrides = {f"MONITOR_{name}": value for name, value in environment.items()}
        recovery = ["-r", str(self.recovery), "-s", str(SNAPSHOT_S), "-b", "0"]
        with (self.folder / "job.log").open("ab") as log:
            return subprocess.Popen(
                [*command, *recovery, *arguments],
                cwd=ROOT,
                env=inherited | {"MONITOR_CONFIG": str(self.folder / "monitor.toml")} | overrides,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @contextmanager
    def running(self, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
        """The job while the context lasts; then it is ended."""
        process = self.start(**environment)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def said(self) -> str:
        """The end of what the job has said."""
        return (self.folder / "job.log").read_text(errors="replace")[-OUTPUT_CHARACTERS_MAX:]

    def to_the_end(self) -> Used:
        """Runs the job to the present end of its topic."""
        began_s = time.perf_counter()
        return self.await_end(self.start(KAFKA__TAIL="false"), began_s)

    def await_end(self, process: subprocess.Popen[bytes], began_s: float) -> Used:
        """What a process that ends by itself has used; RuntimeError, with what it said, if it fails."""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            msg = f"the job has ended with status {process.returncode}; it said:\n{self.said()}"
            raise RuntimeError(msg)
        return used(usage, began_s)


def used(usage: resource.struct_rusage, began_s: float) -> Used:
    """As the operating system has counted it."""
    return Used(usage.ru_utime + usage.ru_stime, time.perf_counter() - began_s, usage.ru_maxrss * 1024)
