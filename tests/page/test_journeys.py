"""The journeys of readers: in a real Chromium, on a real `monitor serve` and a store that the simulator filled.

SCREENSHOTS=FOLDER keeps the pictures that the tests take.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser, FloatRect, Locator, Page, Route, expect

from monitor import devstore
from tests.support import browser, page_case
from tests.support.page_case import Shop
from tests.support.servers import free_ports

WIDTHS = (390, 834, 1_440)
PAGES = {"overview": "/", "experiment": "/experiments/uswm/search_ranking", "health": "/health"}
EXPERIMENT = "/experiments/uswm/button_color"
LAST_SCRIPT = "address.js"
TABLES = {"overview": "table.overview .tag.state", "experiment": "table.points", "health": ".figures"}
"""The best of so many counts: other work on the machine delays some."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for all tests of the module."""
    with browser.running() as running:
        yield running


@pytest.fixture(scope="module")
def shop(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Shop]]:
    """The address of a page on a store with an hour of traffic; and what was written."""
    folder = tmp_path_factory.mktemp("page")
    with devstore.running(folder / "store.sqlite3") as url:
        written = page_case.fill(url)
        with page_case.serving(written.config, folder) as address:
            yield address, written


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page of a wide, light screen."""
    with browser.page(chromium) as page:
        yield page


def test_from_the_search_to_an_answer_and_back(page: Page, shop: tuple[str, Shop]) -> None:
    """Search, open, switch, filter: each stands in the address, and going back undoes each."""
    address, _ = shop
    page.goto(address)
    page.get_by_role("searchbox").fill("uswm checkout")
    expect(page.get_by_role("link", name="search_ranking")).to_have_count(0)
    expect(page).to_have_url(f"{address}/?q=uswm+checkout")
    page.get_by_role("link", name="fast_checkout").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("fast_checkout")
    expect(page.get_by_text("Is the split right?")).to_be_visible()
    page.get_by_role("link", name="cumulative").click()
    expect(page).to_have_url(re.compile(r"by=cumulative"))
    page.get_by_role("navigation", name="device").get_by_role("link", name="mobile").click()
    expect(page.get_by_text("only with device mobile")).to_be_visible()
    expect(page).to_have_url(f"{address}/experiments/uswm/fast_checkout?by=cumulative&tag.device=mobile")
    page.reload()
    expect(page.get_by_text("only with device mobile")).to_be_visible()
    page.go_back()
    expect(page.get_by_text("only with device mobile")).to_have_count(0)
    expect(page.get_by_role("link", name="cumulative")).to_have_attribute("aria-current", "true")
    page.go_back()
    expect(page.get_by_role("link", name="by minute")).to_have_attribute("aria-current", "true")
    page.go_back()
    expect(page.get_by_role("searchbox")).to_have_value("uswm checkout")
    expect(page.get_by_role("link", name="search_ranking")).to_have_count(0)


def test_a_choice_before_the_scripts_are_loaded_is_followed(page: Page, shop: tuple[str, Shop]) -> None:
    """Who clicks while the page is still its first HTML gets what they chose as soon as there is something to ask."""
    address, _ = shop
    page.goto(address)
    expect(page.get_by_role("link", name="search_ranking").first).to_be_visible()
    held: list[Route] = []
    is_holding = True

    def hold(route: Route) -> None:
        if is_holding and LAST_SCRIPT in route.request.url:
            held.append(route)
        else:
            route.continue_()

    page.route("**/*", hold)
    page.goto(address, wait_until="commit")
    page.get_by_role("link", name=re.compile("^needs attention")).click()
    expect(page).to_have_url(f"{address}/?only=attention")
    assert held
    is_holding = False
    for route in held:
        route.continue_()
    expect(page.get_by_role("link", name="search_ranking")).to_have_count(0)


def test_an_issue_is_reported(page: Page, shop: tuple[str, Shop]) -> None:
    """A variation without traffic is on the overview, alone on request, and is why the numbers are not trusted."""
    address, _ = shop
    page.goto(address)
    page.get_by_role("link", name=re.compile("^needs attention")).click()
    expect(page.get_by_text("red: no traffic")).to_be_visible()
    row = page.locator("tbody tr").filter(has_text="red: no traffic")
    expect(row).to_have_count(1)
    row.get_by_role("link").click()
    expect(verdict(page, "Is it running?")).to_contain_text("Yes")
    expect(verdict(page, "Is the split right?")).to_contain_text("No")
    expect(verdict(page, "Which is better")).to_contain_text("Unknown")
    expect(verdict(page, "Can I trust it?")).to_contain_text(re.compile("red gets (hardly any visits now|no visits)"))


def test_a_number_leads_to_its_query(page: Page, shop: tuple[str, Shop]) -> None:
    """The link of a number shows the KairosDB query behind it, which answers with that number."""
    address, _ = shop
    start, end = (f"{shop[1].start_ms + minutes * 60_000}" for minutes in (0, 25))
    page.goto(f"{address}{EXPERIMENT}?from={start}&to={end}")
    number = page.locator("table.visits tbody tr").first.get_by_role("link").first
    said = int(number.inner_text().replace(",", ""))
    assert said > 0
    number.click()
    href = page.get_by_role("link", name="Ask KairosDB").get_attribute("href")
    assert href is not None
    (result,) = requests.get(href, timeout=10).json()["queries"][0]["results"]
    assert [value for _, value in result["values"]] == [said]


def test_numbers_are_those_of_the_core(page: Page, shop: tuple[str, Shop]) -> None:
    """The table over final minutes has the counts of the core, in all and for one device; the JSON agrees."""
    address, written = shop
    start_ms, end_ms = written.start_ms, written.start_ms + 30 * 60_000
    for tags, query in (({}, ""), ({"device": "mobile"}, "&tag.device=mobile")):
        page.goto(f"{address}{EXPERIMENT}?from={start_ms}&to={end_ms}{query}")
        rows = page.locator("table.visits tbody tr")
        expect(rows).to_have_count(2)
        texts = [row.locator("td").first.inner_text() for row in rows.all()]
        expected = [counted(written, f"uswm.visit.assigned.{v}.beta", start_ms, end_ms, tags) for v in ("blue", "red")]
        assert [int(text.replace(",", "")) for text in texts] == expected
        href = page.get_by_role("link", name="this experiment").get_attribute("href")
        answer = requests.get(f"{address}{href}", timeout=10).json()
        assert [variation["assigned"] for variation in answer["variations"]] == expected


def test_an_update_leaves_scroll_focus_and_zoom(page: Page, shop: tuple[str, Shop]) -> None:
    """While new numbers come, the reader stays where they are."""
    address, _ = shop
    page.goto(f"{address}{EXPERIMENT}")
    chart = page.locator(".chart").first
    expect(chart.locator("svg path").first).to_be_attached()
    chart.scroll_into_view_if_needed()
    option = "echarts.getInstanceByDom(document.querySelector('.chart .plot'))"
    page.evaluate(ECHARTS)
    page.evaluate(f"{option}.dispatchAction({{type: 'dataZoom', start: 40, end: 70}})")
    page.get_by_role("link", name="by hour").focus()
    scrolled = page.evaluate("scrollY")
    assert scrolled > 0
    page.evaluate(COUNT_UPDATES)
    page.wait_for_function("window.updates >= 2", timeout=90_000)
    zoom = page.evaluate(f"{option}.getOption().dataZoom[0]")
    assert (round(zoom["start"]), round(zoom["end"])) == (40, 70)
    assert page.evaluate("scrollY") == scrolled
    expect(page.get_by_role("link", name="by hour")).to_be_focused()


COUNT_UPDATES = """() => {
  const before = monitorPage.arrived;
  window.updates = 0;
  monitorPage.arrived = () => { window.updates++; before(); };
}"""
ECHARTS = "import('nicegui-echart').then(module => { window.echarts = module.echarts; return null })"


def test_hovering_tells_the_counts(page: Page, shop: tuple[str, Shop]) -> None:
    """Time in the reader's zone and UTC, the rate, and the visits that it is made of."""
    address, _ = shop
    page.goto(f"{address}{EXPERIMENT}?by=cumulative")
    chart = page.locator(".chart").last
    chart.scroll_into_view_if_needed()
    expect(chart.locator("svg path").first).to_be_attached()
    box = chart.locator(".plot").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.4)
    tip = chart.locator(".tip")
    expect(tip).to_contain_text(re.compile(r"blue.*%.*\d+ of \d+ visits.*red", re.DOTALL))
    assert re.search(r"\d\d:\d\d \(\d\d:\d\d UTC\)", chart.inner_text())


def test_times_are_the_readers(page: Page, shop: tuple[str, Shop]) -> None:
    """In the zone of the browser, with UTC beside them, an hour or two earlier."""
    address, _ = shop
    page.goto(f"{address}{EXPERIMENT}")
    said = page.locator(".lead time").first
    expect(said).to_have_text(re.compile(r"\d\d:\d\d \(\d\d:\d\d UTC\)"))
    match = re.search(r"(\d\d):\d\d \((\d\d):\d\d UTC\)", said.inner_text())
    assert match
    assert (int(match[1]) - int(match[2])) % 24 in (1, 2)
    expect(page.locator("[data-zone]").first).to_contain_text("Europe/Berlin")


def test_by_keyboard_alone(page: Page, shop: tuple[str, Shop]) -> None:
    """`/` leads to the search, Tab to the links, Enter follows them, and where one is can be seen."""
    address, _ = shop
    page.goto(address)
    expect(page.locator("table.overview").first).to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("degs fast")
    expect(page.locator("tbody tr")).to_have_count(1)
    until_focused(page, lambda: page.evaluate("document.activeElement.textContent") == "fast_checkout")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("fast_checkout")
    devices = page.get_by_role("navigation", name="device").get_by_role("link")
    until_focused(page, lambda: devices.first.evaluate("link => link === document.activeElement"))
    until_focused(page, lambda: page.evaluate("document.activeElement.textContent") == "desktop", "ArrowRight")
    page.keyboard.press("Enter")
    expect(page.get_by_text("only with device desktop")).to_be_visible()
    assert page.evaluate("document.activeElement.textContent") == "desktop"


def test_a_range_of_the_readers_own(page: Page, shop: tuple[str, Shop]) -> None:
    """Typed in the reader's time, in the address in UTC."""
    address, _ = shop
    page.goto(f"{address}{EXPERIMENT}")
    page.get_by_text("from … to …").click()
    page.get_by_label("from", exact=True).fill("2026-01-05T12:00")
    page.get_by_label("to", exact=True).fill("2026-01-05T13:00")
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(re.compile("from=2026-01-05T11%3A00Z&to=2026-01-05T12%3A00Z"))
    expect(page.get_by_text("Chosen range: 0 visits")).to_be_visible()
    page.goto(f"{address}{EXPERIMENT}?from=2026-01-05T12:00Z&to=2026-01-05T11:00Z")
    expect(page.get_by_role("alert")).to_contain_text("Choose a range that begins before it ends")


def test_health_says_what_is_not_normal(page: Page, shop: tuple[str, Shop]) -> None:
    """The data center that has stopped is named, with what to do; each figure has its normal range."""
    address, _ = shop
    page.goto(f"{address}/health")
    expect(page.get_by_role("status")).to_contain_text("cdc has been silent")
    cards = page.locator(".cards-grid .card")
    expect(cards.nth(0)).to_contain_text("active")
    expect(cards.nth(1)).to_contain_text("Is the job running")
    assert cards.nth(0).locator(".gauge").count() == cards.nth(0).locator("dt").count()
    expect(page.locator("table.messages").first).to_contain_text("duplicate")


def test_what_is_not_there_is_explained(page: Page, shop: tuple[str, Shop]) -> None:
    """An experiment that is not configured, a search without a hit."""
    address, _ = shop
    page.goto(f"{address}/experiments/uswm/colour")
    expect(page.get_by_text("button_color, fast_checkout")).to_be_visible()
    page.goto(f"{address}/?q=nothing-of-that-name")
    page.get_by_role("link", name="Show all").click()
    expect(page.locator("table.overview")).to_have_count(8)
    expect(page.get_by_role("searchbox")).to_have_value("")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_every_page_at_every_width(
    chromium: Browser, shop: tuple[str, Shop], tmp_path: Path, name: str, width: int
) -> None:
    """Nothing is wider than its place, and text can be read on its ground, light and dark; pictures are taken."""
    address, _ = shop
    folder = browser.shots() or tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    with browser.page(chromium, width) as page:
        page.goto(address + PAGES[name])
        expect(page.locator(TABLES[name]).first).to_be_visible()
        page.wait_for_function("!document.querySelector('.plot') || document.querySelector('.plot svg path')")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(CLIPPED) == []
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate(FAINTEST) >= 4.5, scheme
            page.screenshot(path=folder / f"{name}-{width}-{scheme}.png", full_page=True)
        if width == max(WIDTHS):
            page.emulate_media(color_scheme="light")
            page.screenshot(path=folder / f"{name}.png", clip=PICTURE)


PICTURE: FloatRect = {"x": 60, "y": 0, "width": 1_320, "height": 860}
"""The part of a page that is in the documents."""

CLIPPED = """() => [...document.querySelectorAll(".monitor :is(td, th, dt, dd, p, li, h1, h2, .panel, .card, .chart)")]
  .filter((e) => !e.closest(".unseen, thead") && e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 1)
  .map((e) => e.textContent.trim())
  .filter((text) => text)"""
"""The texts that do not fit their place."""

FAINTEST = """() => {
  const parts = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b]
    .map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parts(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const ratios = [...document.querySelectorAll(".monitor *")]
    .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) && !e.closest("svg, .unseen"))
    .map((e) => [light(parts(getComputedStyle(e).color)), light(ground(e))])
    .map(([a, b]) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
  return Math.min(...ratios);
}"""
"""The least contrast between a text and what is behind it, as WCAG 2 has it: 4.5 or more can be read."""


def test_the_theme_is_the_readers_choice(page: Page, shop: tuple[str, Shop]) -> None:
    """Dark on request, on every page and after a reload."""
    address, _ = shop
    page.goto(address)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Theme: auto").click()
    page.get_by_role("button", name="Theme: light").click()
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    assert page.evaluate(ground) != light
    page.goto(f"{address}/health")
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    assert page.evaluate(ground) != light


def test_an_empty_store_and_one_that_goes_away(page: Page, tmp_path: Path) -> None:
    """Without data the page says so; without a store it says that, keeps what it has, and goes on by itself."""
    (port,) = free_ports(1)
    config = page_case.config_of(f"http://127.0.0.1:{port}")
    with page_case.serving(config, tmp_path) as address:
        page.goto(f"{address}{EXPERIMENT}")
        expect(page.get_by_role("alert")).to_contain_text("The store does not answer")
        expect(page.get_by_role("alert")).to_contain_text("kairosdb.url")
        with devstore.running(tmp_path / "store.sqlite3", port=port):
            expect(verdict(page, "Is it running?")).to_contain_text("No visit was assigned within 24 hours")
            expect(verdict(page, "Which is better")).to_contain_text("Too early")
            expect(page.get_by_role("alert")).to_have_count(0)
            page.goto(address)
            expect(page.get_by_text("0 of 23 experiments running")).to_be_visible()
            expect(page.get_by_text("no traffic").first).to_be_visible()
        expect(page.get_by_role("alert")).to_contain_text("The store does not answer")
        expect(page.get_by_text("0 of 23 experiments running")).to_be_visible()
        page.goto(f"{address}/health")
        expect(page.get_by_text("does not answer").first).to_be_visible()


def test_an_address_without_a_page_says_where_to_go(page: Page, tmp_path: Path) -> None:
    """With status 404, and nothing of the address is taken for markup."""
    with (
        devstore.running(tmp_path / "store.sqlite3") as url,
        page_case.serving(page_case.config_of(url), tmp_path) as at,
    ):
        answer = page.goto(f"{at}/uswm/<b>bold")
        assert answer is not None
        assert answer.status == 404
        expect(page.get_by_role("heading", name="There is no page at this address")).to_be_visible()
        expect(page.locator("main b")).to_have_count(0)
        page.get_by_role("link", name="all experiments").click()
        expect(page.locator("table.overview").first).to_be_visible()


def test_all_experiments_are_on_the_overview(page: Page, tmp_path: Path) -> None:
    """Eight tenants with twenty experiments each; how soon they are painted: bench/first_paint.py."""
    with devstore.running(tmp_path / "store.sqlite3") as url:
        config = page_case.config_of(url)
        config["tenants"] = page_case.many_experiments(20)
        page_case.fill_many(url, config)
        with page_case.serving(config, tmp_path) as address:
            page.goto(address)
            expect(page.locator("table.overview tbody tr")).to_have_count(160)


def verdict(page: Page, question: str) -> Locator:
    """The card that answers a question."""
    return page.locator(".verdict").filter(has_text=question)


def counted(written: Shop, name: str, start_ms: int, end_ms: int, tags: dict[str, str]) -> float:
    """The core's count of a metric, with these tags, within these minutes."""
    return sum(
        total
        for (metric, minute_ms, pairs), total in written.core.answer().items()
        if metric == name and start_ms <= minute_ms < end_ms and tags.items() <= dict(pairs).items()
    )


def until_focused(page: Page, condition: Callable[[], bool], key: str = "Tab", presses_max: int = 80) -> None:
    """Presses a key until the focus is where it should be."""
    for _ in range(presses_max):
        if condition():
            return
        page.keyboard.press(key)
    pytest.fail(f"not reached by {presses_max} presses of {key}")
