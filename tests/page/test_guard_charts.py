"""The charts of the guard as options, and moments that are marked, without a browser."""

import math
from datetime import timedelta

import pytest

from monitor.page import checks, guard_charts
from monitor.page.checks import Mark
from monitor.serve.goal_course import CoursePoint
from monitor.verdicts.judge import Kind, State
from tests.page.test_issues import check, verdicts_answer
from tests.support.health_case import AT

MINUTE_MS = 60_000
SPLIT = check(Kind.SPLIT_OF_ASSIGNED, State.STOP)
ORDER = check(Kind.GUARDRAIL, State.HOLD, "order")


def test_evidence_is_drawn_times_the_share() -> None:
    """So that a threshold is at the same place for all; what is beyond the chart is drawn at its end."""
    note_from = ORDER.note_from
    option = guard_charts.evidence(
        [ORDER], {ORDER.check: [(0, note_from), (MINUTE_MS, 99.0), (2 * MINUTE_MS, -9.0)]}, []
    )
    assert option is not None
    ys = [y for _, y, _ in option["series"][0]["data"]]
    assert ys == [pytest.approx(math.log10(20)), guard_charts.POWERS[1], guard_charts.POWERS[0]]
    thresholds = {line["name"]: line["yAxis"] for line in option["series"][-1]["markLine"]["data"]}
    assert thresholds == {
        name: pytest.approx(math.log10(e)) for name, e in zip(thresholds, (20, 50, 100, 1_000), strict=True)
    }
    assert list(thresholds) == ["note", "warn", "hold", "stop"]


def test_without_stored_evidence_there_is_no_chart() -> None:
    """Nor without conversions enough."""
    assert guard_charts.evidence([ORDER], {}, []) is None
    assert guard_charts.difference({"red": []}, {"red": "red"}, []) is None


def test_a_band_is_stacked_on_its_lower_end() -> None:
    """Also below 0; the wide beginning does not widen the scale."""
    points = [CoursePoint(0, 0.0, -1.0, 1.0), CoursePoint(MINUTE_MS, -0.02, -0.05, 0.01)]
    option = guard_charts.difference({"red": points}, {"red": "var(--v1)"}, [Mark(AT, "it began")])
    assert option is not None
    line, low, width = option["series"]
    assert line["data"][-1] == [MINUTE_MS, -0.02, -0.05, 0.01]
    assert low["data"][-1][1] + width["data"][-1][1] == pytest.approx(0.01)
    assert low["stackStrategy"] == width["stackStrategy"] == "all"
    assert option["yAxis"]["max"] == -option["yAxis"]["min"] == 0.05
    assert [mark["name"] for mark in line["markLine"]["data"]] == ["it began"]


def test_a_chart_marks_the_worst_alarm_and_its_own() -> None:
    """Each moment once."""
    later = ORDER.model_copy(update={"since": AT + timedelta(hours=1)})
    judged = verdicts_answer([SPLIT, later, check(Kind.GUARDRAIL, State.WARN, "click")])
    assert [mark.words for mark in checks.marks(judged, "order")] == ["sample ratio mismatch", "fewer order in red"]
    assert [mark.words for mark in checks.marks(judged, None)] == ["sample ratio mismatch"]
    assert checks.marks(verdicts_answer([check(Kind.GUARDRAIL, State.HEALTHY, "order")]), "order") == []
    assert checks.marks(None, "order") == []


def test_values_of_a_tag_come_by_evidence() -> None:
    """Of an alarm about the goal; otherwise in the order of the configuration."""
    of = [{"place": {"device": value}, "ln_e": ln_e} for value, ln_e in (("tablet", 9.0), ("mobile", 3.0))]
    alarm = type(ORDER).model_validate({**ORDER.model_dump(), "slices": of})
    values = ["mobile", "desktop", "tablet"]
    assert checks.by_evidence(verdicts_answer([alarm]), "order", "device", values) == ["tablet", "mobile", "desktop"]
    assert checks.by_evidence(verdicts_answer([alarm]), "click", "device", values) == values
    assert checks.by_evidence(None, "order", "device", values) == values
