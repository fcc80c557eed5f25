"""The page of the guard: what is wrong comes first, with where and since when. In a real Chromium.

SCREENSHOTS=FOLDER keeps the pictures that the tests take.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import requests
from playwright.sync_api import Browser, Page, expect

from monitor import devstore
from monitor.page import figures
from tests.page.test_journeys import CLIPPED, FAINTEST
from tests.support import browser, guard_case, page_case
from tests.support.guard_case import Guarded

WIDTHS = (390, 768, 1_280)
CHECKOUT = "/experiments/shop/checkout"
JUDGED_MS = 60_000
"""Verdicts come within a second or two of the first reader, later on a busy machine."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for all tests of the module."""
    with browser.running() as running:
        yield running


@pytest.fixture(scope="module")
def guarded(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Guarded]]:
    """The address of a page whose verdicts have been computed, and what was written."""
    folder = tmp_path_factory.mktemp("guard")
    with devstore.running(folder / "store.sqlite3") as url:
        written = guard_case.fill(url)
        with page_case.serving(written.config, folder) as address:
            with browser.page(chromium) as page:
                page.goto(address)
                expect(page.locator("table.overview .tag.bad").nth(1)).to_be_visible(timeout=JUDGED_MS)
            yield address, written


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page of a wide, light screen."""
    with browser.page(chromium, max(WIDTHS)) as page:
        yield page


def clock(time_ms: int) -> str:
    """A moment as the reader's clock shows it."""
    return f"{datetime.fromtimestamp(time_ms / 1_000, ZoneInfo(browser.ZONE)):%H:%M}"


def test_the_worst_experiment_comes_first(page: Page, guarded: tuple[str, Guarded]) -> None:
    """With the state, what, where and since when, and the goal's difference with its interval."""
    address, written = guarded
    page.goto(address)
    rows = page.locator("table.overview tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.last).to_contain_text("banner")
    expect(rows.last).to_contain_text("healthy")
    checkout = rows.filter(has_text="checkout")
    expect(checkout).to_contain_text(re.compile("stop.*fewer order in on, device mobile", re.DOTALL))
    expect(checkout).to_contain_text(f"since {clock(written.broken_ms)}")
    less = rf"{figures.MINUS}\d+\.\d\s%"
    expect(checkout).to_contain_text(re.compile(rf"order in on: {less}.*{less} to {less}", re.DOTALL))
    lopsided = rows.filter(has_text="lopsided")
    expect(lopsided).to_contain_text("sample ratio mismatch")
    expect(lopsided).to_contain_text("2 checks withheld")
    expect(lopsided).to_contain_text("withheld: the split is wrong")


def test_the_filter_counts_all_that_needs_attention(page: Page, guarded: tuple[str, Guarded]) -> None:
    """It shows what it counts, stands in the address, and an old link still works."""
    address, _ = guarded
    page.goto(address)
    page.get_by_role("link", name="needs attention 2").click()
    expect(page).to_have_url(f"{address}/?only=attention")
    expect(page.locator("table.overview tbody tr")).to_have_count(2)
    page.goto(f"{address}/?only=issues")
    expect(page.get_by_role("link", name="needs attention 2")).to_have_attribute("aria-current", "true")


def test_the_filter_needs_no_scripts(chromium: Browser, guarded: tuple[str, Guarded]) -> None:
    """Its links are addresses, and the first HTML of these has the rows."""
    address, _ = guarded
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    page.get_by_role("link", name="needs attention 2").click()
    expect(page).to_have_url(f"{address}/?only=attention")
    expect(page.locator("table.overview tbody tr")).to_have_count(2)
    context.close()


def test_the_verdict_is_on_top_with_its_checks(page: Page, guarded: tuple[str, Guarded]) -> None:
    """In words; then each check with its state, evidence beside the next threshold, moment, place and effect."""
    address, written = guarded
    page.goto(address + CHECKOUT)
    verdict = page.locator(".body .notice")
    expect(verdict).to_contain_text(
        re.compile("stop At least .* fewer visits with order in on than in off, with device")
    )
    expect(verdict).to_contain_text(clock(written.broken_ms))
    rows = page.locator("table.checks tbody tr")
    expect(rows).to_have_count(9)
    expect(page.locator("table.checks tbody tr:visible")).to_have_count(1)
    worst = rows.first
    expect(worst).to_contain_text("Order in on")
    expect(worst).to_contain_text(re.compile(r"E \d.*, stop from 2,500"))
    expect(worst).to_contain_text(clock(written.broken_ms))
    expect(worst).to_contain_text("device mobile")
    expect(worst).to_contain_text(re.compile(r"on: .100\.0.%"))
    page.get_by_text("8 checks with nothing to say").click()
    expect(page.locator("table.checks tbody tr:visible")).to_have_count(9)
    expect(rows.last).to_contain_text("healthy")
    rule = rows.filter(has_text="Drop of the traffic")
    expect(rule.locator("svg")).to_have_count(0)
    slices = page.locator("table.slices tbody tr")
    expect(slices.first).to_contain_text("device mobile")
    expect(slices.first).to_contain_text("carries it")
    expect(slices).to_have_count(1)
    expect(page.locator(".panel h4").first).to_have_text("mobile")


def test_the_moment_it_began_is_marked_on_charts(page: Page, guarded: tuple[str, Guarded]) -> None:
    """A line with its words and the time of the reader's clock, also on the chart of visits."""
    address, written = guarded
    page.goto(address + CHECKOUT)
    for chart in ("Qualified visits", "order, conversion rate"):
        drawn = page.locator(".chart").filter(has=page.get_by_role("heading", name=chart))
        expect(drawn.locator("svg")).to_contain_text(f"fewer order in on, {clock(written.broken_ms)}")


def test_the_evidence_and_the_difference_are_drawn_over_the_phase(page: Page, guarded: tuple[str, Guarded]) -> None:
    """With the thresholds, the moment, and the band in words at its end."""
    address, written = guarded
    page.goto(address + CHECKOUT)
    evidence, difference = (
        page.locator(".course").filter(has=page.get_by_role("heading", name=name))
        for name in ("Evidence", "order, difference from control")
    )
    for threshold in ("note", "warn", "hold", "stop"):
        expect(evidence.locator("svg").first).to_contain_text(threshold)
    for chart in (evidence, difference):
        expect(chart.locator("svg").first).to_contain_text(f"fewer order in on, {clock(written.broken_ms)}")
    less = rf"{figures.MINUS}\d\.\d\d"
    expect(page.get_by_text(re.compile(rf"At its end: on {less}\spp \({less} to {less}\spp\)"))).to_be_visible()


def test_intervals_are_valid_at_every_look_or_fixed(chromium: Browser, guarded: tuple[str, Guarded]) -> None:
    """A choice in the address, labelled, without scripts too; the fixed interval is the narrower one."""
    address, _ = guarded
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address + CHECKOUT)
    cell = page.locator("table.points tbody tr").last.locator("td.drawn")
    expect(page.get_by_text("valid however often you look")).to_be_visible()
    expect(page.locator(".verdict").filter(has_text="Which is better")).to_contain_text("valid at every look")
    wide = width(cell.inner_text())
    page.get_by_role("link", name="fixed, for one look").click()
    expect(page).to_have_url(f"{address}{CHECKOUT}?intervals=fixed")
    expect(page.locator("table.points thead")).to_contain_text("Fixed 95 % interval")
    expect(page.locator(".verdict").filter(has_text="Which is better")).to_contain_text("not valid if you peek")
    assert 0 < width(cell.inner_text()) < wide
    answer = requests.get(
        address + (page.get_by_role("link", name="this experiment").get_attribute("href") or ""), timeout=10
    )
    assert answer.ok
    context.close()


def width(interval: str) -> float:
    """The width of an interval in words."""
    low, high = (float(number.replace(figures.MINUS, "-")) for number in re.findall(r"[\d.+\u2212]+\d", interval))
    return high - low


def test_the_range_is_that_of_the_phase(page: Page, guarded: tuple[str, Guarded]) -> None:
    """Unless the reader chooses another."""
    address, _ = guarded
    page.goto(address + CHECKOUT)
    expect(page.locator(".lead")).to_contain_text("Since the phase began")
    page.get_by_role("link", name="1h", exact=True).click()
    expect(page.locator(".lead")).to_contain_text("Last hour")
    expect(page).to_have_url(f"{address}{CHECKOUT}?last=1h")


def test_how_long_still_and_what_a_nightly_test_would_have_said(page: Page, guarded: tuple[str, Guarded]) -> None:
    """Of the goal at the present pace; and with how often that test is wrong."""
    address, _ = guarded
    page.goto(address + CHECKOUT)
    expect(page.get_by_text("How long still?")).to_be_visible()
    expect(page.locator(".body")).to_contain_text(
        re.compile(r"About \d+ (hours|days?) more at this pace until a change of")
    )
    expect(page.locator(".body")).to_contain_text(
        re.compile(r"A nightly chi-squared test .* cries wolf in 4.% of healthy")
    )


def test_the_alarms_of_the_past(page: Page, guarded: tuple[str, Guarded]) -> None:
    """Of an experiment, and of all on the overview, with when they reached a threshold."""
    address, written = guarded
    began = clock(written.broken_ms + 600_000)  # the step in which its evidence reached the threshold
    page.goto(address + CHECKOUT)
    row = page.locator("table.alarms tbody tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text(re.compile(rf"Order in on.*stop.*{began}.*goes on", re.DOTALL))
    page.goto(address)
    expect(page.locator("table.alarms tbody tr")).to_contain_text(re.compile(rf"checkout.*shop.*{began}", re.DOTALL))


def test_a_new_alarm_is_said(page: Page, guarded: tuple[str, Guarded]) -> None:
    """To those who hear the page: which experiment, the state, and what."""
    address, _ = guarded
    page.goto(address)
    expect(page.locator("table.overview .tag.bad").nth(1)).to_be_visible()
    page.wait_for_function("!document.querySelector('#before')")
    said = page.locator("[data-live]")
    page.evaluate("monitorPage.arrived()")
    page.evaluate(
        "document.querySelectorAll('[data-say]').forEach((e) => e.dataset.say.startsWith('shop, checkout')"
        " && (e.textContent = 'note fewer order in on'));"
        "monitorPage.arrived()"
    )
    expect(said).to_have_text("shop, checkout: note fewer order in on.")
    expect(said).to_have_text("shop, checkout: stop fewer order in on, device mobile.", timeout=JUDGED_MS)


PAGES = {"overview": "/", "experiment": CHECKOUT}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_the_guard_at_every_width(
    chromium: Browser, guarded: tuple[str, Guarded], tmp_path: Path, name: str, width: int
) -> None:
    """Nothing is cut or too wide, and text can be read on its ground, light and dark."""
    address, _ = guarded
    folder = browser.shots() or tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    with browser.page(chromium, width) as page:
        page.goto(address + PAGES[name])
        page.wait_for_function("!document.querySelector('#before') && document.querySelector('.tag.bad')")
        page.wait_for_function(
            "[...document.querySelectorAll('.plot')].every(p => !p.clientWidth || p.querySelector('path'))"
        )
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(CLIPPED) == []
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate(FAINTEST) >= 4.5, scheme
            page.screenshot(path=folder / f"guard-{name}-{width}-{scheme}.png", full_page=True)
