"""`monitor alert-test`: every target gets one example, and what each answered is shown."""

import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from monitor.commands import alert_test, main
from tests.support.alert_case import SECRET
from tests.support.alert_receiver import AlertReceiver, answer
from tests.support.example_config import example
from tests.support.mail_server import MailServer
from tests.support.strategies import to_toml


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that breaks no line."""
    monkeypatch.setattr(alert_test, "OUT", Console(width=200))


def run(folder: Path, alerts: dict[str, Any], *arguments: str) -> Result:
    """The command with the example configuration and these alerts."""
    file = folder / "monitor.toml"
    file.write_text(to_toml({**example(), "alerts": alerts}))
    return CliRunner(env={"KEY": SECRET}).invoke(main.app, ["alert-test", "--config", str(file), *arguments])


def rows(output: str) -> list[list[str]]:
    """Target, kind, verdict and answer of each row."""
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in output.splitlines() if line[:1] == "│"]
    return [[*row[:3], row[4]] for row in cells]


def test_every_target_gets_an_example(tmp_path: Path) -> None:
    """Whatever its route; exit status 0 if all accept it. It names no tenant or experiment that there is."""
    with AlertReceiver() as receiver, MailServer() as mail:
        receiver.script(answer(200, "ok"), answer(202))
        webhooks = {
            "ops": {"url": receiver.url, "tenants": ["uswm"], "from_state": "stop"},
            "pager": {"url": receiver.url, "format": "pagerduty", "secret_env": "KEY"},
        }
        result = run(tmp_path, {"webhooks": webhooks, "email": dict(mail.table())})
    assert (result.exit_code, result.stderr) == (0, "")
    assert rows(result.stdout) == [
        ["ops", "json", "accepted", "200"],
        ["pager", "pagerduty", "accepted", "202"],
        ["email", "email", "accepted", "250"],
    ]
    own, event = receiver.documents
    assert (own["tenant"], own["experiment"], own["state"]) == ("alert-test", "alert-test", "note")
    assert re.fullmatch(r"alert-test/\d{13}", own["id"])
    assert f"Sent: {own['id']}" in result.stdout
    assert event["payload"]["severity"] == "info"
    assert mail.mails[0].mail["Subject"] == "[NOTE] alert-test alert-test: alert-test"


def test_one_that_does_not_accept_is_status_1(tmp_path: Path) -> None:
    """The others get it all the same; the answer is shown, without secrets."""
    with AlertReceiver() as receiver:
        receiver.script(answer(403, f"no: {SECRET}"))
        webhooks = {
            "strict": {"url": receiver.url, "secret_env": "KEY"},
            "nobody": {"url": "http://127.0.0.1:1/TOP-SECRET-PATH"},
            "well": {"url": receiver.url},
        }
        result = run(tmp_path, {"webhooks": webhooks})
    assert (result.exit_code, result.stderr) == (1, "")
    assert rows(result.stdout) == [
        ["strict", "json", "refused", "403 no: ***"],
        ["nobody", "json", "failed", "ConnectionRefusedError: [Errno 111] Connection refused"],
        ["well", "json", "accepted", "200"],
    ]


def test_only_one_target(tmp_path: Path) -> None:
    """By its name."""
    with AlertReceiver() as receiver:
        webhooks = {name: {"url": f"{receiver.url}/{name}"} for name in ("one", "two")}
        result = run(tmp_path, {"webhooks": webhooks}, "--target", "two")
        assert result.exit_code == 0
        assert [received.path.rpartition("/")[2] for received in receiver.requests] == ["two"]
        result = run(tmp_path, {"webhooks": webhooks}, "--target", "three")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "got 'three', there are one, two" in result.stderr


def test_without_targets_there_is_nothing_to_test(tmp_path: Path) -> None:
    """One message, exit status 2; likewise without a secret."""
    result = run(tmp_path, {})
    assert (result.exit_code, result.stdout) == (2, "")
    assert "has no targets in [alerts]" in result.stderr
    result = run(tmp_path, {"webhooks": {"ops": {"url": "https://x", "secret_env": "NOT_SET"}}})
    assert (result.exit_code, result.stdout) == (2, "")
    expected = "monitor: alerts.webhooks.ops.secret_env: the environment variable NOT_SET must hold the secret"
    assert result.stderr.startswith(expected)


def test_the_example_says_that_it_is_none() -> None:
    """In words and in a field."""
    change = alert_test.example(1_795_491_060_000)
    assert "test" in change.words
    assert change.details == {"is_test": True}
