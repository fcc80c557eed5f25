"""Points become KairosDB's JSON exactly; what it would store wrongly is never sent; the cache has its bounds."""

import gzip
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.metrics import DataPoint
from monitor.kairosdb import points
from monitor.kairosdb.points import (
    INT64_MAX,
    INT64_MIN,
    SERIES_CHARACTERS_MAX,
    TIMESTAMP_MS_MAX,
    TIMESTAMP_MS_MIN,
    Rendered,
    Renderer,
    batches,
    body,
)

SERIES = "uswm.visit.fm.red.item_page.beta|experiment=button_color|device=mobile|login=true"
T_MS = 1_795_491_060_000


def test_a_point_is_the_json_of_the_specification() -> None:
    """Name, explicit type, ttl, tags with dc first, timestamp, value; the body is a gzip JSON array."""
    valid, invalid = Renderer("dal", 2_592_000).render(
        [DataPoint(SERIES, T_MS, 10_000), DataPoint("monitor.sessions", T_MS, -3)]
    )
    assert invalid == []
    first, second = json.loads(gzip.decompress(body(valid)))
    assert first == {
        "name": "uswm.visit.fm.red.item_page.beta",
        "timestamp": T_MS,
        "value": 10_000,
        "type": "long",
        "ttl": 2_592_000,
        "tags": {"dc": "dal", "experiment": "button_color", "device": "mobile", "login": "true"},
    }
    assert list(first["tags"]) == ["dc", "experiment", "device", "login"]
    assert (second["tags"], second["value"]) == ({"dc": "dal"}, -3)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_a_double_with_all_of_its_digits(value: float) -> None:
    """The series has one JSON for each type; the text of a double is read as the same double."""
    valid, invalid = Renderer("dal", 60).render([DataPoint("m.sumsq", T_MS, 7), DataPoint("m.sumsq", T_MS, value)])
    assert invalid == []
    long, double = json.loads(gzip.decompress(body(valid)))
    assert (long["type"], long["value"]) == ("long", 7)
    assert (double["type"], double["value"]) == ("double", value)
    assert long | {"type": "double", "value": value} == double


PARTS = st.text("abzAZ09._/-", min_size=1, max_size=8)


@given(
    name=PARTS,
    tags=st.dictionaries(PARTS.filter(lambda name: name != "dc"), PARTS, max_size=4),
    timestamp_ms=st.integers(TIMESTAMP_MS_MIN, TIMESTAMP_MS_MAX),
    value=st.integers(INT64_MIN, INT64_MAX),
)
def test_any_valid_point_survives_the_json(name: str, tags: dict[str, str], timestamp_ms: int, value: int) -> None:
    """A point that passes the checks is read back from the JSON as it was."""
    series = "|".join([name, *(f"{key}={text}" for key, text in tags.items())])
    [one], invalid = Renderer("dal", 1).render([DataPoint(series, timestamp_ms, value)])
    assert invalid == []
    assert json.loads(one.text) == {
        "name": name,
        "type": "long",
        "ttl": 1,
        "tags": {"dc": "dal", **tags},
        "timestamp": timestamp_ms,
        "value": value,
    }


@pytest.mark.parametrize(
    ("series", "rule"),
    [
        ("", "metric name"),
        ("|a=b", "metric name"),
        ("a name", "metric name"),
        ("näme", "metric name"),
        ('a"b', "metric name"),
        ("m|a=", "a tag must be NAME=VALUE"),
        ("m|=b", "a tag must be NAME=VALUE"),
        ("m|a", "a tag must be NAME=VALUE"),
        ("m|", "a tag must be NAME=VALUE"),
        ("m|a=b=c", "a tag must be NAME=VALUE"),
        ("m|a=b c", "a tag must be NAME=VALUE"),
        ("m|a=b:c", "a tag must be NAME=VALUE"),
        ("m|a=b\n", "a tag must be NAME=VALUE"),
        ("m|a=b|a=c", "must occur once"),
        ("m|dc=dal", "dc is added by the writer"),
        ("m" * (SERIES_CHARACTERS_MAX + 1), "at most"),
    ],
)
def test_a_series_that_kairosdb_would_garble_is_never_sent(series: str, rule: str) -> None:
    """Each fault of a name or tag is given back with the rule, at the first point and at later ones."""
    renderer = Renderer("dal", 60)
    for _ in range(2):
        valid, [fault] = renderer.render([DataPoint(series, T_MS, 1)])
        assert valid == []
        assert rule in fault.reason


@pytest.mark.parametrize(
    ("timestamp_ms", "value", "sent"),
    [
        (TIMESTAMP_MS_MIN, 0, True),
        (TIMESTAMP_MS_MIN - 1, 0, False),
        (TIMESTAMP_MS_MAX, 0, True),
        (TIMESTAMP_MS_MAX + 1, 0, False),
        (T_MS // 1000, 0, False),
        (T_MS * 1000, 0, False),
        (float(T_MS), 0, False),
        (T_MS, INT64_MAX, True),
        (T_MS, INT64_MAX + 1, False),
        (T_MS, INT64_MIN, True),
        (T_MS, INT64_MIN - 1, False),
        (T_MS, 1.0, True),
        (T_MS, -sys.float_info.max, True),
        (T_MS, float("nan"), False),
        (T_MS, float("inf"), False),
        (T_MS, float("-inf"), False),
        (T_MS, True, False),
        (T_MS, "7", False),
        (T_MS, None, False),
    ],
)
def test_numbers_that_kairosdb_would_store_wrongly_are_never_sent(timestamp_ms: int, value: int, sent: bool) -> None:
    """Both sides of each bound: milliseconds that look like another unit, numbers beyond 64 bits or not finite."""
    valid, invalid = Renderer("dal", 60).render([DataPoint("m", timestamp_ms, value)])
    assert (len(valid), len(invalid)) == ((1, 0) if sent else (0, 1))
    if not sent:
        number = repr(value) if timestamp_ms == T_MS and type(timestamp_ms) is int else repr(timestamp_ms)
        assert invalid[0].reason.endswith(f"got {number}")


@pytest.mark.parametrize("ttl_s", [0, -5, 630_720_001, 1.5, True])
def test_a_ttl_that_kairosdb_would_take_silently_is_a_fault(ttl_s: int) -> None:
    """KairosDB answers 204 to a ttl of -5; the renderer does not begin with one."""
    with pytest.raises(ValueError, match="ttl_s must be an integer from 1 to 630720000; got"):
        Renderer("dal", ttl_s)


@pytest.mark.parametrize("dc", ["", "dal east", 'd"', "d|e"])
def test_a_dc_that_is_no_tag_value_is_a_fault(dc: str) -> None:
    """The tag of every point is checked before the first."""
    with pytest.raises(ValueError, match="dc must be of"):
        Renderer(dc, 60)


@given(sizes=st.lists(st.integers(1, 30), max_size=30), points_max=st.integers(1, 5), bytes_max=st.integers(10, 60))
def test_requests_keep_both_bounds_and_lose_nothing(sizes: list[int], points_max: int, bytes_max: int) -> None:
    """Batches, put together, are what went in; each is within the points and bytes, or a single point."""
    rendered = [Rendered(DataPoint("m", T_MS, index), "x" * size) for index, size in enumerate(sizes)]
    cut = list(batches(rendered, points_max, bytes_max))
    assert [one for batch in cut for one in batch] == rendered
    for batch in cut:
        size = len(gzip.decompress(body(batch)))
        assert 1 <= len(batch) <= points_max
        assert size <= bytes_max or len(batch) == 1


def test_the_cache_of_series_is_bounded_in_entries_and_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Filled beyond each bound with short and with long series, valid or not, it stays within; the JSON is the same."""
    monkeypatch.setattr(points, "SERIES_CACHED_MAX", 100)
    monkeypatch.setattr(points, "SERIES_CACHED_CHARACTERS_MAX", 100_000)
    renderer = Renderer("dal", 60)
    for number in range(300):
        renderer.render([DataPoint(f"m.{number}", T_MS, 1)])
        renderer.render([DataPoint(f"m.{number}", T_MS, 1.0)])
    assert renderer.cached[0] == 200
    for letter in ("m", "ä"):
        renderer = Renderer("dal", 60)
        for number in range(300):
            series = f"{number}{letter * 8_000}"
            rendered, _ = renderer.render([DataPoint(series, T_MS, 1)])
            entries, characters = renderer.cached
            assert characters <= 100_000
            assert entries <= 100_000 // 8_000
            assert all(one.text == Renderer("dal", 60).render([one.point])[0][0].text for one in rendered)
    renderer.render([DataPoint("x" * 1_000_000, T_MS, 1)])
    assert renderer.cached == (1, renderer.cached[1])
