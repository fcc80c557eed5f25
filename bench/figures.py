"""Figures: what a piece of work cost, as the operating system counts it, and how they get from process to process.

Each benchmark runs in a process of its own, `python -m bench.NAME OPTIONS`, and prints one line of JSON: its `Figures`.
"""

import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

ROOT = Path(__file__).parent.parent
BENCHMARK_S_MAX = 3_600.0
"""The longest that one process of a benchmark may take; then it is ended, and its output shown."""
OUTPUT_CHARACTERS_MAX = 4_000
_CALIBRATION_MESSAGES = 20_000
_CALIBRATIONS = 7
_CALIBRATION_MESSAGE = (
    b'{"tenant":"uswm","sessionId":"9f86d081884c7d65aa","time":1795500000050,"event":"page_view",'
    b'"assignments":{"button_color":"red"},"attributes":{"page":"home"}}'
)


class Figures(Struct, frozen=True):
    """What one benchmark has measured.

    `cpu_s` is user and system time of the process that does the work, read from the operating system; `units` what it
    is divided by (events, points); `details` further figures, each named with its unit; `digest` of all totals, where
    they are a result.
    """

    name: str
    units: int
    cpu_s: float
    wall_s: float
    memory_bytes: int
    digest: str = ""
    details: dict[str, float] = {}

    @property
    def cpu_us(self) -> float:
        """CPU time per unit, in microseconds."""
        return 1e6 * self.cpu_s / self.units


class Meter:
    """CPU and wall time of this process over the contexts entered so far."""

    def __init__(self) -> None:
        self.cpu_s = 0.0
        self.wall_s = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Counts what happens inside."""
        used_s, began_s = used_cpu_s(), time.perf_counter()
        yield
        self.cpu_s += used_cpu_s() - used_s
        self.wall_s += time.perf_counter() - began_s


def used_cpu_s(who: int = resource.RUSAGE_SELF) -> float:
    """User and system time of this process, all threads."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def most_memory_bytes(who: int = resource.RUSAGE_SELF) -> int:
    """The largest resident size of this process so far."""
    return resource.getrusage(who).ru_maxrss * 1024


def calibrate() -> float:
    """CPU seconds of a fixed piece of work of the same kind, the best of some: how fast the machine is just now."""
    return min(_calibration_s() for _ in range(_CALIBRATIONS))


def _calibration_s() -> float:
    decode = msgspec.json.decode
    counts: dict[tuple[str, int], int] = {}
    meter = Meter()
    with meter.running():
        for i in range(_CALIBRATION_MESSAGES):
            event = decode(_CALIBRATION_MESSAGE)
            cell = event["event"], event["time"] // 60_000 + i % 1_000
            counts[cell] = counts.get(cell, 0) + 1
    return meter.cpu_s


def report(figures: Figures) -> None:
    """Prints the figures for the process that has started this one."""
    print(msgspec.json.encode(figures).decode(), flush=True)


def run(
    module: str, *options: object, python: str = sys.executable, environment: Mapping[str, str] | None = None
) -> Figures:
    """Runs a benchmark in a process of its own; RuntimeError with what it said if it fails."""
    command = [python, "-m", module, *map(str, options)]
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=BENCHMARK_S_MAX
    )
    lines = ended.stdout.splitlines()
    if ended.returncode or not lines:
        said = (ended.stdout + ended.stderr).decode(errors="replace")[-OUTPUT_CHARACTERS_MAX:]
        msg = f"{' '.join(command)} ended with status {ended.returncode}; it said:\n{said}"
        raise RuntimeError(msg)
    return msgspec.json.decode(lines[-1], type=Figures)


def details_of(**found: Any) -> dict[str, float]:
    """Details, rounded to what is worth reading."""
    return {name: round(float(value), 6) for name, value in found.items()}
