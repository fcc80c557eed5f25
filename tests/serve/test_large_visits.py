"""Large visits in an answer: named where one makes too much of a variation's events or value."""

from collections import Counter
from collections.abc import Iterator

import pytest

from monitor import devstore
from monitor.config.reader import parse
from monitor.core.metrics import health_series
from monitor.serve.large_visits import PointTotals, large_visits
from monitor.serve.sums import Sums
from tests.support import served
from tests.support.messages import shop
from tests.support.served import CHECKOUT, DCS, MINUTE_MS, TENANT, Client, Served, filled, serving

ALIASES = {"rouge": "red"}
POINTS = parse(shop()).tenants["uswm"].points
EVENTS, VALUE = health_series("largest_visit.events"), health_series("largest_visit.value")


def sized(metric: str, point: str, *sizes: int) -> Sums:
    """The largest visits of red, as the store has them by hour."""
    return Counter({(metric, ("red", point), hour): size for hour, size in enumerate(sizes)})


@pytest.mark.parametrize(
    ("size", "total", "share"),
    [(19, 19, None), (20, 20, 1.0), (20, 399, 20 / 399), (20, 400, None), (60, 0, None), (30, 24, 1.0)],
)
def test_events_of_one_visit(size: int, total: int, share: float | None) -> None:
    """Above 5 % of the total, and 20 at least; a visit that reaches out of the range is all of it at most."""
    found = large_visits(
        sized(EVENTS, "home_page", 3, size, 7), [PointTotals("red", "home_page", total, 5, None)], POINTS, ALIASES
    )
    assert [(of.variation, of.point, of.of, of.size, of.share) for of in found] == (
        [] if share is None else [("red", "home_page", "events", size, share)]
    )


@pytest.mark.parametrize(
    ("size", "visits", "amount", "told"),
    [(5_001, 100, 1_000.0, True), (5_000, 100, 1_000.0, False), (90_000, 99, 1_000.0, False), (1, 500, 0.0, False)],
)
def test_the_value_of_one_visit(size: int, visits: int, amount: float, told: bool) -> None:
    """In the attribute's unit; with fewer than 100 converting visits one may well make so much of it."""
    found = large_visits(
        sized(VALUE, "order", size), [PointTotals("red", "order", visits, visits, amount)], POINTS, ALIASES
    )
    assert [(of.of, of.size, of.share) for of in found] == ([("value", size / 100, size / 1e5)] if told else [])


def test_the_largest_share_comes_first() -> None:
    """Of several points and variations, one of them renamed."""
    largest: Sums = Counter({(EVENTS, ("rouge", "home_page"), 0): 30, (EVENTS, ("blue", "home_page"), 0): 80})
    totals = [PointTotals("red", "home_page", 500, 5, None), PointTotals("blue", "home_page", 100, 5, None)]
    assert [of.variation for of in large_visits(largest, totals, POINTS, ALIASES)] == ["blue", "red"]


@pytest.fixture
def client(served_url: str, case: Served) -> Iterator[Client]:
    """The API over each of the stores."""
    with serving(served_url, case) as client:
        yield client


@pytest.fixture(scope="module")
def case() -> Served:
    """The log, computed once."""
    return served.served()


@pytest.fixture(scope="module", params=["embedded", "real"])
def served_url(request: pytest.FixtureRequest, case: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Each of the stores, filled, with what two data centers say of their largest visits."""
    if request.param == "real":
        yield large(str(request.getfixturevalue("real_kairosdb")), case)
        return
    with devstore.running(tmp_path_factory.mktemp("large") / "store.sqlite3") as url:
        yield large(url, case)


def large(url: str, case: Served) -> str:
    """The store, filled."""
    filled(url, case)
    tags = {"tenant": TENANT, "experiment": CHECKOUT, "variation": "fc_on", "point": "order"}
    minutes = range(case.now_ms - 30 * MINUTE_MS, case.now_ms, 10 * MINUTE_MS)
    served.post(
        url,
        [
            ("monitor.largest_visit.events", at_ms, {"dc": dc, **tags}, 1_000 + 10 * number + shift)
            for number, at_ms in enumerate(minutes)
            for shift, dc in enumerate(DCS)
        ],
    )
    return url


def test_an_answer_names_the_large_visit_of_the_serving_data_center(client: Client, case: Served) -> None:
    """The largest of the range, not a sum of what each flush or each data center says; never with a filter by tag."""
    whole = {"from": case.start_ms, "to": case.now_ms}
    answer = client.get(f"/{CHECKOUT}", **whole)
    (visit,) = answer["large_visits"]
    assert (visit["variation"], visit["point"], visit["of"], visit["size"]) == ("fc_on", "order", "events", 1_020)
    before = client.get(f"/{CHECKOUT}", **{"from": case.start_ms, "to": case.now_ms - 40 * MINUTE_MS})
    assert before["large_visits"] == []
    assert client.get(f"/{CHECKOUT}", tag="device:mobile", **whole)["large_visits"] == []
