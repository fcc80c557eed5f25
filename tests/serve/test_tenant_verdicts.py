"""The verdicts of all experiments of a tenant in one answer, the worst first."""

from collections.abc import Iterator

import pytest

from monitor import devstore
from tests.support.served import Client
from tests.support.verdict_case import CONFIG, fill, serving

PATH = "/api/tenants/t"
TENANT = CONFIG["tenants"]["t"]
REVERSED = {**CONFIG, "tenants": {"t": {**TENANT, "experiments": dict(reversed(TENANT["experiments"].items()))}}}
"""The experiment that is well first."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The API over a store with harm in the second experiment of the configuration."""
    with devstore.running(tmp_path_factory.mktemp("verdicts") / "store.sqlite3") as url:
        fill(url)
        with serving(url, REVERSED) as client:
            yield client


def test_the_worst_experiment_comes_first(client: Client) -> None:
    """Whatever the order of the configuration; each answer is that of the experiment itself."""
    answer = client.ask(f"{PATH}/verdicts").json()
    assert [(of["experiment"], of["state"]) for of in answer["experiments"]] == [
        ("checkout", "stop"),
        ("young", "no_data"),
    ]
    alone = client.ask(f"{PATH}/experiments/checkout/verdicts").json()
    assert answer["experiments"][0] == alone
    assert client.ask(f"{PATH}/verdicts", dc="cdc").json()["experiments"][0]["checks"] == alone["checks"]


def test_what_is_refused(client: Client) -> None:
    """Tenants and data centers that are not configured."""
    assert client.problem("/api/tenants/gone/verdicts")["type"] == "unknown_tenant"
    assert client.problem(f"{PATH}/verdicts", dc="x")["type"] == "unknown_data_center"
