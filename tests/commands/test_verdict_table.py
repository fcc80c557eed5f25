"""The verdicts in `monitor top`: the worst experiment first, in 80 columns, with words that are cut sensibly."""

import io
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from monitor import devstore
from monitor.commands import top
from monitor.commands.verdict_table import WORDS_SHOWN, first_sentence, verdict_table
from monitor.serve.verdict_models import CheckAnswer, VerdictsAnswer
from monitor.verdicts.judge import Kind, State
from tests.support.verdict_case import broken_ms, fill, serving

PROMISE = "If nothing were wrong, at most 1 of 1,000 experiments would ever show this."
WORDS = "At least 93 % fewer visits with order in fc_on than in fc_off, with device mobile"


def verdict(experiment: str, state: State, ln_e: float = 10.0, tenant: str = "uswm", words: str = WORDS) -> Any:
    """What is said of an experiment with one check."""
    said = f"{words}. {PROMISE}"
    of: dict[str, Any] = {"point": "order", "variation": "fc_on", "place": {}, "effect": None, "words": said}
    numbers: dict[str, Any] = {"ln_e": ln_e, "note_from": 3.0, "counts": {}, "counts_since": {}}
    since = datetime(2026, 11, 24, 22, 58, tzinfo=UTC)
    check = CheckAnswer(check="c", kind=Kind.GUARDRAIL, state=state, since=since, **of, **numbers)
    return VerdictsAnswer(tenant=tenant, experiment=experiment, state=state, words=said, phase=None, checks=[check])


def shown(answers: list[VerdictsAnswer], width: int = 80) -> str:
    console = Console(record=True, width=width, file=io.StringIO())
    console.print(verdict_table(answers))
    return console.export_text()


def test_the_worst_comes_first() -> None:
    """Of all tenants together; of equals the one with the most evidence; what is well is only counted."""
    answers = [
        verdict("well", State.HEALTHY),
        verdict("warned", State.WARN),
        verdict("stopped", State.STOP, tenant="cawm"),
        verdict("worse", State.STOP, 30.0),
        verdict("withheld", State.WITHHELD),
        verdict("young", State.TOO_EARLY),
        verdict("empty", State.NO_DATA),
    ]
    text = shown(answers)
    names = [line.split("│")[3].strip() for line in text.splitlines() if line.startswith("│")]
    assert [name for name in names if name] == ["worse", "stopped", "warned", "withheld"]
    assert text.splitlines()[0].strip() == ("Verdicts: 2 stop, 1 warn, 1 withheld, 1 healthy, 1 too early, 1 no data")
    assert "24. 22:58" in text


@pytest.mark.parametrize("width", [80, 60])
def test_it_fits(width: int) -> None:
    """Names and what is wrong are whole, however narrow; how often chance would do so is left out."""
    text = shown([verdict("free_shipping_threshold", State.STOP)], width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    columns = [" ".join(part for part in parts if part) for parts in zip(*cells, strict=True)]
    assert columns[4] == WORDS
    assert columns[2].replace(" ", "") == "free_shipping_threshold"
    assert "If nothing were wrong" not in text
    assert len(lines) <= 14


def test_six_alarms_are_shown() -> None:
    """The rest is in the count."""
    text = shown([verdict(f"e{n}", State.WARN, float(n)) for n in range(9)])
    assert [name for name in (f"e{n}" for n in range(9)) if f" {name} " in text] == [f"e{n}" for n in range(3, 9)]
    assert "9 warn" in text


def test_where_all_is_well() -> None:
    """One line, and no table."""
    assert shown([verdict("a", State.HEALTHY), verdict("b", State.HEALTHY)]).strip() == "Verdicts: 2 healthy"


def test_words_are_cut_between_words() -> None:
    """And marked as cut."""
    assert first_sentence(f"{WORDS}. {PROMISE}") == WORDS
    assert first_sentence("It is 2.5 % more. So") == "It is 2.5 % more"
    cut = first_sentence("many " * 50)
    assert cut.endswith("many …")
    assert len(cut) <= WORDS_SHOWN


def test_top_shows_what_the_service_says(tmp_path: Path) -> None:
    """Once, from the command line, in 80 columns: the experiment, the state, and what is wrong."""
    with devstore.running(tmp_path / "store.sqlite3") as url:
        fill(url)
        with serving(url) as client:
            assert [of.experiment for of in top.look_at_verdicts(client.url)] == ["checkout", "young"]
            command = [sys.executable, "-m", "monitor", "top", "--once", "--url", client.url]
            environment = {**os.environ, "COLUMNS": "80"}
            ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    lines = ended.stdout.splitlines()
    assert "Verdicts: 1 stop, 1 no data" in ended.stdout
    (row,) = [line for line in lines if line.startswith("│ stop")]
    assert [cell.strip() for cell in row.split("│")][1:4] == ["stop", "t", "checkout"]
    assert f"{datetime.fromtimestamp(broken_ms() / 1_000, UTC):%d. %H:%M}" in row
    assert max(map(len, lines)) <= 80
