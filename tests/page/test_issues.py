"""The issues of experiments and tenants, from answers."""

from datetime import timedelta

import pytest

from monitor.page import figures, issues, overview
from monitor.serve import messages
from monitor.serve.findings import BadValueCount, LargeVisit, LateCount, UnknownNameCount
from monitor.serve.models import (
    Basis,
    ExperimentState,
    Running,
    Split,
    SplitVerdict,
)
from monitor.serve.verdict_models import CheckAnswer, EffectAnswer, LateAnswer, VerdictsAnswer
from monitor.verdicts.judge import Kind, State
from monitor.verdicts.traffic import TrafficKind
from tests.support.health_case import AT, dc_health

BASIS = Basis(
    start=AT,
    end=AT,
    served=[],
    final_until=AT,
    is_final=False,
    serving_dc="dal",
    newest=AT,
    newest_age_s=1.0,
    is_fresh=True,
)


def test_a_sound_experiment_has_no_issue() -> None:
    """Steady visits by the weights."""
    assert issues.of_experiment(state([60] * 15 + [30], [60] * 15 + [30]), AT, AT) == []


@pytest.mark.parametrize(
    ("blue", "red", "missing"),
    [
        ([60] * 16, [60] * 14 + [0, 0], ["red"]),
        ([60] * 15 + [30], [60] * 15 + [2], ["red"]),
        ([60] * 15 + [19], [60] * 15 + [0], []),
        ([9] * 16, [9] * 14 + [0, 0], []),
        ([0] * 16, [0] * 16, []),
    ],
)
def test_a_missing_variation_is_noticed_at_once(blue: list[int], red: list[int], missing: list[str]) -> None:
    """Within the minute under way, once the others have visits enough; few visits prove nothing."""
    experiment = state(blue, red)
    assert issues.without_traffic(experiment) == missing
    assert [o.short for o in issues.of_experiment(experiment, AT, AT)][:1] == [
        f"{name}: no traffic" for name in missing
    ]


def test_a_large_variation_is_not_missing_by_the_chance_of_a_small_one() -> None:
    """Three visits of a variation of weight 10 do not promise 27 of that of weight 90."""
    experiment = state([9] * 14 + [0, 3], [1] * 14 + [0, 3], red=50 / 9)
    assert issues.without_traffic(experiment) == []


def test_a_variation_of_weight_0_is_not_missing() -> None:
    """It is meant to have none."""
    assert issues.without_traffic(state([60] * 16, [0] * 16, red=0)) == []


@pytest.mark.parametrize(("last", "expected"), [([60, 30], []), ([8, 4], ["traffic dropped"]), ([30, 15], [])])
def test_a_drop_of_traffic_is_noticed(last: list[int], expected: list[str]) -> None:
    """Against the minutes before; AT is half a minute into the last one."""
    experiment = state([60] * 14 + last, [60] * 14 + last)
    assert [o.short for o in issues.of_experiment(experiment, AT, AT)] == expected


@pytest.mark.parametrize(
    ("at_s", "until_s", "minutes", "expected"),
    [
        (61.0, 48.0, [50] * 14 + [39, 0], []),
        (61.0, 58.0, [50] * 14 + [39, 0], []),
        (61.0, 58.0, [50] * 13 + [10, 15, 0], ["traffic dropped"]),
        (65.0, -10.0, [50] * 14 + [0, 0], []),
        (125.0, 58.0, [50] * 14 + [0, 0], []),
        (500.0, 60.0, [50] * 8 + [0] * 8, []),
        (900.0, 60.0, [50] * 3 + [0] * 13, []),
    ],
)
def test_what_is_not_counted_yet_is_no_drop(
    at_s: float, until_s: float, minutes: list[int], expected: list[str]
) -> None:
    """Just after a full minute, before a flush, where the job is behind: only what is counted is judged."""
    at, until = (AT.replace(second=0) + timedelta(seconds=seconds) for seconds in (at_s, until_s))
    shown = issues.of_experiment(state(minutes, [0] * 16, red=0), at, until)
    assert [o.short for o in shown] == expected


def test_what_is_counted_ends_where_the_job_has_read() -> None:
    """With the last heartbeat, less the messages that wait in Kafka; unknown without a job."""
    dc = dc_health(lag_messages=600, events_per_s=20.0)
    assert issues.counted_until(BASIS, dc) == AT - timedelta(seconds=30)
    assert issues.counted_until(BASIS, dc_health(lag_messages=0, events_per_s=20.0)) == AT
    assert issues.counted_until(BASIS, dc_health(lag_messages=600, events_per_s=0.0)) is None
    assert issues.counted_until(BASIS, None) is None


def test_what_was_not_counted_is_an_issue_of_the_experiment_it_concerns() -> None:
    """Late visits by variation, unknown variations by name, values that are no numbers by point."""
    dc = dc_health(
        late=[LateCount(tenant="t", experiment="e", variation="red", visits=90, last_5_min=30)],
        bad_values=[BadValueCount(tenant="t", point="order", events=40, last_5_min=9)],
        unknown_names=[
            UnknownNameCount(tenant="t", kind="variation", experiment="e", name="redd", events=90, last_5_min=90),
            UnknownNameCount(tenant="t", kind="experiment", experiment="", name="gone", events=9, last_5_min=9),
        ],
    )
    experiment = state([60] * 16, [60] * 16)
    named = issues.by_name("t", experiment, dc)
    assert [(o.short, "red" in o.text) for o in named] == [("late events", True), ("unknown variations", True)]
    assert issues.by_name("other", experiment, dc) == []
    assert [o.short for o in issues.of_values("t", dc)] == ["bad values"]
    assert issues.unknown_experiments("t", dc) == "gone 9"


def test_a_few_broken_values_of_many_events_are_no_issue() -> None:
    """Single orders are broken everywhere; more than one per 1,000 events of the tenant are told."""
    bad = [BadValueCount(tenant="t", point="order", events=90, last_5_min=31)]
    assert issues.of_values("t", dc_health(events_per_s=104.0, bad_values=bad)) == []
    assert len(issues.of_values("t", dc_health(events_per_s=102.0, bad_values=bad))) == 1


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"old": 5}, []),
        ({"old": 19}, []),
        ({"old": 29}, []),
        ({"old": 31}, ["unknown variations"]),
        ({"old": 16, "older": 16}, ["unknown variations"]),
    ],
)
def test_one_visitor_with_an_old_variation_is_no_issue(names: dict[str, int], said: list[str]) -> None:
    """It needs 20 events, and 5 % of the 600 visits that were assigned meanwhile."""
    unknown = [
        UnknownNameCount(tenant="t", kind="variation", experiment="e", name=name, events=99, last_5_min=events)
        for name, events in names.items()
    ]
    named = issues.by_name("t", state([60] * 16, [60] * 16), dc_health(unknown_names=unknown))
    assert [o.short for o in named] == said


def test_without_assigned_visits_unknown_variations_are_an_issue() -> None:
    """Nothing but old names comes: 20 events are enough."""
    of = UnknownNameCount(tenant="t", kind="variation", experiment="e", name="old", events=20, last_5_min=20)
    named = issues.by_name("t", state([0] * 16, [0] * 16), dc_health(unknown_names=[of]))
    assert [o.short for o in named] == ["unknown variations"]


@pytest.mark.parametrize(("strangers", "is_said"), [(4, False), (19, False), (30, True)])
def test_a_few_messages_of_strangers_are_no_high_rejection_rate(strangers: int, is_said: bool) -> None:
    """In the first minute a few are many percent: the overview says no more than the Health page."""
    few = {"t": messages.Messages(100, {"late": 1}, {}), "unknown": messages.Messages(0, {"not_json": strangers}, {})}
    assert ("High rejection rate" in overview.strangers(overview.Overview([], few))) == is_said


def test_silence_is_an_issue() -> None:
    """No visit at all is all that is said."""
    nothing = state([0] * 16, [0] * 16, running=Running.NO_DATA)
    assert [o.short for o in issues.of_experiment(nothing, AT, AT)] == ["no traffic"]
    silent = state([0] * 16, [0] * 16, running=Running.SILENT)
    assert [o.short for o in issues.of_experiment(silent, AT, AT)] == ["no traffic now"]


@pytest.mark.parametrize("alarm", [State.WARN, State.HOLD, State.STOP])
def test_checks_that_alarm_are_issues(alarm: State) -> None:
    """Each once, in the order of the answer; a note and what is withheld are none."""
    checks = [
        check(Kind.SPLIT_OF_ASSIGNED, alarm),
        check(Kind.SPLIT_OF_QUALIFIED, alarm),
        check(Kind.GUARDRAIL, alarm, "order", -0.3),
        check(Kind.GUARDRAIL, alarm, "errors", 0.4),
        check(Kind.CROSSED, State.NOTE),
        check(Kind.LATENESS, alarm),
        check(Kind.MEAN, alarm, "order", -0.3),
        check(Kind.GUARDRAIL, State.WITHHELD, "item_page"),
    ]
    found = issues.of_verdicts(verdicts_answer(checks))
    said = [
        "sample ratio mismatch",
        "fewer order in red",
        "more errors in red",
        "tardy events in red",
        "lower mean of order in red",
    ]
    assert [issue.short for issue in found] == said
    assert all("14:30 UTC" in issue.text and issue.fix for issue in found)
    assert issues.of_verdicts(None) == []


def test_an_issue_says_what_late_visits_could_change() -> None:
    """After the words of the check and the time."""
    late = LateAnswer(
        visits={"red": 3},
        ln_e=9,
        ln_e_by_weights=9,
        ln_e_on_weaker_side=8,
        holds=True,
        words="It holds whatever they did.",
    )
    alarm = check(Kind.GUARDRAIL, State.STOP, "order", -0.3).model_copy(update={"late": late})
    (issue,) = issues.of_verdicts(verdicts_answer([alarm]))
    assert issue.text.endswith(" UTC, 2026-11-25. It holds whatever they did.")


def test_a_high_rejection_rate_and_unknown_names_are_issues() -> None:
    """By tenant, as shares."""
    sound = messages.Messages(1_000, {"duplicate": 900}, {"unknown_variation": 9})
    assert issues.of_tenant(sound) == []
    assert issues.of_tenant(messages.Messages(300, {"late": 19}, {"unknown_variation": 4})) == []
    repeated = messages.Messages(1_000, {"duplicate": 1_100}, {})
    assert [o.short for o in issues.of_tenant(repeated)] == ["mostly duplicates"]
    bad = messages.Messages(1_000, {"late": 30}, {"unknown_variation": 21, "unknown_experiment": 22})
    assert [o.short for o in issues.of_tenant(bad)] == [
        "high rejection rate",
        "unknown variation",
        "unknown experiment",
    ]


def state(
    blue: list[int],
    red_visits: list[int],
    red: float = 50,
    running: Running = Running.RUNNING,
) -> ExperimentState:
    """An experiment with these visits by minute."""
    lately = {"blue": blue, "red": red_visits}
    return ExperimentState(
        experiment="e",
        state=running,
        control="blue",
        variations={"blue": 50, "red": red},
        first_assigned=AT,
        last_assigned=AT,
        assigned=1_000,
        qualified=500,
        crossed=0,
        assigned_by_variation={"blue": 500, "red": 500},
        qualified_by_variation={"blue": 250, "red": 250},
        qualified_recent=[],
        assigned_recent=lately,
        split=Split(verdict=SplitVerdict.AS_PLANNED, chi_square=None, degrees_of_freedom=1, p_value=None),
    )


def check(kind: Kind | TrafficKind, state: State, point: str | None = None, effect: float = -0.5) -> CheckAnswer:
    """A check of the variation red that began at AT."""
    return CheckAnswer(
        check=f"{kind} {point}",
        kind=kind,
        point=point,
        variation="red",
        state=state,
        ln_e=9.0,
        note_from=4.6,
        since=AT,
        place={},
        effect=EffectAnswer(estimate=effect, low=None, high=None),
        counts={},
        counts_since={},
        words="It is so.",
    )


def verdicts_answer(checks: list[CheckAnswer]) -> VerdictsAnswer:
    """An answer of these checks."""
    return VerdictsAnswer(tenant="t", experiment="e", state=State.STOP, words="It is so.", phase=None, checks=checks)


def test_a_large_visit_is_an_issue_of_the_range() -> None:
    """Each with its size and share; a few at most."""
    visits = [
        LargeVisit(variation="red", point="order", of="events", size=412, share=0.31),
        LargeVisit(variation="blue", point="order", of="value", size=1_250.5, share=0.08),
    ]
    (issue,) = issues.of_large_visits(visits)
    assert issue.short == "large visit"
    assert "one visit has 412 events of order in red, 31.0 % of its total" in issue.text.replace(figures.THIN, " ")
    assert "one visit has a value of 1,250.50 of order in blue, 8.0 % of its total" in issue.text.replace(
        figures.THIN, " "
    )
    assert issues.of_large_visits([]) == []


def test_issues_of_the_checks_of_traffic() -> None:
    """As what the last minutes say; what both say is one issue."""
    kinds = (TrafficKind.NO_TRAFFIC, TrafficKind.TRAFFIC_DROPPED, TrafficKind.VARIATION_WITHOUT_VISITS)
    found = issues.of_verdicts(verdicts_answer([check(kind, State.WARN) for kind in kinds]))
    assert [issue.short for issue in found] == ["no traffic now", "traffic dropped", "red: no traffic"]
    assert issues.distinct([*found, found[1]._replace(text="Visits have fallen.")]) == found


def test_what_the_verdict_says_already_is_no_issue_beside_it() -> None:
    """Only what is beside the worst check on the overview, which says its words."""
    kinds = (TrafficKind.TRAFFIC_DROPPED, TrafficKind.NO_TRAFFIC)
    judged = verdicts_answer([check(kind, State.WARN) for kind in kinds])
    found = [
        issues.Issue(words, "It is so.", "Look.") for words in ("no traffic now", "traffic dropped", "late events")
    ]
    assert [issue.short for issue in issues.beside(judged, found)] == ["no traffic now", "late events"]
    assert issues.beside(None, found) == found
