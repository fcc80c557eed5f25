"""How long still, what a nightly test would have said, and the alarms of the past."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from statistics import NormalDist

import pytest

from monitor import devstore
from monitor.config.reader import parse
from monitor.serve.alarm_history import past_alarms
from monitor.serve.levels import Levels
from monitor.serve.nightly import CRIES_WOLF, NIGHTLY_P, Nightly, nightly
from monitor.serve.outlook import HORIZON_DAYS, USUAL_EFFECT, outlook
from monitor.serve.service import Service, open_service
from monitor.serve.spans import DAY_MS, HOUR_MS, Span
from monitor.serve.verdict_models import CheckAnswer, PhaseAnswer, VerdictsAnswer
from monitor.verdicts.families import Thresholds, ln_threshold
from monitor.verdicts.judge import Kind, State
from monitor.verdicts.shares import ratio_of_two
from tests.support import served
from tests.support.verdict_case import CONFIG

AT = datetime(2026, 11, 25, tzinfo=UTC)
STEP_MS = 600_000


def check(kind: Kind, share: float = 1.0, counts: dict[str, int] | None = None) -> CheckAnswer:
    """A check of this share, of the metric `order` if it is a guardrail."""
    is_metric = kind is Kind.GUARDRAIL
    return CheckAnswer(
        check="guardrail order on" if is_metric else kind.value,
        kind=kind,
        point="order" if is_metric else None,
        variation="on" if is_metric else None,
        state=State.HEALTHY,
        ln_e=0.0,
        note_from=ln_threshold(20, share),
        since=None,
        place={},
        effect=None,
        counts=counts or {},
        counts_since={},
        words="",
    )


def answer(*checks: CheckAnswer, days: float = 2.0, weights: dict[str, float] | None = None) -> VerdictsAnswer:
    """An answer about a phase of so many days."""
    until = AT + timedelta(days=days)
    weights = weights or {"off": 1, "on": 1}
    phase = PhaseAnswer(start=AT, weights=weights, visits_from=AT, conversions_from=AT, sealed_until=until)
    return VerdictsAnswer(tenant="t", experiment="e", state=State.HEALTHY, words="", phase=phase, checks=list(checks))


@pytest.mark.parametrize("effect", [0.1, 0.2])
def test_how_long_still_is_when_the_interval_would_exclude_0(effect: float) -> None:
    """With the counts that are expected by then; a little sooner it would not."""
    per_day = 100
    of = answer(check(Kind.GUARDRAIL, counts={"off": 2 * per_day, "on": 2 * per_day}))
    found = outlook(of, "order", "off", effect)
    assert found is not None
    assert found.effect == effect
    assert found.days is not None
    for part, is_seen in ((1.001, True), (0.999, False)):
        days = (found.days + 2.0) * part
        counts = per_day * days, per_day * days * (1 - effect)
        assert (ratio_of_two(counts, (1, 1), 1, 0, 0.05).high < 0) == is_seen


def test_what_cannot_be_seen_with_this_traffic() -> None:
    """Beyond the horizon; without an effect in the configuration that of a twentieth."""
    few = answer(check(Kind.GUARDRAIL, counts={"off": 10, "on": 10}))
    assert outlook(few, "order", "off", 0) == (USUAL_EFFECT, None)
    many = answer(check(Kind.GUARDRAIL, counts={"off": 10**6, "on": 10**6}))
    assert outlook(many, "order", "off", 0.05) == (0.05, 0.0)
    assert outlook(answer(check(Kind.GUARDRAIL), days=2), "order", "off", 0.05) is None
    young = answer(check(Kind.GUARDRAIL, counts={"off": 9, "on": 9}), days=0.01)
    assert outlook(young, "order", "off", 0.05) is None
    assert outlook(few, "error", "off", 0.05) is None
    assert HORIZON_DAYS > 28


def test_more_variations_need_longer() -> None:
    """They share the confidence and the traffic."""
    two = answer(check(Kind.GUARDRAIL, counts={"off": 3_000, "on": 3_000}))
    weights = {"off": 1.0, "on": 1.0, "blue": 1.0}
    three = answer(check(Kind.GUARDRAIL, counts={"off": 2_000, "on": 2_000, "blue": 2_000}), weights=weights)
    fast, slow = (outlook(of, "order", "off", 0.1) for of in (two, three))
    assert fast is not None
    assert slow is not None
    assert fast.days is not None
    assert slow.days is not None
    assert fast.days < slow.days


def test_how_often_a_nightly_test_cries_wolf() -> None:
    """Seven looks at equally spaced sums of normal variables, by numerical integration (Armitage et al. 1969)."""
    bound, nodes, looks = NormalDist().inv_cdf(1 - NIGHTLY_P / 2), 201, 7
    normal = NormalDist()

    def weights(step: float) -> list[float]:
        return [step / 3 * (1 if i in (0, nodes - 1) else 4 if i % 2 else 2) for i in range(nodes)]

    at = [bound * (2 * i / (nodes - 1) - 1) for i in range(nodes)]
    density = [normal.pdf(x) for x in at]
    for look in range(2, looks + 1):
        weighted = [d * w for d, w in zip(density, weights(at[1] - at[0]), strict=True)]
        wider = [bound * math.sqrt(look) * (2 * i / (nodes - 1) - 1) for i in range(nodes)]
        density = [math.fsum(w * normal.pdf(y - x) for x, w in zip(at, weighted, strict=True)) for y in wider]
        at = wider
    quiet = math.fsum(d * w for d, w in zip(density, weights(at[1] - at[0]), strict=True))
    assert round(1 - quiet, 2) == CRIES_WOLF


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service over three days of visits that are split wrongly from the second day on."""
    with devstore.running(tmp_path_factory.mktemp("nightly") / "store.sqlite3") as url:
        first_ms = round(AT.timestamp() * 1_000)
        now_ms = first_ms + 3 * DAY_MS + HOUR_MS
        served.report(url, "dal", now_ms - 4 * HOUR_MS, now_ms)
        served.post(
            url,
            [
                (
                    f"t.visit.assigned.{variation}.beta",
                    at_ms,
                    {"dc": "dal", "experiment": "checkout", "device": "mobile"},
                    100 + (10 if variation == "on" and at_ms >= first_ms + DAY_MS else 0),
                )
                for at_ms in range(first_ms, now_ms, HOUR_MS)
                for variation in ("off", "on")
            ],
        )
        settings = parse({**CONFIG, "serve": {"dcs": ["dal"]}})
        with open_service(settings, url, lambda: now_ms) as service:
            yield service


def test_a_nightly_test_alarms_at_the_end_of_a_night(service: Service) -> None:
    """On all visits until then: 24 x 10 more of 9,840 on the second night are enough; one day says nothing."""
    first_ms = round(AT.timestamp() * 1_000)
    weights = {"off": 1.0, "on": 1.0}
    span = Span(first_ms, first_ms + 3 * DAY_MS + HOUR_MS)
    found = nightly(service, "t", "checkout", weights, span)
    assert found.nights == 3
    assert found.alarm_ms in (first_ms + 2 * DAY_MS, first_ms + 3 * DAY_MS)
    excess = 24 * 10 * ((found.alarm_ms - first_ms) // DAY_MS - 1)
    whole = 2 * 2_400 * ((found.alarm_ms - first_ms) // DAY_MS) + excess
    assert excess**2 / whole > NormalDist().inv_cdf(1 - NIGHTLY_P / 2) ** 2
    quiet = Span(first_ms, first_ms + DAY_MS)
    assert nightly(service, "t", "checkout", weights, quiet) == Nightly(1, None)
    assert nightly(service, "t", "checkout", weights, Span(first_ms, first_ms + HOUR_MS)) == Nightly(0, None)


def test_the_alarms_of_the_past_have_a_beginning_an_end_and_the_worst_state() -> None:
    """A short silence does not end one; one that reaches the last step goes on."""
    split = check(Kind.SPLIT_OF_ASSIGNED, 0.2)
    hold, note = (ln_threshold(evidence, 0.2) + 0.01 for evidence in (100, 20))
    steps = [note, hold, 0.0, note, 0.0, 0.0, 0.0, 0.0, note, note]
    stored = {split.check: [(i * STEP_MS, ln_e) for i, ln_e in enumerate(steps)]}
    latest, first = past_alarms(answer(split), stored, STEP_MS, 10 * STEP_MS)
    assert (first.state, first.start_ms, first.end_ms) == (State.HOLD, 0, 4 * STEP_MS)
    assert (latest.state, latest.start_ms, latest.end_ms) == (State.NOTE, 8 * STEP_MS, None)
    (ended, _) = past_alarms(answer(split), stored, STEP_MS, 20 * STEP_MS)
    assert ended.end_ms == 10 * STEP_MS
    assert past_alarms(answer(split), {}, STEP_MS, 10 * STEP_MS) == []


def test_a_rule_has_no_past_by_evidence() -> None:
    """Its stored evidence is 0, and so is its threshold."""
    rule = check(Kind.CROSSED).model_copy(update={"note_from": 0.0})
    assert past_alarms(answer(rule), {rule.check: [(0, 0.0)]}, STEP_MS, STEP_MS) == []


def test_alarms_of_the_past_are_by_the_configured_thresholds_up_to_the_worst_of_their_kind() -> None:
    """A split that may only say note withholds metrics all the same."""
    limits = Thresholds(20, 200, 400, 8_000)
    split, order = check(Kind.SPLIT_OF_ASSIGNED), check(Kind.GUARDRAIL)
    stored = {split.check: [(0, ln_threshold(300, 1))], order.check: [(5 * STEP_MS, ln_threshold(300, 1))]}
    both = past_alarms(answer(split, order), stored, STEP_MS, 20 * STEP_MS, Levels(limits))
    assert [alarm.state for alarm in both] == [State.WARN, State.WARN]
    bounded = Levels(limits, {"split_of_assigned": "note"})
    together = {**stored, order.check: stored[split.check]}
    (only,) = past_alarms(answer(split, order), together, STEP_MS, 20 * STEP_MS, bounded)
    assert (only.check, only.state) == (split, State.NOTE)


def test_what_was_withheld_is_no_alarm_of_the_past() -> None:
    """A guardrail in steps in which a split warned."""
    split, order = check(Kind.SPLIT_OF_ASSIGNED), check(Kind.GUARDRAIL)
    stored = {
        split.check: [(0, 0.0), (STEP_MS, ln_threshold(60, 1))],
        order.check: [(0, ln_threshold(2_000, 1)), (STEP_MS, ln_threshold(2_000, 1))],
    }
    found = {alarm.check.check: alarm for alarm in past_alarms(answer(split, order), stored, STEP_MS, 20 * STEP_MS)}
    assert (found[order.check].state, found[order.check].end_ms) == (State.STOP, STEP_MS)
    assert (found[split.check].state, found[split.check].start_ms) == (State.WARN, STEP_MS)
