"""No time, however strange, keeps an answer from being given."""

from datetime import UTC, datetime

import pytest

from monitor.runtime import console, times
from monitor.serve import spans

MICROSECONDS = 1_795_491_000_000_000


@pytest.mark.parametrize(
    ("time_ms", "shown", "text"),
    [
        (1_795_491_000_250, datetime(2026, 11, 24, 3, 30, 0, 250_000, UTC), "2026-11-24 03:30:00Z"),
        (0, datetime(1970, 1, 1, tzinfo=UTC), "1970-01-01 00:00:00Z"),
        (-600_001, datetime(1969, 12, 31, 23, 49, 59, 999_000, UTC), "1969-12-31 23:49:59Z"),
        (MICROSECONDS, times.LAST, f"{MICROSECONDS} ms"),
        (2**63 - 1, times.LAST, f"{2**63 - 1} ms"),
        (-(2**63), times.FIRST, f"{-(2**63)} ms"),
        (-60_000_000_000_000, times.FIRST, "-60000000000000 ms"),
    ],
)
def test_any_number_is_a_time(time_ms: int, shown: datetime, text: str) -> None:
    """For JSON the nearest moment of the years 1000 to 9999, for the console beyond them the number itself."""
    assert times.moment(time_ms) == spans.moment(time_ms) == shown
    assert console.moment(time_ms) == text
    assert len(spans.iso(time_ms)) == len("2026-11-24T03:30:00Z")


def test_the_moments_can_be_shown_again() -> None:
    """The first and the last one, taken for a time, give themselves."""
    for moment in (times.FIRST, times.LAST):
        assert times.moment(round(moment.timestamp() * 1_000)) == moment
