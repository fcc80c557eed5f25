"""First paint: from asking for the overview of 8 tenants with 20 experiments each until a real browser paints it.

Each load is by a browser with an empty cache; the store is the embedded one, filled with visits of the last hours.
"""

from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from playwright.sync_api import Browser

from bench.figures import Figures, details_of, report
from monitor import devstore
from tests.support import browser, page_case

EXPERIMENTS = 20
PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
ALL_THERE = f"document.querySelectorAll('table.overview tbody tr').length == {8 * EXPERIMENTS}"


def measure(loads: int) -> Figures:
    """Loads the overview again and again."""
    with TemporaryDirectory(prefix="monitor-bench-") as name, devstore.running(Path(name, "store.sqlite3")) as url:
        config = page_case.config_of(url)
        config["tenants"] = page_case.many_experiments(EXPERIMENTS)
        del config["serve"]  # one data center, as at first
        page_case.fill_many(url, config)
        with page_case.serving(config, Path(name)) as address, browser.running() as chromium:
            took = [_load(chromium, address) for _ in range(loads)]
    paint_s, whole_s = zip(*took, strict=True)
    details = details_of(paint_s=median(paint_s), whole_s=median(whole_s), whole_max_s=max(whole_s))
    return Figures("first paint", loads, sum(whole_s), sum(whole_s), 0, "", details)


def _load(chromium: Browser, address: str) -> tuple[float, float]:
    """Seconds to the first paint, and until all experiments are on the page."""
    with browser.page(chromium) as fresh:
        fresh.goto(address)
        fresh.wait_for_function(ALL_THERE)
        whole_ms = float(fresh.evaluate("performance.now()"))
        return float(fresh.evaluate(PAINT)) / 1_000, whole_ms / 1_000


def main(loads: Annotated[int, typer.Option(min=1, help="How often the page is loaded.")] = 10) -> None:
    """Measures the first paint and prints its figures as JSON."""
    report(measure(loads))


if __name__ == "__main__":
    typer.run(main)
