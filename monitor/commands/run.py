"""`monitor run`: the embedded store, the job on simulated traffic with recovery, and the page, all together.

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
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import requests
from rich.console import Console

from monitor.commands import top
from monitor.config.reader import load
from monitor.kairosdb.client import check
from monitor.kairosdb.errors import KairosDbError
from monitor.runtime.signals import STOP_GRACE_S

READY_S = 20.0
SWITCHES = "incidents.ndjson"
"""The file in the folder that tells which incidents of the traffic were switched on and off."""
STOP_S = STOP_GRACE_S + 10.0
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class RunError(Exception):
    """A part did not start or has stopped; the message says which and where its log is."""


class Ports(NamedTuple):
    """Where the embedded store and the page listen."""

    store: int
    page: int


def run(config: Path, folder: Path, ports: Ports, rate: float, seed: int, incidents: list[str]) -> None:
    """Runs all until SIGINT or SIGTERM. Raises RunError, ConfigError."""
    folder.mkdir(parents=True, exist_ok=True)
    _check_port(ports.store, "--port")
    _check_port(ports.page, "--page-port")
    url, page = (f"http://127.0.0.1:{port}" for port in ports)
    environment = {
        **os.environ,
        "MONITOR_CONFIG": str(config),
        "MONITOR_KAIROSDB__URL": url,
        "MONITOR_KAIROSDB__DEAD_LETTERS": str(folder / "dead-letters.jsonl"),
        "MONITOR_TIME__FLUSH_S": "2",
        "MONITOR_DEMO_RATE": str(rate),
        "MONITOR_DEMO_SEED": str(seed),
        "MONITOR_DEMO_INCIDENTS": " ".join(incidents),
        "MONITOR_DEMO_SWITCHES": str(folder / SWITCHES),
    }
    load(config, environment)
    command = [sys.executable, "-m", "monitor"]
    store = [*command, "store", str(folder / "store.sqlite3"), "--port", str(ports.store)]
    serve = [*command, "serve", "--host", "127.0.0.1", "--port", str(ports.page)]
    job = [sys.executable, "-m", "bytewax.run", "dataflow:simulated_flow"]
    job += ["-r", str(folder / "recovery"), "-s", "10", "-b", "0"]
    with _terminable(), _child("store", store, folder, environment) as store_process:
        _await("store", lambda: _ask_store(url), {"store": store_process}, folder)
        with (
            _child("page", serve, folder, environment) as serve_process,
            _child("job", job, folder, environment) as job_process,
        ):
            parts = {"store": store_process, "job": job_process, "page": serve_process}
            _await("page", lambda: _ask_page(page), parts, folder)
            _show(page, folder)
            top.watch(page, lambda: _raise_if_any_ended(parts, folder))


def _show(page: str, folder: Path) -> None:
    """Says where the page is, and opens it where somebody sits before the machine."""
    console = Console(highlight=False)
    console.print(f"page {page}, logs in {folder}; Ctrl-C stops all", soft_wrap=True)
    has_display = sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    if console.is_terminal and has_display:
        webbrowser.open(page)


def _check_port(port: int, option: str) -> None:
    """Whoever answers on the port now is not the part that we are about to start."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            msg = f"port {port} is taken ({error.strerror}): does it run already? Else choose another with {option}"
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


def _await(name: str, ask: Callable[[], None], parts: dict[str, subprocess.Popen[bytes]], folder: Path) -> None:
    """Returns when a part answers what it is asked; raises RunError if that takes too long or a part has ended."""
    until_s = time.monotonic() + READY_S
    while True:
        _raise_if_any_ended(parts, folder)
        try:
            ask()
        except (KairosDbError, requests.RequestException) as error:
            if time.monotonic() > until_s:
                msg = f"the {name} did not get ready in {READY_S:.0f} s: {error}"
                raise RunError(msg) from None
            time.sleep(0.1)
        else:
            return


def _ask_store(url: str) -> None:
    check(url, timeout_s=1.0)


def _ask_page(page: str) -> None:
    requests.get(f"{page}/api/health", timeout=READY_S).raise_for_status()


def _raise_if_any_ended(parts: dict[str, subprocess.Popen[bytes]], folder: Path) -> None:
    for name, process in parts.items():
        _raise_if_ended(name, process, folder)


def _raise_if_ended(name: str, process: subprocess.Popen[bytes], folder: Path) -> None:
    if process.poll() is not None:
        log = folder / f"{name}.log"
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
        msg = f"the {name} has ended with status {process.returncode}; its log, {log}, ends with:\n{tail}"
        raise RunError(msg)
