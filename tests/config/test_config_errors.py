"""Every rule of the configuration, broken: each error comes with its place and the rule, and all of them together."""

import math
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.config.errors import ConfigError
from monitor.config.reader import load, parse
from tests.support.example_config import ABSENT, COLOR, HOME, ORDER, U, errors_of, example, put

NAME_RULE = "may have letters, digits, _ and - only; got "
BOTH = {"blue": 1, "red": 1}
ERRORS: list[tuple[str, Any, str, str]] = [
    # unknown keys, at every level
    ("colour", 1, "colour", "is not a setting"),
    ("kafka/topic", "x", "kafka.topic", "did you mean 'topics'?"),
    ("kairosdb/ttl", 30, "kairosdb.ttl", "is not a setting"),
    ("time/gap_s", 30, "time.gap_s", "is not a setting"),
    ("limits/events", 30, "limits.events", "is not a setting"),
    (f"{U}/point", {}, "tenants.uswm.point", "did you mean 'points'?"),
    (f"{U}/tags/login/value", [], "tenants.uswm.tags.login.value", "is not a setting"),
    (f"{HOME}/events", "x", "tenants.uswm.points.home_page.events", "did you mean 'event'?"),
    (f"{HOME}/where/page", {"mn": 1}, "tenants.uswm.points.home_page.where.page.mn", "is not a setting"),
    (f"{ORDER}/value/factor", 1, "tenants.uswm.points.order.value.factor", "is not a setting"),
    (f"{COLOR}/contrl", "x", "tenants.uswm.experiments.button_color.contrl", "did you mean 'control'?"),
    (
        f"{COLOR}/qualified_when",
        {"point": "order", "nth": 2},
        COLOR + "/qualified_when/nth",
        "is not a setting",
    ),
    (f"{COLOR}/qualified_when", {"evnt": "order"}, COLOR + "/qualified_when/evnt", "is not a setting"),
    # missing
    ("dc", ABSENT, "dc", "is required"),
    ("tenants", ABSENT, "tenants", "is required"),
    (f"{COLOR}/control", ABSENT, COLOR + "/control", "is required"),
    (f"{COLOR}/variations", ABSENT, COLOR + "/variations", "is required"),
    (f"{COLOR}/qualified_when", ABSENT, COLOR + "/qualified_when", "is required"),
    (f"{ORDER}/value/attribute", ABSENT, ORDER + "/value/attribute", "is required"),
    (f"{U}/tags/login/attribute", ABSENT, f"{U}/tags/login/attribute", "is required"),
    (f"{U}/tags/login/values", ABSENT, f"{U}/tags/login/values", "is required"),
    # wrong type: text, boolean, integer, number, list, table
    ("dc", 7, "dc", 'must be text, such as "dal"; got 7'),
    ("kafka", 5, "kafka", "must be a table; got 5"),
    ("kafka/tail", 1, "kafka.tail", "must be true or false; got 1"),
    (
        "kafka/topics",
        "useful-events",
        "kafka.topics",
        "must be a list, such as [\"useful-events\"]; got 'useful-events'",
    ),
    ("kafka/start", "middle", "kafka.start", "must be 'beginning' or 'end'; got 'middle'"),
    ("kafka/options/x", [1], "kafka.options.x", "must be text, a number, true or false; got [1]"),
    ("kafka/brokers", ["a:9092"], "kafka.brokers", "must be text, such as \"a:9092,b:9092\"; got ['a:9092']"),
    ("time/session_gap_s", True, "time.session_gap_s", "must be a number; got true"),
    ("time/flush_s", True, "time.flush_s", "must be a number; got true"),
    ("time/flush_s", "10", "time.flush_s", "must be a number; got '10'"),
    ("limits/message_bytes", False, "limits.message_bytes", "must be a whole number; got false"),
    (f"{HOME}/event", 1, HOME + "/event", "must be text; got 1"),
    (f"{HOME}/event", ["a", 1], HOME + "/event/1", "must be text; got 1"),
    (f"{HOME}/where", "home", HOME + "/where", "must be a table; got 'home'"),
    (f"{HOME}/where/page", date(2026, 1, 2), HOME + "/where/page", "must be text"),
    (f"{HOME}/where/page", {"min": True}, HOME + "/where/page/min", "must be a finite number; got true"),
    (f"{HOME}/where/page", {"max": "2"}, HOME + "/where/page/max", "must be a finite number; got '2'"),
    (f"{HOME}/where/page", {"exists": 1}, HOME + "/where/page/exists", "must be true or false; got 1"),
    (f"{HOME}/nth", 2.0, HOME + "/nth", "must be a whole number; got 2.0"),
    (f"{ORDER}/value/scale", True, ORDER + "/value/scale", "must be a finite number; got true"),
    (f"{ORDER}/value/max", 1.5, ORDER + "/value/max", "must be a whole number; got 1.5"),
    (f"{COLOR}/variations/red", True, COLOR + "/variations/red", "must be a finite number; got true"),
    (f"{COLOR}/variations/red", "50", COLOR + "/variations/red", "must be a finite number; got '50'"),
    (f"{COLOR}/qualified_when", "order", COLOR + "/qualified_when", "got 'order'"),
    (f"{COLOR}/qualified_when", {"all": {}}, COLOR + "/qualified_when/all", "must be a list"),
    (f"{COLOR}/qualified_when", {"any": [1]}, COLOR + "/qualified_when/any/0", "got 1"),
    (f"{U}/tags/device", "mobile", f"{U}/tags/device", "got 'mobile'"),
    (f"{U}/tags/device", [True], f"{U}/tags/device/0", "must be text; got true"),
    # out of range
    ("time/session_gap_s", 0, "time.session_gap_s", "must be above 0; got 0"),
    ("time/allowed_lateness_s", -1, "time.allowed_lateness_s", "got -1"),
    ("time/future_tolerance_s", -1, "time.future_tolerance_s", "got -1"),
    ("time/tardy_s", -1, "time.tardy_s", "got -1"),
    ("time/idle_after_s", 0, "time.idle_after_s", "got 0"),
    ("time/flush_s", 0, "time.flush_s", "must be above 0; got 0"),
    ("time/flush_s", math.nan, "time.flush_s", "must be a finite number; got nan"),
    ("time/flush_s", math.inf, "time.flush_s", "must be a finite number; got inf"),
    ("kairosdb/ttl_days", 0, "kairosdb.ttl_days", "must be at least 1; got 0"),
    ("kairosdb/ttl_days", 7_301, "kairosdb.ttl_days", "must be at most 7300; got 7301"),
    ("kairosdb/url", "ftp://x", "kairosdb.url", "must begin with http:// or https:// and a host; got 'ftp://x'"),
    ("limits/message_bytes", 0, "limits.message_bytes", "got 0"),
    ("limits/events_per_visit", 0, "limits.events_per_visit", "got 0"),
    (f"{HOME}/nth", 0, HOME + "/nth", "got 0"),
    (f"{ORDER}/value/max", 0, ORDER + "/value/max", "got 0"),
    (f"{ORDER}/value/scale", 0, ORDER + "/value/scale", "must not be 0"),
    (f"{ORDER}/value/scale", math.inf, ORDER + "/value/scale", "must be a finite number; got inf"),
    (f"{COLOR}/variations/red", -1, COLOR + "/variations/red", "must not be negative; got -1"),
    (f"{COLOR}/variations/red", math.nan, COLOR + "/variations/red", "must be a finite number; got nan"),
    (f"{HOME}/where/page", math.nan, HOME + "/where/page", "must be a finite number; got nan"),
    (f"{HOME}/where/page", [1, -math.inf], HOME + "/where/page/1", "must be a finite number; got -inf"),
    (f"{HOME}/where/page", {"not": [math.nan]}, HOME + "/where/page/not/0", "must be a finite number; got nan"),
    # empty
    ("dc", "", "dc", "must not be empty"),
    ("kafka/brokers", "", "kafka.brokers", "got ''"),
    ("kafka/topics", [], "kafka.topics", "must not be empty"),
    ("tenants", {}, "tenants", "must not be empty"),
    (f"{HOME}/event", [], HOME + "/event", "must not be empty"),
    (f"{HOME}/where/page", [], HOME + "/where/page", "must not be empty"),
    (f"{HOME}/where/page", {"not": []}, HOME + "/where/page/not", "must not be empty"),
    (f"{COLOR}/variations", {}, COLOR + "/variations", "must not be empty"),
    (f"{COLOR}/qualified_when", {"all": []}, COLOR + "/qualified_when/all", "must not be empty"),
    (f"{COLOR}/qualified_when", {"any": []}, COLOR + "/qualified_when/any", "must not be empty"),
    # names
    ("dc", "d c", "dc", "may have letters, digits, . _ / and - only"),
    ("dc", "dal\n", "dc", "may have letters, digits, . _ / and - only"),
    ("tenants/us.wm", {}, "tenants.us.wm", NAME_RULE),
    (f"{U}/tags/my tag", ["a"], f"{U}/tags/my tag", NAME_RULE),
    (f"{U}/points/größe", {}, f"{U}/points/größe", NAME_RULE),
    (f"{U}/points/", {}, f"{U}/points/", "must not be empty"),
    (f"{COLOR}/variations/light red", 1, COLOR + "/variations/light red", NAME_RULE),
    (f"{U}/experiments/a=b", {"control": "x"}, f"{U}/experiments/a=b", NAME_RULE),
    *[(f"{U}/tags/{tag}", ["a"], f"{U}/tags/{tag}", "must not be one of dc, exp") for tag in ("dc", "experiment")],
    *[(f"{U}/points/{p}", {}, f"{U}/points/{p}", "must not be one of beta, sum") for p in ("beta", "sum", "sumsq")],
    *[(f"{COLOR}/variations/{v}", 1, COLOR + f"/variations/{v}", "one of aa-00 to aa-15") for v in ("aa-00", "aa-15")],
    (f"{COLOR}/aa", "yes", COLOR + "/aa", "got 'yes'"),
    # between settings
    ("time/allowed_lateness_s", 1801, "time.allowed_lateness_s", "must not exceed session_gap_s; got 1801 and 1800"),
    (f"{COLOR}/control", "green", COLOR + "/control", "must be one of the variations blue, red; got 'green'"),
    (f"{COLOR}/qualified_when", {"point": "hme"}, COLOR + "/qualified_when/point", "must be a point of the tenant"),
    (f"{COLOR}/qualified_when", {"any": [{"all": [{"point": "x"}]}]}, COLOR + "/qualified_when/any/0/all/0/point", "x"),
    ("limits/events_per_visit", 2**63 // 1_000_000 + 1, ORDER + "/value/max", "must stay below 2^63"),
    # what verdicts need
    ("guard/split_tolerance", 1, "guard.split_tolerance", "must be below 1"),
    ("guard/smallest_effect", -0.1, "guard.smallest_effect", "must be at least 0; got -0.1"),
    ("guard/thresholds", {"notes": 5}, "guard.thresholds.notes", "did you mean 'note'?"),
    ("guard/thresholds", {"note": 1}, "guard.thresholds.note", "must be above 1; got 1"),
    ("guard/thresholds", {"warn": 200}, "guard.thresholds.hold", "must be above warn; got 100 and 200"),
    ("guard/thresholds", {"stop": 50, "hold": 50}, "guard.thresholds.stop", "must be above hold; got 50 and 50"),
    ("guard/shares", {"crossed": 0}, "guard.shares.crossed", "must be above 0; got 0"),
    ("guard/shares", {"guardrails": 0.5}, "guard.shares", "must have a sum of at most 1: that is the whole budget"),
    ("guard/highest", {"crossed": "healthy"}, "guard.highest.crossed", "must be 'note', 'warn', 'hold' or 'stop'"),
    ("guard/highest", {"crossings": "note"}, "guard.highest.crossings", "did you mean 'crossed'?"),
    (f"{COLOR}/highest", {"mean": "end"}, COLOR + "/highest/mean", "must be 'note', 'warn', 'hold' or 'stop'"),
    (f"{COLOR}/highest", {"means": "stop"}, COLOR + "/highest/means", "must be 'split_of_assigned', "),
    (f"{COLOR}/goal", "hme", COLOR + "/goal", "must be a point of the tenant; got 'hme', there are home_page, "),
    (f"{COLOR}/goal", 1, COLOR + "/goal", "must be text; got 1"),
    (f"{COLOR}/owner", "", COLOR + "/owner", "must not be empty"),
    (f"{COLOR}/link", "wiki", COLOR + "/link", "must begin with http:// or https:// and a host; got 'wiki'"),
    (f"{HOME}/descripton", "x", HOME + "/descripton", "did you mean 'description'?"),
    (f"{HOME}/link", "javascript:alert(1)", HOME + "/link", "must begin with http:// or https://"),
    (f"{COLOR}/smallest_effect", 1, COLOR + "/smallest_effect", "must be below 1; got 1"),
    (f"{HOME}/better", "more", HOME + "/better", "must be 'up', 'down' or 'none'; got 'more'"),
    (f"{COLOR}/started", "soon", COLOR + "/started", "must be a time such as 2026-11-28T10:00:00Z"),
    (f"{COLOR}/started", True, COLOR + "/started", "must be a time such as 2026-11-28T10:00:00Z"),
    (f"{COLOR}/started", -1, COLOR + "/started", "must be a time such as 2026-11-28T10:00:00Z"),
    (f"{COLOR}/phases", [{"from": 5}], COLOR + "/phases/0/weights", "is required"),
    (f"{COLOR}/phases", [{"from": 5, "weights": {"blue": 1}}], COLOR + "/phases/0/weights", "each of the variations"),
    (
        f"{COLOR}/phases",
        [{"from": 5, "weights": BOTH}, {"from": 5, "weights": BOTH}],
        COLOR + "/phases/1/from",
        "after",
    ),
]


@pytest.mark.parametrize(("path", "value", "place", "message"), ERRORS)
def test_an_error_is_reported_with_its_place_and_what_came(path: str, value: Any, place: str, message: str) -> None:
    """Each rule of the configuration, broken alone in the example."""
    errors = errors_of(put(example(), path, value))
    assert [error for error in errors if error.place == place.replace("/", ".") and message in error.message], errors


def test_errors_of_different_kinds_are_reported_together() -> None:
    """One attempt shows them all: shape, range, names, references between settings and the environment."""
    config = put(example(), "colour", 1)
    config = put(config, "time/flush_s", 0)
    config = put(config, f"{U}/points/sum", {})
    config = put(config, f"{COLOR}/qualified_when", {"point": "hme"})
    with pytest.raises(ConfigError) as caught:
        parse(config, "monitor.toml", {"MONITOR_KAFKA__TAIL": "maybe"})
    places = {error.place for error in caught.value.errors}
    assert places == {
        "colour",
        "time.flush_s",
        "tenants.uswm.points.sum",
        "tenants.uswm.experiments.button_color.qualified_when.point",
        "kafka.tail",
    }
    lines = str(caught.value).splitlines()
    assert lines[0] == "monitor.toml: 5 errors"
    assert len(lines) == 6
    assert all(any(line.startswith(f"  {place}: ") for line in lines) for place in places)


def test_errors_between_settings_are_reported_beside_wrong_settings() -> None:
    """A wrong value does not hide what is wrong between the other settings of its table."""
    config = put(put(example(), "time/allowed_lateness_s", 3_600), "time/flush_s", "10s")
    config = put(put(config, f"{COLOR}/control", "green"), f"{COLOR}/qualified_when", 7)
    config = put(put(config, f"{ORDER}/value/scale", 0), f"{ORDER}/value/max", "much")
    config = put(put(config, "serve/dcs", ["dal", "dal"]), "serve/port", 0)
    assert sorted(error.place for error in errors_of(config)) == [
        "serve.dcs",
        "serve.port",
        *(f"tenants.uswm.experiments.button_color.{setting}" for setting in ("control", "qualified_when")),
        *(f"tenants.uswm.points.order.value.{setting}" for setting in ("max", "scale")),
        "time.allowed_lateness_s",
        "time.flush_s",
    ]


def test_a_reserved_point_that_a_rule_uses_is_one_error() -> None:
    """The rule's point exists; its name is what is wrong."""
    config = put(put(example(), f"{U}/points/sum", {}), f"{COLOR}/qualified_when", {"point": "sum"})
    (error,) = errors_of(config)
    assert error.place == "tenants.uswm.points.sum"


def test_a_long_value_is_shortened_in_the_message() -> None:
    """A message stays readable whatever came."""
    (error,) = errors_of(put(example(), "dc", " " * 1_000))
    assert error.message.endswith("...")
    assert len(error.message) < 200


@pytest.mark.parametrize(
    "line",
    [
        "time.flush_s = " + "[" * 5_000,
        "limits.message_bytes = " + "1" * 5_000,
        "limits.message_bytes = -0x" + "f" * 5_000,
        "tenants.t.points.p.where.total.min = 1" + "0" * 400,
        "tenants.t.points.p.where.total.min = { a = 0x" + "f" * 5_000 + "}",
        "tenants.t.experiments.e.qualified_when = " + "{ all = [" * 300 + "{}" + "] }" * 300,
    ],
    ids=[
        "nested brackets",
        "decimal digits",
        "hexadecimal digits",
        "beyond any double",
        "huge in a message",
        "nested rule",
    ],
)
def test_values_beyond_all_reason_are_errors(tmp_path: Path, line: str) -> None:
    """However absurd a value is, the answer is a message, never a traceback."""
    path = tmp_path / "monitor.toml"
    path.write_text(f'colour = 1\ndc = "dal"\n{line}\n')
    with pytest.raises(ConfigError):
        load(path, {})


def test_a_point_without_a_value_has_no_maximum() -> None:
    """Only sums have to fit KairosDB's range, so only points with a value bound the events of a visit."""
    config = put(put(example(), f"{ORDER}/value", ABSENT), "limits/events_per_visit", 10_000_000)
    assert parse(config).compiled_limits().events_per_visit == 10_000_000


KEYS = sorted({step for path, *_ in ERRORS for step in path.split("/")} | {"not", "exists", "min", "max", "all", "any"})
SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=4),
    st.sampled_from(KEYS),
    st.dates(),
    st.times(),
    st.datetimes(),
)
JUNK = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@given(data=st.data())
@settings(max_examples=300)
def test_junk_is_a_configuration_error_or_valid(data: st.DataObject) -> None:
    """Anything that TOML can hold, anywhere in the example, loads or is reported; nothing else happens."""
    config: Any = example()
    for _ in range(data.draw(st.integers(1, 3))):
        table, paths = config, st.sampled_from(KEYS)
        while isinstance(table, dict) and table and data.draw(st.integers(0, 5)):
            inner = table[data.draw(st.sampled_from(sorted(table)))]
            if not isinstance(inner, dict):
                break
            table = inner
        table[data.draw(paths | st.sampled_from(sorted(table) or ["x"]))] = data.draw(JUNK)
    for error in errors_of(config, or_none=True):
        assert error.message
        assert "Input should" not in error.message, "pydantic's words, not ours"
