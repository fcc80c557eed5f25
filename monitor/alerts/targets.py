"""The targets of the configuration: each a name, a route and what delivers to it."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import requests

from monitor.alerts.mail import Mail
from monitor.alerts.outcomes import Sender
from monitor.alerts.topic import Topic
from monitor.alerts.webhook import Webhook
from monitor.config.alert_relations import MAIL, TOPIC
from monitor.config.alerts import Route
from monitor.config.settings import Settings


class Target(NamedTuple):
    """Who is told."""

    name: str
    """The webhook's name, `email` or `kafka`."""
    kind: str
    """The webhook's format, `email` or `kafka`."""
    route: Route
    sender: Sender


def targets_of(
    settings: Settings, environment: Mapping[str, str], new_session: Callable[[], requests.Session] = requests.Session
) -> list[Target]:
    """The webhooks in the order of the file, then mail and the topic. Raises SecretError."""
    alerts = settings.alerts
    targets = [
        Target(name, table.format, table, Webhook(name, table, environment, new_session()))
        for name, table in alerts.webhooks.items()
    ]
    if alerts.email is not None:
        targets.append(Target(MAIL, MAIL, alerts.email, Mail(alerts.email, environment)))
    if alerts.kafka is not None:
        targets.append(Target(TOPIC, TOPIC, alerts.kafka, Topic(alerts.kafka, settings.kafka, environment)))
    return targets
