"""The goal's difference from the counts of an answer."""

from datetime import UTC, datetime

import pytest

from monitor.serve.goal_lift import Lift, clearest, lifts
from monitor.serve.verdict_models import CheckAnswer, PhaseAnswer, VerdictsAnswer
from monitor.verdicts.judge import Kind, State

AT = datetime(2026, 11, 25, tzinfo=UTC)


def answer(counts: dict[str, int], weights: dict[str, float]) -> VerdictsAnswer:
    """An answer with a guardrail on `order` that counted this."""
    check = CheckAnswer(
        check="guardrail order on",
        kind=Kind.GUARDRAIL,
        point="order",
        variation="on",
        state=State.HEALTHY,
        ln_e=0.0,
        note_from=4.0,
        since=None,
        place={},
        effect=None,
        counts=counts,
        counts_since={},
        words="",
    )
    phase = PhaseAnswer(start=AT, weights=weights, visits_from=AT, conversions_from=AT, sealed_until=AT)
    return VerdictsAnswer(tenant="t", experiment="e", state=State.HEALTHY, words="", phase=phase, checks=[check])


def test_a_difference_is_relative_and_by_weight() -> None:
    """200 of a variation with twice the weight are as many as 100 of the control; the interval contains none."""
    (lift,) = lifts(answer({"off": 100, "on": 200}, {"off": 1, "on": 2}), "order", "off")
    assert lift.estimate == pytest.approx(0)
    assert lift.low is not None
    assert lift.high is not None
    assert lift.low < 0 < lift.high
    (fewer,) = lifts(answer({"off": 1_000, "on": 800}, {"off": 1, "on": 1}), "order", "off")
    assert fewer.estimate == pytest.approx(-0.2)
    assert fewer.low is not None
    assert fewer.high is not None
    assert -0.4 < fewer.low < -0.2 < fewer.high < 0


def test_several_variations_share_the_confidence() -> None:
    """So each interval is wider; the clearest is that which is the furthest from 0 beside its width."""
    weights = {"off": 1.0, "on": 1.0, "blue": 1.0}
    found = lifts(answer({"off": 1_000, "on": 800, "blue": 990}, weights), "order", "off")
    (alone,) = lifts(answer({"off": 1_000, "on": 800}, {"off": 1, "on": 1}), "order", "off")
    assert [lift.variation for lift in found] == ["on", "blue"]
    assert found[0].low is not None
    assert alone.low is not None
    assert found[0].low < alone.low
    assert clearest(found) == found[0]


def test_without_counts_there_is_no_bound_and_without_a_guardrail_nothing() -> None:
    """A control without conversions has no ratio; a point that nobody guards is not counted."""
    (lift,) = lifts(answer({"off": 0, "on": 7}, {"off": 1, "on": 1}), "order", "off")
    assert (lift.estimate, lift.high) == (None, None)
    (gone,) = lifts(answer({"off": 7, "on": 0}, {"off": 1, "on": 1}), "order", "off")
    assert (gone.estimate, gone.low) == (-1.0, -1.0)
    assert lifts(answer({"off": 1, "on": 1}, {"off": 1, "on": 1}), "error", "off") == []
    assert lifts(answer({"off": 1, "on": 1}, {"off": 1, "on": 0}), "order", "off") == []
    assert clearest([]) is None
    assert clearest([lift, Lift("blue", 0.1, 0.05, 0.15)]) == Lift("blue", 0.1, 0.05, 0.15)


def test_visits_that_are_not_independent_have_a_wider_interval() -> None:
    """Counts are divided by the design effect: with one of 4, four visits say as much as an independent one."""
    weights = {"off": 1.0, "on": 1.0}
    many = answer({"off": 4_000, "on": 3_200}, weights).model_copy(update={"design_effect": 4.0})
    assert lifts(many, "order", "off") == lifts(answer({"off": 1_000, "on": 800}, weights), "order", "off")
