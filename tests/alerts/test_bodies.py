"""The forms of messages, each held to what its receiver takes."""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.alerts import bodies
from monitor.alerts.changes import Change, Message, linked
from monitor.verdicts.judge import State
from tests.support.alert_case import AT_MS, MINUTE_MS, SECRET, change, delivered, settings, telling, webhook
from tests.support.alert_receiver import AlertReceiver, answer
from tests.support.documents import REFERENCE, blocks

AT, SINCE = "2026-11-24T03:31:00.000Z", "2026-11-24T03:29:00.000Z"
LINKED = change(link="https://monitor.example.org/experiments/uswm/fast_checkout", details={"visits": {"fc_on": 7}})
HEALTHY = change(State.HEALTHY, minute=5, previous=State.HOLD)
ANY_CHANGES = st.lists(
    st.builds(
        Change,
        id=st.text(min_size=1),
        tenant=st.just("uswm"),
        experiment=st.just("fast_checkout"),
        check=st.text(min_size=1),
        state=st.sampled_from(State),
        previous=st.sampled_from(State),
        at_ms=st.integers(0, 2**42),
        since_ms=st.none() | st.integers(0, 2**42),
        words=st.text(max_size=5_000),
        details=st.dictionaries(st.text(), st.integers() | st.text() | st.none()),
        link=st.sampled_from(["", "https://example.org/a?b=c&d=<e>"]),
    ),
    min_size=1,
    max_size=60,
)


def test_our_own_form() -> None:
    """All that the change says, and the worst state on top."""
    document = json.loads(msgspec.json.encode(bodies.json_document(Message((HEALTHY, LINKED)))))
    changes = document.pop("changes")
    assert document == {
        "version": 1,
        "id": Message((HEALTHY, LINKED)).key,
        "tenant": "uswm",
        "experiment": "fast_checkout",
        "state": "hold",
    }
    assert changes[1] == {
        "id": LINKED.id,
        "tenant": "uswm",
        "experiment": "fast_checkout",
        "check": "order fewer fc_on",
        "state": "hold",
        "previous": "healthy",
        "at_ms": AT_MS,
        "since_ms": AT_MS - 2 * MINUTE_MS,
        "words": "orders with fc_on: at least 20 % fewer",
        "details": {"visits": {"fc_on": 7}},
        "link": LINKED.link,
        "is_resolved": False,
    }
    assert [one["is_resolved"] for one in changes] == [True, False]


def test_the_example_of_the_reference_is_what_is_sent() -> None:
    """Field for field."""
    (example,) = (block for block in blocks(REFERENCE, "json") if "is_resolved" in block)
    link = "https://monitor.example.org/experiments/uswm/fast_checkout"
    sent = msgspec.json.encode(bodies.json_document(Message((change(link=link),))))
    assert json.loads(example) == json.loads(sent)


def test_pagerduty_opens_an_incident_and_ends_the_same() -> None:
    """One key for a check; required fields and the severities of Events API v2."""
    opened = bodies.pagerduty(Message((LINKED,)), SECRET)
    assert opened == {
        "routing_key": SECRET,
        "event_action": "trigger",
        "dedup_key": "uswm/fast_checkout/order fewer fc_on",
        "client": "AB Monitor",
        "client_url": LINKED.link,
        "links": [{"href": LINKED.link, "text": "the experiment's page"}],
        "payload": {
            "summary": "[HOLD] uswm fast_checkout: order fewer fc_on. orders with fc_on: at least 20 % fewer",
            "source": "uswm/fast_checkout",
            "severity": "error",
            "timestamp": AT,
            "component": "fast_checkout",
            "group": "uswm",
            "class": "order fewer fc_on",
            "custom_details": {
                "id": LINKED.id,
                "state": "hold",
                "previous": "healthy",
                "at": AT,
                "since": SINCE,
                "details": {"visits": {"fc_on": 7}},
            },
        },
    }
    ended = bodies.pagerduty(Message((HEALTHY,)), SECRET)
    assert ended == {"routing_key": SECRET, "event_action": "resolve", "dedup_key": opened["dedup_key"]}


@pytest.mark.parametrize(
    ("state", "severity"), [("stop", "critical"), ("hold", "error"), ("warn", "warning"), ("note", "info")]
)
def test_the_severities_of_pagerduty(state: str, severity: str) -> None:
    """Each of the four is used."""
    event = bodies.pagerduty(Message((change(State(state)),)), SECRET)
    assert event["payload"]["severity"] == severity


def test_alertmanager_knows_a_check_by_its_labels() -> None:
    """The state is no label: else a check that rises would be another alert, and its end would end one of the two."""
    (hold,), (stop,) = (bodies.alertmanager(Message((one,))) for one in (LINKED, change(State.STOP)))
    (ended,) = bodies.alertmanager(Message((HEALTHY,)))
    assert hold["labels"] == stop["labels"] == ended["labels"]
    assert hold == {
        "labels": {
            "alertname": "ExperimentCheck",
            "tenant": "uswm",
            "experiment": "fast_checkout",
            "check": "order fewer fc_on",
        },
        "annotations": {
            "summary": "[HOLD] uswm fast_checkout: order fewer fc_on",
            "description": "orders with fc_on: at least 20 % fewer",
            "id": LINKED.id,
            "state": "hold",
            "previous": "healthy",
            "at": AT,
            "since": SINCE,
        },
        "startsAt": SINCE,
        "endsAt": "2026-12-01T03:31:00.000Z",
        "generatorURL": LINKED.link,
    }
    assert ended["endsAt"] == "2026-11-24T03:36:00.000Z"


def test_slack_gets_a_text_and_a_block_for_each_change() -> None:
    """Signs of markup are escaped: `<!channel>` in a sentence would call everyone."""
    body = bodies.slack(Message((change(words="<!channel> a & b"), LINKED)))
    assert body["text"] == "[HOLD] uswm fast_checkout: order fewer fc_on, and 1 more"
    first, second = (block["text"]["text"] for block in body["blocks"])
    title = "*[HOLD] uswm fast_checkout: order fewer fc_on*"
    assert first == f"{title}\n&lt;!channel&gt; a &amp; b\nsince 2026-11-24 03:29 UTC"
    assert second.endswith(f"\n<{LINKED.link}|the experiment's page>")
    assert {(block["type"], block["text"]["type"]) for block in body["blocks"]} == {("section", "mrkdwn")}


def test_a_mail_says_all_of_it() -> None:
    """A paragraph for each change."""
    message = Message((LINKED, change(State.STOP, check="split", words="the split is wrong")))
    assert bodies.mail_subject(message) == "[STOP] uswm fast_checkout: split, and 1 more"
    text = bodies.mail_text(message)
    for part in (LINKED.words, "the split is wrong", LINKED.link, "since 2026-11-24 03:29 UTC", message.key):
        assert part in text


@given(ANY_CHANGES)
def test_any_message_fits_its_receiver(changes: list[Change]) -> None:
    """Whatever the texts: within the bounds that receivers refuse beyond, and JSON."""
    message = Message(tuple(changes))
    slack = bodies.slack(message)
    assert 1 <= len(slack["blocks"]) <= 50
    assert all(1 <= len(block["text"]["text"]) <= 3_000 for block in slack["blocks"])
    assert len(slack["text"]) <= 3_000
    assert not re.search("<(?!https)", slack["blocks"][0]["text"]["text"])
    for alert in bodies.alertmanager(message):
        start, end = (datetime.fromisoformat(alert[name]) for name in ("startsAt", "endsAt"))
        assert start <= end
    for one in changes:
        event: dict[str, Any] = bodies.pagerduty(Message((one,)), SECRET)
        assert 1 <= len(event["dedup_key"]) <= 255
        assert len(event.get("payload", {}).get("summary", "")) <= 1_024
        msgspec.json.encode(event)
    assert "\n" not in bodies.mail_subject(message)
    assert json.loads(msgspec.json.encode(bodies.json_document(message)))["id"] == message.key


def test_long_keys_of_pagerduty_stay_different() -> None:
    """They end in a hash."""
    keys = {bodies.dedup_key(change(check="x" * 300 + end)) for end in "ab"}
    assert len(keys) == 2
    assert {len(key) for key in keys} == {255}


def test_a_link_is_an_address() -> None:
    """A path is below the page's address; without one there is no link."""
    one = change(link="/experiments/uswm/fast_checkout?last=24h")
    assert linked(one, "https://m.example.org/ab/").link == "https://m.example.org/ab" + one.link
    assert linked(one, None).link == ""
    assert linked(LINKED, "https://m.example.org").link == LINKED.link
    assert linked(change(), "https://m.example.org").link == ""


def test_every_form_is_posted(tmp_path: Path) -> None:
    """By real requests: PagerDuty gets an event for each change, with its routing key and no signature."""
    forms = ("json", "slack", "pagerduty", "alertmanager")
    with AlertReceiver() as receiver:
        table = {form: {"url": f"{receiver.url}/{form}", "format": form, "secret_env": "KEY"} for form in forms}
        alerts = settings(webhooks=table, page_url="https://m.example.org")
        with telling(alerts, tmp_path / "outbox", {"KEY": SECRET}) as teller:
            receiver.script(answer(200), answer(200), answer(202), answer(202))
            teller.tell([change(link="/x"), change(check="split")], AT_MS)
            delivered(teller)
            assert {name: counts.accepted for name, counts in teller.counts().items()} == {
                form: 2 if form == "pagerduty" else 1 for form in forms
            }
    by_form: dict[str, list[Any]] = {form: [] for form in forms}
    for received in receiver.requests:
        by_form[received.path.rpartition("/")[2]].append(received)
    assert [one.document["routing_key"] for one in by_form["pagerduty"]] == [SECRET, SECRET]
    assert [one.key for one in by_form["pagerduty"]] == [change().id, change(check="split").id]
    assert not any("X-Monitor-Signature" in one.headers for one in by_form["pagerduty"])
    assert all("X-Monitor-Signature" in by_form[form][0].headers for form in ("json", "slack", "alertmanager"))
    assert len(by_form["slack"][0].document["blocks"]) == 2
    assert by_form["alertmanager"][0].document[0]["generatorURL"] == "https://m.example.org/x"


def test_a_key_that_no_header_can_hold_is_escaped(tmp_path: Path) -> None:
    """Signs beyond ASCII, and line ends, by which a header could be forged."""
    with AlertReceiver() as receiver, telling(settings(webhooks=webhook(receiver.url)), tmp_path / "outbox") as teller:
        teller.tell([msgspec.structs.replace(change(), id="größe\r\nX-Evil: 1 %")], AT_MS)
        delivered(teller)
    assert receiver.keys == ["gr%C3%B6%C3%9Fe%0D%0AX-Evil: 1 %25"]


def test_trouble_of_the_monitor_is_of_no_experiment() -> None:
    """Its titles name the tenant, or the monitor; receivers can tell it from experiments."""
    trouble = change(State.WARN, experiment="", check="health/future", link="https://monitor.example.org/health")
    assert bodies.headline(Message((trouble,))) == "[WARN] uswm: health/future"
    everywhere = msgspec.structs.replace(trouble, tenant="", check="health/silent dal")
    assert bodies.headline(Message((everywhere,))) == "[WARN] monitor: health/silent dal"
    (alert,) = bodies.alertmanager(Message((trouble,)))
    assert (alert["labels"]["alertname"], alert["labels"]["check"]) == ("MonitorHealth", "health/future")
    (experiment,) = bodies.alertmanager(Message((change(),)))
    assert experiment["labels"]["alertname"] == "ExperimentCheck"
    assert bodies.pagerduty(Message((trouble,)), "key")["links"][0]["text"] == "the monitor's health"
