"""An explanation as tables for the console. Texts from events are printed with control characters escaped."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text
from rich.tree import Tree

from monitor.explain.explanation import Amount, ExplainedCorrection, ExplainedVisit, Explanation, Outcome
from monitor.explain.rules import Clause, Moment
from monitor.explain.session_messages import MessageReport
from monitor.runtime.console import moment, printable

ENDS = 50
"""Rows printed from each end of a longer table."""

_MORE = "--json has all"


def explained(explanation: Explanation) -> Iterator[RenderableType]:
    """The explanation for people."""
    named = {report.arrival: report.event or "" for report in explanation.events}
    yield Text(_heading(explanation), style="bold")
    yield _events(explanation.events)
    for visit in explanation.visits:
        yield _visit_heading(visit)
        for outcome in visit.experiments:
            yield Padding(_outcome(outcome, named), (0, 0, 0, 2))
        yield _contributions(visit, explanation.tenant)
    yield _corrections(explanation.corrections, named, explanation.tenant)


def _heading(explanation: Explanation) -> str:
    accepted = sum(report.reason is None for report in explanation.events)
    beyond = f"; {explanation.beyond:,} more are too many to explain" if explanation.beyond else ""
    return (
        f"Session {printable(explanation.session_id)} of {explanation.tenant}, dc {explanation.dc}: "
        f"{_count(len(explanation.events), 'message')} of {explanation.scanned:,} scanned, {accepted:,} accepted, "
        f"{_count(len(explanation.visits), 'visit')}{beyond}"
    )


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def _events(events: Sequence[MessageReport]) -> Table:
    columns = Column("arrival", justify="right"), Column("event time"), Column("event"), Column("says")
    table = Table(*columns, "visit", "verdict", title="Events, by event time", title_justify="left")
    return _filled(table, [_event_row(report) for report in events], "messages")


def _event_row(report: MessageReport) -> list[str]:
    fields = {**report.assignments, **report.attributes}
    warnings = "".join(f"; warning: {warning}" for warning in report.warnings)
    return [
        str(report.arrival),
        "" if report.time_ms is None else instant(report.time_ms),
        "" if report.event is None else report.event,
        ", ".join(f"{name}={_value(value)}" for name, value in fields.items()),
        "" if report.visit is None else str(report.visit),
        f"{report.reason or 'accepted'}: {report.why}{warnings}",
    ]


def _value(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _visit_heading(visit: ExplainedVisit) -> Text:
    span = f"{instant(visit.first_ms)} to {instant(visit.last_ms)}"
    return Text(f"\nVisit {visit.number}: {_count(len(visit.arrivals), 'event')}, {span}", style="bold")


def _outcome(outcome: Outcome, named: Mapping[int, str]) -> Tree:
    """An experiment with its rule as a tree."""
    if outcome.assigned is None:
        tree = Tree(Text(f"{outcome.experiment}: not assigned, so it counts for nothing"))
    else:
        tree = Tree(Text(f"{outcome.experiment}: {outcome.variation}, assigned by {_event(outcome.assigned, named)}"))
        if outcome.crossed is not None:
            tree.add(Text(f"crossed: {outcome.crossed_to} in {_event(outcome.crossed, named)}", style="yellow"))
        if outcome.tardy is not None:
            tree.add(Text(f"tardy: {_event(outcome.tardy, named)}", style="yellow"))
        qualified = outcome.qualified_ms
        tree.add(Text("not qualified" if qualified is None else f"qualified at {instant(qualified)}"))
    _add_clause(tree.add(Text("rule")), outcome.rule, named)
    return tree


def _add_clause(tree: Tree, clause: Clause, named: Mapping[int, str]) -> None:
    met = f"met by {_event(clause.met, named)}" if clause.met is not None else "not met"
    of_n = f", {clause.matches:,} of {clause.nth:,}" if clause.met is None and clause.nth is not None else ""
    style = "green" if clause.met is not None else "red"
    branch = tree.add(Text.assemble(printable(clause.words), ": ", (met + of_n, style)))
    for part in clause.parts:
        _add_clause(branch, part, named)


def _event(event: Moment, named: Mapping[int, str]) -> str:
    return f"arrival {event.arrival}, {printable(named[event.arrival])} at {instant(event.time_ms)}"


def _contributions(visit: ExplainedVisit, tenant: str) -> Table:
    table = Table(title=f"What visit {visit.number} counts for, in the end", title_justify="left")
    _add_amount_columns(table, "total")
    rows = [_amount_row(amount, tenant, f"{amount.value:,}") for amount in visit.contributions]
    return _filled(table, rows, "contributions")


def _corrections(corrections: Sequence[ExplainedCorrection], named: Mapping[int, str], tenant: str) -> Table:
    title = "Corrections: what events have changed that arrived after later ones of their visit"
    table = Table("arrival", "visit", title=title, title_justify="left")
    _add_amount_columns(table, "change")
    rows = [
        [f"{correction.arrival} {named[correction.arrival]}", str(correction.visit), *changed]
        for correction in corrections
        for changed in [_amount_row(amount, tenant, f"{amount.value:+,}") for amount in correction.changes]
    ]
    return _filled(table, rows, "changes")


def _add_amount_columns(table: Table, value: str) -> None:
    for column in ("metric", "minute", "experiment, tags"):
        table.add_column(column, overflow="fold")
    table.add_column(value, justify="right")


def _amount_row(amount: Amount, tenant: str, value: str) -> list[str]:
    """A contribution without the parts that all have in common: `T.visit.` and dc."""
    tags = " ".join(
        text if tag == "experiment" else f"{tag}={text}" for tag, text in amount.tags.items() if tag != "dc"
    )
    return [amount.metric.removeprefix(f"{tenant}.visit."), moment(amount.minute_ms)[:16], " ".join(tags), value]


def _filled(table: Table, rows: Sequence[Iterable[str]], what: str) -> Table:
    """The table with its rows, or with the first and the last of them and a line with the number of those left out."""
    left_out = len(rows) - 2 * ENDS
    first, last = (rows[:ENDS], rows[-ENDS:]) if left_out > 0 else (rows, [])
    for row in first:
        table.add_row(*map(_cell, row))
    if left_out > 0:
        table.add_row("...")
        table.caption = f"{left_out:,} {what} in the middle are left out; {_MORE}"
    for row in last:
        table.add_row(*map(_cell, row))
    if not rows:
        table.caption = "none"
    return table


def _cell(text: str) -> Text:
    return Text(printable(text), overflow="fold")


def instant(ms: int) -> str:
    """A time to the millisecond, because events within one second have an order."""
    second = moment(ms)
    return f"{second[:-1]}.{ms % 1_000:03d}" if second.endswith("Z") else second
