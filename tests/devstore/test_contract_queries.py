"""The contract of the metrics store, its queries: what a real KairosDB and the embedded store both answer.

Both stores are shared: each test uses a metric name of its own. Expected values were observed on KairosDB 1.3.0-1.
"""

import time
from typing import Any

import pytest

from tests.support.kairosdb_http import T, ask, errors, point, post, results, values, write, write_grid

UNITS = "MILLISECONDS,SECONDS,MINUTES,HOURS,DAYS,WEEKS,MONTHS,YEARS"

MINUTE = {"value": 1, "unit": "minutes"}
BY_MINUTE = {"sampling": MINUTE}
RANGES = [
    ({"name": "sum", **BY_MINUTE}, [[T, 22], [T + 40000, 48], [T + 100000, 20]]),
    ({"name": "sum", **BY_MINUTE, "align_start_time": True}, [[T - 20000, 22], [T + 40000, 48], [T + 100000, 20]]),
    ({"name": "sum", **BY_MINUTE, "align_end_time": True}, [[T + 40000, 22], [T + 100000, 48], [T + 160000, 20]]),
    (
        {"name": "sum", **BY_MINUTE, "align_start_time": True, "align_end_time": True},
        [[T - 20000, 22], [T + 40000, 48], [T + 100000, 20]],
    ),
    ({"name": "sum", **BY_MINUTE, "align_sampling": False}, [[T, 36], [T + 60000, 54]]),
    ({"name": "sum"}, [[T + step * 20000, 10 + 2 * step] for step in range(6)]),
    ({"name": "sum", "sampling": {"value": "1", "unit": "MINUTES"}}, [[T, 22], [T + 40000, 48], [T + 100000, 20]]),
    ({"name": "avg", **BY_MINUTE}, [[T, 5.5], [T + 40000, 8], [T + 100000, 10]]),
    ({"name": "min", **BY_MINUTE}, [[T, 0], [T + 40000, 2], [T + 100000, 5]]),
    ({"name": "max", **BY_MINUTE}, [[T, 11], [T + 40000, 14], [T + 100000, 15]]),
    ({"name": "count", **BY_MINUTE}, [[T, 4], [T + 40000, 6], [T + 100000, 2]]),
    ({"name": "first", **BY_MINUTE}, [[T, 0], [T + 40000, 2], [T + 100000, 5]]),
    ({"name": "first", **BY_MINUTE, "align_end_time": True}, [[T + 40000, 0], [T + 100000, 2], [T + 160000, 5]]),
    ({"name": "last", **BY_MINUTE}, [[T + 20000, 11], [T + 80000, 14], [T + 100000, 15]]),
    ({"name": "last", **BY_MINUTE, "align_end_time": True}, [[T + 40000, 11], [T + 100000, 14], [T + 160000, 15]]),
    (
        {"name": "dev", **BY_MINUTE},
        [[T, 5.802298395176403], [T + 40000, 5.549774770204643], [T + 100000, 7.0710678118654755]],
    ),
    ({"name": "percentile", "percentile": 0.5, "sampling": {"value": 1, "unit": "hours"}}, [[T, 7.5]]),
    ({"name": "sum", "sampling": {"value": 7, "unit": "minutes"}, "align_start_time": True}, [[1699999800000, 90]]),
    ({"name": "sum", "sampling": {"value": 1, "unit": "days"}, "align_start_time": True}, [[1699920000000, 90]]),
    ({"name": "sum", "sampling": {"value": 1, "unit": "weeks"}, "align_start_time": True}, [[1699833600000, 90]]),
    ({"name": "sum", "sampling": {"value": 1, "unit": "months"}, "align_start_time": True}, [[1698796800000, 90]]),
    ({"name": "sum", "sampling": {"value": 1, "unit": "years"}, "align_end_time": True}, [[1704067200000, 90]]),
    (
        {"name": "sum", "sampling": {"value": 30000, "unit": "milliseconds"}, "align_start_time": True},
        [[T, 22], [T + 30000, 14], [T + 60000, 34], [T + 90000, 20]],
    ),
]


@pytest.mark.parametrize(("aggregator", "expected"), RANGES)
def test_range_aggregators(kairosdb_url: str, metric: str, aggregator: Any, expected: list[list[Any]]) -> None:
    """One value for each range with points; ranges are counted from midnight unless align_sampling is false."""
    write_grid(kairosdb_url, metric)
    query = {"tags": {"dev": "ios"}, "start_absolute": T - 60000, "end_absolute": T + 3600000}
    assert values(kairosdb_url, metric, aggregators=[aggregator], **query) == expected


STEPS = [T + step * 20000 for step in range(6)]
PIPELINES = [
    ([{"name": "rate", "unit": "SECONDS"}], [[at, 0.05] for at in STEPS[1:]]),
    ([{"name": "rate", "sampling": {"value": 5, "unit": "seconds"}}], [[at, 0.25] for at in STEPS[1:]]),
    ([{"name": "rate"}], [[at, 0.00005] for at in STEPS[1:]]),
    ([{"name": "diff"}], [[at, 1] for at in STEPS[1:]]),
    ([{"name": "div", "divisor": 2}], [[at, step / 2] for step, at in enumerate(STEPS)]),
    ([{"name": "scale", "factor": 3}], [[at, step * 3] for step, at in enumerate(STEPS)]),
    ([{"name": "scale"}], [[at, 0] for at in STEPS]),
    ([{"name": "sum", **BY_MINUTE}, {"name": "div", "divisor": 10}], [[T, 0.1], [T + 40000, 0.9], [T + 100000, 0.5]]),
    ([{"name": "dev", **BY_MINUTE}], [[T, 0.7071067811865476], [T + 40000, 1], [T + 100000, 0]]),
    ([{"name": "percentile", "percentile": "0.9", **BY_MINUTE}], [[T, 1], [T + 40000, 4], [T + 100000, 5]]),
]


@pytest.mark.parametrize(("aggregators", "expected"), PIPELINES)
def test_aggregators_of_one_series(kairosdb_url: str, metric: str, aggregators: Any, expected: list[list[Any]]) -> None:
    """Those that look from point to point, and several after each other."""
    write_grid(kairosdb_url, metric)
    assert values(kairosdb_url, metric, tags={"dc": ["eu"], "dev": ["ios"]}, aggregators=aggregators) == expected


def test_a_rate_over_two_points_at_one_time_fails(kairosdb_url: str, metric: str) -> None:
    """Several series of one group need an aggregator before rate."""
    write_grid(kairosdb_url, metric)
    (message,) = errors(ask(kairosdb_url, metric, aggregators=[{"name": "rate"}]), 500)
    assert "You must precede rate with another aggregator." in message


MIDNIGHT = 1_699_156_800_000
HOUR_MS = 3_600_000
ZONED = [
    ("days", [[MIDNIGHT - 24 * HOUR_MS, 1], [MIDNIGHT, 3], [MIDNIGHT + 25 * HOUR_MS, 1]]),
    ("weeks", [[MIDNIGHT - 6 * 24 * HOUR_MS, 4], [MIDNIGHT + 25 * HOUR_MS, 1]]),
    ("months", [[MIDNIGHT - 4 * 24 * HOUR_MS, 5]]),
    ("years", [[1_672_549_200_000, 5]]),
]


@pytest.mark.parametrize(("unit", "expected"), ZONED)
def test_calendar_ranges_begin_at_midnight_of_the_time_zone(
    kairosdb_url: str, metric: str, unit: str, expected: list[list[int]]
) -> None:
    """Around the day that has 25 hours, Sunday 2023-11-05 in New York; weeks begin on Monday."""
    points = [point(metric, timestamp=MIDNIGHT + hour * HOUR_MS) for hour in (-1, 0, 1, 24, 25)]
    assert write(kairosdb_url, points) == (204, [])
    counted = {"name": "count", "sampling": {"value": 1, "unit": unit}, "align_start_time": True}
    zoned = {"time_zone": "America/New_York", "start_absolute": MIDNIGHT - HOUR_MS}
    assert values(kairosdb_url, metric, aggregators=[counted], **zoned) == expected


def test_series_are_merged_by_time_and_value_unless_grouped(kairosdb_url: str, metric: str) -> None:
    """Two points at one time stay two; descending order turns both around."""
    points = [
        point(metric, timestamp=T + index % 2, value=value, tags={"h": str(index)})
        for index, value in enumerate([5, 3, 1, 7])
    ]
    assert write(kairosdb_url, points) == (204, [])
    merged = [[T, 1], [T, 5], [T + 1, 3], [T + 1, 7]]
    assert values(kairosdb_url, metric) == merged
    assert values(kairosdb_url, metric, order="DESC") == merged[::-1]


def test_descending_points_fall_into_one_range(kairosdb_url: str, metric: str) -> None:
    """KairosDB's aggregators look at the end of a range only: with order desc everything lies before it."""
    write_grid(kairosdb_url, metric)
    assert values(kairosdb_url, metric, order="desc", aggregators=[{"name": "sum", **BY_MINUTE}]) == [[T + 100000, 280]]


def test_groups_by_tags_are_sorted_and_a_missing_tag_is_empty(kairosdb_url: str, metric: str) -> None:
    """One result a combination of tag values; a series without the tag has the value ""."""
    write_grid(kairosdb_url, metric)
    grouped = results(kairosdb_url, metric, group_by=[{"name": "tag", "tags": ["dc", "dev"]}])
    assert [result["group_by"][0] for result in grouped] == [
        {"name": "tag", "tags": ["dc", "dev"], "group": {"dc": dc, "dev": dev}}
        for dc, dev in (("eu", ""), ("eu", "ios"), ("eu", "web"), ("us", "ios"), ("us", "web"))
    ]
    assert all(result["group_by"][1] == {"name": "type", "type": "number"} for result in grouped)
    assert grouped[0]["tags"] == {"dc": ["eu"]}
    assert [len(result["values"]) for result in grouped] == [1, 6, 6, 6, 6]
    by_dc = results(kairosdb_url, metric, group_by=[{"name": "tag", "tags": ["dc"]}], aggregators=[{"name": "sum"}])
    assert [result["values"][0] for result in by_dc] == [[T, 100], [T, 20]]
    assert {name: sorted(found) for name, found in by_dc[0]["tags"].items()} == {"dc": ["eu"], "dev": ["ios", "web"]}


@pytest.mark.parametrize(
    ("tags", "sample_size"),
    [
        ({}, 25),
        ({"dc": []}, 25),
        ({"dc": "eu"}, 13),
        ({"dc": ["eu", "us"], "dev": "ios"}, 12),
        ({"dc": "eu", "dev": ["ios"]}, 6),
        ({"dc": "zz"}, 0),
        ({"zz": "eu"}, 0),
    ],
)
def test_values_of_a_tag_are_ored_and_tags_anded(kairosdb_url: str, metric: str, tags: Any, sample_size: int) -> None:
    """A bare text is a list of one, an empty list is no condition; sample_size counts the points read."""
    write_grid(kairosdb_url, metric)
    assert ask(kairosdb_url, metric, tags=tags).json()["queries"][0]["sample_size"] == sample_size


def test_limit_counts_for_every_series_and_again_for_the_result(kairosdb_url: str, metric: str) -> None:
    """sample_size shows the first, the values the second; it comes before aggregators. 0 and less are none."""
    write_grid(kairosdb_url, metric)
    (answer,) = ask(kairosdb_url, metric, tags={"dev": "ios"}, limit=2).json()["queries"]
    assert (answer["sample_size"], answer["results"][0]["values"]) == (4, [[T, 0], [T, 10]])
    assert values(kairosdb_url, metric, tags={"dev": "ios"}, limit="2", aggregators=[{"name": "sum"}]) == [[T, 10]]
    for unlimited in (0, -1):
        assert len(values(kairosdb_url, metric, limit=unlimited)) == 25


def test_tags_can_be_left_out(kairosdb_url: str, metric: str) -> None:
    """exclude_tags."""
    write_grid(kairosdb_url, metric)
    assert "tags" not in results(kairosdb_url, metric, exclude_tags=True)[0]


def test_start_and_end_are_both_included(kairosdb_url: str, metric: str) -> None:
    """Also as text, and also when they are the same."""
    write_grid(kairosdb_url, metric)
    query = {"tags": {"dc": "us", "dev": "ios"}}
    found = values(kairosdb_url, metric, start_absolute=T + 20000, end_absolute=T + 40000, **query)
    assert found == [[T + 20000, 11], [T + 40000, 12]]
    assert values(kairosdb_url, metric, start_absolute=f"{T}", end_absolute=f"{T}", **query) == [[T, 10]]


def test_relative_times_count_back_from_now(kairosdb_url: str, metric: str) -> None:
    """Start and end, units in any case."""
    now_ms = int(time.time() * 1000)
    ages_s = {"new": 60, "old": 7_200, "older": 7 * 86_400 + 60}
    points = [point(metric, timestamp=now_ms - age_s * 1000, value=age_s) for age_s in ages_s.values()]
    assert write(kairosdb_url, points) == (204, [])

    def found(**query: Any) -> list[int]:
        return [value for _, value in values(kairosdb_url, metric, **query)]

    hour, week = {"value": 1, "unit": "hours"}, {"value": "1", "unit": "WEEKS"}
    assert found(start_relative=hour) == [60]
    assert found(start_relative=week) == [7_200, 60]
    assert found(start_relative=week, end_relative=hour) == [7_200]
    assert found(start_relative={"value": 1, "unit": "months"}) == [ages_s["older"], 7_200, 60]


def test_every_metric_of_a_query_has_its_answer_in_order(kairosdb_url: str, metric: str) -> None:
    """One entry of queries a metric; one without data has no values."""
    write_grid(kairosdb_url, metric)
    metrics = [{"name": metric, "limit": 1}, {"name": f"{metric}.none"}, {"name": metric, "tags": {"dc": "us"}}]
    response = post(kairosdb_url, "datapoints/query", {"start_absolute": 0, "metrics": metrics})
    assert [answer["sample_size"] for answer in response.json()["queries"]] == [5, 0, 12]


def test_a_metric_without_points_has_no_values(kairosdb_url: str, metric: str) -> None:
    """No result (after 1.3.0), or one with empty tags and values (1.3.0): clients must take both."""
    (answer,) = ask(kairosdb_url, metric, group_by=[{"name": "tag", "tags": ["a"]}]).json()["queries"]
    assert answer["sample_size"] == 0
    assert answer["results"] in ([], [{"name": metric, "tags": {}, "values": []}])


PLACE = "query.metric[0]"
BAD_METRICS = [
    ({"name": ""}, f"{PLACE}.name may not be empty"),
    ({}, f"{PLACE}.name may not be null"),
    ({"name": "m", "order": "up"}, f"{PLACE}.order must be either 'asc' or 'desc'"),
    ({"name": "m", "tags": {"dc": ""}}, f"{PLACE}.tags[0].dc value must not be null or empty"),
    ({"name": "m", "tags": {"x": "y", "dc": [None]}}, f"{PLACE}.tags[1].dc value must not be null or empty"),
    ({"name": "m", "tags": {"": "x"}}, f"{PLACE}.tags[0] name must not be empty"),
    ({"name": "m", "group_by": [{"name": "tag", "tags": []}]}, f"{PLACE}.group_by[0].tags may not be empty"),
    ({"name": "m", "group_by": [{"name": "tag"}]}, f"{PLACE}.group_by[0].tags may not be null"),
    ({"name": "m", "group_by": [{"name": "zz"}]}, f"{PLACE}.group_by[0].zz invalid group_by name"),
    ({"name": "m", "group_by": [{"tags": ["dc"]}]}, f"{PLACE}.group_by[0] must have a name"),
    ({"name": "m", "aggregators": [{"name": "zzz"}]}, f"{PLACE}.aggregators[0].zzz invalid aggregators name"),
    ({"name": "m", "aggregators": [{"name": "sum"}, {}]}, f"{PLACE}.aggregators[1] must have a name"),
    (
        {"name": "m", "aggregators": [{"name": "sum", "foo": 1}]},
        "Property 'foo' was specified for object 'sum' but no matching setter was found on "
        "'class org.kairosdb.core.aggregator.SumAggregator'",
    ),
    (
        {"name": "m", "aggregators": [{"name": "sum", "sampling": {"value": -1, "unit": "minutes"}}]},
        f"{PLACE}.aggregators[0].sampling.value must be greater than or equal to 0",
    ),
    (
        {"name": "m", "aggregators": [{"name": "sum", "sampling": {"value": 1}}]},
        f"{PLACE}.aggregators[0].sampling.unit may not be null",
    ),
    (
        {"name": "m", "aggregators": [{"name": "sum", "sampling": {"value": 1, "unit": "foo"}}]},
        f"{PLACE}.aggregators[0].foo is not a valid time unit, must be one of {UNITS}",
    ),
    ({"name": "m", "aggregators": [{"name": "div"}]}, f"{PLACE}.aggregators[0].m_divisor may not be zero"),
    ({"name": "m", "aggregators": [{"name": "percentile"}]}, f"{PLACE}.aggregators[0].percentile may not be zero"),
    (
        {"name": "m", "aggregators": [{"name": "scale", "factor": "x"}]},
        f'{PLACE}.aggregators[0].factor For input string: "x"',
    ),
]


@pytest.mark.parametrize("path", ["datapoints/query", "datapoints/query/tags", "datapoints/delete"])
@pytest.mark.parametrize(("asked", "message"), BAD_METRICS)
def test_a_bad_query_is_refused_with_its_place(kairosdb_url: str, path: str, asked: Any, message: str) -> None:
    """400 with the place and the rule, for each of the three paths that take a query."""
    assert errors(post(kairosdb_url, path, {"start_absolute": 1, "metrics": [asked]})) == [message]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "query.metric[] must have a size of at least 1"),
        ({"metrics": [{"name": "m"}]}, f"{PLACE}.start_time relative or absolute time must be set"),
        (
            {"start_absolute": 5, "end_absolute": 1, "metrics": [{"name": "m"}]},
            f"{PLACE}.end_time must be greater than the start time",
        ),
        ({"start_absolute": 1, "metrics": [{"name": "m"}, {"name": ""}]}, "query.metric[1].name may not be empty"),
        (
            {"start_relative": {"value": 1, "unit": "foo"}, "metrics": [{"name": "m"}]},
            f"query.foo is not a valid time unit, must be one of {UNITS}",
        ),
        (
            {"start_relative": {"value": -1, "unit": "hours"}, "metrics": [{"name": "m"}]},
            "start_relative.value must be greater than or equal to 0",
        ),
        ({"start_relative": {"value": 1}, "metrics": [{"name": "m"}]}, "start_relative.unit may not be null"),
        (
            {"start_absolute": 1, "cache_time": -1, "metrics": [{"name": "m"}]},
            "cache_time must be greater than or equal to 0",
        ),
    ],
)
def test_a_query_needs_metrics_and_a_time_range(kairosdb_url: str, body: Any, message: str) -> None:
    """400 with the rule."""
    assert errors(post(kairosdb_url, "datapoints/query", body)) == [message]


def test_a_time_zone_must_exist(kairosdb_url: str, metric: str) -> None:
    """The message lists those that do; an empty one is UTC."""
    (message,) = errors(ask(kairosdb_url, metric, time_zone="Foo"))
    assert message.startswith("query.Foo is not a valid time zone, must be one of [Africa/Abidjan, Africa/Accra, ")
    assert ask(kairosdb_url, metric, time_zone="").status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [("", 500), ("5", 500), ("[]", 500), ("null", 500), ("{", 400), ('{"start_absolute": "x", "metrics": []}', 400)],
)
def test_what_is_no_query_is_refused(kairosdb_url: str, body: str, status: int) -> None:
    """A JSON value that is not an object is a 500, broken JSON a 400."""
    assert len(errors(post(kairosdb_url, "datapoints/query", body), status)) == 1


def test_no_metrics_asked_is_no_fault(kairosdb_url: str) -> None:
    """An empty list has an empty answer."""
    assert post(kairosdb_url, "datapoints/query", {"start_absolute": 1, "metrics": []}).json() == {"queries": []}


def test_a_sampling_of_zero_fails_where_there_are_points(kairosdb_url: str, metric: str) -> None:
    """KairosDB divides by it."""
    aggregators = [{"name": "sum", "sampling": {"value": 0, "unit": "minutes"}}]
    assert values(kairosdb_url, metric, aggregators=aggregators) == []
    write_grid(kairosdb_url, metric)
    assert errors(ask(kairosdb_url, metric, aggregators=aggregators), 500) == ["/ by zero"]
