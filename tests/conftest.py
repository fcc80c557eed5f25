"""What every test session has: real servers, shared by its workers; profiles of Hypothesis; no process left behind.

With pytest-xdist the hooks below run in the main process and in each worker; `workerinput` marks a worker.
"""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support.interpreted import is_compiled
from tests.support.processes import SESSION_VARIABLE, children, descendants, still_running
from tests.support.servers import Kafka, KairosDB, in_ci, require
from tests.support.shared_servers import ServerPool, shared

CORE = Path(__file__).parents[1] / "monitor/core"
LONG_ROOMS = ("system", "page", "commands", "serve")
"""Rooms with files that take a minute and more: begun first, so that at the end no worker waits for another."""
POOL = pytest.StashKey[ServerPool]()
EXIT_S = 10.0
"""How long a process may take to its end after the test that ended it."""

# on a busy machine examples are drawn slowly, which says nothing about the code
settings.register_profile("dev", max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("dev"), max_examples=200, derandomize=False, print_blob=True)
# the interpreted core answers the same at three times the cost: more examples are the compiled core's
settings.load_profile("ci" if in_ci() and is_compiled() else "dev")


def pytest_configure(config: pytest.Config) -> None:
    """Opens the session's pool of servers, in its main process."""
    if not _is_worker(config):
        os.environ[SESSION_VARIABLE] = uuid.uuid4().hex
        config.stash[POOL] = ServerPool()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Gives a worker the address of the pool."""
    node.workerinput["pool"] = node.config.stash[POOL].address


def pytest_sessionstart(session: pytest.Session) -> None:
    """Refuses to test a core that was compiled from other sources than are there."""
    for library in CORE.glob("*.so"):
        source = CORE / f"{library.name.partition('.')[0]}.py"
        if source.exists() and source.stat().st_mtime > library.stat().st_mtime:
            pytest.exit(f"{source.name} was changed after it was compiled: `make test` compiles it anew", returncode=2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the rooms with long files first, in the order of LONG_ROOMS."""
    places = {f"tests/{room}": place for place, room in enumerate(LONG_ROOMS)}
    items.sort(key=lambda item: places.get(item.nodeid.rpartition("/")[0], len(places)))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Stops the servers, and fails the session if any process that descends from it still runs."""
    if (pool := session.config.stash.get(POOL, None)) is None:
        return
    pool.close()
    if left := still_running(lambda: [*children(), *descendants(os.environ[SESSION_VARIABLE])], EXIT_S):
        print(f"\nprocesses left behind by the session: {left}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def pool_address(request: pytest.FixtureRequest) -> str:
    """The address at which the session's servers are asked for."""
    config = request.config
    return str(vars(config)["workerinput"]["pool"]) if _is_worker(config) else config.stash[POOL].address


@pytest.fixture(scope="session")
def real_kafka(pool_address: str) -> Kafka:
    """Apache Kafka, shared by all workers: give topics names of their own, and leave it running."""
    require()
    return shared(Kafka, pool_address)


@pytest.fixture(scope="session")
def kairosdb_server(pool_address: str) -> KairosDB:
    """KairosDB, shared by all workers: give metrics a prefix of their own, and leave it running."""
    require()
    return shared(KairosDB, pool_address)


@pytest.fixture(scope="session")
def real_kairosdb(kairosdb_server: KairosDB) -> str:
    """The URL of the session's KairosDB."""
    return kairosdb_server.url


@pytest.fixture(scope="session", autouse=True)
def _no_process_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a worker's last test if a child process of the worker is left; the main process looks at its end."""
    yield
    if _is_worker(request.config):
        left = still_running(children, EXIT_S)
        assert not left, f"processes left behind: {left}"


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")
