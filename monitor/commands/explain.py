"""The command that explains a session: `monitor explain TENANT SESSION`.

Exit status 0 if it was seen, 1 if not; a fault of the configuration, the log or Kafka is told on stderr, status 2.
"""

import heapq
from collections.abc import Generator, Iterable
from contextlib import ExitStack, closing
from difflib import get_close_matches
from itertools import takewhile
from operator import eq
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from monitor.config.errors import ConfigError
from monitor.config.reader import load
from monitor.config.settings import Settings
from monitor.core.compiled import CompiledConfig
from monitor.explain.messages import Gathered, gather
from monitor.explain.session import explain as explain_session
from monitor.explain.tables import explained
from monitor.runtime.console import ERR, OUT, faults_told, printable, say
from monitor.topics.kafka import TopicError
from monitor.topics.recorded import Record, RecordedLogError
from monitor.topics.reread import messages

app = typer.Typer(no_args_is_help=True)

NOT_FOUND = 1
SIMILAR = 3
LOOKED_AT = 1_000
"""How many ids, those that begin and end most alike, are compared closely."""

_SHOW_EVERY = 500


class ExplainError(Exception):
    """A question that cannot be answered; the message says why."""


@app.command()
def explain(
    tenant: Annotated[str, typer.Argument(help="The tenant, as in the configuration.")],
    session: Annotated[str, typer.Argument(help="The sessionId of the visit.")],
    log: Annotated[
        Path | None, typer.Option(help="Read this recorded log. Default: the configuration's topics, to their end.")
    ] = None,
    config: Annotated[Path, typer.Option(envvar="MONITOR_CONFIG", help="The configuration file.")] = Path(
        "examples/shop/monitor.toml"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as one JSON object.")] = False,
) -> None:
    """Explain a visit: its events, what became of each, when it was assigned and qualified, and what it counts for."""
    with faults_told(ConfigError, ExplainError, TopicError, RecordedLogError, OSError):
        settings = load(config)
        gathered, measures = _gathered(settings, tenant, session, log)
    if not gathered.arrivals:
        say(_not_found(tenant, session, gathered))
        raise typer.Exit(NOT_FOUND)
    explanation = explain_session(measures, settings.dc, tenant, session, gathered)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(explanation)))
    else:
        OUT.print(*explained(explanation), sep="\n", highlight=False)


def _gathered(settings: Settings, tenant: str, session: str, log: Path | None) -> tuple[Gathered, CompiledConfig]:
    if tenant not in settings.tenants:
        message = f"there is no tenant {tenant!r} in the configuration; there are {', '.join(settings.tenants)}"
        raise ExplainError(message)
    if not session.isascii() and any("\ud800" <= character <= "\udfff" for character in session):
        message = f"a sessionId is UTF-8 text; got {session!r}"
        raise ExplainError(message)
    tenants, limits = settings.compiled_tenants(), settings.compiled_limits()
    measures = CompiledConfig(tenants, limits, key_is_session_id=settings.kafka.key_is_session_id)
    with ExitStack() as stack:
        shown = stack.enter_context(closing(_shown(messages(settings.kafka, log, stack))))
        return gather(measures, tenant, session, shown), measures


def _shown(records: Iterable[tuple[str, Record]]) -> Generator[tuple[str, Record], None, None]:
    """Messages on their way, counted by a progress bar on stderr."""
    columns = SpinnerColumn(), TextColumn("scanning"), BarColumn(), TextColumn("{task.completed:,} messages")
    with Progress(*columns, TimeElapsedColumn(), console=ERR, transient=True, disable=not ERR.is_terminal) as progress:
        task = progress.add_task("scanning", total=None)
        for count, record in enumerate(records, 1):
            if count % _SHOW_EVERY == 0:
                progress.update(task, completed=count)
            yield record


def _not_found(tenant: str, session: str, gathered: Gathered) -> str:
    found = _similar(session, gathered.others)
    similar = f"; similar: {', '.join(map(printable, found))}" if found else ""
    return f"session {printable(session)} of {tenant} is in none of {gathered.scanned:,} messages scanned{similar}"


def _similar(session: str, others: Iterable[str]) -> list[str]:
    """The session ids most like this one."""
    alike = heapq.nlargest(LOOKED_AT, others, key=lambda other: (_alike_ends(session, other), other))
    return get_close_matches(session, alike, SIMILAR)


def _alike_ends(one: str, other: str) -> int:
    return _alike_start(one, other) + _alike_start(one[::-1], other[::-1])


def _alike_start(one: str, other: str) -> int:
    return sum(takewhile(bool, map(eq, one, other)))
