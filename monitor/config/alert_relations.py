"""The rules between settings of alerts; like all of `relations`, they are checked on the raw tables."""

from collections.abc import Iterator, Mapping
from typing import Any

from monitor.config.errors import SettingError, names, shown

TOPIC, MAIL = "kafka", "email"
"""The names of the targets that are no webhooks."""
_SECRET_ENDINGS = ("password", "secret", "sasl.oauthbearer.config", "ssl.key.pem")
"""How the names of librdkafka's properties end that hold secrets."""


def errors_between_alerts(alerts: Mapping[str, Any], tenants: Mapping[str, Any]) -> Iterator[SettingError]:
    """All errors between the settings of `[alerts]`, and with the tenants."""
    webhooks = alerts.get("webhooks")
    for name, webhook in (webhooks if isinstance(webhooks, dict) else {}).items():
        place = f"alerts.webhooks.{name}"
        if name in (TOPIC, MAIL):
            yield SettingError(place, f"must not be one of {TOPIC}, {MAIL}: those name the other targets")
        if isinstance(webhook, dict):
            yield from _webhook_errors(webhook, place)
            yield from _route_errors(webhook, tenants, place)
    for name, check in ((MAIL, _mail_errors), (TOPIC, _topic_errors)):
        table = alerts.get(name)
        if isinstance(table, dict):
            yield from check(table, f"alerts.{name}")
            yield from _route_errors(table, tenants, f"alerts.{name}")


def _webhook_errors(webhook: Mapping[str, Any], place: str) -> Iterator[SettingError]:
    yield from _one_at_most(webhook, ("url", "url_env", "url_file"), place)
    yield from _one_at_most(webhook, ("secret_env", "secret_file"), place)
    is_pagerduty = webhook.get("format") == "pagerduty"
    if not is_pagerduty and not webhook.keys() & {"url", "url_env", "url_file"}:
        yield SettingError(f"{place}.url", "is required, or url_env or url_file")
    if is_pagerduty and not webhook.keys() & {"secret_env", "secret_file"}:
        yield SettingError(f"{place}.secret_env", "is required, or secret_file: PagerDuty's routing key")


def _mail_errors(mail: Mapping[str, Any], place: str) -> Iterator[SettingError]:
    yield from _one_at_most(mail, ("password_env", "password_file"), place)
    has_password = bool(mail.keys() & {"password_env", "password_file"})
    if "user" in mail and not has_password:
        yield SettingError(f"{place}.password_env", "is required with user, or password_file")
    if has_password and "user" not in mail:
        yield SettingError(f"{place}.user", "is required with a password")


def _topic_errors(topic: Mapping[str, Any], place: str) -> Iterator[SettingError]:
    yield from _one_at_most(topic, ("password_env", "password_file"), place)
    options = topic.get("options")
    for option in options if isinstance(options, dict) else ():
        if option.endswith(_SECRET_ENDINGS):
            rule = "must not be in the file: sasl.password comes from password_env or password_file"
            yield SettingError(f"{place}.options.{option}", rule)


def _one_at_most(table: Mapping[str, Any], settings: tuple[str, ...], place: str) -> Iterator[SettingError]:
    given = [setting for setting in settings if setting in table]
    if len(given) > 1:
        yield SettingError(f"{place}.{given[1]}", f"must not be given with {given[0]}")


def _route_errors(table: Mapping[str, Any], tenants: Mapping[str, Any], place: str) -> Iterator[SettingError]:
    """A name that nothing has would hold back every alert, silently."""
    chosen = dict(_texts(table.get("tenants")))
    for i, tenant in chosen.items():
        if tenant not in tenants:
            rule = f"must be a tenant; got {shown(tenant)}, there are {names(tenants)}"
            yield SettingError(f"{place}.tenants.{i}", rule)
    known = [
        experiment
        for name, tenant in tenants.items()
        if isinstance(tenant, dict) and (not chosen or name in chosen.values())
        for experiment in (tenant["experiments"] if isinstance(tenant.get("experiments"), dict) else ())
    ]
    for i, experiment in _texts(table.get("experiments")):
        if experiment not in known:
            rule = f"must be an experiment of its tenants; got {shown(experiment)}, there are {names(known)}"
            yield SettingError(f"{place}.experiments.{i}", rule)


def _texts(values: Any) -> Iterator[tuple[int, str]]:
    """The texts of a list, with their places."""
    for i, value in enumerate(values if isinstance(values, list) else ()):
        if isinstance(value, str):
            yield i, value
