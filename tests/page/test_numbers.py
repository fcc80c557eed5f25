"""The page's content from answers, without a browser: issues, charts, the queries behind numbers."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from monitor import devstore
from monitor.config.reader import load
from monitor.page import charts, figures, queries
from monitor.page.address import By, Charted
from monitor.page.queries import QueriedNumber
from monitor.runtime.shared_answers import Shared
from monitor.serve import health_ranges
from monitor.serve.models import (
    Basis,
    Line,
    Measure,
    Scope,
    SeriesAnswer,
    SeriesPoint,
    Served,
    ServingReason,
    Step,
)
from monitor.serve.problems import ProblemError
from tests.support import served

ROOT = Path(__file__).parents[2]
AT = datetime(2026, 11, 25, 14, 30, 30, tzinfo=UTC)
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


# Charts


def test_a_chart_of_rates_holds_counts_and_marks_provisional_steps() -> None:
    """Every datum has the visits behind its rate; the provisional line begins where the final one ends."""
    visits, base = answer([1, 2, 3, 0]), answer([10, 10, 10, 0])
    option = charts.of_point(visits, base, By.MINUTE, Charted.RATE, {"a": "red", "b": "blue"})
    final, provisional = option["series"][:2]
    assert [datum[1:] for datum in final["data"]] == [[0.1, 1, 10, 0], [0.2, 2, 10, 0]]
    assert [datum[1:] for datum in provisional["data"]] == [[0.2, 2, 10, 0], [0.3, 3, 10, 1], [None, 0, 0, 1]]
    assert (final["lineStyle"]["type"], provisional["lineStyle"]["type"]) == ("solid", "dashed")
    assert [line["name"] for line in option["series"]] == ["a", "a", "b", "b"]


def test_a_cumulative_chart_adds_up() -> None:
    """The rate is that of all visits so far."""
    option = charts.of_point(
        answer([1, 2, 3, 0]), answer([10, 10, 10, 0]), By.CUMULATIVE, Charted.RATE, {"a": "", "b": ""}
    )
    assert [datum[1:4] for datum in option["series"][1]["data"]] == [[3 / 20, 3, 20], [6 / 30, 6, 30], [6 / 30, 6, 30]]


def test_a_chart_begins_with_the_first_visit() -> None:
    """Hours before it are left out, the same for all variations; and a chart of nothing is a chart."""
    option = charts.of_visits(answer([0, 0, 3, 4]), By.MINUTE, {"a": "", "b": ""})
    assert len(option["series"][0]["data"]) + len(option["series"][1]["data"]) == 2
    assert len(charts.of_visits(answer([0, 0]), By.MINUTE, {"a": "", "b": ""})["series"]) == 4
    assert len(charts.of_visits(answer([]), By.MINUTE, {"a": "", "b": ""})["series"]) == 4


@given(st.sampled_from(By), st.floats(60, 31 * 86_400))
def test_a_chart_has_some_hundred_steps(by: By, length_s: float) -> None:
    """However long the range."""
    seconds = {Step.MINUTE: 60, Step.FIVE_MINUTES: 300, Step.QUARTER: 900, Step.HOUR: 3_600, Step.DAY: 86_400}
    assert length_s / seconds[charts.step_of(by, length_s)] <= 31 * 24


def test_json_of_options() -> None:
    """Options go to the browser as JSON."""
    json.dumps(charts.of_visits(answer([1, 2, 3]), By.HOUR, {"a": "", "b": ""}))


# Queries behind numbers


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A store with some minutes of one series for each of two tag values, in two data centers."""
    with devstore.running(tmp_path_factory.mktemp("page") / "store.sqlite3") as url:
        start_ms = round(AT.timestamp()) // 60 * 60_000
        served.post(
            url,
            [
                ("t.visit.fm.red.order.beta", start_ms + 60_000 * k, {"dc": dc, "experiment": "e", "device": device}, n)
                for dc, n in (("dal", 1), ("cdc", 100))
                for k in range(10)
                for device in ("mobile", "desktop")
            ],
        )
        yield url


@pytest.mark.parametrize(("tags", "expected"), [({}, 10), ({"device": ["mobile"]}, 5)])
def test_the_query_behind_a_number_gives_it(url: str, tags: dict[str, list[str]], expected: int) -> None:
    """Asked of the store as a browser does, it answers with the number: of the minutes and the dc that serve."""
    start = AT.replace(second=0)
    stretch = Served(start=start, end=start + timedelta(minutes=5), dc="dal", reason=ServingReason.PREFERRED)
    number = QueriedNumber("t", "e", "red", "visits", "order", Scope.QUALIFIED)
    kairosdb_answer = requests.get(queries.address(url, queries.body(number, stretch, tags)), timeout=10).json()
    assert [value for _, value in kairosdb_answer["queries"][0]["results"][0]["values"]] == [expected]


@pytest.mark.parametrize(
    ("number", "metric"),
    [
        (QueriedNumber("t", "e", "red", "assigned", None, Scope.QUALIFIED), "t.visit.assigned.red.beta"),
        (QueriedNumber("t", "e", "red", "qualified", None, Scope.ASSIGNED), "t.visit.fm.red.beta"),
        (QueriedNumber("t", "e", "red", "crossed", None, Scope.QUALIFIED), "t.visit.crossed.red.beta"),
        (QueriedNumber("t", "e", "red", "total", "order", Scope.ASSIGNED), "t.visit.assigned.red.order"),
        (QueriedNumber("t", "e", "red", "sum", "order", Scope.QUALIFIED), "t.visit.fm.red.order.sum"),
    ],
)
def test_the_metric_behind_a_number(number: QueriedNumber, metric: str) -> None:
    """As the reference names it."""
    assert number.metric() == metric


@pytest.mark.parametrize(
    ("parameters", "fault"),
    [
        ({"what": "everything", "variation": "red"}, "what must be one of assigned"),
        ({"what": "assigned", "variation": "green"}, "variation must be one of red, blue; got 'green'"),
        ({"what": "sum", "variation": "red"}, "point must be one of order; got ''"),
        ({"what": "visits", "variation": "red", "point": "gone"}, "point must be one of order; got 'gone'"),
    ],
)
def test_an_address_without_a_number_is_refused(parameters: dict[str, str], fault: str) -> None:
    """With what is wrong: no such number, variation or point, or no point where one is needed."""
    with pytest.raises(ProblemError) as refused:
        queries.number_of("t", "e", ["red", "blue"], ["order"], Scope.QUALIFIED, parameters)
    assert fault in refused.value.problem.detail


def test_a_number_of_no_point_needs_none() -> None:
    """A point in its address changes nothing."""
    parameters = {"what": "assigned", "variation": "red", "point": "order"}
    number = queries.number_of("t", "e", ["red", "blue"], ["order"], Scope.QUALIFIED, parameters)
    assert (number.metric(), number.title()) == ("t.visit.assigned.red.beta", "assigned, red")


def test_a_number_of_two_data_centers_has_two_queries() -> None:
    """One for each stretch of minutes."""
    stretches = [
        Served(start=AT, end=AT + timedelta(minutes=1), dc=dc, reason=ServingReason.STALE) for dc in ("dal", "cdc")
    ]
    content = queries.content(
        QueriedNumber("t", "e", "red", "assigned", None, Scope.QUALIFIED), stretches, {}, "http://k:1/"
    )
    assert "sum of 2" in content
    assert content.count("http://k:1/api/v1/datapoints/query?query=") == 2


# What is shared, and ranges


def test_readers_share_an_answer() -> None:
    """It is asked for again once it is too old; what fails is not kept."""
    now, asked = [0.0], []

    def ask() -> int:
        asked.append(now[0])
        if now[0] == 20:
            msg = "away"
            raise ConnectionError(msg)
        return len(asked)

    shared = Shared(ask, 5, lambda: now[0])
    assert shared.cached(60) is None
    assert [shared.get(), shared.get()] == [1, 1]
    now[0] = 6
    assert shared.get() == 2
    now[0] = 20
    with pytest.raises(ConnectionError):
        shared.get()
    assert shared.cached(60) == 2
    assert shared.cached(10) is None


def test_an_kairosdb_answerthat_takes_long_is_kept_for_longer() -> None:
    """At most a quarter of the time goes into computing it."""
    now, asked = [0.0], []

    def ask() -> int:
        asked.append(now[0])
        now[0] += 3
        return len(asked)

    shared = Shared(ask, 5, lambda: now[0])
    results = []
    while now[0] < 36:
        results.append(shared.get())
        now[0] += 1
    assert asked == [0, 13, 26]


def test_every_health_figure_is_in_the_operators_guide() -> None:
    """With its normal range, under the example's configuration."""
    text = (ROOT / "docs/operators.md").read_text()
    for name, limits in health_ranges.ranges(load(ROOT / "examples/shop/monitor.toml", {})).items():
        row = f"| {name} | {figures.normal_range(limits)} |".replace(figures.THIN, " ")
        assert row in text, row
        assert limits.meaning in text, name
        assert limits.fix in text, name


def answer(values: list[int]) -> SeriesAnswer:
    """A series of two variations by minute; the steps from the third on are provisional."""
    steps = [
        SeriesPoint(start=AT + timedelta(minutes=i), value=value, is_provisional=i >= 2)
        for i, value in enumerate(values)
    ]
    return SeriesAnswer(
        tenant="t",
        experiment="e",
        measure=Measure.VISITS,
        point="order",
        scope=Scope.QUALIFIED,
        step=Step.MINUTE,
        by=[],
        tags={},
        lines=[Line(variation=name, tags={}, points=steps) for name in ("a", "b")],
        basis=BASIS,
    )
