"""Mail over a real SMTP conversation on loopback: encrypted or not, with and without a login, and refusals."""

import re
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from monitor.alerts.changes import Message
from monitor.alerts.mail import Mail
from monitor.alerts.outcomes import Outcome, Verdict
from monitor.config.alerts import AlertsEmailTable
from monitor.verdicts.judge import State
from tests.support.alert_case import AT_MS, SECRET, change, delivered, settings, telling
from tests.support.mail_server import MailServer, drip_server
from tests.support.secure_kafka import make_certificates

GROUP = Message((change(), change(State.STOP, check="split", words="the split is wrong")))
PASSWORD: dict[str, Any] = {"user": "monitor", "password_env": "PASSWORD"}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority and what a server on localhost shows."""
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


def sent(server: MailServer, trusted: Path | None = None, password: str = SECRET, **changes: Any) -> Outcome:
    """What becomes of a mail to this server."""
    table = AlertsEmailTable.model_validate(server.table(**changes))
    tls = ssl.create_default_context(cafile=trusted / "ca.pem") if trusted is not None else None
    return Mail(table, {"PASSWORD": password}, tls).send(GROUP)


def test_a_mail_arrives_whole() -> None:
    """At all receivers, from the sender, with what happened; it is no answer that a mailbox should answer."""
    with MailServer() as server:
        outcome = sent(server, to=["a@example.org", "b@example.org"])
    assert outcome == Outcome(Verdict.ACCEPTED, "250")
    (got,) = server.mails
    assert (got.sender, got.receivers) == ("monitor@example.org", ["a@example.org", "b@example.org"])
    assert got.mail["Subject"] == "[STOP] uswm fast_checkout: split, and 1 more"
    assert (got.mail["From"], got.mail["To"]) == ("monitor@example.org", "a@example.org, b@example.org")
    assert got.mail["Date"] == "Tue, 24 Nov 2026 03:31:00 +0000"
    assert got.mail["Auto-Submitted"] == "auto-generated"
    assert "the split is wrong" in got.mail.get_content()


def test_a_mail_that_is_sent_again_has_the_same_id() -> None:
    """So that a mailbox shows it once."""
    with MailServer() as server:
        sent(server)
        sent(server)
    first, second = (got.mail for got in server.mails)
    assert re.fullmatch(r"<[0-9a-f]{32}@example\.org>", first["Message-ID"])
    assert first.as_bytes() == second.as_bytes()


@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_a_mail_is_encrypted_and_the_user_logged_in(certificates: Path, tls: str) -> None:
    """With STARTTLS or from the beginning, with a certificate for the server's name."""
    server = MailServer(certificates / "server.pem", is_tls=tls == "tls", login=("monitor", SECRET))
    with server:
        outcome = sent(server, certificates, tls=tls, **PASSWORD)
    assert outcome.verdict is Verdict.ACCEPTED
    assert [(got.is_encrypted, got.user) for got in server.mails] == [(True, "monitor")]


@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_a_certificate_of_a_stranger_gets_no_mail(certificates: Path, tls: str) -> None:
    """Nor the password; it is tried again, since somebody has to mend it."""
    with MailServer(certificates / "server.pem", is_tls=tls == "tls", login=("monitor", SECRET)) as server:
        outcome = sent(server, None, tls=tls, **PASSWORD)
    assert (outcome.verdict, outcome.is_of_target) == (Verdict.FAILED, True)
    assert "CERTIFICATE_VERIFY_FAILED" in outcome.text
    assert server.mails == []


def test_without_starttls_nothing_is_sent_in_the_clear() -> None:
    """A server that does not offer what was asked for gets no mail."""
    with MailServer(login=("monitor", SECRET)) as server:
        outcome = sent(server, tls="starttls", **PASSWORD)
    assert outcome.verdict is Verdict.FAILED
    assert "STARTTLS" in outcome.text
    assert server.mails == []


def test_a_wrong_password_is_tried_again_and_not_told() -> None:
    """Even if the server repeats it."""
    with MailServer(login=("monitor", "another")) as server:
        outcome = sent(server, **PASSWORD)
    assert (outcome.verdict, outcome.text) == (Verdict.FAILED, "535 no such login: ***")


@pytest.mark.parametrize(
    ("says", "verdict", "text"),
    [
        ({"MAIL": "550 not you"}, Verdict.REFUSED, "550 not you"),
        ({"MAIL": "451 later"}, Verdict.FAILED, "451 later"),
        ({"RCPT": "550 no such box"}, Verdict.REFUSED, "550 no such box for a@example.org"),
        ({"RCPT": "450 busy"}, Verdict.FAILED, "450 busy for a@example.org"),
        ({"DATA": "554 spam"}, Verdict.REFUSED, "554 spam"),
        ({"DATA": "452 full"}, Verdict.FAILED, "452 full"),
        ({"EHLO": "421 gone", "HELO": "421 gone"}, Verdict.FAILED, "421 gone"),
        ({"RCPT TO:<b@example.org>": "550 no such box"}, Verdict.ACCEPTED, "250, refused for b@example.org"),
        ({"QUIT": "500 what"}, Verdict.ACCEPTED, "250"),
    ],
)
def test_what_is_refused_for_good_is_given_up(says: Mapping[str, str], verdict: Verdict, text: str) -> None:
    """5xx to sender, all receivers or mail; the rest is tried again, and one receiver that takes it is enough."""
    with MailServer() as server:
        server.says |= says
        is_partial = "b@example.org" in str(says)
        outcome = sent(server, to=["a@example.org", "b@example.org"] if is_partial else ["a@example.org"])
    assert (outcome.verdict, outcome.text.split(" (")[0]) == (verdict, text)
    assert outcome.is_of_target is (verdict is Verdict.FAILED)


@contextmanager
def _dripping() -> Iterator[int]:
    listener, thread = drip_server()
    with listener:
        yield listener.getsockname()[1]
    thread.join()


def test_a_conversation_ends_at_its_time_limit() -> None:
    """Whether the server is silent, or its greeting never ends."""
    start_s = time.monotonic()
    with MailServer() as server:
        server.says["DATA"] = "hang"
        assert sent(server, timeout_s=0.3).text == "no answer within 0.3 s"
        with _dripping() as port:
            outcome = sent(server, timeout_s=0.3, port=port)
    assert (outcome.verdict, outcome.text) == (Verdict.FAILED, "no answer within 0.3 s")
    assert time.monotonic() - start_s < 5


def test_nobody_listens() -> None:
    """It is tried again."""
    with MailServer() as server:
        port = server.port
    table = AlertsEmailTable.model_validate({**server.table(), "port": port})
    outcome = Mail(table, {}).send(GROUP)
    assert outcome.verdict is Verdict.FAILED
    assert "Connection refused" in outcome.text


def test_mail_goes_through_the_outbox(tmp_path: Path) -> None:
    """As one mail for an experiment's changes of a call, tried again until it is taken."""
    with MailServer() as server:
        server.says["DATA"] = "452 full"
        with telling(settings(email=dict(server.table())), tmp_path / "outbox") as teller:
            teller.tell(GROUP.changes, AT_MS)
            teller.deliver_due(AT_MS)
            server.says.clear()
            delivered(teller)
            assert [attempt.verdict for attempt in teller.attempts()] == ["failed", "accepted"]
    assert len(server.mails) == 1
