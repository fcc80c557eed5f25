"""The command that proves the numbers: `monitor verify`.

Exit status 0 if all is equal, 1 if something differs, 2 if it could not be compared (told on stderr).
"""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import duckdb
import msgspec
import typer
from rich.console import RenderableType
from rich.table import Table

from monitor.batch import workspace
from monitor.batch.pipeline import minute_of
from monitor.config.errors import ConfigError
from monitor.config.reader import load
from monitor.kairosdb.errors import KairosDbError
from monitor.runtime.console import OUT, faults_told, moment, printable
from monitor.topics.kafka import TopicError
from monitor.topics.recorded import RecordedLogError
from monitor.verify.comparison import (
    EXPLAINED_MAX,
    Comparison,
    CountComparison,
    Mirrors,
    PointDifference,
    VerifyError,
    mirrors,
    verify,
)
from monitor.verify.stored import END_MS, Store

DIFFERS = 1
MINUTES_SHOWN_MAX = 20

app = typer.Typer(no_args_is_help=True)

_FAULTS = (ConfigError, VerifyError, TopicError, RecordedLogError, OSError, duckdb.Error, KairosDbError)


@app.command("verify")
def verify_command(
    log: Annotated[
        Path | None, typer.Option(help="Read this recorded log. Default: the configuration's topics, to their end.")
    ] = None,
    config: Annotated[Path, typer.Option(envvar="MONITOR_CONFIG", help="The configuration file.")] = Path(
        "examples/shop/monitor.toml"
    ),
    start: Annotated[str | None, typer.Option("--from", help="The first minute, ISO 8601.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Before this minute, ISO 8601.")] = None,
    dc: Annotated[str | None, typer.Option(help="Whose points. Default: the configuration's dc.")] = None,
    against: Annotated[str | None, typer.Option(help="Compare with the points of this dc, and read no log.")] = None,
    url: Annotated[str | None, typer.Option(help="The KairosDB to read. Default: the configuration's.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as one JSON object.")] = False,
) -> None:
    """Prove the numbers: compute the batch answer from the messages once more, and compare it with the store."""
    with faults_told(*_FAULTS):
        settings = load(config)
        whose = dc or settings.dc
        first_ms, end_ms = _minute(start, "--from"), _minute(end, "--to")
        with workspace() as work, closing(Store(url or settings.kairosdb.url, settings)) as store:
            if against is None:
                verdict: Comparison | Mirrors = verify(work, settings, store, whose, log, first_ms, end_ms)
            else:
                verdict = mirrors(work, store, whose, against, first_ms, end_ms)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(verdict)))
    else:
        for part in _of_verdict(verdict) if isinstance(verdict, Comparison) else _of_mirrors(verdict):
            OUT.print(part, highlight=False, markup=False, soft_wrap=isinstance(part, str))
    raise typer.Exit(DIFFERS if verdict.differing else 0)


def _minute(text: str | None, option: str) -> int | None:
    """The start of the minute of a time; without a zone it is UTC."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        msg = f"{option} must be a time such as 2026-11-25T10:00Z; got {text!r}"
        raise VerifyError(msg) from None
    return minute_of(round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000))


def _of_verdict(verdict: Comparison) -> Iterator[RenderableType]:
    yield f"{verdict.messages:,} messages read, dc {verdict.dc}, {_range(verdict.first_ms, verdict.end_ms)}"
    if verdict.end_ms < END_MS:
        yield f"minutes from {moment(verdict.end_ms)} on are left out: not sealed yet, or beyond --to"
    if verdict.unsure:
        yield f"{verdict.unsure:,} totals left out: they depend on messages that the log has lost"
    if verdict.counts:
        yield _counts(verdict.counts)
    if not verdict.differing:
        yield f"equal: {verdict.compared:,} points compared"
        return
    yield _differences(verdict.differences[:EXPLAINED_MAX])
    shown = min(verdict.differing, EXPLAINED_MAX)
    yield f"DIFFERENT: {verdict.differing:,} of {verdict.compared:,} points, {shown} shown"


def _counts(counts: list[CountComparison]) -> Table:
    table = Table(title="Messages (for information: a crash counts some twice, a job that is behind has yet to)")
    table.title_justify = "left"
    for column in ("tenant", "what"):
        table.add_column(column)
    for column in ("in the log", "counted by the job", ""):
        table.add_column(column, justify="right")
    for count in counts:
        what = "accepted" if count.reason is None else f"rejected: {count.reason}"
        mark = "" if count.wanted == count.stored else f"{count.stored - count.wanted:+,}"
        table.add_row(count.tenant, what, f"{count.wanted:,}", f"{count.stored:,}", mark)
    return table


def _differences(differences: list[PointDifference]) -> Table:
    table = Table(title="Differences", title_justify="left")
    for column in ("minute", "metric", "tags"):
        table.add_column(column, overflow="fold")
    for column in ("stored", "wanted"):
        table.add_column(column, justify="right")
    table.add_column("visits behind it (amount, session, since)", overflow="fold")
    for found in differences:
        tags = " ".join(f"{tag}={value}" for tag, value in found.tags.items())
        visits = "\n".join(f"{v.amount:+} {printable(v.session_id)} {moment(v.began_ms)}" for v in found.visits)
        stored = "-" if found.stored is None else printable(found.stored)
        row = moment(found.minute_ms), found.metric, printable(tags), stored, found.wanted or "-", visits
        table.add_row(*row)
    return table


def _of_mirrors(found: Mirrors) -> Iterator[RenderableType]:
    yield f"{found.dc} against {found.against}, {_range(found.first_ms, found.end_ms)}"
    if not found.differing:
        yield f"equal: {found.compared:,} points compared"
        return
    table = Table(title="Minutes that differ", title_justify="left")
    table.add_column("minute")
    for column in (f"points of {found.dc}", f"points of {found.against}", "differing"):
        table.add_column(column, justify="right")
    for minute in found.minutes[:MINUTES_SHOWN_MAX]:
        amounts = (minute.totals, minute.totals_against, minute.differing)
        table.add_row(moment(minute.minute_ms), *(f"{amount:,}" for amount in amounts))
    yield table
    fuller = found.more_complete
    complete = "both hold as many points" if fuller is None else f"{fuller} is more complete"
    yield (
        f"DIFFERENT: {found.differing:,} of {found.compared:,} points; {complete} "
        f"({found.dc} {found.totals:,}, {found.against} {found.totals_against:,})"
    )


def _range(first_ms: int, end_ms: int) -> str:
    start = "from the beginning" if first_ms <= 0 else f"from {moment(first_ms)}"
    return f"{start} {'to the end' if end_ms >= END_MS else f'to before {moment(end_ms)}'}"
