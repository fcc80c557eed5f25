"""The header `Retry-After` of an HTTP answer."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def parse_retry_after_s(header: str | None, now: datetime) -> float | None:
    """The seconds to wait from `now`, at least 0, that a `Retry-After` asks for: a number or a date (RFC 9110, 10.2.3).

    None if there is none, or none that can be read.
    """
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        at = parsedate_to_datetime(header)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - now).total_seconds())
