"""The contract of the metrics store, its writes: what a real KairosDB and the embedded store both take and refuse.

Both stores are shared: each test uses a metric name of its own. Expected values were observed on KairosDB 1.3.0-1.
"""

import gzip
import json
from typing import Any

import pytest

from tests.support.kairosdb_http import T, ask, point, post, results, values, write

END_OF_INPUT = "Invalid json. No content due to end of input."


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
