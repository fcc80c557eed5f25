"""`monitor run`: the embedded store, the job on simulated traffic with recovery, and the live view, all together.

The children have sessions of their own, so that Ctrl-C reaches only this process, which stops them in order: the job
first, since its last points have to reach the store.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from rich.console import Console
from rich.live import Live

from monitor import live
from monitor.config import load
from monitor.kairosdb import KairosUnreachable, check
from monitor.lifecycle import STOP_GRACE_S
from monitor.reading import Reader
from monitor.settings import Settings

READY_S = 20.0
REFRESH_S = 2.0
PLAIN_EVERY_S = 10.0
"""How often the view is printed where there is no terminal."""
STOP_S = STOP_GRACE_S + 10.0
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class RunError(Exception):
    """A part did not start or has stopped; the message says which and where its log is."""


def run(config: Path, folder: Path, port: int, rate: float, seed: int, incidents: list[str]) -> None:
    """Runs all until SIGINT or SIGTERM. Raises RunError, ConfigError."""
    folder.mkdir(parents=True, exist_ok=True)
    _check_port(port)
    url = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ,
        "MONITOR_CONFIG": str(config),
        "MONITOR_KAIROSDB__URL": url,
        "MONITOR_KAIROSDB__DEAD_LETTERS": str(folder / "dead-letters.jsonl"),
        "MONITOR_TIME__FLUSH_S": "2",
        "MONITOR_DEMO_RATE": str(rate),
        "MONITOR_DEMO_SEED": str(seed),
        "MONITOR_DEMO_INCIDENTS": " ".join(incidents),
    }
    settings = load(config, environment)
    store = [sys.executable, "-m", "monitor.cli", "store", str(folder / "store.sqlite3"), "--port", str(port)]
    job = [
        sys.executable,
        "-m",
        "bytewax.run",
        "monitor.demo:flow",
        "-r",
        str(folder / "recovery"),
        "-s",
        "10",
        "-b",
        "0",
    ]
    with _terminable(), _child("store", store, folder, environment) as store_process:
        _await_store(url, store_process, folder)
        with _child("job", job, folder, environment) as job_process:
            _watch(Reader(url), settings, {"store": store_process, "job": job_process}, folder)


def _check_port(port: int) -> None:
    """Whoever answers on the port now is not the store that we are about to start."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            msg = f"port {port} is taken ({error.strerror}): does it run already? Else choose another with --port"
            raise RunError(msg) from None


@contextmanager
def _terminable() -> Iterator[None]:
    """Makes SIGTERM, a closed terminal, and SIGINT even where a shell had it ignored, end the run like Ctrl-C."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in _ENDING}
    try:
        yield
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; started again, it goes on where it was")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _child(
    name: str, command: list[str], folder: Path, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A child process that appends to its log in the folder; ended by SIGTERM, or SIGKILL if that takes too long."""
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_with_parent() -> None:
    """Has this process sent SIGTERM when its parent is gone, even if that was killed."""
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2)
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def _await_store(url: str, process: subprocess.Popen[bytes], folder: Path) -> None:
    until_s = time.monotonic() + READY_S
    while True:
        _raise_if_ended("store", process, folder)
        try:
            check(url, timeout_s=1.0)
        except KairosUnreachable as error:
            if time.monotonic() > until_s:
                msg = f"the store did not get ready in {READY_S:.0f} s: {error}"
                raise RunError(msg) from None
            time.sleep(0.1)
        else:
            return


def _raise_if_ended(name: str, process: subprocess.Popen[bytes], folder: Path) -> None:
    if process.poll() is not None:
        log = folder / f"{name}.log"
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
        msg = f"the {name} has ended with status {process.returncode}; its log, {log}, ends with:\n{tail}"
        raise RunError(msg)


def _watch(reader: Reader, settings: Settings, parts: dict[str, subprocess.Popen[bytes]], folder: Path) -> None:
    """Shows the view until a part ends."""
    console = Console()
    terminal, printed_s = console.is_terminal, float("-inf")
    console.print(f"store {settings.kairosdb.url}, logs in {folder}; Ctrl-C stops all")
    with Live(console=console, auto_refresh=False, screen=terminal) as screen:
        while True:
            for name, process in parts.items():
                _raise_if_ended(name, process, folder)
            try:
                shown = live.view(live.look(reader, settings, time.time_ns() // 1_000_000), settings.dc)
            except requests.RequestException as error:
                shown = f"the store does not answer: {error}"
            if terminal:
                screen.update(shown, refresh=True)
            elif time.monotonic() - printed_s >= PLAIN_EVERY_S:
                console.print(shown)
                printed_s = time.monotonic()
            time.sleep(REFRESH_S)
