"""Webhooks: a message as one POST, signed.

| answer                       | what becomes of the message                                             |
| ---------------------------- | ----------------------------------------------------------------------- |
| 2xx                          | accepted                                                                |
| 4xx except 408 and 429       | given up: it would be refused again                                     |
| 429, or any with Retry-After | tried again then, and nothing else is sent to the target before         |
| 408, 3xx, 5xx                | tried again                                                             |
| none                         | tried again, and nothing else is sent to the target before              |

Delivered at least once: an answer that is lost leads to a repetition with the same `Idempotency-Key` and body.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Literal
from urllib.parse import quote, urlsplit

import msgspec
import requests

from monitor import __version__
from monitor.alerts import bodies
from monitor.alerts.changes import Message
from monitor.alerts.outcomes import Outcome, Verdict
from monitor.alerts.posting import Answer, NoAnswer, Poster
from monitor.alerts.secret_values import SecretError, read_secret, shown
from monitor.config.alerts import WebhookTable

PAGERDUTY_URL = "https://events.pagerduty.com/v2/enqueue"
SIGNATURE, IDEMPOTENCY_KEY = "X-Monitor-Signature", "Idempotency-Key"
_TOO_MANY, _TIMED_OUT = 429, 408
_HEADER_SAFE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")

Format = Literal["json", "slack", "pagerduty", "alertmanager"]


class Webhook:
    """A webhook of the configuration. Raises SecretError if its secrets cannot be read."""

    def __init__(
        self, name: str, table: WebhookTable, environment: Mapping[str, str], session: requests.Session
    ) -> None:
        place = f"alerts.webhooks.{name}"
        self._url = _address(table, place, environment)
        self._secret = read_secret(f"{place}.secret", table.secret_env, table.secret_file, environment)
        self._form: Format = table.format
        self._timeout_s = table.timeout_s
        self._poster = Poster(session)
        self._hidden = _secrets_of(self._url) + ([self._secret] if self._secret else [])
        self.takes_groups = table.format != "pagerduty"

    def send(self, message: Message) -> Outcome:
        """Posts the message once."""
        body = self._body(message)
        try:
            answer = self._poster.post(self._url, body, self._headers(message, body), self._timeout_s)
        except NoAnswer as error:
            return Outcome(Verdict.FAILED, shown(str(error), self._hidden), is_of_target=True)
        return self._judged(answer)

    def cut(self) -> None:
        """Ends a request in progress."""
        self._poster.cut()

    def _judged(self, answer: Answer) -> Outcome:
        text = shown(f"{answer.status} {answer.text}", self._hidden)
        if 200 <= answer.status < 300:
            return Outcome(Verdict.ACCEPTED, text)
        if 400 <= answer.status < 500 and answer.status not in (_TIMED_OUT, _TOO_MANY):
            return Outcome(Verdict.REFUSED, text)
        is_of_target = answer.status == _TOO_MANY or answer.retry_after_s is not None
        return Outcome(Verdict.FAILED, text, answer.retry_after_s, is_of_target)

    def _body(self, message: Message) -> bytes:
        match self._form:
            case "slack":
                return _encoded(bodies.slack(message))
            case "pagerduty":
                return _encoded(bodies.pagerduty(message, self._secret or ""))
            case "alertmanager":
                return _encoded(bodies.alertmanager(message))
            case "json":
                return _encoded(bodies.json_document(message))

    def _headers(self, message: Message, body: bytes) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"ab-monitor/{__version__}",
            IDEMPOTENCY_KEY: quote(message.key, safe=_HEADER_SAFE),
        }
        if self._secret and self._form != "pagerduty":
            headers[SIGNATURE] = signature(body, self._secret)
        return headers


def signature(body: bytes, secret: str) -> str:
    """The header by which a receiver knows that the body is ours: `sha256=` and the HMAC-SHA256 in hex."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


def _encoded(document: bodies.Json | list[bodies.Json]) -> bytes:
    return msgspec.json.encode(document)


def _address(table: WebhookTable, place: str, environment: Mapping[str, str]) -> str:
    hidden = read_secret(f"{place}.url", table.url_env, table.url_file, environment)
    url = hidden or table.url or PAGERDUTY_URL
    try:
        is_address = bool(urlsplit(url).hostname) and url.startswith(("http://", "https://"))
    except ValueError:
        is_address = False
    if not is_address:
        setting = "url_env" if table.url_env else "url_file" if table.url_file else "url"
        message = f"{place}.{setting} must give an address that begins with https:// or http:// and a host"
        raise SecretError(message)
    return url


def _secrets_of(url: str) -> list[str]:
    """The parts of an address that may be secret: the whole of it, its path, and its password."""
    parts = urlsplit(url)
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    return [text for text in (url, path if len(path) > 1 else "", parts.password or "") if text]
