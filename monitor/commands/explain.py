"""`monitor explain`: one visit, from its messages to what it counts for. Exit status 1 if no message has its id."""

import heapq
from collections.abc import Iterable
from contextlib import ExitStack, closing
from difflib import get_close_matches
from itertools import takewhile
from operator import eq
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from monitor.commands.options import EXAMPLE, AsJson, ConfigFile, FromRun, LogFile
from monitor.commands.progress import scanning
from monitor.commands.run_folder import run_suggested, sources
from monitor.config.settings import Settings
from monitor.core.compiled import CompiledConfig
from monitor.explain.console_tables import explained
from monitor.explain.explanation import explain as explain_session
from monitor.explain.session_messages import Gathered, gather
from monitor.runtime.console import OUT, print_error, printable
from monitor.runtime.errors import MonitorError
from monitor.topics.job_messages import messages

NOT_FOUND = 1
SIMILAR = 3
LOOKED_AT = 1_000
"""How many ids are compared closely: those whose beginning and end are most alike."""


class ExplainError(MonitorError):
    """The visit cannot be explained; the message says why."""


def explain(
    tenant: Annotated[str, typer.Argument(help="The tenant, as in the configuration.")],
    session: Annotated[str, typer.Argument(help="The sessionId of the visit.")],
    log: LogFile = None,
    run: FromRun = None,
    config: ConfigFile = EXAMPLE,
    as_json: AsJson = False,
) -> None:
    """It reads the messages and shows what became of each, and when the visit was assigned and qualified. The exit
    status is 1 if no message has this sessionId.
    """
    settings, path, _ = sources(config, log, run)
    gathered, compiled = _gathered(settings, tenant, session, path)
    if not gathered.arrivals:
        print_error(_not_found(tenant, session, gathered))
        raise typer.Exit(NOT_FOUND)
    explanation = explain_session(compiled, settings.dc, tenant, session, gathered)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(explanation)))
    else:
        OUT.print(*explained(explanation), sep="\n", highlight=False)


def _gathered(settings: Settings, tenant: str, session: str, log: Path | None) -> tuple[Gathered, CompiledConfig]:
    """The messages of the session; raises ExplainError for a tenant or session that no message can have."""
    if tenant not in settings.tenants:
        message = f"there is no tenant {tenant!r} in the configuration; there are {', '.join(settings.tenants)}"
        raise ExplainError(message)
    if not session.isascii() and any("\ud800" <= character <= "\udfff" for character in session):
        message = f"a sessionId is UTF-8 text; got {session!r}"
        raise ExplainError(message)
    tenants, limits = settings.compiled_tenants(), settings.compiled_limits()
    compiled = CompiledConfig(tenants, limits, key_is_session_id=settings.kafka.key_is_session_id)
    with run_suggested(), ExitStack() as stack:
        records = stack.enter_context(closing(scanning(messages(settings.kafka, log, stack))))
        return gather(compiled, tenant, session, records), compiled


def _not_found(tenant: str, session: str, gathered: Gathered) -> str:
    ids = _similar(session, gathered.others)
    similar = f"; similar: {', '.join(map(printable, ids))}" if ids else ""
    return f"session {printable(session)} of {tenant} is in none of {gathered.scanned:,} messages scanned{similar}"


def _similar(session: str, others: Iterable[str]) -> list[str]:
    """The session ids that are most like this one."""
    alike = heapq.nlargest(LOOKED_AT, others, key=lambda other: (_alike_ends(session, other), other))
    return get_close_matches(session, alike, SIMILAR)


def _alike_ends(one: str, other: str) -> int:
    return _alike_start(one, other) + _alike_start(one[::-1], other[::-1])


def _alike_start(one: str, other: str) -> int:
    return sum(takewhile(bool, map(eq, one, other)))
