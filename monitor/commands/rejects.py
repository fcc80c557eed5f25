"""`monitor rejects`: what is wrong with rejected messages, by reason, tenant, and the field or name at fault."""

import re
import time
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from monitor.commands.options import EXAMPLE, AsJson, ConfigFile, FromRun, LogFile
from monitor.commands.progress import scanning
from monitor.commands.run_folder import run_suggested, sources
from monitor.config.settings import KafkaTable
from monitor.core.compiled import CompiledConfig
from monitor.core.events import EventWarning, RejectReason
from monitor.core.watermark import STAMPS_KEPT
from monitor.explain.rejects import Finding, Rejects
from monitor.explain.rejects import rejects as found_rejects
from monitor.runtime.console import moment, print_line, printable
from monitor.runtime.errors import MonitorError
from monitor.topics import job_messages, recorded

SHOWN_MAX = 20
"""Faults that are printed of a reason and tenant."""
APART_MS = 3_600_000
"""How far the newest timestamp of a log may be ahead of nine tenths of the last ones, to be taken for its end."""
REASONS = (*RejectReason, *EventWarning)
_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(\d{1,6})([smhd])")


class RejectsError(MonitorError):
    """An option is wrong; the message says what it must be."""


def rejects(
    last: Annotated[
        str | None, typer.Option(help="Only messages of this time before now, or before a log's end: 90s, 10m, 2h, 1d.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Only this reason, of a rejection or a warning.")] = None,
    log: LogFile = None,
    run: FromRun = None,
    config: ConfigFile = EXAMPLE,
    as_json: AsJson = False,
) -> None:
    """It reads the messages once more and counts the fields or names at fault, each with the last message that has
    it, shortened. Warnings about accepted events are shown too.
    """
    if reason is not None and reason not in REASONS:
        message = f"--reason must be one of {', '.join(REASONS)}; got {reason!r}"
        raise RejectsError(message)
    last_ms = _milliseconds(last)
    settings, path, _ = sources(config, log, run)
    compiled = CompiledConfig(
        settings.compiled_tenants(), settings.compiled_limits(), key_is_session_id=settings.kafka.key_is_session_id
    )
    with run_suggested(), ExitStack() as stack:
        partitions, end_ms = _extent(settings.kafka, path)
        since_ms = 0 if last_ms is None else end_ms - last_ms
        records = stack.enter_context(closing(scanning(job_messages.messages(settings.kafka, path, stack))))
        found = found_rejects(compiled, records, partitions, since_ms, reason)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found)))
        return
    for line in _lines(found):
        print_line(line)


def _milliseconds(text: str | None) -> int | None:
    """The duration in an option."""
    if text is None:
        return None
    match = _DURATION.fullmatch(text)
    if match is None:
        message = f"--last must be a duration such as 90s, 10m, 2h or 1d; got {text!r}"
        raise RejectsError(message)
    return int(match[1]) * _UNITS_MS[match[2]]


def _extent(kafka: KafkaTable, log: Path | None) -> tuple[list[str], int]:
    """The partitions with messages, and the time to count `--last` back from: the end of a log, or now."""
    if log is None:
        return job_messages.partitions(kafka), time.time_ns() // 1_000_000
    partitions: set[str] = set()
    newest: deque[int] = deque(maxlen=STAMPS_KEPT)
    for record in recorded.read(log):
        partitions.add(str(record.partition))
        newest.append(record.timestamp_ms)
    return sorted(partitions), _end_ms(newest) if newest else 0


def _end_ms(newest: Collection[int]) -> int:
    """The time of the last messages: the largest timestamp, apart from those of a tenth, which may be wrong."""
    right_ms = sorted(newest)[-1 - len(newest) // 10]
    return max(stamp_ms for stamp_ms in newest if stamp_ms <= right_ms + APART_MS)


def _lines(found: Rejects) -> Iterator[str]:
    """The findings for people: a block for each reason and tenant."""
    since = f" since {moment(found.since_ms)}" if found.since_ms > 0 else ""
    yield f"{found.scanned:,} messages read"
    if not found.counts:
        yield f"nothing was rejected{since}, and there are no warnings"
    for reason, tenant, count in found.counts:
        kind = ("warning" if count == 1 else "warnings") if reason in list(EventWarning) else "rejected"
        yield ""
        yield f"{reason}, tenant {tenant}: {count:,} {kind}{since}"
        faults = [finding for finding in found.findings if (finding.reason, finding.tenant) == (reason, tenant)]
        for finding in faults[:SHOWN_MAX]:
            yield from _finding(finding)
        if len(faults) > SHOWN_MAX:
            yield f"  and {len(faults) - SHOWN_MAX:,} more; --json has all"


def _finding(finding: Finding) -> Iterator[str]:
    yield f"  {printable(finding.fault)}: {finding.messages:,}, last at {moment(max(finding.last_ms, 0))}"
    if finding.why:
        yield f"    {printable(finding.why)}"
    if finding.example:
        yield f"    {printable(finding.example)}"
