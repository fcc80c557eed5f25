"""Real Chromium for the tests: Debian's package, driven by Playwright.

    python -m tests.support.browser install     # as root on Debian: installs it, unless it is there

Without it, tests that need it are skipped, and fail where `CI` is set.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.support.servers import in_ci

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""No traffic but that of the page, and nothing that a container does not have."""
ZONE, LOCALE = "Europe/Berlin", "en-GB"
"""Not UTC, so that times of the reader's zone can be told from those of UTC."""
INSTALL_S = 600
ANSWER_MS = 15_000


def executable() -> str | None:
    """Where Chromium is; None if it is not there."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def require() -> str:
    """Chromium's path; skips the test that calls it where there is none, and fails it where `CI` is set."""
    if (path := executable()) is not None:
        return path
    reason = "Chromium is not installed; on Debian: apt-get install chromium"
    if in_ci():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@contextmanager
def running() -> Iterator[Browser]:
    """A browser, for as long as the block lasts."""
    path = require()
    expect.set_options(timeout=ANSWER_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def page(browser: Browser, width: int = 1_440, dark: bool = False) -> Iterator[Page]:
    """A page of its own; the test fails if anything on it goes wrong in the browser, or reaches out to elsewhere."""
    context: BrowserContext = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if dark else "light",
        timezone_id=ZONE,
        locale=LOCALE,
        has_touch=width < 500,
    )
    context.set_default_timeout(ANSWER_MS)
    faults: list[str] = []
    shown = context.new_page()
    shown.on("pageerror", lambda error: faults.append(str(error)))
    shown.on("request", lambda asked: None if _is_local(asked.url) else faults.append(f"asks {asked.url}"))
    try:
        yield shown
    finally:
        context.close()
    assert not faults


def shots() -> Path | None:
    """Where screenshots are kept: the environment's SCREENSHOTS; None: nobody wants them."""
    folder = os.environ.get("SCREENSHOTS")
    return Path(folder) if folder else None


def install() -> int:
    """Installs Debian's package where it is missing and may be; the exit status."""
    if executable() is not None:
        return 0
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.stderr.write(
            "Chromium is not installed, and this is not root on Debian: tests that need it will not run.\n"
        )
        return 0
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    status = 0
    # that the lists cannot be renewed matters only if the package cannot be had with those that are there
    for command in (["update"], ["install", "-y", "--no-install-recommends", "chromium", "fonts-dejavu-core"]):
        status = subprocess.run(
            ["apt-get", "-qq", *command], env=environment, timeout=INSTALL_S, check=False
        ).returncode
    return status


def _is_local(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:", "about:"))


if __name__ == "__main__":
    sys.exit(install() if sys.argv[1:] == ["install"] else __doc__)
