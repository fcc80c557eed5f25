"""The order, colours and words of verdicts on the page, without a browser."""

import math

import pytest

from monitor.page import checks, figures, judgements
from monitor.page.issues import Issue
from monitor.page.overview_rows import ExperimentRow, Judged
from monitor.serve.levels import Levels
from monitor.verdicts.families import Thresholds
from monitor.verdicts.judge import Kind, State
from monitor.verdicts.traffic import TrafficKind
from tests.page.test_issues import check, state, verdicts_answer

ISSUE = Issue("no traffic", "No visit.", "Look.")


def row(worst: State | None, issues: tuple[Issue, ...] = (), of_tenant: tuple[Issue, ...] = ()) -> ExperimentRow:
    """An experiment with one check in this state."""
    answer = None
    if worst is not None:
        answer = verdicts_answer([check(Kind.GUARDRAIL, worst, "order")]).model_copy(update={"state": worst})
    return ExperimentRow("t", state([60] * 16, [60] * 16), issues, of_tenant, Judged(answer))


def test_the_worst_verdict_comes_first_then_issues() -> None:
    """An experiment that is not judged comes where one without data does."""
    worst_first = [row(of) for of in (State.STOP, State.HOLD, State.WARN, State.NOTE, State.WITHHELD)]
    worst_first += [row(State.HEALTHY, (ISSUE,)), row(State.HEALTHY), row(State.TOO_EARLY), row(None)]
    assert sorted(reversed(worst_first), key=lambda of: of.rank) == worst_first


@pytest.mark.parametrize("worst", State)
def test_what_needs_attention(worst: State) -> None:
    """A note and above, what is withheld, and issues, those of the tenant too."""
    needs = {State.NOTE, State.WARN, State.HOLD, State.STOP, State.WITHHELD}
    assert row(worst).needs_attention == (worst in needs)
    assert row(worst, (ISSUE,)).needs_attention
    assert row(worst, of_tenant=(ISSUE,)).needs_attention
    assert not row(None).needs_attention


def test_thresholds_are_those_of_the_share() -> None:
    """From that of the note on, which the answer has."""
    of = check(Kind.GUARDRAIL, State.NOTE, "order").model_copy(update={"note_from": math.log(20 / 0.2)})
    assert [math.exp(ln_e) for ln_e in Levels().of(of).values()] == pytest.approx([100, 250, 500, 5_000])
    assert judgements.has_evidence(of)
    rule = of.model_copy(update={"note_from": 0.0})
    assert not judgements.has_evidence(rule)
    assert Levels().of(rule) == {}


def test_thresholds_are_the_configured_ones() -> None:
    """Up to the worst state that the kind may say; the texts have them too."""
    levels = Levels(Thresholds(10, 40, 200, 5_000), {"lateness": "warn"})
    late = check(Kind.LATENESS, State.WARN).model_copy(update={"note_from": math.log(10 / 0.1), "ln_e": 99.0})
    assert {state: math.exp(ln_e) for state, ln_e in levels.of(late).items()} == pytest.approx(
        {State.NOTE: 100, State.WARN: 400}
    )
    html = checks.table(verdicts_answer([late]), levels)
    assert "1 in 10, 40, 200 and 5,000" in html
    assert "warn from 400" in html
    assert "stop from" not in html


def test_a_check_has_words_whatever_it_is() -> None:
    """Those of the API where there are no better ones."""
    assert judgements.name(check(Kind.GUARDRAIL, State.NOTE, "order")) == "order in red"
    assert judgements.short(check(Kind.SPLIT_OF_QUALIFIED, State.NOTE)) == "sample ratio mismatch"
    assert judgements.short(check(Kind.GUARDRAIL, State.NOTE, "errors", 0.4)) == "more errors in red"
    assert judgements.name(check(Kind.MEAN, State.NOTE, "order")) == "mean of order in red"
    assert judgements.name(check(TrafficKind.VARIATION_WITHOUT_VISITS, State.HOLD)) == "visits of red"
    assert "carries" not in checks.table(verdicts_answer([check(Kind.CROSSED, State.NOTE)]))
    assert checks.table(None) == ""


def test_many_checks_that_find_nothing_are_put_away() -> None:
    """Those that find something, or are withheld, never are."""
    quiet = [check(Kind.GUARDRAIL, State.HEALTHY, f"p{i}") for i in range(checks.QUIET_SHOWN + 1)]
    loud = [check(Kind.GUARDRAIL, State.NOTE, "order"), check(Kind.GUARDRAIL, State.WITHHELD, "click")]
    few, many = checks.table(verdicts_answer(loud + quiet[1:])), checks.table(verdicts_answer(loud + quiet))
    assert "<details" not in few
    shown, _, hidden = many.partition("<details")
    assert [name in shown for name in ("Order in red", "Click in red", "P0 in red")] == [True, True, False]
    assert "5 checks with nothing to say" in hidden
    assert "P0 in red" in hidden
    assert checks.table(verdicts_answer(quiet)).count("<table") == 1


@pytest.mark.parametrize(
    ("ln_e", "said"),
    [
        (0.0, "1"),
        (math.log(0.131), "0.13"),
        (math.log(512), "512"),
        (math.log(99_999), "99,999"),
        (math.log(3.2e7), f"3.2 {figures.TIMES} 10\N{SUPERSCRIPT SEVEN}"),
    ],
)
def test_evidence_has_the_digits_that_it_needs(ln_e: float, said: str) -> None:
    """Large evidence is a power of ten."""
    assert figures.evidence(ln_e) == said


def test_the_largest_evidence_that_is_told_stands_for_more() -> None:
    """e^700, and what is infinite."""
    assert figures.evidence(700.0).startswith("over ")
    assert not figures.evidence(699.0).startswith("over ")
