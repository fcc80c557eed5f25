"""The two stores that the contract is tested on, each shared: the embedded one and a real KairosDB."""

import uuid
from collections.abc import Iterator

import pytest

from monitor import devstore


@pytest.fixture(scope="module")
def embedded_kairosdb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an embedded store."""
    with devstore.running(tmp_path_factory.mktemp("store") / "points.db") as url:
        yield url


@pytest.fixture(params=["embedded", "real"])
def kairosdb_url(request: pytest.FixtureRequest) -> str:
    """The URL of each of the two."""
    url: str = request.getfixturevalue(f"{request.param}_kairosdb")
    return url


@pytest.fixture
def metric() -> str:
    """A name that no other test uses."""
    return f"contract.{uuid.uuid4().hex}"
