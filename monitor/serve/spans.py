"""Ranges of time: whole minutes, half-open, parsed from text."""

from datetime import UTC, datetime
from typing import NamedTuple

from monitor.core.codes import MINUTE_MS
from monitor.runtime import times
from monitor.serve.models import Step
from monitor.serve.problems import refuse_parameter

HOUR_MS, DAY_MS = 60 * MINUTE_MS, 24 * 60 * MINUTE_MS
DEFAULT_MS = DAY_MS
STEP_MS = {
    Step.MINUTE: MINUTE_MS,
    Step.FIVE_MINUTES: 5 * MINUTE_MS,
    Step.QUARTER: 15 * MINUTE_MS,
    Step.HOUR: HOUR_MS,
    Step.DAY: DAY_MS,
}
EARLIEST_MS, LATEST_MS = 0, 4_102_444_800_000
"""1970 to 2100: the times that are accepted."""


class Span(NamedTuple):
    """From start to before end, both starts of minutes, in ms."""

    start_ms: int
    end_ms: int

    def widened(self, step_ms: int) -> "Span":
        """The smallest range of whole steps that contains it."""
        return Span(self.start_ms // step_ms * step_ms, -(-self.end_ms // step_ms) * step_ms)


def last(now_ms: int, hours: float = DEFAULT_MS / HOUR_MS) -> Span:
    """The last hours, up to and including the current minute."""
    end_ms = (now_ms // MINUTE_MS + 1) * MINUTE_MS
    return Span(end_ms - round(hours * 60) * MINUTE_MS, end_ms)


def parse(start: str | None, end: str | None, now_ms: int) -> Span:
    """A range from ISO 8601 (UTC unless it says otherwise) or epoch milliseconds, widened to whole minutes.

    Without an end it ends with the current minute, and never later; without a start it is a day long.
    Raises ProblemError.
    """
    present_ms = last(now_ms).end_ms
    end_ms = present_ms if end is None else min(_time_ms("to", end), present_ms)
    start_ms = end_ms - DEFAULT_MS if start is None else _time_ms("from", start)
    span = Span(start_ms, end_ms).widened(MINUTE_MS)
    if span.start_ms >= span.end_ms:
        rule = f"must be before to, and not in the future; got {iso(span.start_ms)} and {iso(span.end_ms)}"
        refuse_parameter("from", rule, "Choose a range that begins before it ends.")
    return span


def moment(time_ms: int) -> datetime:
    """A time as a datetime in UTC; beyond the years 1000 to 9999, their first or last moment."""
    return times.moment(time_ms)


def iso(time_ms: int) -> str:
    """A time for a message."""
    return moment(time_ms).strftime("%Y-%m-%dT%H:%M:%SZ")


def _time_ms(name: str, text: str) -> int:
    fix = "Write 2026-11-25T10:00:00Z, or milliseconds since 1970."
    try:
        if text.isascii() and text.isdecimal():
            time_ms = int(text)
        else:
            at = datetime.fromisoformat(text)
            time_ms = round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000)
    except (ValueError, OverflowError):
        refuse_parameter(name, f"must be a time; got {text[:60]!r}", fix)
    if not EARLIEST_MS <= time_ms <= LATEST_MS:
        refuse_parameter(name, f"must lie between 1970 and 2100; got {text[:60]!r}", fix)
    return time_ms
