"""`monitor run`: the embedded store, the job on simulated traffic with recovery, and the page, all together.

The parts are child processes in sessions of their own, so that Ctrl-C reaches only this process, which stops them in
order: the job first, since its last points have to reach the store.
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
from typing import Annotated, NamedTuple, NoReturn

import requests
import typer
from rich.console import Console

from monitor.commands import top
from monitor.commands.options import COUNTS_FILE, EXAMPLE, EXAMPLE_SHOWN, RUN_FOLDER, SWITCHES_FILE, RunFolder
from monitor.commands.run_folder import MESSAGES_FOLDER, RunFile, write_run_file
from monitor.config.reader import load
from monitor.kairosdb.client import check
from monitor.kairosdb.errors import KairosDbError
from monitor.runtime.errors import MonitorError
from monitor.runtime.signals import STOP_GRACE_S

READY_S = 20.0
"""How long a part may take until it answers."""
STORE_FILE = "store.sqlite3"
CHECK_EVERY_S = 1.0
"""How often the parts are checked where there is no terminal to show anything on."""
STOP_S = STOP_GRACE_S + 10.0
"""How long a part may take to stop before it is killed."""
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class RunError(MonitorError):
    """A part did not start or has stopped; the message says which, and where its log is."""


class Ports(NamedTuple):
    """The ports of the embedded store, of the page and of the watcher."""

    store: int
    page: int
    watch: int


Parts = dict[str, subprocess.Popen[bytes]]


def run(
    config: Annotated[Path, typer.Option(help="The configuration file.", show_default=EXAMPLE_SHOWN)] = EXAMPLE,
    folder: RunFolder = RUN_FOLDER,
    port: Annotated[int, typer.Option(help="The port of the embedded store.")] = 8080,
    page_port: Annotated[int, typer.Option(help="The port of the page and its API.")] = 8090,
    watch_port: Annotated[int, typer.Option(help="The port of the watcher's metrics.")] = 8091,
    rate: Annotated[float, typer.Option(min=0.1, help="Events a second, mean over a day.")] = 300.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same traffic.")] = 1,
    incident: Annotated[
        list[str] | None, typer.Option(help="An incident of the traffic, as for `monitor simulate`; repeatable.")
    ] = None,
) -> None:
    """Ctrl-C stops all; start it again to resume."""
    folder.mkdir(parents=True, exist_ok=True)
    ports = Ports(port, page_port, watch_port)
    _check_port(ports.store, "--port")
    _check_port(ports.page, "--page-port")
    _check_port(ports.watch, "--watch-port")
    environment = _environment(config, folder, ports, rate, seed, incident or [])
    load(config, environment)  # its errors come before anything is started
    with _terminable(), _running(folder, ports, environment) as parts:
        page = _url(ports.page)
        write_run_file(folder, RunFile(str(config.resolve()), _url(ports.store), page))
        _announce(page, folder)
        if sys.stdout.isatty():
            top.watch(page, lambda: _raise_if_any_ended(parts, folder), _notice(folder).replace("`", ""))
        else:
            _wait(parts, folder)


def _environment(
    config: Path, folder: Path, ports: Ports, rate: float, seed: int, incidents: list[str]
) -> dict[str, str]:
    """The environment of the parts: the settings that a run overrides, and the traffic's."""
    return {
        **os.environ,
        "MONITOR_CONFIG": str(config),
        "MONITOR_KAIROSDB__URL": _url(ports.store),
        "MONITOR_KAIROSDB__DEAD_LETTERS": str(folder / "dead-letters.jsonl"),
        "MONITOR_TIME__FLUSH_S": "2",
        "MONITOR_DEMO_RATE": str(rate),
        "MONITOR_DEMO_SEED": str(seed),
        "MONITOR_DEMO_INCIDENTS": " ".join(incidents),
        "MONITOR_DEMO_SWITCHES": str(folder / SWITCHES_FILE),
        "MONITOR_DEMO_LOG": str(folder / MESSAGES_FOLDER),
        "MONITOR_DEMO_NEW": "no" if (folder / STORE_FILE).exists() else "yes",
    }


@contextmanager
def _running(folder: Path, ports: Ports, environment: dict[str, str]) -> Iterator[Parts]:
    """The parts, by name, each of which answers; they are stopped at the end of the block."""
    command = [sys.executable, "-m", "monitor"]
    store = [*command, "store", str(folder / STORE_FILE), "--port", str(ports.store)]
    serve = [*command, "serve", "--host", "127.0.0.1", "--port", str(ports.page), "--notice", _notice(folder)]
    serve += ["--counts", str(folder / COUNTS_FILE)]
    watch = [*command, "watch", "--folder", str(folder), "--host", "127.0.0.1", "--port", str(ports.watch)]
    job = [sys.executable, "-m", "bytewax.run", "dataflow:simulated_flow"]
    job += ["-r", str(folder / "recovery"), "-s", "10", "-b", "0"]
    with _child("store", store, folder, environment) as store_process:
        _await("store", lambda: _ask_store(_url(ports.store)), {"store": store_process}, folder)
        with (
            _child("page", serve, folder, environment) as serve_process,
            _child("job", job, folder, environment) as job_process,
            _child("watch", watch, folder, environment) as watch_process,
        ):
            parts = {"store": store_process, "job": job_process, "page": serve_process, "watch": watch_process}
            _await("page", lambda: _ask_page(_url(ports.page)), parts, folder)
            _await("watch", lambda: _ask_watch(_url(ports.watch)), parts, folder)
            yield parts


def _notice(folder: Path) -> str:
    """What a newcomer can do."""
    is_default = folder == RUN_FOLDER
    incident = "monitor incident variation_missing" + ("" if is_default else f" --folder {folder}")
    return f"Simulated traffic. Try in another terminal: `{incident}`, `monitor rejects --run {folder} --last 10m`"


def _wait(parts: Parts, folder: Path) -> NoReturn:
    """Waits, silently, until a signal ends the run; raises RunError if a part ends before."""
    while True:
        _raise_if_any_ended(parts, folder)
        time.sleep(CHECK_EVERY_S)


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def _announce(page: str, folder: Path) -> None:
    """Prints the page's address, and opens the page if somebody sits at this machine."""
    console = Console(highlight=False)
    console.print(f"page {page}, logs in {folder}; Ctrl-C stops all", soft_wrap=True)
    has_display = sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    if console.is_terminal and has_display:
        webbrowser.open(page)


def _check_port(port: int, option: str) -> None:
    """Raises RunError if the port is taken: what answers there is not the part that is about to start."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            msg = f"port {port} is taken ({error.strerror}): does another run use it? Choose another with {option}"
            raise RunError(msg) from None


@contextmanager
def _terminable() -> Iterator[None]:
    """Makes SIGTERM, a closed terminal, and SIGINT even where a shell had it ignored, end the run like Ctrl-C."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in _ENDING}
    try:
        yield
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; run it again to resume")
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
    """Makes the kernel send SIGTERM to this process when its parent ends, even if that was killed."""
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2)
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def _await(name: str, ask: Callable[[], None], parts: Parts, folder: Path) -> None:
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


def _ask_watch(at: str) -> None:
    requests.get(f"{at}/healthz", timeout=READY_S).raise_for_status()


def _raise_if_any_ended(parts: Parts, folder: Path) -> None:
    for name, process in parts.items():
        _raise_if_ended(name, process, folder)


def _raise_if_ended(name: str, process: subprocess.Popen[bytes], folder: Path) -> None:
    if process.poll() is not None:
        log = folder / f"{name}.log"
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
        msg = f"the {name} has ended with status {process.returncode}; its log, {log}, ends with:\n{tail}"
        raise RunError(msg)
