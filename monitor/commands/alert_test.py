"""`monitor alert-test`: one example change to every target of the configuration, at once and past its route."""

import os
import time
from typing import Annotated

import typer
from rich.table import Table

from monitor.alerts.changes import Change, Message
from monitor.alerts.outcomes import Outcome, Verdict
from monitor.alerts.targets import Target, targets_of
from monitor.commands.options import EXAMPLE, ConfigFile
from monitor.config.errors import names
from monitor.config.reader import load
from monitor.runtime.console import OUT, printable
from monitor.runtime.errors import MonitorError
from monitor.verdicts.judge import State

NAME = "alert-test"
"""In place of tenant and experiment, so that no system takes the example for an alarm of an experiment."""


class NoTargetError(MonitorError):
    """There is nobody to tell."""


def alert_test(
    config: ConfigFile = EXAMPLE,
    target: Annotated[
        str | None, typer.Option(help="Only this target: the name of a webhook, `email` or `kafka`.")
    ] = None,
) -> None:
    """Each answer is shown. It does not wait for a target to get well: nothing is repeated. Exit status 1 if one of
    them has not accepted.
    """
    settings = load(config)
    targets = targets_of(settings, os.environ)
    chosen = [one for one in targets if target in (None, one.name)]
    if not chosen:
        known = names(one.name for one in targets)
        message = f"--target must be a target of [alerts] in {config}; got {target!r}, there are {known}"
        raise NoTargetError(
            message if targets else f"{config} has no targets in [alerts]: add a webhook, email or kafka"
        )
    message_sent = Message((example(time.time_ns() // 1_000_000),))
    table = Table(title=f"Sent: {message_sent.key}", title_justify="left")
    for column in ("target", "kind", "verdict", "seconds", "answer"):
        table.add_column(column, overflow="fold")
    outcomes = [_row(table, one, message_sent) for one in chosen]
    OUT.print(table)
    if any(outcome.verdict is not Verdict.ACCEPTED for outcome in outcomes):
        raise typer.Exit(1)


def example(now_ms: int) -> Change:
    """A note that says of itself that it is a test."""
    words = "This is a test of the alerts. Nothing has happened, and there is nothing to do."
    return Change(
        id=f"{NAME}/{now_ms}",
        tenant=NAME,
        experiment=NAME,
        check=NAME,
        state=State.NOTE,
        previous=State.HEALTHY,
        at_ms=now_ms,
        since_ms=now_ms,
        words=words,
        details={"is_test": True},
    )


def _row(table: Table, target: Target, message: Message) -> Outcome:
    start_s = time.monotonic()
    outcome = target.sender.send(message)
    seconds = f"{time.monotonic() - start_s:.1f}"
    table.add_row(target.name, target.kind, outcome.verdict, seconds, printable(outcome.text))
    return outcome
