"""Every delivery of an alert goes from the outbox, which forgets, into the audit trail."""

from contextlib import closing
from pathlib import Path

from monitor.alerts.outbox import Outbox
from monitor.alerts.teller import Teller
from monitor.watch.audit import Audit

AGAIN_MS = 2 * 3_600_000
"""Deliveries from so long before the newest one are read again: a clock may have been set back since."""


def take_deliveries(outbox: Teller | Outbox, audit: Audit) -> None:
    """Takes the deliveries since the last time into the audit trail, each once. Raises OutboxError."""
    if attempts := outbox.attempts(audit.delivered_ms() - AGAIN_MS):
        audit.take_deliveries(attempts)


def take_last_deliveries(path: Path, audit: Audit) -> None:
    """Takes those that a teller has made until it was closed, from its outbox. Raises OutboxError."""
    with closing(Outbox(path)) as outbox:
        take_deliveries(outbox, audit)
