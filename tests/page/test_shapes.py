"""Pages that are not like the example's, and readers who print them, hear them, or come by an old link. In Chromium."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from monitor import devstore
from tests.support import browser, page_case
from tests.support.page_case import LONG, TWELVE

WIDTHS = (390, 820, 1_320)
LONG_PAGE = f"/experiments/t_{LONG}/{LONG}"
TWELVE_PAGE, SINGLE_PAGE, BARE_PAGE = (
    "/experiments/odd/twelve",
    "/experiments/odd/single",
    "/experiments/bare/no_metrics",
)
CHECKOUT = "/experiments/uswm/fast_checkout"
PAGES = ("/", "/health", CHECKOUT, TWELVE_PAGE, SINGLE_PAGE, BARE_PAGE, LONG_PAGE)
PAPER_PX = 718
"""A4 at 96 dots an inch, without its margins."""
STOPS_MAX = 40
"""Presses of Tab from the beginning of an experiment's page to its end."""
WAIT_MS = 90_000
"""Until the next update of a page, on a busy machine."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for all tests of the module."""
    with browser.running() as running:
        yield running


@pytest.fixture(scope="module")
def address(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A page on a store with the shop, and with experiments of other shapes that have just begun."""
    folder = tmp_path_factory.mktemp("shapes")
    with devstore.running(folder / "store.sqlite3") as url:
        config = page_case.unlike(page_case.fill(url).config)
        page_case.fill_unlike(url, config)
        with page_case.serving(config, folder) as at:
            yield at


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page of a wide, light screen."""
    with browser.page(chromium, max(WIDTHS)) as page:
        yield page


def test_metrics_that_no_visit_has_are_named_in_one_sentence(page: Page, address: str) -> None:
    """They get no rows of zeros and no charts: there is nothing to compare. The primary metric stays in any case."""
    shown(page, address + TWELVE_PAGE)
    assert page.locator("table.points .point").all_inner_texts() == ["order", "order, value"]
    expect(page.get_by_text("No qualified visit in this range has home_page, item_page, engaged")).to_be_visible()
    expect(page.locator(".chart:visible")).to_have_count(2)
    shown(page, f"{address}{TWELVE_PAGE}?goal=engaged")
    assert page.locator("table.points .point").first.inner_text() == "engaged"
    expect(page.locator(".chart:visible")).to_have_count(3)


def test_twelve_variations_can_be_told_apart(page: Page, address: str) -> None:
    """By colour and shape, in tables, legend and charts; sentences name the one that matters."""
    shown(page, address + TWELVE_PAGE)
    marks = page.evaluate("[...document.querySelectorAll('.legend .dot')].map(d => d.className + d.style.background)")
    assert len(set(marks)) == len(TWELVE)
    lines = page.evaluate("""[...document.querySelectorAll('.chart:last-child svg path')]
        .filter(p => p.getAttribute('fill') && p.getAttribute('fill').startsWith('var(--v')).length""")
    assert lines >= len(TWELVE)
    expect(verdict(page, "Is the split right?")).to_contain_text("furthest from its plan: v00 8.3")
    expect(verdict(page, "Which is better")).to_contain_text("v04")


@pytest.mark.parametrize(
    ("path", "reason"),
    [(SINGLE_PAGE, "The experiment has one variation"), (BARE_PAGE, "No metrics are configured for this tenant")],
)
def test_why_there_is_nothing_to_compare(page: Page, address: str, path: str, reason: str) -> None:
    """It is not the number of visits, and waiting does not help."""
    shown(page, address + path)
    expect(verdict(page, "Which is better")).to_contain_text("Nothing to compare")
    expect(verdict(page, "Which is better")).to_contain_text(reason)
    for compared in (verdict(page, "Which is better"), page.locator("table.points")):
        expect(compared.get_by_text("too few visits", exact=False)).to_have_count(0)


def test_a_young_experiment_is_as_old_as_it_is(page: Page, address: str) -> None:
    """Its visits are those of its minutes, and its line on the overview begins with it."""
    shown(page, address + SINGLE_PAGE)
    expect(verdict(page, "Is it running?")).to_contain_text(re.compile(r"assigned in (8|9|10|11|12) minutes"))
    shown(page, address)
    row = page.locator("tbody tr").filter(has_text="single")
    expect(row).to_contain_text(re.compile(r"began \d+ min ago"))


@pytest.mark.parametrize("path", PAGES)
def test_nothing_is_cut_or_too_wide(page: Page, address: str, path: str) -> None:
    """Whatever the names and numbers are, at every width; light and dark are the same in this."""
    shown(page, address + path)
    for width in WIDTHS:
        resize(page, width, 900)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(OUTSIDE) == [], width


def test_a_chart_that_is_drawn_again_late_makes_no_page_wider(page: Page, address: str) -> None:
    """A script fits charts to a screen that was turned, some time after everything else."""
    page.add_init_script("""const Now = ResizeObserver; window.ResizeObserver = class extends Now {
        constructor(call) { super((...seen) => window.isLate || call(...seen)); } }""")
    shown(page, address + CHECKOUT)
    page.evaluate("window.isLate = true")
    page.set_viewport_size({"width": min(WIDTHS), "height": 900})
    assert page.evaluate("document.querySelector('.chart .plot svg').clientWidth") > min(WIDTHS)
    assert page.evaluate("document.documentElement.scrollWidth") <= min(WIDTHS)


def test_the_description_of_the_api_is_not_too_wide(page: Page, address: str) -> None:
    """On a phone too, whatever the reader opens."""
    page.goto(f"{address}/docs")
    page.set_viewport_size({"width": min(WIDTHS), "height": 900})
    page.evaluate("document.querySelectorAll('details').forEach((details) => (details.open = true))")
    assert page.evaluate("document.documentElement.scrollWidth") <= min(WIDTHS)


def test_what_can_be_opened_looks_like_it(page: Page, address: str) -> None:
    """With the triangle that the browser draws."""
    shown(page, f"{address}/health")
    expect(page.get_by_text("Lag by partition").first).to_have_css("display", "list-item")
    expect(page.get_by_text("Lag by partition").first).to_have_css("cursor", "pointer")


BOXES = ".panel, .card, .verdict, .chart, td, th, .choices, .notice"
OUTSIDE = f"""() => [...document.querySelectorAll(".monitor :is({BOXES})")]
  .filter((box) => box.clientWidth > 1 && !box.closest(".unseen, thead"))
  .flatMap((box) => [...box.querySelectorAll(":is(span, small, a, strong, b, i, p)")]
    .filter((e) => !e.closest(".unseen, svg, .plot, .gauge, .shares") && e.textContent.trim())
    .filter((e) => e.getBoundingClientRect().right > box.getBoundingClientRect().right + 1)
    .map((e) => e.textContent.trim()))"""
"""The texts that reach beyond the box that they are in."""


@pytest.mark.parametrize("path", [CHECKOUT, TWELVE_PAGE, LONG_PAGE])
def test_a_page_on_paper(page: Page, address: str, path: str) -> None:
    """Its range has a date with the year; charts are as wide as the paper; what can only be clicked is not printed."""
    shown(page, address + path)
    resize(page, PAPER_PX, 1_000)
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    expect(page.get_by_text(re.compile(r"From \d+ \w+ \d{4} \d\d:\d\d"))).to_be_visible()
    expect(page.get_by_text(re.compile(re.escape(address) + r".*, \d+ \w+ \d{4}"))).to_be_visible()
    assert page.locator("nav.choices:visible, .top nav:visible, form:visible, button:visible").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= PAPER_PX
    assert page.evaluate(OUTSIDE) == []
    charts = page.evaluate("""[...document.querySelectorAll('.chart')].filter(c => c.clientWidth)
        .map(c => [c.clientWidth, c.querySelector('svg').getBoundingClientRect().width])""")
    assert charts
    assert all(0.9 * chart < drawing <= chart for chart, drawing in charts)
    assert page.locator("table.points thead").first.is_visible()
    pages = page.pdf(format="A4").count(b"/Type /Page\n")
    assert pages <= 7


def test_a_link_that_asks_for_what_is_not_there(page: Page, address: str) -> None:
    """The rest of it is shown, and what was left out is said."""
    shown(page, f"{address}{CHECKOUT}?tag.device=watch&tag.device=mobile&tag.colour=red&dc=xyz&scope=assigned")
    expect(page.get_by_role("alert")).to_contain_text("device watch, colour red, data center xyz")
    expect(page.get_by_text("only with device mobile")).to_be_visible()
    expect(page.get_by_role("link", name="assigned", exact=True)).to_have_attribute("aria-current", "true")
    page.get_by_role("link", name="24h", exact=True).click()
    expect(page.get_by_text("Last 24 hours")).to_be_visible()


@pytest.mark.parametrize(
    ("query", "rule"),
    [
        ("from=yesterday", "from must be a time; got 'yesterday'"),
        ("from=2025-01-05T12:00Z&to=2025-01-05T11:00Z", "Choose a range that begins before it ends"),
        ("from=2025-01-05T12:00Z&to=2025-03-05T12:00Z", "the limit is 31"),
    ],
)
def test_a_range_that_cannot_be_shown_is_no_dead_end(page: Page, address: str, query: str, rule: str) -> None:
    """The page says why, shows the present instead, and has the controls to choose another."""
    shown(page, f"{address}{CHECKOUT}?{query}")
    expect(page.get_by_role("alert")).to_contain_text(rule)
    expect(page.get_by_role("alert")).to_contain_text("Below: since the phase began")
    page.get_by_role("link", name="1h", exact=True).click()
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.get_by_text("Last hour")).to_be_visible()


def test_the_hour_that_clocks_repeat(page: Page, address: str) -> None:
    """A range in it is opened and shown again without a change; beside each time is its UTC."""
    shown(page, f"{address}{CHECKOUT}?from=2025-10-26T01:30Z&to=2025-10-26T03:00Z")
    expect(page.get_by_label("from", exact=True)).to_have_value("2025-10-26T02:30")
    expect(page.locator(".range output").first).to_have_text("(01:30 UTC)")
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(re.compile("from=2025-10-26T01%3A30Z&to=2025-10-26T03%3A00Z"))
    page.locator(".range input").last.fill("2025-10-26T05:00")
    expect(page.locator(".range output").last).to_have_text("(04:00 UTC)")
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(re.compile("from=2025-10-26T01%3A30Z&to=2025-10-26T04%3A00Z"))


def test_a_range_can_be_kept(page: Page, address: str) -> None:
    """`last=1h` is another hour for each reader; the link beside it holds these minutes."""
    shown(page, f"{address}{CHECKOUT}?last=1h")
    page.get_by_role("link", name="keep this range").click()
    expect(page).to_have_url(re.compile(r"\?from=2\d{3}-\d\d-\d\dT\d\d%3A\d\dZ&to=2"))
    expect(page.get_by_text("Chosen range")).to_be_visible()
    expect(page.get_by_role("link", name="keep this range")).to_have_count(0)


@pytest.mark.parametrize("path", ["/", "/health", CHECKOUT])
def test_the_parts_of_a_page_have_names(page: Page, address: str, path: str) -> None:
    """One main part with a first heading; no table has a heading without a word; links in texts are underlined."""
    shown(page, address + path)
    expect(page.locator("main")).to_have_count(1)
    expect(page.locator("main h1")).to_have_count(1)
    expect(page.get_by_role("banner")).to_have_count(1)
    assert page.locator("th").all_text_contents().count("") == 0
    plain = """[...document.querySelectorAll('.monitor :is(p, li) a:not(.button)')]
        .filter(a => getComputedStyle(a).textDecorationLine !== 'underline').map(a => a.textContent)"""
    assert page.evaluate(plain) == []


def test_a_page_by_keyboard(page: Page, address: str) -> None:
    """The first stop leads over the header; a group of links, or a table, is one stop, with arrow keys within."""
    shown(page, address + CHECKOUT)
    focused = "document.activeElement.textContent"
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    stops: list[str] = []
    while len(stops) <= STOPS_MAX and page.evaluate("document.activeElement !== document.body"):
        page.keyboard.press("Tab")
        stops.append(page.evaluate(focused))
    assert len(stops) <= STOPS_MAX
    page.locator("table.visits .number").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("table.visits .number").nth(1)).to_be_focused()
    page.get_by_role("link", name="6h", exact=True).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Last 24 hours")).to_be_visible()
    expect(page.get_by_role("link", name="24h", exact=True)).to_be_focused()


def test_a_page_by_ear(page: Page, address: str) -> None:
    """A number and the words below it are apart, no interval is read twice, and an answer that changes is said."""
    shown(page, address + CHECKOUT)
    heading = page.locator("tr.of-point th").first
    assert heading.text_content() == "order, visits with order"
    share = page.locator("table.visits td[data-label=Share]").first
    assert re.fullmatch(r"[\d.]+\s%, planned 50.0\s%", share.text_content() or "")
    drawn = page.locator("table.points svg")
    assert drawn.count() > 0
    assert drawn.evaluate_all("all => all.every(e => e.getAttribute('aria-hidden') === 'true')")
    said = page.locator("[data-live]")
    expect(said).to_have_attribute("aria-live", "polite")
    expect(said).to_have_text("")
    page.evaluate("document.querySelector('.verdict [data-say]').textContent = 'Not now'; monitorPage.arrived()")
    expect(said).to_have_text("Is it running? Not now.")
    expect(said).to_have_text("Is it running? Yes.", timeout=WAIT_MS)


def verdict(page: Page, question: str) -> Locator:
    """The card that answers a question."""
    return page.locator(".verdict").filter(has_text=question)


def resize(page: Page, width: int, height: int) -> None:
    """Gives the screen another size, and waits until each chart is as wide as its place: a script draws it again."""
    page.set_viewport_size({"width": width, "height": height})
    page.wait_for_function(FITTING)


FITTING = """() => [...document.querySelectorAll(".plot")]
  .filter((plot) => plot.clientWidth)
  .every((plot) => plot.querySelector("svg").clientWidth === plot.clientWidth)"""


def shown(page: Page, address: str) -> None:
    """Opens a page, and waits until its scripts run, and its numbers and charts are there."""
    page.goto(address)
    page.wait_for_function("!document.querySelector('#before') && document.querySelector('.monitor table')")
    page.wait_for_function(
        "[...document.querySelectorAll('.plot')].every(p => !p.clientWidth || p.querySelector('path'))"
    )
