"""A change of what an experiment is begins a phase, though nobody wrote one; watcher and readers say the same."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from monitor import devstore
from monitor.serve.count_file import CountFile
from monitor.serve.verdict_models import VerdictsAnswer
from monitor.verdicts.judge import State
from tests.support.count_case import BEGINS_MS, config, fill, judged
from tests.support.served import HOUR_MS, MINUTE_MS
from tests.support.verdict_case import NOW_MS

SETTLE_MS, GAP_MS = 300_000, 1_800_000
CHANGED_MS = NOW_MS - 20 * HOUR_MS
"""The watcher's first look with another configuration."""
BEGUN_MS = (CHANGED_MS // MINUTE_MS + 1) * MINUTE_MS
ORDER, CART = {"event": "order"}, {"event": "cart"}


def points(**of: Any) -> dict[str, Any]:
    """A configuration with these points, and a rule that names one of them."""
    return config(tenant={"points": of}, qualified_when={"point": "order"})


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with devstore.running(tmp_path_factory.mktemp("beginnings") / "store.sqlite3") as url:
        fill(url)
        yield url


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "counts.sqlite3"


def begins_ms(answer: VerdictsAnswer) -> int:
    assert answer.phase is not None, answer
    return round(answer.phase.start.timestamp() * 1_000)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (config(), config(variations={"off": 1, "on": 2})),
        (config(), config(variations={"off": 1, "on": 1, "more": 1})),
        (config(), config(qualified_when={"event": "search"})),
        (config(), config(aliases={"On!": "on"})),
        (points(order=ORDER), points(order={**ORDER, "nth": 2})),
        (points(order={**ORDER, "better": "none"}), points(order={"event": "pay", "better": "none"})),
    ],
)
def test_a_change_begins_a_phase_with_fresh_evidence(
    url: str, file: Path, before: dict[str, Any], after: dict[str, Any]
) -> None:
    """In the minute after the first look with it; also for a reader, and for a watcher that starts again."""
    assert begins_ms(judged(url, before, CHANGED_MS - MINUTE_MS, file)) == BEGINS_MS
    judged(url, after, CHANGED_MS, file)
    found = judged(url, after, NOW_MS, file)
    assert found.phase is not None
    assert begins_ms(found) == BEGUN_MS
    assert found.phase.visits_from.timestamp() * 1_000 == BEGUN_MS + SETTLE_MS
    assert found.phase.conversions_from.timestamp() * 1_000 == BEGUN_MS + SETTLE_MS + GAP_MS
    assert judged(url, after, NOW_MS, file, is_writer=False) == found
    other = judged(url, before, NOW_MS, file, is_writer=False)
    assert (other.state, "other definitions" in other.words) == (State.NO_DATA, True)
    assert begins_ms(judged(url, after, NOW_MS)) == BEGINS_MS


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (config(), config(variations={"off": 50, "on": 50})),
        (config(), config(smallest_effect=0.1)),
        (points(order=ORDER), points(order=ORDER, cart=CART)),
        (points(order=ORDER, cart=CART), points(order=ORDER)),
        (points(order=ORDER), points(order={**ORDER, "better": "down"})),
    ],
)
def test_what_does_not_change_the_counts_begins_none(
    url: str, file: Path, before: dict[str, Any], after: dict[str, Any]
) -> None:
    """Other words for the same weights, a point more or less, what is harm."""
    judged(url, before, CHANGED_MS, file)
    assert begins_ms(judged(url, after, NOW_MS, file)) == BEGINS_MS


def test_a_point_that_comes_back_is_compared_with_what_it_was(url: str, file: Path) -> None:
    """As if it had not gone."""
    judged(url, points(order=ORDER, cart=CART), CHANGED_MS - 3 * HOUR_MS, file)
    judged(url, points(order=ORDER), CHANGED_MS - HOUR_MS, file)
    assert begins_ms(judged(url, points(order=ORDER, cart=CART), CHANGED_MS, file)) == BEGINS_MS
    assert begins_ms(judged(url, points(order=ORDER, cart={"event": "basket"}), CHANGED_MS, file)) == BEGUN_MS


@pytest.mark.parametrize("key", ["started", "phases"])
def test_a_change_that_is_configured_begins_when_it_says(url: str, file: Path, key: str) -> None:
    """The watcher adds nothing of its own, and the reader needs not wait for it."""
    moment = datetime.fromtimestamp((CHANGED_MS - HOUR_MS) // 1_000, UTC)
    weights = {"off": 1, "on": 3}
    after = {
        "started": config(variations=weights, started=moment),
        "phases": config(phases=[{"from": moment, "weights": weights}]),
    }[key]
    judged(url, config(), CHANGED_MS - MINUTE_MS, file)
    expected = judged(url, after, CHANGED_MS)
    assert begins_ms(expected) == moment.timestamp() * 1_000
    assert judged(url, after, CHANGED_MS, file, is_writer=False) == expected
    assert judged(url, after, CHANGED_MS, file) == expected
    again = after | {"tenants": {"t": after["tenants"]["t"] | {"points": {"order": {"event": "pay"}}}}}
    assert begins_ms(judged(url, again, CHANGED_MS + HOUR_MS, file)) == BEGUN_MS + HOUR_MS


def test_sticky_visitors_keep_their_variation_when_the_weights_change(url: str, file: Path) -> None:
    """So the split is not judged after that; after another change it is."""
    judged(url, config(sticky=True), CHANGED_MS - HOUR_MS, file)
    rule = {"event": "search"}
    found = judged(url, config(sticky=True, qualified_when=rule), CHANGED_MS, file)
    assert "split_of_assigned" in {check.check for check in found.checks}
    found = judged(url, config(sticky=True, qualified_when=rule, variations={"off": 1, "on": 2}), NOW_MS, file)
    assert "split_of_assigned" not in {check.check for check in found.checks}


def test_the_beginning_is_written_when_it_changes(url: str, file: Path) -> None:
    """A look that finds nothing new leaves the file as it is."""
    judged(url, config(), NOW_MS, file)
    counts = CountFile(file, is_writer=False)
    known, written = counts.beginning("t", "e"), file.stat().st_mtime_ns
    assert known is not None
    assert (known.first_ms, known.configured_ms, known.since_ms) == (BEGINS_MS, 0, 0)
    assert set(known.definitions) == {"weights", "variations", "rule", "point order"}
    assert judged(url, config(), NOW_MS, file, is_writer=False) == judged(url, config(), NOW_MS)
    assert file.stat().st_mtime_ns == written
