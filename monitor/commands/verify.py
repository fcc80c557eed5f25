"""`monitor verify`: the stored totals against those that are computed again from the messages.

Exit status 0 if all are equal, 1 if one differs, 2 if they could not be compared.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
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
from monitor.commands.options import EXAMPLE, AsJson, ConfigFile, FromRun, KairosDbUrl, LogFile
from monitor.commands.run_folder import MESSAGES_FOLDER, run_suggested, sources
from monitor.runtime.console import OUT, moment, printable
from monitor.topics import recorded
from monitor.verify import comparison
from monitor.verify.comparison import (
    EXPLAINED_MAX,
    Comparison,
    CountComparison,
    Mirrors,
    PointDifference,
    VerifyError,
    mirrors,
)
from monitor.verify.stored import END_MS, Store

DIFFERS = 1
MINUTES_SHOWN_MAX = 20


def verify(
    log: LogFile = None,
    run: FromRun = None,
    config: ConfigFile = EXAMPLE,
    start: Annotated[str | None, typer.Option("--from", help="The first minute, ISO 8601.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="The minute to stop before, ISO 8601.")] = None,
    dc: Annotated[
        str | None, typer.Option(help="The data center whose points are verified. Default: the configuration's dc.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Compare with the points of this data center, and read no log.")
    ] = None,
    url: KairosDbUrl = None,
    as_json: AsJson = False,
) -> None:
    """It computes the batch answer from the messages and compares every stored total with it. The exit status is 0 if
    all are equal, 1 if one differs, 2 if they could not be compared.
    """
    settings, path, store_url = sources(config, log, run)
    stored_dc = dc or settings.dc
    first_ms, end_ms = _minute(start, "--from"), _minute(end, "--to")
    with (
        run_suggested(),
        _duckdb_errors(),
        workspace() as work,
        closing(Store(url or store_url, settings)) as store,
    ):
        if run is not None and against is None:
            final_ms = _final_ms(store, stored_dc, run)
            end_ms = final_ms if end_ms is None else min(end_ms, final_ms)
        if against is None:
            verdict: Comparison | Mirrors = comparison.verify(work, settings, store, stored_dc, path, first_ms, end_ms)
        else:
            verdict = mirrors(work, store, stored_dc, against, first_ms, end_ms)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(verdict)))
    else:
        for part in _of_verdict(verdict) if isinstance(verdict, Comparison) else _of_mirrors(verdict):
            OUT.print(part, highlight=False, markup=False, soft_wrap=isinstance(part, str))
    raise typer.Exit(DIFFERS if verdict.differing else 0)


@contextmanager
def _duckdb_errors() -> Iterator[None]:
    """Reports what keeps the batch answer from being computed, such as a full disk, as an error to act on."""
    try:
        yield
    except duckdb.Error as error:
        message = f"the batch answer could not be computed: {error}"
        raise VerifyError(message) from error


def _final_ms(store: Store, dc: str, run: Path) -> int:
    """The end of the final minutes of a run. It goes on while this reads, so that later minutes would differ."""
    final_ms = store.sealed_ms(dc) or 0
    began_ms = next(recorded.read(run / MESSAGES_FOLDER)).timestamp_ms
    if final_ms <= began_ms:
        message = (
            f"no minute of the run in {run} is final yet: its recorded log begins at {moment(began_ms)}, and "
            "a minute is final time.allowed_lateness_s after it ends: wait until then"
        )
        raise VerifyError(message)
    return final_ms


def _minute(text: str | None, option: str) -> int | None:
    """The start of the minute of a time in an option, ms; a time without a zone is in UTC."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        msg = f"{option} must be a time such as 2026-11-25T10:00Z; got {text!r}"
        raise VerifyError(msg) from None
    return minute_of(round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1_000))


def _of_verdict(verdict: Comparison) -> Iterator[RenderableType]:
    yield f"{verdict.messages:,} messages read, dc {verdict.dc}, {_range(verdict.first_ms, verdict.end_ms)}"
    if verdict.end_ms < END_MS:
        yield f"minutes from {moment(verdict.end_ms)} on are left out: not final yet, or beyond --to"
    if verdict.unsure:
        yield f"{verdict.unsure:,} totals left out: they depend on messages that are no longer in the log"
    if verdict.aa_left_out:
        yield f"{verdict.aa_left_out:,} totals of live A/A left out: it was switched on under running visits, or is off"
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
    for point in differences:
        tags = " ".join(f"{tag}={value}" for tag, value in point.tags.items())
        visits = "\n".join(f"{v.amount:+} {printable(v.session_id)} {moment(v.began_ms)}" for v in point.visits)
        stored = "-" if point.stored is None else printable(point.stored)
        row = moment(point.minute_ms), point.metric, printable(tags), stored, point.wanted or "-", visits
        table.add_row(*row)
    return table


def _of_mirrors(verdict: Mirrors) -> Iterator[RenderableType]:
    yield f"{verdict.dc} against {verdict.against}, {_range(verdict.first_ms, verdict.end_ms)}"
    if not verdict.differing:
        yield f"equal: {verdict.compared:,} points compared"
        return
    table = Table(title="Minutes that differ", title_justify="left")
    table.add_column("minute")
    for column in (f"points of {verdict.dc}", f"points of {verdict.against}", "differing"):
        table.add_column(column, justify="right")
    for minute in verdict.minutes[:MINUTES_SHOWN_MAX]:
        amounts = (minute.totals, minute.totals_against, minute.differing)
        table.add_row(moment(minute.minute_ms), *(f"{amount:,}" for amount in amounts))
    yield table
    fuller = verdict.more_complete
    complete = "both hold as many points" if fuller is None else f"{fuller} is more complete"
    yield (
        f"DIFFERENT: {verdict.differing:,} of {verdict.compared:,} points; {complete} "
        f"({verdict.dc} {verdict.totals:,}, {verdict.against} {verdict.totals_against:,})"
    )


def _range(first_ms: int, end_ms: int) -> str:
    start = "from the beginning" if first_ms <= 0 else f"from {moment(first_ms)}"
    return f"{start} {'to the end' if end_ms >= END_MS else f'to before {moment(end_ms)}'}"
