"""One server for all workers of a session: started once, gone with the session however that ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Client
from pathlib import Path

import psutil
import pytest

from tests.support.jars import ServerError
from tests.support.job import ROOT
from tests.support.processes import POLL_S, still_running
from tests.support.servers import Server
from tests.support.shared_servers import ServerPool, shared

WORKERS = 4
SESSION_S = 180.0
CONFTEST = """
from functools import partial

from tests import conftest
from tests.conftest import *
from tests.project.test_shared_servers import Sleeper

conftest.ServerPool = partial(conftest.ServerPool, (Sleeper,))
"""
TEST = """
import os, pathlib, time
from tests.project.test_shared_servers import Sleeper
from tests.support.shared_servers import shared

def test_it(pool_address):
    pathlib.Path("writing").write_text(f"{os.getpid()} {shared(Sleeper, pool_address).folder}")
    pathlib.Path("writing").rename("begun")
    time.sleep(300)
"""


class Sleeper(Server):
    """A server without needs, which notes each start."""

    name = "Sleeper"
    port_count = 1

    def _prepare(self) -> list[str]:
        with (self.folder / "starts").open("a") as starts:
            starts.write("x")
        return ["sh", "-c", "trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done"]

    def _is_ready(self) -> bool:
        return "up" in self.log_tail()


class Failing(Server):
    """A server that ends before it is ready."""

    name = "Failing"
    port_count = 1

    def _prepare(self) -> list[str]:
        return ["sh", "-c", "echo no such disk; exit 3"]

    def _is_ready(self) -> bool:
        return False


@pytest.fixture
def pool() -> Iterator[ServerPool]:
    """A pool of such servers."""
    opened = ServerPool((Sleeper, Failing))
    try:
        yield opened
    finally:
        opened.close()


def test_workers_that_ask_at_once_are_given_one_server(pool: ServerPool) -> None:
    """It is started once, and each of them has its ports and its folder."""
    with ThreadPoolExecutor(WORKERS) as workers:
        given = list(workers.map(lambda _: shared(Sleeper, pool.address), range(WORKERS)))
    assert len({server.ports for server in given}) == 1
    assert {(server.folder / "starts").read_text() for server in given} == {"x"}


def test_a_server_that_does_not_start_is_an_error_for_who_asks(pool: ServerPool) -> None:
    """The reason is the server's own; the pool goes on to answer."""
    for _ in range(2):
        with pytest.raises(ServerError, match=r"(?s)Failing ended with status 3 .*no such disk"):
            shared(Failing, pool.address)
    assert shared(Sleeper, pool.address).ports


def test_a_worker_that_dies_while_it_asks_leaves_the_others_their_answers(pool: ServerPool) -> None:
    """Before it has asked, and before it is answered."""
    with Client(pool.address):
        pass
    with Client(pool.address) as asking:
        asking.send(Sleeper.name)
    assert shared(Sleeper, pool.address).ports


def test_a_pool_that_is_closed_leaves_nothing() -> None:
    """Neither a process nor its folder."""
    pool = ServerPool((Sleeper,))
    folder = shared(Sleeper, pool.address).folder
    started = [child for child in psutil.Process().children() if child.cwd() == str(folder)]
    assert started
    pool.close()
    assert not [child for child in started if child.is_running()]
    assert not Path(pool.address).parent.exists()


@pytest.mark.parametrize(
    ("whom", "end"), [("main", signal.SIGINT), ("main", signal.SIGKILL), ("worker", signal.SIGKILL)]
)
def test_a_session_that_is_cut_off_leaves_no_server(whom: str, end: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C, SIGKILL of the main process, or of a worker in the middle of a test."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(TEST)
    command = [sys.executable, "-m", "pytest", "-q", "-n", "1", "-p", "no:benchmark", "-p", "no:cacheprovider"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL) as main:
        try:
            worker, folder = _begun(main, tmp_path / "begun")
            assert _processes_in(folder)
            os.kill(main.pid if whom == "main" else worker, end)
            main.wait(SESSION_S)
        finally:
            main.kill()
    assert not still_running(lambda: _processes_in(folder), SESSION_S)


def _begun(main: subprocess.Popen[bytes], note: Path) -> tuple[int, str]:
    """The worker's process id and the server's folder, once the test of the session has begun."""
    until_s = time.monotonic() + SESSION_S
    while not note.exists():
        assert main.poll() is None
        assert time.monotonic() < until_s, "the test has not begun"
        time.sleep(POLL_S)
    worker, folder = note.read_text().split()
    return int(worker), folder


def _processes_in(folder: str) -> list[psutil.Process]:
    """The processes that run in the folder of a server."""
    return [process for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == folder]
