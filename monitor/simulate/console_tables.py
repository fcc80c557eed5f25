"""True totals as tables to print."""

from __future__ import annotations

from collections import defaultdict

from rich.table import Column, Table

from monitor.simulate.true_totals import Truth

_SCOPES = ("assigned", "fm", "crossed", "tardy")


def truth_tables(truth: Truth) -> tuple[Table, Table]:
    """A table of the messages by outcome, and one of the totals by tenant, variation, measure and scope."""
    return _messages(truth), _totals(truth)


def _messages(truth: Truth) -> Table:
    table = Table("what", Column("messages", justify="right"), title="Messages")
    for tenant, count in sorted(truth.accepted.items()):
        table.add_row(f"accepted, {tenant}", f"{count:,}")
    for reason, count in sorted(truth.rejected.items()):
        table.add_row(f"rejected, {reason}", f"{count:,}")
    return table


def _totals(truth: Truth) -> Table:
    rows: defaultdict[tuple[str, str, str], dict[str, int]] = defaultdict(dict)
    for name, total in truth.totals.items():
        tenant, _, scope, variation, measure = name.split(".", 4)
        rows[tenant, variation, measure][scope] = total
    columns = [Column(scope, justify="right") for scope in _SCOPES]
    table = Table("tenant", "variation", "measure", *columns, title="True totals")
    for row, totals in sorted(rows.items()):
        table.add_row(*row, *(f"{totals[scope]:,}" if scope in totals else "" for scope in _SCOPES))
    return table
