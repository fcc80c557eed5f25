"""The settings of alerts: who is told of which changes, and over what. Their rules between settings are in
`alert_relations`.

No secret is a setting: a setting names the environment variable or the file that holds it.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from monitor.config.values import KafkaProperty, MailAddress, Name, Text, Url, VariableName

Level = Literal["note", "warn", "hold", "stop"]
"""The states that are told, from the mildest to the most severe."""
TIMEOUT_S_MAX = 30
"""The longest that one attempt may be given: a stop of the process waits for it."""
DAYS_30_S = 2_592_000

Timeout = Annotated[float, Field(gt=0, le=TIMEOUT_S_MAX, allow_inf_nan=False)]


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", validate_default=False)


class Route(_Model):
    """Which changes a target is told of; what is absent holds nothing back."""

    tenants: list[Name] | None = Field(None, min_length=1, description="tenants; absent: all")
    experiments: list[Name] | None = Field(None, min_length=1, description="experiments; absent: all")
    checks: list[Text] | None = Field(
        None,
        min_length=1,
        description="checks, by their whole text, its first word, or what that has before a slash; absent: all",
    )
    from_state: Level | None = Field(None, description="the mildest state that is told; absent: alerts.from_state")


class WebhookTable(Route):
    """An address that changes are posted to."""

    url: Url | None = Field(None, description="the address")
    url_env: VariableName | None = Field(None, description="or the environment variable that holds it")
    url_file: Text | None = Field(None, description="or the file that holds it")
    format: Literal["json", "slack", "pagerduty", "alertmanager"] = Field("json", description="form of the body")
    secret_env: VariableName | None = Field(
        None, description="the environment variable with the key of the signature; for PagerDuty the routing key"
    )
    secret_file: Text | None = Field(None, description="or the file that holds it")
    timeout_s: Timeout = Field(10, description="how long one attempt may take")


class AlertsEmailTable(Route):
    """Mail over SMTP."""

    host: Text = Field(description="the mail server")
    port: int = Field(587, ge=1, le=65_535, description="its port")
    from_address: MailAddress = Field(alias="from", description="the sender")
    to: Annotated[list[MailAddress], Field(min_length=1)] = Field(description="the receivers")
    tls: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="encryption: asked for on the connection, from its beginning, or none"
    )
    user: Text | None = Field(None, description="the user to log in as; absent: no login")
    password_env: VariableName | None = Field(None, description="the environment variable with the password")
    password_file: Text | None = Field(None, description="or the file that holds it")
    timeout_s: Timeout = Field(20, description="how long one attempt may take")


class AlertsKafkaTable(Route):
    """A topic that other systems read, such as one that switches a variation off."""

    topic: Text = Field(description="the topic")
    brokers: Text | None = Field(
        None, description="bootstrap servers; absent: kafka.brokers, with kafka.options", examples=["a:9092,b:9092"]
    )
    options: dict[str, KafkaProperty] = Field({}, description="any librdkafka property that is no secret")
    password_env: VariableName | None = Field(None, description="the environment variable with sasl.password")
    password_file: Text | None = Field(None, description="or the file that holds it")
    timeout_s: Timeout = Field(10, description="how long one attempt may take")


class AlertsTable(_Model):
    """Who is told when a check changes its state."""

    from_state: Level = Field("hold", description="the mildest state that is told")
    repeat_s: int = Field(3_600, ge=0, le=DAYS_30_S, description="how long a check is quiet unless its state rises")
    give_up_s: int = Field(86_400, ge=1, le=DAYS_30_S, description="how long delivery is tried again")
    page_url: Url | None = Field(None, description="the page's address as readers reach it, for links")
    webhooks: dict[Name, WebhookTable] = Field({}, description="name to webhook")
    email: AlertsEmailTable | None = Field(None, description="mail")
    kafka: AlertsKafkaTable | None = Field(None, description="a topic")
