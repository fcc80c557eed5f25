"""The page when something dies under its reader: the store, the service, or the network between. In a real Chromium."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
import requests
from playwright.sync_api import Browser, Page, expect

from monitor import devstore
from tests.support import browser, page_case, tcp_proxy
from tests.support.tcp_proxy import Proxy

EXPERIMENT = "/experiments/uswm/fast_checkout"
PAGES = {
    "overview": "/",
    "experiment": EXPERIMENT,
    "query": "/query/uswm/fast_checkout?what=assigned&variation=fc_on",
    "health": "/health",
}
NOWHERE = {"address": "/nothing", "experiment": "/experiments/uswm/nothing", "query": "/query/uswm/nothing"}
TOP_PX = 400
REFRESHES, REQUESTS_MAX = 5, 6


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for all tests of the module."""
    with browser.running() as running:
        yield running


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, page_case.Shop]]:
    """The address of a store with an hour of traffic; and what was written."""
    with devstore.running(tmp_path_factory.mktemp("store") / "store.sqlite3") as url:
        yield url, page_case.fill(url)


@pytest.fixture
def store(filled: tuple[str, page_case.Shop]) -> Iterator[Proxy]:
    """A proxy before the store."""
    with tcp_proxy.between(filled[0]) as proxy:
        yield proxy


@pytest.fixture
def served(filled: tuple[str, page_case.Shop], store: Proxy, tmp_path: Path) -> Iterator[str]:
    """The address of a `monitor serve` that reaches the store through the proxy."""
    config = filled[1].config | {"kairosdb": {"url": store.url}}
    with page_case.serving(config, tmp_path) as address:
        yield address


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page of a wide, light screen."""
    with browser.page(chromium) as page:
        yield page


@pytest.mark.parametrize("path", PAGES.values(), ids=PAGES)
@pytest.mark.parametrize("how", ["cut", "silence"])
def test_a_dead_store_is_told_at_the_top(page: Page, served: str, store: Proxy, path: str, how: str) -> None:
    """Within 15 seconds, whether it refuses or only never answers; and no longer when it is back."""
    page.goto(served + path)
    expect(page.locator(".top [data-age]")).to_have_text(age(0, 30))
    getattr(store, how)()
    is_told_at_the_top(page, "The store does not answer")
    expect(page.locator(".top .light")).to_have_class("light bad")
    store.mend()
    expect(page.get_by_text("The store does not answer.", exact=True)).to_have_count(0, timeout=60_000)


@pytest.mark.parametrize("path", PAGES.values(), ids=PAGES)
def test_a_dead_service_is_told_at_the_top(page: Page, served: str, tmp_path: Path, path: str) -> None:
    """By the browser alone, within 15 seconds; the age goes on counting."""
    page.goto(served + path)
    expect(page.locator(".top [data-age]")).to_have_text(age(0, 30))
    (service,) = (process for process in psutil.Process().children() if str(tmp_path) in " ".join(process.cmdline()))
    service.kill()
    is_told_at_the_top(page, "The monitor's page service is silent")
    expect(page.locator(".top .light")).to_have_class("light bad")
    page.wait_for_function("parseInt(document.querySelector('.top [data-age]').textContent) > 20")


@pytest.mark.parametrize("how", ["cut", "silence"])
def test_a_dead_network_is_told_at_the_top(page: Page, served: str, how: str) -> None:
    """Between the reader and the service; and no longer when it is back."""
    with tcp_proxy.between(served) as network:
        page.goto(network.url + EXPERIMENT)
        expect(page.locator(".top [data-age]")).to_have_text(age(0, 30))
        getattr(network, how)()
        is_told_at_the_top(page, "The monitor's page service is silent")
        network.mend()
        expect(page.locator("[data-lost]")).to_be_hidden(timeout=60_000)


@pytest.mark.parametrize("path", NOWHERE.values(), ids=NOWHERE)
def test_a_page_that_is_not_refreshed_tells_of_no_silence(page: Page, served: str, path: str) -> None:
    """What is not found is told once: that nothing more comes is no fault."""
    page.clock.install()
    page.goto(served + path)
    page.clock.run_for(60_000)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.get_by_text("The monitor's page service is silent.")).to_be_hidden()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/api/nothing", 404), ("HEAD", "/api/a/b", 404), ("POST", "/api/health", 405)],
)
def test_what_the_api_does_not_have_is_a_problem(served: str, method: str, path: str, status: int) -> None:
    """Not a page: machines ask below /api."""
    answer = requests.request(method, served + path, timeout=30)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.headers.get("allow") == ("GET, HEAD" if status == 405 else None)


def test_a_refresh_costs_few_requests_for_all_readers(chromium: Browser, page: Page, served: str, store: Proxy) -> None:
    """At most six of them to KairosDB, also with a second reader of the same experiment."""
    page.goto(served + EXPERIMENT)
    expect(page.get_by_role("heading", level=2, name="Results")).to_be_visible()
    with browser.page(chromium) as other:
        other.goto(served + EXPERIMENT)
        expect(other.get_by_role("heading", level=2, name="Results")).to_be_visible()
        page.evaluate(
            "() => { window.rounds = 0; const arrived = monitorPage.arrived;"
            "monitorPage.arrived = () => { window.rounds += 1; arrived(); } }"
        )
        # what is read once a minute, verdicts and their course, comes with one or two of the refreshes
        expect(page.get_by_text("Not judged yet")).to_have_count(0, timeout=60_000)
        counts = [store.requests]
        for number in range(1, REFRESHES + 1):
            page.wait_for_function(f"window.rounds >= {number}", timeout=60_000)
            counts.append(store.requests)
        costs = sorted(later - earlier for earlier, later in pairwise(counts))
        assert sum(costs) > 0
        assert costs[REFRESHES // 2] <= REQUESTS_MAX, costs


def is_told_at_the_top(page: Page, words: str) -> None:
    """The notice is seen without scrolling."""
    notice = page.locator(".notice.bad").filter(has_text=words).first
    expect(notice).to_be_visible()
    box = notice.bounding_box()
    assert box is not None
    assert box["y"] < TOP_PX


def age(low: int, high: int) -> "re.Pattern[str]":
    """An age of so many seconds."""
    return re.compile("^(" + "|".join(str(seconds) for seconds in range(low, high)) + ")\\s?s ago$")
