"""Which of two watchers tells, and what: the one whose data center serves the present, else the other."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor import devstore
from monitor.alerts.teller import Teller
from monitor.config.reader import parse
from monitor.watch.audit import Audit
from monitor.watch.telling import Telling
from monitor.watch.watcher import Watcher
from tests.support import reading
from tests.support.verdict_case import CONFIG, NOW_MS, fill, serving

MINUTE_MS = 60_000
WEBHOOK = {"url": "http://127.0.0.1:9/never"}


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with devstore.running(tmp_path / "store.sqlite3") as url:
        fill(url)
        yield url


def told(url: str, folder: Path, dc: str) -> dict[str, int]:
    """How many messages wait for each target after a look of the watcher of this data center."""
    settings = parse({**CONFIG, "dc": dc, "alerts": {"webhooks": {"team": WEBHOOK}}})
    audit, teller = Audit(folder / f"{dc}.sqlite3"), Teller(settings, folder / f"{dc}-alerts.sqlite3")
    try:
        with serving(url) as client:
            telling = Telling(client.service, dc, teller)
            Watcher(client.service, "abc", audit, lambda _: None, telling.tell).once()
        return {name: counts.waiting for name, counts in teller.counts().items()}
    finally:
        teller.close()
        audit.close()


def test_the_watcher_that_serves_the_present_tells(url: str, tmp_path: Path) -> None:
    """Of two mirrors the preferred one; the other one is quiet while the first writes verdicts."""
    tags = {"dc": "dal", "tenant": "t", "experiment": "checkout", "check": "crossed"}
    reading.write(url, [("monitor.verdict.state", NOW_MS - 11 * MINUTE_MS, tags, 1)])
    assert told(url, tmp_path, "dal") == {"team": 1}
    assert told(url, tmp_path, "cdc") == {"team": 0}


def test_the_other_watcher_tells_while_the_first_is_silent(url: str, tmp_path: Path) -> None:
    """Its last verdicts are more than three minutes behind the final ones."""
    tags = {"dc": "dal", "tenant": "t", "experiment": "checkout", "check": "crossed"}
    reading.write(url, [("monitor.verdict.state", NOW_MS - 14 * MINUTE_MS, tags, 1)])
    assert told(url, tmp_path, "cdc") == {"team": 1}
