"""The contract of the metrics store: what a real KairosDB and the embedded store both do.

Every test runs against both servers and uses a metric name of its own, so both may be shared. Expected values were
observed on KairosDB 1.3.0-1.
"""

import gzip
import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from monitor import devstore

T = 1_700_000_000_000
TIMEOUT_S = 30
END_OF_INPUT = "Invalid json. No content due to end of input."
UNITS = "MILLISECONDS,SECONDS,MINUTES,HOURS,DAYS,WEEKS,MONTHS,YEARS"


@pytest.fixture(scope="module")
def embedded_kairosdb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with devstore.running(tmp_path_factory.mktemp("store") / "points.db") as url:
        yield url


@pytest.fixture(params=["embedded", "real"])
def kairosdb_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"{request.param}_kairosdb")
    return url


@pytest.fixture
def metric() -> str:
    return f"contract.{uuid.uuid4().hex}"


def post(url: str, path: str, body: Any, **headers: str) -> requests.Response:
    data = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
    return requests.post(f"{url}/api/v1/{path}", data=data, headers=headers, timeout=TIMEOUT_S)


def write(url: str, body: Any, **headers: str) -> tuple[int, list[str]]:
    """The status and the errors of the answer to datapoints; a body that is text is sent as it is."""
    response = post(url, "datapoints", body, **headers)
    return response.status_code, response.json()["errors"] if response.content else []


def point(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "timestamp": T, "value": 1, "type": "long", "tags": {"a": "b"}, **fields}


def ask(url: str, name: str, path: str = "datapoints/query", **fields: Any) -> requests.Response:
    """The answer to a query of one metric over all time; upper fields of a query go into the query, not the metric."""
    upper = {} if "start_relative" in fields else {"start_absolute": 0}
    for field in ("start_absolute", "end_absolute", "start_relative", "end_relative", "time_zone"):
        if field in fields:
            upper[field] = fields.pop(field)
    return post(url, path, {**upper, "metrics": [{"name": name, **fields}]})


def results(url: str, name: str, **fields: Any) -> list[dict[str, Any]]:
    """The results that hold values: a metric without any has no result or an empty one, by version."""
    response = ask(url, name, **fields)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["queries"][0]["results"]
    return [result for result in found if result["values"]]


def values(url: str, name: str, **fields: Any) -> list[list[Any]]:
    """The values of the one result there is, or of none."""
    found = results(url, name, **fields)
    assert len(found) <= 1
    return found[0]["values"] if found else []


def errors(response: requests.Response, status: int = 400) -> list[str]:
    assert response.status_code == status, response.text
    found: list[str] = response.json()["errors"]
    return found


# --- writing --------------------------------------------------------------------------------------------------------


def test_a_point_that_was_accepted_is_read_back_with_its_tags(kairosdb_url: str, metric: str) -> None:
    """204 without a body; the answer to a query names the metric, its type, its tags and its values."""
    response = post(kairosdb_url, "datapoints", [point(metric, value=42, tags={"dc": "eu", "dev": "ios"}, ttl=2592000)])
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert ask(kairosdb_url, metric).json() == {
        "queries": [
            {
                "sample_size": 1,
                "results": [
                    {
                        "name": metric,
                        "group_by": [{"name": "type", "type": "number"}],
                        "tags": {"dc": ["eu"], "dev": ["ios"]},
                        "values": [[T, 42]],
                    }
                ],
            }
        ]
    }


def test_one_object_and_a_list_of_datapoints_are_taken_too(kairosdb_url: str, metric: str) -> None:
    """A body may be one object; datapoints may stand beside timestamp and value; a point may have its own type."""
    body = {**point(metric), "datapoints": [[T + 1, 2], [T + 2, 3, "double"], [f"{T + 3}", "4"]], "unknown": {"x": [1]}}
    assert write(kairosdb_url, body) == (204, [])
    assert values(kairosdb_url, metric) == [[T, 1], [T + 1, 2], [T + 2, 3], [T + 3, 4]]


@pytest.mark.parametrize("name", ["a b:c\"d'e", "größe.µ", "a/b?c=d&e", "<x>%20"])
def test_a_name_may_hold_any_character(kairosdb_url: str, metric: str, name: str) -> None:
    """KairosDB restricts no character of a name."""
    assert write(kairosdb_url, [point(metric + name)]) == (204, [])
    assert values(kairosdb_url, metric + name) == [[T, 1]]


INVALID = [
    ("", [END_OF_INPUT]),
    ("[", [END_OF_INPUT, END_OF_INPUT]),
    ("{}", ["metric[0].name may not be null.", "metric[0].tags count must be greater than or equal to 1."]),
    ('{"name": "N"}', ["metric[0](name=N).tags count must be greater than or equal to 1."]),
    ('{"name": "N", "tags": null}', ["metric[0](name=N).tags count must be greater than or equal to 1."]),
    ('{"name": "", "timestamp": 1, "value": 1, "tags": {"a": "b"}}', ["metric[0].name may not be empty."]),
    ('{"name": "N", "tags": {"x": ""}}', ["metric[0](name=N).tag[x].value may not be empty."]),
    ('{"name": "N", "tags": {"x": null}}', ["metric[0](name=N).tag[x].value may not be null."]),
    ('{"name": "N", "tags": {"": "x"}}', ["metric[0](name=N).tag[0].name may not be empty."]),
    ('{"name": "N", "value": 1, "tags": {"a": "b"}}', ["metric[0](name=N).timestamp may not be null."]),
    ('{"name": "N", "timestamp": 1, "tags": {"a": "b"}}', ["metric[0](name=N).value may not be null."]),
    ('{"name": "N", "timestamp": 1, "value": null, "tags": {"a": "b"}}', ["metric[0](name=N).value may not be empty."]),
    ('{"name": "N", "timestamp": 1, "value": "", "tags": {"a": "b"}}', ["metric[0](name=N).value may not be empty."]),
    (
        '{"name": "N", "timestamp": 1, "value": [], "tags": {"a": "b"}}',
        ["metric[0](name=N).value may not be an empty array."],
    ),
    (
        '{"name": "N", "timestamp": 1, "value": {}, "tags": {"a": "b"}}',
        ["metric[0](name=N) value is an invalid type"],
    ),
    (
        '{"name": "N", "timestamp": 1, "value": 1, "type": "x", "tags": {"a": "b"}}',
        ["Unregistered data point type 'x'"],
    ),
    ('{"name": "N", "timestamp": 1, "value": 1, "tags": {"a": "b", "a": "c"}}', ["duplicate key: a"]),
    (
        '[{"name": "N", "tags": {"x": ""}}, {}]',
        [
            "metric[0](name=N).tag[x].value may not be empty.",
            "metric[1].name may not be null.",
            "metric[1].tags count must be greater than or equal to 1.",
        ],
    ),
]


@pytest.mark.parametrize(("body", "messages"), INVALID)
def test_invalid_metrics_are_named_with_their_faults(
    kairosdb_url: str, metric: str, body: str, messages: list[str]
) -> None:
    """400 with one message a fault: the metric's place in the request, the field, the rule."""
    status, found = write(kairosdb_url, body.replace("N", metric))
    assert (status, found) == (400, [message.replace("(name=N", f"(name={metric}") for message in messages])
    assert values(kairosdb_url, metric) == []


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ('"timestamp": 1.5, "value": 1', 400),
        ('"timestamp": "abc", "value": 1', 400),
        ('"timestamp": "", "value": 1', 400),
        ('"timestamp": true, "value": 1', 400),
        ('"timestamp": 1, "value": 1, "ttl": 1.5', 400),
        ('"timestamp": 1, "value": 1, "ttl": "x"', 400),
        ('"timestamp": 1, "value": 1, "ttl": 99999999999', 400),
        ('"datapoints": 5', 400),
        ('"datapoints": [5]', 400),
        ('"datapoints": [null]', 500),
        ('"datapoints": [[1, 2, null]]', 500),
        ('"datapoints": [[true, 2]]', 500),
        ('"timestamp": 1, "value": true, "type": "long"', 500),
        ('"timestamp": 1, "value": "abc", "type": "double"', 500),
    ],
)
def test_fields_of_a_wrong_json_type_are_refused(kairosdb_url: str, metric: str, fields: str, status: int) -> None:
    """What cannot be read as the field's type ends the request, and nothing of the metric is stored."""
    body = f'{{"name": "{metric}", "tags": {{"a": "b"}}, {fields}}}'
    assert write(kairosdb_url, body)[0] == status
    assert values(kairosdb_url, metric) == []


@pytest.mark.parametrize("body", ["5", '"x"', "null", "[5]", "[[]]", "{", "[{", '["x"]', "\N{REPLACEMENT CHARACTER}[]"])
def test_what_is_no_metric_is_refused(kairosdb_url: str, body: str) -> None:
    """400 with an error, whatever JSON value or broken text comes."""
    status, found = write(kairosdb_url, body)
    assert (status, len(found)) == (400, 1)


@pytest.mark.parametrize("body", ["[]", " [ ] "])
def test_an_empty_array_is_accepted(kairosdb_url: str, body: str) -> None:
    """Nothing to store is no fault."""
    assert write(kairosdb_url, body) == (204, [])


def test_a_metric_without_any_point_is_accepted_and_stores_nothing(kairosdb_url: str, metric: str) -> None:
    """Neither value nor datapoints: 204, as with null or no datapoints."""
    without: list[dict[str, Any]] = [{}, {"datapoints": None}, {"datapoints": []}, {"value": None}]
    for fields in without:
        assert write(kairosdb_url, {"name": metric, "tags": {"a": "b"}, **fields}) == (204, [])
    assert values(kairosdb_url, metric) == []


# --- partial failure ------------------------------------------------------------------------------------------------


def test_valid_metrics_around_an_invalid_one_are_stored(kairosdb_url: str, metric: str) -> None:
    """A 400 for one metric does not mean that nothing was written."""
    body = [point(metric, value=1), point(metric, tags={}), point(metric, timestamp=T + 2, value=3)]
    status, found = write(kairosdb_url, body)
    message = f"metric[1](name={metric}).tags count must be greater than or equal to 1."
    assert (status, found) == (400, [message])
    assert values(kairosdb_url, metric) == [[T, 1], [T + 2, 3]]


@pytest.mark.parametrize("broken", ['{"name": "x", "tags"', '{"name": "x", "tags": {"a": {}}}, ', '{"tags": ["a"]}, '])
def test_a_syntax_error_keeps_what_came_before_it(kairosdb_url: str, metric: str, broken: str) -> None:
    """The body is read as a stream: metrics before the fault are stored, those after it are lost."""
    before, after = json.dumps(point(metric)), json.dumps(point(metric, timestamp=T + 1))
    status, found = write(kairosdb_url, f"[{before}, {broken}{after}]")
    assert (status, len(found)) == (400, 1)
    assert values(kairosdb_url, metric) == [[T, 1]]


def test_a_body_that_ends_between_two_metrics_keeps_the_first(kairosdb_url: str, metric: str) -> None:
    """A truncated array is a fault, but its whole metrics are stored."""
    assert write(kairosdb_url, "[" + json.dumps(point(metric))) == (400, [END_OF_INPUT, END_OF_INPUT])
    assert values(kairosdb_url, metric) == [[T, 1]]


def test_a_conversion_error_is_a_500_and_keeps_what_came_before_it(kairosdb_url: str, metric: str) -> None:
    """Text with a numeric type, or as a timestamp, ends the request with 500."""
    body = [point(metric), point(metric, timestamp=T + 1, value="abc"), point(metric, timestamp=T + 2)]
    assert write(kairosdb_url, body) == (500, ['For input string: "abc"'])
    body = [{"name": metric, "tags": {"a": "b"}, "datapoints": [[T + 3, 2], ["abc", 1], [T + 4, 4]]}]
    assert write(kairosdb_url, body) == (500, ['For input string: "abc"'])
    assert values(kairosdb_url, metric) == [[T, 1], [T + 3, 2]]


def test_bad_datapoints_are_named_and_the_others_stored(kairosdb_url: str, metric: str) -> None:
    """The index does not advance past a bad point, so that it can be off; a fraction of a timestamp is cut off."""
    datapoints = [[1, 2], [], [3], [None, 4], [5, None], [6, ""], [7, 8, "zz"], [9, 10], [13.7, 14], [15, {}]]
    place = f"metric[0](name={metric}).datapoints[1]"
    assert write(kairosdb_url, {"name": metric, "tags": {"a": "b"}, "datapoints": datapoints}) == (
        400,
        [
            f"{place}.timestamp cannot be null or empty.",
            f"{place}.value cannot be null or empty.",
            f"{place}.timestamp may not be null.",
            f"{place}.value may not be empty.",
            f"{place}.value may not be empty.",
            "Unregistered data point type 'zz'",
            f"metric[0](name={metric}) value is an invalid type",
        ],
    )
    assert values(kairosdb_url, metric) == [[1, 2], [9, 10], [13, 14]]


# --- types and keys -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "group_type", "stored"),
    [
        ("7", "number", 7),
        ("7.5", "number", 7.5),
        ('"7"', "number", 7),
        ('"7.5"', "number", 7.5),
        ('".5"', "number", 0.5),
        ("1e3", "number", 1000),
        ('"5."', "text", "5."),
        ('"1e3"', "text", "1e3"),
        ('"seven"', "text", "seven"),
        ("true", "text", "true"),
    ],
)
def test_a_point_without_a_type_has_the_type_of_its_text(
    kairosdb_url: str, metric: str, text: str, group_type: str, stored: Any
) -> None:
    """A number, or text of digits and at most one dot, is a number; any other text and booleans are text."""
    body = f'{{"name": "{metric}", "timestamp": {T}, "value": {text}, "tags": {{"a": "b"}}}}'
    assert write(kairosdb_url, body) == (204, [])
    (result,) = results(kairosdb_url, metric)
    assert (result["group_by"], result["values"]) == ([{"name": "type", "type": group_type}], [[T, stored]])


def test_a_second_write_of_the_same_key_overwrites(kairosdb_url: str, metric: str) -> None:
    """Name, tags (in any order), timestamp and type are the key: writing again is an upsert, the last one wins."""
    first = point(metric, value=1, tags={"a": "b", "c": "d"})
    again = point(metric, value=7, tags={"c": "d", "a": "b"})
    assert write(kairosdb_url, [first]) == (204, [])
    assert write(kairosdb_url, [again]) == (204, [])
    assert values(kairosdb_url, metric) == [[T, 7]]
    assert write(kairosdb_url, [first, again, {**first, "value": 5}]) == (204, [])
    assert values(kairosdb_url, metric) == [[T, 5]]


def test_the_type_is_part_of_the_key(kairosdb_url: str, metric: str) -> None:
    """The same point once as a long and once as a double is two points: the text of an untyped number decides."""
    for text in ("1", "2.0", "3"):
        body = f'{{"name": "{metric}", "timestamp": {T}, "value": {text}, "tags": {{"a": "b"}}}}'
        assert write(kairosdb_url, body) == (204, [])
    assert values(kairosdb_url, metric) == [[T, 2], [T, 3]]


def test_numbers_and_text_of_a_metric_are_two_results(kairosdb_url: str, metric: str) -> None:
    """One result a type group, numbers first; text passes aggregators that are not for it, and count counts it."""
    points = [point(metric, value=2.5, type="double"), point(metric, value="x", type="string"), point(metric, value=3)]
    assert write(kairosdb_url, points) == (204, [])
    assert [result["values"] for result in results(kairosdb_url, metric)] == [[[T, 2.5], [T, 3]], [[T, "x"]]]
    summed = results(kairosdb_url, metric, aggregators=[{"name": "sum"}])
    assert [result["values"] for result in summed] == [[[T, 5.5]], [[T, "x"]]]
    counted = results(kairosdb_url, metric, aggregators=[{"name": "count"}])
    assert [(result["group_by"][0]["type"], result["values"]) for result in counted] == [
        ("number", [[T, 2]]),
        ("text", [[T, 1]]),
    ]


def test_tag_values_that_are_numbers_or_booleans_become_their_text(kairosdb_url: str, metric: str) -> None:
    """The text is the one that was sent: 1.50 is not 1.5."""
    tags = '{"a": 1, "b": true, "c": 1.50, "d": 1e5}'
    assert write(kairosdb_url, f'{{"name": "{metric}", "timestamp": {T}, "value": 1, "tags": {tags}}}') == (204, [])
    assert results(kairosdb_url, metric)[0]["tags"] == {"a": ["1"], "b": ["true"], "c": ["1.50"], "d": ["1e5"]}
    assert values(kairosdb_url, metric, tags={"a": 1}) == [[T, 1]]


@pytest.mark.parametrize("timestamp", [0, -1, 1, T, f"{T}", float(T)])
def test_any_whole_timestamp_is_taken_as_milliseconds(kairosdb_url: str, metric: str, timestamp: Any) -> None:
    """Zero, the past before 1970, a text, a whole double: nothing detects seconds."""
    assert write(kairosdb_url, [point(metric, timestamp=timestamp)]) == (204, [])
    assert values(kairosdb_url, metric, start_absolute=-10) == [[int(timestamp), 1]]


def test_time_stands_for_timestamp_and_wins(kairosdb_url: str, metric: str) -> None:
    """The alias of old versions."""
    assert write(kairosdb_url, [point(metric, time=T + 9)]) == (204, [])
    assert values(kairosdb_url, metric) == [[T + 9, 1]]


def test_values_come_back_exactly(kairosdb_url: str, metric: str) -> None:
    """Longs beyond a double's 53 bits, doubles of any size; integral doubles are written without a fraction."""
    longs = [9007199254740993, 2**63 - 1, -(2**63), 0, -5]
    doubles = [1e-7, 1e21, 1e7, 123456789.0, 0.001, 5.0, -2.5, 1e300]
    points = [point(metric, timestamp=T + index, value=value) for index, value in enumerate(longs)]
    points += [
        point(metric, timestamp=T + 10 + index, value=value, type="double") for index, value in enumerate(doubles)
    ]
    assert write(kairosdb_url, points) == (204, [])
    found = [value for _, value in values(kairosdb_url, metric)]
    assert found == [*longs, *doubles]
    assert [type(value) for value in found[: len(longs)]] == [int] * len(longs)
    assert type(found[len(longs) + doubles.index(5.0)]) is int


@pytest.mark.parametrize("header", [{"Content-Type": "application/gzip"}, {"Content-Encoding": "GZIP"}])
def test_a_body_may_be_gzipped(kairosdb_url: str, metric: str, header: dict[str, str]) -> None:
    """By content type, as in every version, or by content encoding."""
    assert write(kairosdb_url, gzip.compress(json.dumps([point(metric)]).encode(), 1), **header) == (204, [])
    assert values(kairosdb_url, metric) == [[T, 1]]


def test_a_body_that_is_not_gzip_is_refused(kairosdb_url: str) -> None:
    """400 by the content type, 500 by the encoding; cut off is 400."""
    assert write(kairosdb_url, b"text", **{"Content-Type": "application/gzip"}) == (400, ["Not in GZIP format"])
    assert write(kairosdb_url, b"text", **{"Content-Encoding": "gzip"}) == (500, ["Not in GZIP format"])
    assert write(kairosdb_url, gzip.compress(b"[{}]")[:-10], **{"Content-Type": "application/gzip"})[0] == 400


# --- queries --------------------------------------------------------------------------------------------------------


def write_grid(url: str, name: str) -> None:
    """dc eu or us, dev ios or web, six points 20 s apart, 0..5 for eu and 10..15 for us; and 100 at T with only dc."""
    points = [
        point(name, timestamp=T + step * 20_000, value=float(base + step), type="double", tags={"dc": dc, "dev": dev})
        for dc, base in (("eu", 0), ("us", 10))
        for dev in ("ios", "web")
        for step in range(6)
    ]
    points.append(point(name, value=100.0, type="double", tags={"dc": "eu"}))
    assert write(url, points) == (204, [])


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


# --- the other paths ------------------------------------------------------------------------------------------------


def test_tags_of_a_metric_are_listed_whatever_the_time(kairosdb_url: str, metric: str) -> None:
    """All values of the series that match; an unknown metric has no tags."""
    write_grid(kairosdb_url, metric)
    path = "datapoints/query/tags"
    (answer,) = ask(kairosdb_url, metric, path=path, start_absolute=T * 2).json()["queries"]
    tags = {name: sorted(found) for name, found in answer["results"][0].pop("tags").items()}
    assert answer == {"results": [{"name": metric, "values": []}]}
    assert tags == {"dc": ["eu", "us"], "dev": ["ios", "web"]}
    (answer,) = ask(kairosdb_url, metric, path=path, tags={"dc": "us", "dev": "ios"}).json()["queries"]
    assert answer["results"][0]["tags"] == {"dc": ["us"], "dev": ["ios"]}
    (answer,) = ask(kairosdb_url, f"{metric}.none", path=path).json()["queries"]
    assert answer["results"] == [{"name": f"{metric}.none", "tags": {}, "values": []}]


def test_metric_names_are_listed_by_prefix(kairosdb_url: str, metric: str) -> None:
    """With and without a prefix."""
    assert write(kairosdb_url, [point(f"{metric}.{name}") for name in ("a", "b")]) == (204, [])
    names = f"{kairosdb_url}/api/v1/metricnames"
    found = requests.get(names, params={"prefix": metric}, timeout=TIMEOUT_S)
    assert (found.status_code, sorted(found.json()["results"])) == (200, [f"{metric}.a", f"{metric}.b"])
    assert {f"{metric}.a", f"{metric}.b"} <= set(requests.get(names, timeout=TIMEOUT_S).json()["results"])


def test_points_are_deleted_by_a_query(kairosdb_url: str, metric: str) -> None:
    """Those that it matches and no others; 204 also if there are none."""
    write_grid(kairosdb_url, metric)
    for _ in range(2):
        response = ask(
            kairosdb_url, metric, path="datapoints/delete", start_absolute=T, end_absolute=T, tags={"dc": "us"}
        )
        assert (response.status_code, response.content) == (204, b"")
    left = {result["group_by"][0]["group"]["dc"]: result for result in by_dc(kairosdb_url, metric)}
    assert [len(left[dc]["values"]) for dc in ("eu", "us")] == [13, 10]
    assert min(left["us"]["values"]) == [T + 20000, 11]


def by_dc(url: str, name: str) -> list[dict[str, Any]]:
    return results(url, name, group_by=[{"name": "tag", "tags": ["dc"]}])


def test_a_metric_is_deleted_by_its_name(kairosdb_url: str, metric: str) -> None:
    """With its name and tags; 204 also if there is no such metric."""
    write_grid(kairosdb_url, metric)
    for _ in range(2):
        assert requests.delete(f"{kairosdb_url}/api/v1/metric/{metric}", timeout=TIMEOUT_S).status_code == 204
    assert values(kairosdb_url, metric) == []
    found = requests.get(f"{kairosdb_url}/api/v1/metricnames", params={"prefix": metric}, timeout=TIMEOUT_S)
    assert found.json() == {"results": []}
    assert write(kairosdb_url, [point(metric)]) == (204, [])
    assert values(kairosdb_url, metric) == [[T, 1]]


def test_version_and_health(kairosdb_url: str) -> None:
    """What a client asks first: the version begins with KairosDB, a healthy store answers 204."""
    assert requests.get(f"{kairosdb_url}/api/v1/version", timeout=TIMEOUT_S).json()["version"].startswith("KairosDB 1.")
    check = requests.get(f"{kairosdb_url}/api/v1/health/check", timeout=TIMEOUT_S)
    assert (check.status_code, check.content) == (204, b"")
    assert "Datastore-Query: OK" in requests.get(f"{kairosdb_url}/api/v1/health/status", timeout=TIMEOUT_S).json()


def test_a_query_may_be_in_the_url(kairosdb_url: str, metric: str) -> None:
    """GET with the parameter query; without it 400."""
    assert write(kairosdb_url, [point(metric)]) == (204, [])
    url = f"{kairosdb_url}/api/v1/datapoints/query"
    query = json.dumps({"start_absolute": 0, "metrics": [{"name": metric}]})
    answer = requests.get(url, params={"query": query}, timeout=TIMEOUT_S).json()
    assert answer["queries"][0]["results"][0]["values"] == [[T, 1]]
    assert errors(requests.get(url, timeout=TIMEOUT_S)) == ["query json must not be null or empty"]


@pytest.mark.parametrize("path", ["datapoints", "datapoints/query", "datapoints/query/tags", "metricnames", "version"])
def test_a_browser_of_another_origin_may_ask(kairosdb_url: str, path: str) -> None:
    """The preflight is answered with what it asks for."""
    asked = {"Access-Control-Request-Headers": "content-type", "Access-Control-Request-Method": "POST"}
    response = requests.options(f"{kairosdb_url}/api/v1/{path}", headers=asked, timeout=TIMEOUT_S)
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert response.headers["Access-Control-Allow-Headers"] == "content-type"


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "tagnames", 404), ("PUT", "datapoints", 405)])
def test_other_paths_and_methods_are_refused(kairosdb_url: str, method: str, path: str, status: int) -> None:
    """404 for paths, among them those that KairosDB gave up, 405 for methods."""
    assert requests.request(method, f"{kairosdb_url}/api/v1/{path}", timeout=TIMEOUT_S).status_code == status


@pytest.mark.parametrize(("accepted", "encoding"), [("gzip", "gzip"), ("identity", None)])
def test_an_answer_is_gzipped_if_asked_for(kairosdb_url: str, metric: str, accepted: str, encoding: str | None) -> None:
    """By Accept-Encoding only."""
    write_grid(kairosdb_url, metric)
    body = json.dumps({"start_absolute": 0, "metrics": [{"name": metric}]})
    headers = {"Accept-Encoding": accepted}
    response = requests.post(f"{kairosdb_url}/api/v1/datapoints/query", body, headers=headers, timeout=TIMEOUT_S)
    assert response.headers.get("Content-Encoding") == encoding
    assert response.json()["queries"][0]["sample_size"] == 25
