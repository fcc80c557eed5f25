"""One TOML file, checked whole: what is valid compiles to the definitions, each error is reported with its place."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from monitor.config.errors import ConfigError
from monitor.config.reader import load, parse
from monitor.core.compiled import CompiledConfig
from monitor.core.definitions import (
    All,
    AnyOf,
    Condition,
    Experiment,
    Limits,
    MeasurementPoint,
    PointMet,
    Predicate,
    Tag,
    Tenant,
    Value,
)
from tests.support.example_config import COLOR, EXAMPLE, HOME, ORDER, U, errors_of, example, put
from tests.support.strategies import Config, configs, to_toml

PAGE_VIEW = ("page_view",)
CHECKOUT = Predicate(("checkout",), (("payment", Condition(("card", "wallet"))),))
ON_MOBILE = Predicate(PAGE_VIEW, (("device", Condition(("mobile",))),))
COMPILED = Tenant(
    "uswm",
    (Tag("device", "device", ("mobile", "desktop", "tablet")), Tag("login", "loggedIn", ("true", "false"))),
    (
        MeasurementPoint("home_page", Predicate(PAGE_VIEW, (("page", Condition(("home",))),))),
        MeasurementPoint("item_page", Predicate(PAGE_VIEW, (("page", Condition(("item",))),))),
        MeasurementPoint("order", Predicate(("order",)), value=Value("total", 100, 1_000_000)),
        MeasurementPoint("engaged", Predicate(PAGE_VIEW), nth=2),
    ),
    (
        Experiment("button_color", "blue", (("blue", 50), ("red", 50)), PointMet("home_page")),
        Experiment(
            "fast_checkout",
            "fc_off",
            (("fc_off", 1), ("fc_on", 1)),
            All((ON_MOBILE, AnyOf((CHECKOUT, PointMet("order"))))),
        ),
    ),
)


def test_the_whole_example_compiles_to_its_definitions(tmp_path: Path) -> None:
    """The example of the contract loads, and each line of it arrives in the core."""
    settings = load(write(tmp_path, EXAMPLE), {})
    assert settings.compiled_tenants() == [COMPILED]
    assert settings.compiled_limits() == Limits(1_048_576, 5_000, 1_800_000, 600_000, 60_000, tardy_ms=60_000)
    assert (settings.dc, settings.kafka.brokers, settings.kafka.topics) == ("dal", "127.0.0.1:9092", ["useful-events"])
    assert (settings.kairosdb.url, settings.kairosdb.ttl_days) == ("http://127.0.0.1:8080", 30)
    assert (settings.time.idle_after_s, settings.time.flush_s) == (30, 10)


def test_what_the_example_says_is_the_default() -> None:
    """Sections that are left out mean what the example writes in them."""
    whole = example()
    settings, least = parse(example()), parse({name: whole[name] for name in ("dc", "tenants")})
    assert (settings.kafka, settings.kairosdb, settings.time, settings.limits) == (
        least.kafka,
        least.kairosdb,
        least.time,
        least.limits,
    )


def test_every_form_of_a_condition_compiles() -> None:
    """A value, a list, and each key of a table, with lists and single values."""
    where: Config = {
        "a": 1,
        "b": ["x", True, 2.5],
        "c": {"not": "x"},
        "d": {"not": ["x", 1], "exists": True},
        "e": {"min": 1, "max": 2.5},
    }
    compiled = parse(put(example(), "tenants/uswm/points/home_page", {"event": ["a", "b"], "where": where}))
    assert compiled.compiled_tenants()[0].points[0].predicate == Predicate(
        ("a", "b"),
        (
            ("a", Condition((1,))),
            ("b", Condition(("x", True, 2.5))),
            ("c", Condition(none_of=("x",))),
            ("d", Condition(none_of=("x", 1), exists=True)),
            ("e", Condition(minimum=1, maximum=2.5)),
        ),
    )


VALID: list[tuple[str, Any]] = [
    ("time/allowed_lateness_s", 1800),
    ("time/allowed_lateness_s", 0),
    ("time/future_tolerance_s", 0),
    ("time/tardy_s", 0),
    ("time/flush_s", 0.25),
    ("kairosdb/ttl_days", 1),
    ("kairosdb/ttl_days", 7_300),
    ("kafka/start", "end"),
    ("kafka/options/security.protocol", "SSL"),
    (f"{ORDER}/value/max", 2**43),
    (f"{ORDER}/value/scale", -0.5),
    (f"{HOME}/where/page", {"min": 1, "max": 1}),
    (f"{HOME}/nth", 1),
    (f"{COLOR}/variations/red", 0),
    (f"{U}/points/beta-2", {}),
    (f"{U}/points/aa-00", {}),
    (f"{COLOR}/variations/aa-16", 1),
    (f"{COLOR}/aliases/aa-00", "red"),
    (f"{U}/aa", True),
    (f"{U}/tags/sum", ["a"]),
    ("tenants/other", {"experiments": {"x": {"control": "red", "variations": {"red": 1}, "qualified_when": {}}}}),
]


@pytest.mark.parametrize(("path", "value"), VALID)
def test_the_other_side_of_each_boundary_is_valid(path: str, value: Any) -> None:
    """What is just within the rules loads."""
    parse(put(example(), path, value))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"dc = ", "is not TOML"),
        (b"a = 1\na = 2", "is not TOML"),
        (b'\xef\xbb\xbfdc = "dal"', "begins with a byte order mark"),
        (b'dc = "\xff"', "is not UTF-8: invalid start byte at byte 6"),
    ],
)
def test_a_file_that_is_no_toml(tmp_path: Path, content: bytes, message: str) -> None:
    """The message names the file and what is wrong with its text."""
    path = tmp_path / "monitor.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load(path, {})
    assert caught.value.source == str(path)


@pytest.mark.parametrize(
    ("text", "line", "mark"),
    [
        ('dc = "dal"\nkafka = { tail = true\n', "kafka = { tail = true", 22),
        ('dc = "dal"\n\tkafka == 1\n', " kafka == 1", 9),
    ],
)
def test_a_syntax_error_shows_its_line(tmp_path: Path, text: str, line: str, mark: int) -> None:
    """The line, with a mark below the column that the parser stopped at."""
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text), {})
    *_, shown, marked = str(caught.value).splitlines()
    assert shown == f"    {line}"
    assert marked == f"    {' ' * (mark - 1)}^"


def test_a_syntax_error_in_a_long_line_stays_readable(tmp_path: Path) -> None:
    """The line is shortened, and nothing is marked beyond its end."""
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, f'dc = "{"x" * 10_000}" y'), {})
    assert max(map(len, str(caught.value).splitlines()[2:])) < 130


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The message says which file, and why it cannot be read."""
    with pytest.raises(ConfigError, match="No such file or directory") as caught:
        load(tmp_path / "none.toml", {})
    assert caught.value.source == str(tmp_path / "none.toml")


@pytest.mark.parametrize("environment", [{}, {"MONITOR_CONFIG": ""}])
def test_no_file_is_named(environment: dict[str, str]) -> None:
    """The message names the variable to set."""
    with pytest.raises(ConfigError, match=r"MONITOR_CONFIG: 1 error\n  is not set"):
        load(None, environment)


def test_the_environment_names_the_file_and_overrides_it(tmp_path: Path) -> None:
    """Texts are taken literally, other settings as TOML; sections that the file lacks are no obstacle."""
    environment = {
        "MONITOR_CONFIG": str(write(tmp_path, 'dc = "dal"\n[tenants.t]')),
        "MONITOR_DC": "fra",
        "MONITOR_KAFKA__BROKERS": "a:1,b:2",
        "MONITOR_KAFKA__TOPICS": '["x", "y"]',
        "MONITOR_KAFKA__START": "end",
        "MONITOR_KAFKA__TAIL": "false",
        "MONITOR_KAFKA__OPTIONS": '{"sasl.username" = "u"}',
        "MONITOR_KAIROSDB__URL": "http://k:1",
        "MONITOR_TIME__FLUSH_S": "0.5",
        "MONITOR_LIMITS__MESSAGE_BYTES": "2_000",
        "MONITOR_ROLE": "not ours",
        "OTHER_KAFKA__TAIL": "maybe",
    }
    settings = load(None, environment)
    assert (settings.dc, settings.kafka.brokers, settings.kafka.topics) == ("fra", "a:1,b:2", ["x", "y"])
    assert (settings.kafka.start, settings.kafka.tail) == ("end", False)
    assert settings.kafka.options == {"sasl.username": "u"}
    assert (settings.kairosdb.url, settings.time.flush_s, settings.limits.message_bytes) == ("http://k:1", 0.5, 2_000)


@pytest.mark.parametrize(
    ("variable", "text", "place", "message"),
    [
        ("MONITOR_DC", "d c", "dc", "may have letters, digits, . _ / and - only; got 'd c'"),
        ("MONITOR_KAFKA__START", "middle", "kafka.start", "must be 'beginning' or 'end'"),
        ("MONITOR_KAFKA__TAIL", "maybe", "kafka.tail", "MONITOR_KAFKA__TAIL must be a TOML value"),
        ("MONITOR_KAFKA__TAIL", "1", "kafka.tail", "must be true or false; got 1"),
        ("MONITOR_KAFKA__TOPIC", "x", "kafka.topic", "did you mean 'topics'?"),
        ("MONITOR_TIME__FLUSH_S", "", "time.flush_s", "must be a TOML value"),
        (
            "MONITOR_TIME__SESSION_GAP_S",
            "599",
            "time.allowed_lateness_s",
            "must not exceed session_gap_s; got 600 and 599",
        ),
        ("MONITOR_LIMITS__EVENTS_PER_VISIT", "true", "limits.events_per_visit", "must be a whole number; got true"),
    ],
)
def test_a_wrong_override_is_an_error(variable: str, text: str, place: str, message: str) -> None:
    """A variable is checked like the setting that it replaces."""
    errors = errors_of(example(), {variable: text})
    assert [error for error in errors if error.place == place and message in error.message], errors


def test_an_override_in_a_section_that_is_no_table() -> None:
    """The section's own error is reported."""
    assert errors_of(put(example(), "kafka", 5), {"MONITOR_KAFKA__BROKERS": "x"})[0].place == "kafka"


def test_a_variable_below_a_setting_that_is_no_section() -> None:
    """`dc` has no keys: such a variable is an error or somebody else's, as others are."""
    assert all(error.place.startswith("dc") for error in errors_of(example(), {"MONITOR_DC__X": "1"}, or_none=True))


@given(config=configs())
def test_every_valid_configuration_loads(config: Config) -> None:
    """Whatever the strategies of the other tests draw goes through TOML into a compiled core."""
    settings = parse(tomllib.loads(to_toml(config)))
    assert set(CompiledConfig(settings.compiled_tenants(), settings.compiled_limits()).tenants) == set(
        config["tenants"]
    )


def write(folder: Path, text: str) -> Path:
    """A configuration file."""
    path = folder / "monitor.toml"
    path.write_text(text)
    return path
