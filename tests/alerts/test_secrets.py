"""Secrets come from the environment and files, and are in no log, no audit, no error and not in the outbox."""

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from monitor.alerts.secret_values import CHARACTERS_SHOWN_MAX, SecretError, read_secret, shown
from monitor.alerts.teller import Teller
from tests.support.alert_case import AT_MS, SECRET, change, delivered, settings, telling
from tests.support.alert_receiver import AlertReceiver, answer

PATH = "TOP-SECRET-PATH"


def test_a_secret_is_read_from_the_environment_or_a_file(tmp_path: Path) -> None:
    """Without the white space with which editors and shells end it."""
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    assert read_secret("place", None, str(file), {}) == SECRET
    assert read_secret("place", "KEY", None, {"KEY": f" {SECRET}"}) == SECRET
    assert read_secret("place", None, None, {"KEY": SECRET}) is None


@pytest.mark.parametrize(
    ("content", "reason"), [(b" \n", "empty or not there"), (b"\xff", "must be UTF-8"), (None, "No such file")]
)
def test_a_file_without_a_secret_is_an_error_at_start(tmp_path: Path, content: bytes | None, reason: str) -> None:
    """It names the setting and the file, and shows nothing of what is in it."""
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SecretError, match=rf"^alerts\.webhooks\.ops\.secret_file: .*{file}.*{reason}"):
        read_secret("alerts.webhooks.ops.secret", None, str(file), {})


def test_a_variable_that_is_not_set_is_an_error_at_start(tmp_path: Path) -> None:
    """And makes no outbox."""
    alerts = settings(webhooks={"ops": {"url": "http://x", "secret_env": "NOT_SET"}})
    with pytest.raises(SecretError, match="the environment variable NOT_SET"):
        Teller(alerts, tmp_path / "outbox", environment={})
    assert list(tmp_path.iterdir()) == []


def test_an_address_may_be_secret(tmp_path: Path) -> None:
    """Slack's are; one that is none is refused without showing it."""
    with AlertReceiver() as receiver:
        alerts = settings(webhooks={"ops": {"url_env": "URL", "format": "slack"}})
        with telling(alerts, tmp_path / "outbox", {"URL": receiver.url}) as teller:
            teller.tell([change()], AT_MS)
            delivered(teller)
        assert len(receiver.requests) == 1
    for wrong in (SECRET, f"http://[{SECRET}/", "https:///path"):
        with pytest.raises(SecretError, match=r"^alerts\.webhooks\.ops\.url_env must give an address") as caught:
            Teller(alerts, tmp_path / "outbox", environment={"URL": wrong})
        assert SECRET not in str(caught.value)


def test_no_secret_is_logged_or_kept(tmp_path: Path) -> None:
    """Whatever a target answers: it may repeat the request. Nor with what listens nowhere, or is no address at all."""
    table: dict[str, Any] = {"format": "pagerduty", "secret_env": "KEY"}
    with AlertReceiver() as receiver:
        echo = f"you said {SECRET} to {receiver.url}"
        answers = [answer(500, echo), answer(302)._replace(headers=(("Location", receiver.url),)), answer(400, echo)]
        receiver.script(*answers)
        urls = {
            "well": receiver.url,
            "nobody": f"http://user:{SECRET}@127.0.0.1:1/{PATH}",
            "strange": f"http://127.0.0.1:99999/{PATH}",
        }
        environment = {"KEY": SECRET, **{f"URL_{name}": url for name, url in urls.items()}}
        alerts = settings(give_up_s=60, webhooks={name: {**table, "url_env": f"URL_{name}"} for name in urls})
        with capture_logs() as logs, telling(alerts, tmp_path / "outbox", environment) as teller:
            teller.tell([change()], AT_MS)
            delivered(teller)
            kept = str(teller.attempts())
            assert {counts.given_up for counts in teller.counts().values()} == {1}
            files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert len(logs) > 6
    assert "you said ***" in kept
    for secret in (SECRET, PATH):
        assert secret not in str(logs)
        assert secret not in kept
        assert secret.encode() not in files


def test_a_text_of_others_is_one_short_line() -> None:
    """Both sides of the bound."""
    assert shown("a\r\n b\tc", []) == "a b c"
    assert shown("x" * CHARACTERS_SHOWN_MAX, []) == "x" * CHARACTERS_SHOWN_MAX
    assert shown("x" * (CHARACTERS_SHOWN_MAX + 1), []) == "x" * (CHARACTERS_SHOWN_MAX - 3) + "..."
