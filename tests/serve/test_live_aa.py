"""Live A/A in the health of the monitor, and in verdicts: whether visits are independent, and what follows."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from monitor import devstore
from monitor.page import health
from monitor.serve.health_models import HealthAnswer
from monitor.verdicts import aa
from tests.support.aa_case import (
    BEGINS_MS,
    JUDGED_FROM_MS,
    NOW_MS,
    SEALED_MS,
    Counts,
    config,
    fill,
    judged,
    serving,
    visits,
)
from tests.support.served import HOUR_MS, MINUTE_MS, Client

ONCE, AGAIN = visits(1), visits(4, seed=2)
VERDICTS = "/api/tenants/t/experiments/checkout/verdicts"


@contextmanager
def client(folder: Path, counts: Counts, now_ms: int = NOW_MS, **tenant: Any) -> Iterator[Client]:
    """The API over a store with these visits."""
    with devstore.running(folder / "store.sqlite3") as url:
        fill(url, counts)
        with serving(url, config(**tenant), now_ms) as at:
            yield at


def milliseconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() * 1_000


def test_independent_visits_have_a_design_effect_of_1(tmp_path: Path) -> None:
    """From the final minutes of one data center, without those in which live A/A did not count all visits yet."""
    with client(tmp_path, ONCE, aa=True) as at:
        answer = at.ask("/api/health").json()
        (of,) = answer["live_aa"]
    expected = aa.design_effect([judged(ONCE)])
    assert expected is not None
    assert of["visits"] == sum(judged(ONCE)) > 6_000
    assert (milliseconds(of["start"]), milliseconds(of["end"])) == (JUDGED_FROM_MS, SEALED_MS)
    assert list(of["design_effect"].values()) == pytest.approx(expected[:3], rel=1e-9)
    assert not of["is_dependent"]
    assert (of["tenant"], of["experiments"], of["waiting"], of["splits"]) == ("t", ["checkout"], [], 15)
    assert of["gauge"]["value"] == of["alarms"] / 15
    assert of["gauge"]["low"] <= of["gauge"]["value"] <= of["gauge"]["high"]
    assert of["words"].startswith("Nothing says that visits depend on each other: the design effect is ")
    assert not [notice for notice in answer["notices"] if "independent" in notice]


def test_returning_sessions_are_told(tmp_path: Path) -> None:
    """Four visits of each session: in the answer, in a notice that changes no status, and on the page."""
    with client(tmp_path, AGAIN, aa=True) as at:
        answer = HealthAnswer.model_validate(at.ask("/api/health").json())
    (of,) = answer.live_aa
    assert of.is_dependent
    assert of.design_effect is not None
    assert 1.05 < of.design_effect.low < 4 < of.design_effect.high
    assert "Visits of a session are not independent" in of.words
    assert f"t: {of.words}" in answer.notices
    assert not [sentence for sentence in answer.advice if "independent" in sentence]
    page = str(health.live_aa(answer))
    assert of.words in page
    assert "checkout" in page


def test_counts_are_divided_before_they_are_judged(tmp_path: Path) -> None:
    """So evidence is that of fewer visits; the counts that are shown are those of visits."""
    counts = visits(4, share=0.46, seed=3)
    answers = {}
    for is_on in (True, False):
        folder = tmp_path / str(is_on)
        folder.mkdir()
        with client(folder, counts, aa=is_on) as at:
            answers[is_on] = at.ask(VERDICTS).json()
    on, off = answers[True], answers[False]
    assert off["design_effect"] == 1
    assert on["design_effect"] > 1.05
    split_on, split_off = (
        next(check for check in answer["checks"] if check["check"] == "split_of_assigned") for answer in (on, off)
    )
    assert split_on["counts"] == split_off["counts"]
    assert 0 < split_on["ln_e"] < split_off["ln_e"] / 1.5


def test_independent_visits_are_not_divided(tmp_path: Path) -> None:
    """Verdicts are the same with live A/A and without."""
    answers = []
    for is_on in (True, False):
        folder = tmp_path / str(is_on)
        folder.mkdir()
        with client(folder, ONCE, aa=is_on) as at:
            answers.append(at.ask(VERDICTS).json())
    assert answers[0] == answers[1]
    assert answers[0]["design_effect"] == 1


def test_a_young_one_is_not_judged(tmp_path: Path) -> None:
    """Neither in the gap and lateness after it was switched on, nor with few visits; then it waits, and says so."""
    waits_ms = JUDGED_FROM_MS - BEGINS_MS
    young = {key: count for key, count in ONCE.items() if key[1] < BEGINS_MS + waits_ms + 20 * MINUTE_MS}
    for minutes in (0, 20):
        folder = tmp_path / str(minutes)
        folder.mkdir()
        now_ms = BEGINS_MS + waits_ms + minutes * MINUTE_MS + 10 * MINUTE_MS
        with client(folder, young, now_ms, aa=True) as at:
            (of,) = at.ask("/api/health").json()["live_aa"]
        assert (of["experiments"], of["waiting"], of["design_effect"]) == ([], ["checkout"], None)
        assert (of["gauge"], of["start"], of["is_dependent"]) == (None, None, False)
        assert of["words"] == "There is too little live A/A to judge yet."


def test_where_it_is_off_nothing_is_said(tmp_path: Path) -> None:
    """Also of a tenant whose store still holds it, and while the store does not answer."""
    with client(tmp_path, AGAIN) as at:
        answer = HealthAnswer.model_validate(at.ask("/api/health").json())
    assert answer.live_aa == []
    assert "aa = true" in str(health.live_aa(answer))


def test_an_answer_is_computed_once_in_ten_minutes(tmp_path: Path) -> None:
    """What was final then: the same for all readers, whatever the store holds since; an hour later it is new."""
    with client(tmp_path, ONCE, aa=True) as at:
        first = at.ask("/api/health").json()["live_aa"]
        fill(at.service.store.url, AGAIN)
        assert at.ask("/api/health").json()["live_aa"] == first
        assert at.service.live_aa.get("t", SEALED_MS) is not None
        assert at.service.live_aa.get("t", SEALED_MS + HOUR_MS) is None
