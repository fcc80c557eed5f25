"""Times for people and for JSON, whatever number an event or a store has for one."""

from datetime import UTC, datetime

FIRST, LAST = datetime(1000, 1, 1, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
"""The years of four digits: a time beyond them is shown as their first or last moment."""


def moment(time_ms: float) -> datetime:
    """A time in milliseconds as a datetime in UTC."""
    try:
        return max(FIRST, datetime.fromtimestamp(time_ms / 1_000, UTC))
    except (ValueError, OverflowError):
        return FIRST if time_ms < 0 else LAST


def is_shown(time_ms: float) -> bool:
    """True if `moment` gives this very time."""
    return FIRST < moment(time_ms) < LAST
