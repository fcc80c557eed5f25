"""What the configuration says of experiments and points, in the answers of the API."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitor import devstore
from tests.support.served import Client
from tests.support.verdict_case import CONFIG, config_with, serving

SAID = {
    "description": "Checkout on one page.",
    "owner": "checkout team",
    "unit": "visitor",
    "link": "https://w.example.org/1",
}
NOTHING = dict.fromkeys(SAID)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    config: dict[str, Any] = config_with(**SAID, goal="order")
    config["tenants"]["t"]["points"] = {
        **CONFIG["tenants"]["t"]["points"],
        "order": {"event": "order", "unit": "USD", "owner": "payments"},
    }
    with devstore.running(tmp_path / "store.sqlite3") as url, serving(url, config) as client:
        yield client


def test_answers_have_what_is_said(client: Client) -> None:
    """Of the experiments of a tenant, and of one; of the points that something is said of."""
    points = {"order": NOTHING | {"unit": "USD", "owner": "payments"}}
    said = {**SAID, "goal": "order", "points": points}
    (tenant,) = client.ask("/api/tenants").json()["tenants"]
    assert tenant["about"] == {"checkout": said, "young": {**NOTHING, "goal": None, "points": points}}
    assert client.ask("/api/tenants/t/experiments/checkout").json()["about"] == said
