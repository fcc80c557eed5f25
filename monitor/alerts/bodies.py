"""The texts of messages: our own JSON, and the forms of Slack, PagerDuty, Alertmanager and mail. Pure.

A message always gives the same text, so a repetition can be known by its bytes.

| form | definition |
| --- | --- |
| Slack | https://docs.slack.dev/reference/block-kit/blocks |
| PagerDuty | https://developer.pagerduty.com/docs/send-alert-event (Events API v2) |
| Alertmanager | https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml (postableAlerts) |
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from monitor.alerts.changes import Change, Message
from monitor.runtime import times
from monitor.verdicts.judge import State

VERSION = 1
"""Of our own JSON; a field that is added leaves it as it is."""
SLACK_CHANGES_MAX = 40
"""Changes in a message to Slack, which takes 50 blocks; of further ones it says how many."""
SLACK_CHARACTERS_MAX = 3_000
"""Of a block's text; a longer one is refused whole."""
SUMMARY_CHARACTERS_MAX = 1_024
"""Of PagerDuty's summary."""
DEDUP_CHARACTERS_MAX = 255
"""Of PagerDuty's key; a longer one ends in its hash."""
FIRING_MS = 7 * 86_400_000
"""How long Alertmanager takes an alert for firing without hearing of it: changes are told once."""
_PAGERDUTY_SEVERITIES = {State.STOP: "critical", State.HOLD: "error", State.WARN: "warning"}
_CLIENT = "AB Monitor"

Json = dict[str, Any]


def json_document(message: Message) -> Json:
    """Our own form, for webhooks and the topic."""
    return {
        "version": VERSION,
        "id": message.key,
        "tenant": message.tenant,
        "experiment": message.experiment,
        "state": message.worst.state,
        "changes": [{**msgspec.to_builtins(change), "is_resolved": change.is_resolved} for change in message.changes],
    }


def slack(message: Message) -> Json:
    """A text for notifications, and a block for each change."""
    blocks = [_slack_block(_slack_line(change)) for change in message.changes[:SLACK_CHANGES_MAX]]
    further = len(message.changes) - SLACK_CHANGES_MAX
    if further > 0:
        blocks.append(_slack_block(f"and {further} more"))
    return {"text": _cut(_slack_escaped(headline(message)), SLACK_CHARACTERS_MAX), "blocks": blocks}


def pagerduty(message: Message, routing_key: str) -> Json:
    """The event of a change: it opens an incident, adds to the one of the same check, or ends it."""
    (change,) = message.changes
    event: Json = {"routing_key": routing_key, "dedup_key": dedup_key(change)}
    if change.is_resolved:
        return {**event, "event_action": "resolve"}
    event |= {"event_action": "trigger", "client": _CLIENT}
    if change.link:
        event |= {"client_url": change.link, "links": [{"href": change.link, "text": _page(change)}]}
    event["payload"] = {
        "summary": _cut(f"{_title(change)}. {change.words}", SUMMARY_CHARACTERS_MAX),
        "source": f"{change.tenant}/{change.experiment}",
        "severity": _PAGERDUTY_SEVERITIES.get(change.state, "info"),
        "timestamp": iso(change.at_ms),
        "component": change.experiment,
        "group": change.tenant,
        "class": change.check,
        "custom_details": {"id": change.id, **_known(change), "details": change.details},
    }
    return event


def dedup_key(change: Change) -> str:
    """The same for all changes of a check: TENANT/EXPERIMENT/CHECK."""
    key = f"{change.tenant}/{change.experiment}/{change.check}"
    if len(key) <= DEDUP_CHARACTERS_MAX:
        return key
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]
    return f"{key[: DEDUP_CHARACTERS_MAX - len(digest) - 1]}-{digest}"


def alertmanager(message: Message) -> list[Json]:
    """An alert for each change; its labels name the check, so a later change of it is the same alert."""
    return [_alert(change) for change in message.changes]


def mail_subject(message: Message) -> str:
    """On one line."""
    return " ".join(headline(message).split())


def mail_text(message: Message) -> str:
    """A paragraph for each change."""
    return "\n\n".join(_mail_paragraph(change) for change in message.changes) + f"\n\nid: {message.key}\n"


def headline(message: Message) -> str:
    """The worst change, and how many more there are."""
    further = len(message.changes) - 1
    return _title(message.worst) + (f", and {further} more" if further else "")


def iso(time_ms: int) -> str:
    """A time as RFC 3339 in UTC: 2026-11-29T06:08:00.000Z."""
    return times.moment(time_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _title(change: Change) -> str:
    state = "RESOLVED" if change.is_resolved else change.state.upper().replace("_", " ")
    about = " ".join(name for name in (change.tenant, change.experiment) if name) or "monitor"
    return f"[{state}] {about}: {change.check}"


def _page(change: Change) -> str:
    return "the experiment's page" if change.experiment else "the monitor's health"


def _known(change: Change) -> Mapping[str, Any]:
    since = {} if change.since_ms is None else {"since": iso(change.since_ms)}
    return {"state": change.state, "previous": change.previous, "at": iso(change.at_ms), **since}


def _alert(change: Change) -> Json:
    began_ms = change.at_ms if change.since_ms is None else min(change.since_ms, change.at_ms)
    ends_ms = change.at_ms if change.is_resolved else change.at_ms + FIRING_MS
    labels = {
        "alertname": "ExperimentCheck" if change.experiment else "MonitorHealth",
        "tenant": change.tenant,
        "experiment": change.experiment,
        "check": change.check,
    }
    annotations = {"summary": _title(change), "description": change.words, "id": change.id, **_known(change)}
    alert: Json = {"labels": labels, "annotations": annotations, "startsAt": iso(began_ms), "endsAt": iso(ends_ms)}
    return alert | ({"generatorURL": change.link} if change.link else {})


def _slack_block(text: str) -> Json:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def _slack_line(change: Change) -> str:
    link = f"\n<{_slack_escaped(change.link)}|{_page(change)}>" if change.link else ""
    since = "" if change.since_ms is None else f"\nsince {_minute(change.since_ms)}"
    text = f"*{_slack_escaped(_title(change))}*\n{_slack_escaped(change.words)}{since}"
    return _cut(text, SLACK_CHARACTERS_MAX - len(link)) + link


def _slack_escaped(text: str) -> str:
    """Without Slack's markup, by which a text could call a whole channel."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _mail_paragraph(change: Change) -> str:
    lines = [_title(change), change.words, f"was {change.previous}, judged at {_minute(change.at_ms)}"]
    if change.since_ms is not None:
        lines.append(f"since {_minute(change.since_ms)}")
    return "\n".join([*lines, *([change.link] if change.link else [])])


def _minute(time_ms: int) -> str:
    return times.moment(time_ms).strftime("%Y-%m-%d %H:%M UTC")


def _cut(text: str, characters_max: int) -> str:
    return text if len(text) <= characters_max else f"{text[: characters_max - 3]}..."
