"""Mail over SMTP: a message as one mail to all receivers.

| what happens                                    | what becomes of the message                                    |
| ----------------------------------------------- | -------------------------------------------------------------- |
| the server takes it for one receiver or more    | accepted; whom it refused is in the text                       |
| 5xx to the sender, all receivers, or the mail   | given up: it would be refused again                            |
| anything else: 4xx, no connection, login, TLS   | tried again, and nothing else is sent to the server before     |
"""

import smtplib
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from email.message import EmailMessage
from email.utils import format_datetime
from hashlib import sha256

from monitor.alerts import bodies
from monitor.alerts.changes import Message
from monitor.alerts.outcomes import Outcome, Verdict, deadline
from monitor.alerts.secret_values import read_secret, shown
from monitor.config.alerts import AlertsEmailTable
from monitor.runtime import times

_READY = 220
_PERMANENT = range(500, 600)


class Mail:
    """The mail server of the configuration. Raises SecretError if its password cannot be read.

    `tls` is what its certificate is checked with; by default the system's authorities.
    """

    takes_groups = True

    def __init__(
        self, table: AlertsEmailTable, environment: Mapping[str, str], tls: ssl.SSLContext | None = None
    ) -> None:
        self._table = table
        self._password = read_secret("alerts.email.password", table.password_env, table.password_file, environment)
        self._tls = tls or ssl.create_default_context()
        self._connection: smtplib.SMTP | None = None

    def send(self, message: Message) -> Outcome:
        """Sends the mail once."""
        hidden = [self._password] if self._password else []
        timeout_s = self._table.timeout_s
        with deadline(timeout_s, self.cut) as is_over:
            try:
                refused = self._sent(mail_of(message, self._table))
            except (OSError, smtplib.SMTPException) as error:
                is_late = is_over.is_set() or isinstance(error, TimeoutError)
                reason = f"no answer within {timeout_s:g} s" if is_late else shown(_reason(error), hidden)
                is_refused = _is_refusal(error)
                verdict = Verdict.REFUSED if is_refused else Verdict.FAILED
                return Outcome(verdict, reason, is_of_target=not is_refused)
        text = f"250, refused for {', '.join(refused)}" if refused else "250"
        return Outcome(Verdict.ACCEPTED, shown(text, hidden))

    def cut(self) -> None:
        """Ends a conversation in progress."""
        connected = getattr(self._connection, "sock", None)
        if connected is not None:
            with suppress(OSError):  # the connection has just ended by itself
                connected.shutdown(socket.SHUT_RDWR)

    def _sent(self, mail: EmailMessage) -> list[str]:
        """The receivers that were refused while others were taken."""
        table = self._table
        smtp = self._connection = self._new_connection()
        try:
            status, text = smtp.connect(table.host, table.port)
            if status != _READY:
                raise smtplib.SMTPConnectError(status, text)
            if table.tls == "starttls":
                smtp.starttls(context=self._tls)
            if table.user is not None and self._password is not None:
                smtp.login(table.user, self._password)
            refused = list(smtp.send_message(mail))
            with suppress(OSError, smtplib.SMTPException):  # the mail is taken, whatever follows
                smtp.quit()
            return refused
        finally:
            self._connection = None
            smtp.close()

    def _new_connection(self) -> smtplib.SMTP:
        """One that is not connected, so that `cut` knows it before it can wait for anything."""
        timeout_s = self._table.timeout_s
        is_tls = self._table.tls == "tls"
        smtp = smtplib.SMTP_SSL(timeout=timeout_s, context=self._tls) if is_tls else smtplib.SMTP(timeout=timeout_s)
        # the name that the certificate is checked for; otherwise only a constructor that also connects sets it
        smtp._host = self._table.host  # type: ignore[attr-defined]
        return smtp


def mail_of(message: Message, table: AlertsEmailTable) -> EmailMessage:
    """The mail: its id and date are the message's, so that a repetition can be known."""
    mail = EmailMessage()
    mail["From"] = table.from_address
    mail["To"] = ", ".join(table.to)
    mail["Subject"] = bodies.mail_subject(message)
    mail["Date"] = format_datetime(times.moment(message.worst.at_ms))
    mail["Message-ID"] = f"<{sha256(message.key.encode()).hexdigest()[:32]}@{table.from_address.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(bodies.mail_text(message))
    return mail


def _is_refusal(error: Exception) -> bool:
    """Whether the server will take this mail never: 5xx to its sender, to all of its receivers, or to itself."""
    match error:
        case smtplib.SMTPRecipientsRefused(recipients=refused):
            return all(status in _PERMANENT for status, _ in refused.values())
        case smtplib.SMTPSenderRefused(smtp_code=status) | smtplib.SMTPDataError(smtp_code=status):
            return status in _PERMANENT
        case _:
            return False


def _reason(error: Exception) -> str:
    """What the server said, or the error."""
    match error:
        case smtplib.SMTPRecipientsRefused(recipients=refused):
            return "; ".join(f"{status} {_decoded(text)} for {name}" for name, (status, text) in refused.items())
        case smtplib.SMTPResponseException(smtp_code=status, smtp_error=text):
            return f"{status} {_decoded(text)}"
        case _:
            return f"{type(error).__name__}: {error}"


def _decoded(text: bytes | str) -> str:
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else text
