"""`monitor rehearse`: what the checks would have said when, over the history of the store or of a recorded log."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from monitor.commands.options import EXAMPLE, AsJson, ConfigFile, KairosDbUrl, Since, Until, option_ms
from monitor.config.reader import load
from monitor.config.settings import Settings
from monitor.core.codes import MINUTE_MS
from monitor.runtime.console import OUT, moment, print_line
from monitor.runtime.errors import MonitorError
from monitor.serve.problems import ProblemError
from monitor.serve.service import open_service
from monitor.serve.spans import DAY_MS, Span
from monitor.verdicts.judge import ALARMS, State
from monitor.watch.histories import LoggedHistory, StoredHistory
from monitor.watch.rehearsal import FACTORS, Rehearsal, Said, rehearsed

DAYS_MAX = 14
"""The longest range of the store that is rehearsed at once."""
EVERY_MINUTES = 10


class RehearsalError(MonitorError):
    """History cannot be rehearsed; the message says why."""


def rehearse(
    start: Since = None,
    end: Until = None,
    config: ConfigFile = EXAMPLE,
    log: Annotated[
        Path | None, typer.Option(help="Rehearse this recorded log, a file or a folder of parts, not the store.")
    ] = None,
    url: KairosDbUrl = None,
    dc: Annotated[str | None, typer.Option(help="Read the counts of this data center only.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant.")] = None,
    experiment: Annotated[str | None, typer.Option(help="Only experiments with this name.")] = None,
    every: Annotated[
        int,
        typer.Option(min=1, help="Judge every so many minutes, and each minute in between where a verdict changes."),
    ] = EVERY_MINUTES,
    every_change: Annotated[
        bool, typer.Option("--all", help="Show every change, not only alarms that begin, change or end.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """The configuration may be another one than that of the watcher: what would it have said? Times are those of the
    last final minute; the watcher says it `time.allowed_lateness_s` later. Also shown is how many alarms each changed
    threshold would have given.
    """
    settings = load(config)
    with open_service(settings, url or settings.kairosdb.url) as service:
        span = _span(start, end, is_of_store=log is None)
        try:
            history = StoredHistory(service, dc) if log is None else LoggedHistory(service, log)
            found = rehearsed(service, history, _names(settings, tenant, experiment), span, every)
        except ProblemError as error:
            message = f"{error.problem.detail}: {error.problem.fix}"
            raise RehearsalError(message) from error
    said = [of for of in found.said if every_change or of.is_alarm]
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(_as_json(found, said))))
    else:
        _print(found, said)


def _span(start: str | None, end: str | None, *, is_of_store: bool) -> Span:
    now_ms = time.time_ns() // 1_000_000
    end_ms = now_ms if end is None else min(now_ms, option_ms(end, "--to"))
    earliest_ms = end_ms - DAY_MS if is_of_store else 0
    start_ms = earliest_ms if start is None else option_ms(start, "--from")
    span = Span(-(-start_ms // MINUTE_MS) * MINUTE_MS, end_ms // MINUTE_MS * MINUTE_MS)
    if span.start_ms > span.end_ms:
        message = f"--from must be before --to and the present; got {moment(start_ms)} and {moment(end_ms)}"
        raise RehearsalError(message)
    if is_of_store and span.end_ms - span.start_ms > DAYS_MAX * DAY_MS:
        message = f"a range of the store may be {DAYS_MAX} days long: choose --from and --to closer to each other"
        raise RehearsalError(message)
    return span


def _names(settings: Settings, tenant: str | None, experiment: str | None) -> list[tuple[str, str]]:
    """The experiments that are asked for, with their tenants."""
    names = [
        (of_tenant, name)
        for of_tenant, table in settings.tenants.items()
        for name in table.experiments
        if tenant in (None, of_tenant) and experiment in (None, name)
    ]
    if not names:
        message = "the configuration has no such experiment: see --tenant and --experiment"
        raise RehearsalError(message)
    return names


def _print(found: Rehearsal, said: Sequence[Said]) -> None:
    for why in found.gone:
        print_line(f"not judged: {why}")
    if found.moments:
        OUT.print(_changes(said) if said else "no alarm", markup=False, highlight=False)
        OUT.print(_thresholds(found), markup=False, highlight=False)
    print_line(f"{len(said):,} changes, {found.moments:,} times judged")


def _changes(said: Sequence[Said]) -> Table:
    table = Table(title="What would have been said (time: the end of the last final minute)", title_justify="left")
    table.add_column("time", min_width=len(moment(0)), no_wrap=True)
    for column in ("experiment", "check", "state", "words"):
        table.add_column(column, overflow="fold")
    for of in said:
        table.add_row(moment(of.at_ms), f"{of.tenant} {of.experiment}", of.check, of.state, of.words)
    return table


def _thresholds(found: Rehearsal) -> Table:
    table = Table(title="Alarms, by threshold times a factor", title_justify="left")
    table.add_column("threshold")
    for factor in FACTORS:
        table.add_column(f"x {factor:g}", justify="right")
    for row in _rows(found):
        table.add_row(f"{row['state']} {row['evidence']:g}", *(f"{count:,}" for count in row["alarms"].values()))
    return table


def _rows(found: Rehearsal) -> Iterator[dict[str, Any]]:
    """By threshold, how many alarms it and each changed one would have given."""
    states: Sequence[State] = ALARMS[1:]
    for state, evidence in zip(states, found.thresholds or (), strict=False):
        alarms = {f"{factor:g}": found.alarms.rises[state, factor] for factor in FACTORS}
        yield {"state": state, "evidence": evidence, "alarms": alarms}


def _as_json(found: Rehearsal, said: Sequence[Said]) -> dict[str, Any]:
    changes = [{**of._asdict(), "at": moment(of.at_ms)} for of in said]
    return {"changes": changes, "thresholds": list(_rows(found)), "judged": found.moments, "not_judged": found.gone}
