"""`monitor audit`: the audit trail of `monitor watch` as JSON lines, changes and deliveries in order of time."""

from collections.abc import Iterator
from contextlib import closing
from heapq import merge
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from monitor.alerts.outbox import Attempt
from monitor.commands.options import Since, Until, option_ms
from monitor.commands.watch import AUDIT_FILE
from monitor.runtime.times import moment
from monitor.watch.audit import ALL, Audit, Filter, Recorded

LEFT_OUT = ("counts", "marks")
"""Keys of a bundle without which it can be read, but not computed again."""


def audit(
    folder: Annotated[Path, typer.Option(help="The folder of the `monitor watch`.")] = Path("watch"),
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant.")] = None,
    experiment: Annotated[str | None, typer.Option(help="Only of experiments with this name.")] = None,
    start: Since = None,
    end: Until = None,
    brief: Annotated[
        bool, typer.Option("--brief", help="Leave the counts out of the bundles; they are most of a line.")
    ] = False,
) -> None:
    """Each line is a change of a check's state with its evidence bundle, or an attempt to deliver one. It may be called
    while `monitor watch` runs.
    """
    asked = Filter(
        ALL.start_ms if start is None else option_ms(start, "--from"),
        ALL.end_ms if end is None else option_ms(end, "--to"),
        tenant,
        experiment,
    )
    with closing(Audit(folder / AUDIT_FILE, must_exist=True)) as trail:
        for _, line in merge(_changes(trail, asked, brief), _deliveries(trail, asked), key=lambda of: of[0]):
            typer.echo(line)


def _changes(trail: Audit, asked: Filter, brief: bool) -> Iterator[tuple[int, bytes]]:
    for change in trail.changes(asked):
        yield change.at_ms, msgspec.json.encode(_of_change(change, brief))


def _of_change(change: Recorded, brief: bool) -> dict[str, Any]:
    bundle = msgspec.json.decode(change.bundle)
    return {
        "kind": "change",
        "at": _iso(change.at_ms),
        "id": change.id,
        "tenant": change.tenant,
        "experiment": change.experiment,
        "check": change.name,
        "previous": change.previous,
        "state": change.state,
        "bundle": {key: value for key, value in bundle.items() if not (brief and key in LEFT_OUT)},
    }


def _deliveries(trail: Audit, asked: Filter) -> Iterator[tuple[int, bytes]]:
    for attempt in trail.deliveries(asked):
        yield attempt.at_ms, msgspec.json.encode(_of_attempt(attempt))


def _of_attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "kind": "delivery",
        "at": _iso(attempt.at_ms),
        "id": attempt.key,
        "tenant": attempt.tenant,
        "experiment": attempt.experiment,
        "target": attempt.target,
        "attempt": attempt.attempt,
        "outcome": attempt.verdict,
        "answer": attempt.text,
        "changes": attempt.changes,
    }


def _iso(at_ms: int) -> str:
    return moment(at_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")
