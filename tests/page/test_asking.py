"""What the page asks of the service for a choice, without a browser."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from monitor import devstore
from monitor.config.reader import parse
from monitor.page.address import Range, View
from monitor.page.data import Asking
from monitor.serve.service import open_service
from monitor.serve.spans import DAY_MS, Span, moment
from monitor.serve.verdict_models import PhaseAnswer, VerdictsAnswer
from monitor.verdicts.judge import State
from tests.support.verdict_case import CONFIG, NOW_MS

RANGE_DAYS = 31


@pytest.fixture
def asking(tmp_path: Path) -> Iterator[Asking]:
    """Over an empty store."""
    settings = parse({**CONFIG, "serve": {**CONFIG["serve"], "range_days": RANGE_DAYS}})
    with devstore.running(tmp_path / "store.sqlite3") as url, open_service(settings, url, lambda: NOW_MS) as service:
        asking = Asking(service)
        yield asking
        asking.close()


def judged(days: int) -> VerdictsAnswer:
    """Verdicts of a phase that began so many days ago."""
    at = moment(NOW_MS) - timedelta(days=days)
    phase = PhaseAnswer(start=at, weights={"off": 1, "on": 1}, visits_from=at, conversions_from=at, sealed_until=at)
    return VerdictsAnswer(tenant="t", experiment="e", state=State.HEALTHY, words="", phase=phase, checks=[])


def test_a_phase_is_shown_up_to_the_longest_range(asking: Asking) -> None:
    """From its first visits on, or so much of it as an answer may be about; without a phase the last six hours."""

    def length_ms(of: Span) -> int:
        return of.end_ms - of.start_ms

    view = View(last=Range.PHASE)
    days = [length_ms(asking.span(view, judged(days))) / DAY_MS for days in (2, 400)]
    assert days == [pytest.approx(2, abs=0.01), RANGE_DAYS]
    assert length_ms(asking.span(view)) == length_ms(asking.span(view._replace(last=Range.SIX_HOURS)))
