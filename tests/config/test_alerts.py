"""The settings of alerts: their defaults, and every rule of theirs broken."""

from typing import Any

import pytest

from monitor.config.alerts import AlertsTable
from monitor.config.reader import parse
from tests.support.example_config import errors_of, example, put

HOOK, MAIL, TOPIC = "alerts/webhooks/ops", "alerts/email", "alerts/kafka"
TARGETS = {
    "webhooks": {"ops": {"url": "https://x"}},
    "email": {"host": "h", "from": "a@b", "to": ["c@d"]},
    "kafka": {"topic": "t"},
}
ERRORS: list[tuple[str, Any, str, str]] = [
    # unknown keys and missing ones
    ("alerts/from_stat", "stop", "alerts.from_stat", "did you mean 'from_state'?"),
    (f"{HOOK}/ur", "x", "alerts.webhooks.ops.ur", "did you mean 'url'?"),
    (f"{MAIL}/form", "a@b", "alerts.email.form", "did you mean 'from'?"),
    (f"{TOPIC}/topics", "t", "alerts.kafka.topics", "did you mean 'topic'?"),
    (MAIL, {"from": "a@b", "to": ["c@d"]}, "alerts.email.host", "is required"),
    (TOPIC, {}, "alerts.kafka.topic", "is required"),
    (HOOK, {}, "alerts.webhooks.ops.url", "is required, or url_env or url_file"),
    (HOOK, {"format": "pagerduty"}, "alerts.webhooks.ops.secret_env", "is required, or secret_file"),
    # single values
    ("alerts/from_state", "healthy", "alerts.from_state", "must be 'note', 'warn', 'hold' or 'stop'; got 'healthy'"),
    ("alerts/repeat_s", -1, "alerts.repeat_s", "must be at least 0"),
    ("alerts/give_up_s", 2_592_001, "alerts.give_up_s", "must be at most 2592000"),
    ("alerts/page_url", "example.org", "alerts.page_url", "must begin with http:// or https:// and a host"),
    ("alerts/webhooks/my hook", {"url": "https://x"}, "alerts.webhooks.my hook", "may have letters, digits, _ and -"),
    (f"{HOOK}/url", "ftp://x", "alerts.webhooks.ops.url", "must begin with http:// or https:// and a host"),
    (f"{HOOK}/format", "teams", "alerts.webhooks.ops.format", "must be 'json', 'slack', 'pagerduty' or 'alertmanager'"),
    (f"{HOOK}/secret_env", "A-B", "alerts.webhooks.ops.secret_env", "must be the name of an environment variable"),
    (f"{HOOK}/timeout_s", 31, "alerts.webhooks.ops.timeout_s", "must be at most 30"),
    (f"{HOOK}/timeout_s", 0, "alerts.webhooks.ops.timeout_s", "must be above 0"),
    (f"{HOOK}/checks", [], "alerts.webhooks.ops.checks", "must not be empty"),
    (f"{MAIL}/to", [], "alerts.email.to", "must not be empty"),
    (f"{MAIL}/to", ["a@b\nBcc: c@d"], "alerts.email.to.0", "must be one mail address"),
    (f"{MAIL}/from", "a@b, c@d", "alerts.email.from", "must be one mail address"),
    (f"{MAIL}/port", 0, "alerts.email.port", "must be at least 1"),
    (f"{MAIL}/tls", "ssl", "alerts.email.tls", "must be 'starttls', 'tls' or 'none'"),
    # between settings
    ("alerts/webhooks/kafka", {"url": "https://x"}, "alerts.webhooks.kafka", "must not be one of kafka, email"),
    ("alerts/webhooks/email", {"url": "https://x"}, "alerts.webhooks.email", "must not be one of kafka, email"),
    (f"{HOOK}/url_env", "A", "alerts.webhooks.ops.url_env", "must not be given with url"),
    (HOOK, {"url_env": "A", "url_file": "b"}, "alerts.webhooks.ops.url_file", "must not be given with url_env"),
    (
        HOOK,
        {"url": "https://x", "secret_env": "A", "secret_file": "b"},
        "alerts.webhooks.ops.secret_file",
        "must not be given with secret_env",
    ),
    (f"{MAIL}/user", "u", "alerts.email.password_env", "is required with user, or password_file"),
    (f"{MAIL}/password_file", "p", "alerts.email.user", "is required with a password"),
    (f"{TOPIC}/options", {"sasl.password": "p"}, "alerts.kafka.options.sasl.password", "must not be in the file"),
    (f"{TOPIC}/options", {"ssl.key.password": "p"}, "alerts.kafka.options.ssl.key.password", "must not be in the file"),
    *[
        (f"{place}/tenants", ["uswm", "usw"], f"{place.replace('/', '.')}.tenants.1", "must be a tenant; got 'usw'")
        for place in (HOOK, MAIL, TOPIC)
    ],
    (f"{HOOK}/experiments", ["color"], "alerts.webhooks.ops.experiments.0", "must be an experiment of its tenants"),
]


@pytest.mark.parametrize(("path", "value", "place", "message"), ERRORS)
def test_an_error_is_reported_with_its_place(path: str, value: Any, place: str, message: str) -> None:
    """Each rule, broken alone."""
    errors = errors_of(put(put(example(), "alerts", TARGETS), path, value))
    assert [error for error in errors if error.place == place and message in error.message], errors
    assert len(errors) == 1, errors


def test_a_wrong_type_is_one_error() -> None:
    """Rules between settings leave it alone."""
    for path in ("alerts", "alerts/webhooks", HOOK, MAIL, TOPIC, f"{HOOK}/tenants", f"{TOPIC}/options"):
        errors = errors_of(put(put(example(), "alerts", TARGETS), path, 5))
        assert [error.place for error in errors] == [path.replace("/", ".")]


def test_an_experiment_must_be_one_of_the_route_s_tenants() -> None:
    """Of any tenant if the route names none."""
    config = put(example(), "tenants/other", {})
    for tenants, count in ((["uswm"], 0), (["other"], 1), (None, 0)):
        route = {"experiments": ["button_color"]} | ({"tenants": tenants} if tenants else {})
        hook = {"ops": {"url": "https://x", **route}}
        assert len(errors_of(put(config, "alerts", {"webhooks": hook}), or_none=True)) == count


def test_nothing_is_told_without_targets() -> None:
    """That is the default, with the states from hold on."""
    assert parse(example()).alerts == AlertsTable()
    assert (AlertsTable().from_state, AlertsTable().webhooks) == ("hold", {})


def test_the_environment_overrides_single_settings() -> None:
    """Texts are used unchanged, also those that may be absent."""
    environment = {
        "MONITOR_ALERTS__PAGE_URL": "https://monitor.example.org",
        "MONITOR_ALERTS__FROM_STATE": "stop",
        "MONITOR_ALERTS__REPEAT_S": "60",
    }
    alerts = parse(example(), environment=environment).alerts
    assert (alerts.page_url, alerts.from_state, alerts.repeat_s) == ("https://monitor.example.org", "stop", 60)
