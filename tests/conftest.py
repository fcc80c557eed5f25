"""Fixtures for every test: real servers, started once, and the profiles of Hypothesis."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

from tests.support.servers import Kafka, KairosDB, in_ci, require

CORE = Path(__file__).parents[1] / "monitor/core"

settings.register_profile("dev", max_examples=100, deadline=None)
settings.register_profile("ci", max_examples=200, deadline=None, derandomize=False, print_blob=True)
settings.load_profile("ci" if in_ci() else "dev")


def pytest_sessionstart() -> None:
    """Refuses to test a core that was compiled from other sources than are there."""
    for library in CORE.glob("*.so"):
        source = CORE / f"{library.name.partition('.')[0]}.py"
        if source.exists() and source.stat().st_mtime > library.stat().st_mtime:
            pytest.exit(f"{source.name} was changed after it was compiled: `make test` compiles it anew", returncode=2)


@pytest.fixture(scope="session")
def real_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """Apache Kafka, shared by the session: give topics names of their own, and leave it running."""
    require()
    with Kafka(tmp_path_factory.mktemp("kafka")) as kafka:
        yield kafka


@pytest.fixture(scope="session")
def kairosdb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KairosDB]:
    """KairosDB, shared by the session: give metrics a prefix of their own, and leave it running."""
    require()
    with KairosDB(tmp_path_factory.mktemp("kairosdb")) as kairosdb:
        yield kairosdb


@pytest.fixture(scope="session")
def real_kairosdb(kairosdb_server: KairosDB) -> str:
    """The URL of the session's KairosDB."""
    return kairosdb_server.url


@pytest.fixture(scope="session", autouse=True)
def _no_process_left() -> Iterator[None]:
    """Fails the session if a test leaves a child process behind."""
    yield
    left = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    assert not left, f"processes left behind: {left}"
