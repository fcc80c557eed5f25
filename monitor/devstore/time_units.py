"""KairosDB's units of time: relative times, and the ranges of a sampling."""

import calendar
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo

__all__ = ["UNITS", "RangeOf", "duration_ms", "earlier", "ranges", "ranges_origin"]

UNITS = ("MILLISECONDS", "SECONDS", "MINUTES", "HOURS", "DAYS", "WEEKS", "MONTHS", "YEARS")

RangeOf = Callable[[int], tuple[int, int]]
"""From a timestamp to the [start, end) of its range, all in ms."""

_FIXED_MS = {"MILLISECONDS": 1, "SECONDS": 1_000, "MINUTES": 60_000, "HOURS": 3_600_000}
_DAY_MS = 86_400_000
_CALENDAR_DAYS = {"DAYS": 1, "WEEKS": 7}
_CALENDAR_MONTHS = {"MONTHS": 1, "YEARS": 12}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def earlier(at_ms: int, value: int, unit: str) -> int:
    """The time `value` units before at_ms, by the UTC calendar. Raises OverflowError outside the years 1 to 9999."""
    if unit in _FIXED_MS:
        return at_ms - value * _FIXED_MS[unit]
    return _later(at_ms, -value, unit, UTC)


def duration_ms(at_ms: int, value: int, unit: str, zone: tzinfo) -> int:
    """The length of `value` units from at_ms on: a day may have 23 hours, a month 28 days."""
    if unit in _FIXED_MS:
        return value * _FIXED_MS[unit]
    return _later(at_ms, value, unit, zone) - at_ms


def ranges_origin(start_ms: int, unit: str, zone: tzinfo) -> int:
    """The origin of ranges with align_sampling.

    It is the start of the second for milliseconds, midnight in the zone for seconds to days, and the start of the week
    (Monday), month or year for the longer units.
    """
    if unit == "MILLISECONDS":
        return start_ms - start_ms % 1_000
    if zone is UTC and unit not in _CALENDAR_MONTHS:  # without datetime, whose years end
        midnight_ms = start_ms - start_ms % _DAY_MS
        return midnight_ms - ((midnight_ms // _DAY_MS + 3) % 7) * _DAY_MS if unit == "WEEKS" else midnight_ms
    midnight = _local(start_ms, zone).replace(hour=0, minute=0, second=0, microsecond=0)
    if unit == "WEEKS":
        midnight -= timedelta(days=midnight.weekday())
    elif unit == "MONTHS":
        midnight = midnight.replace(day=1)
    elif unit == "YEARS":
        midnight = midnight.replace(month=1, day=1)
    return _ms(midnight, zone)


def ranges(origin_ms: int, value: int, unit: str, zone: tzinfo) -> RangeOf:
    """The ranges of `value` units counted from origin_ms.

    The first range also takes points up to one range before it, because KairosDB's division truncates towards zero.
    """
    if unit in _FIXED_MS or (zone is UTC and unit in _CALENDAR_DAYS):
        length_ms = value * (_FIXED_MS.get(unit) or _CALENDAR_DAYS[unit] * _DAY_MS)

        def fixed_range_of(at_ms: int) -> tuple[int, int]:
            offset_ms = at_ms - origin_ms
            past_ms = offset_ms % length_ms if offset_ms >= 0 else -(-offset_ms % length_ms)
            return at_ms - past_ms, at_ms - past_ms + length_ms

        return fixed_range_of

    def calendar_range_of(at_ms: int) -> tuple[int, int]:
        units = _units_between(origin_ms, at_ms, unit, zone)
        past = units // value if units >= 0 else -(-units // value)
        return _later(origin_ms, past * value, unit, zone), _later(origin_ms, (past + 1) * value, unit, zone)

    return calendar_range_of


def _units_between(from_ms: int, to_ms: int, unit: str, zone: tzinfo) -> int:
    """Whole units between two times on the zone's calendar, truncated towards zero."""
    if to_ms < from_ms:
        return -_units_between(to_ms, from_ms, unit, zone)
    start, end = _local(from_ms, zone).replace(tzinfo=None), _local(to_ms, zone).replace(tzinfo=None)
    if unit in _CALENDAR_DAYS:
        return (end - start) // timedelta(days=_CALENDAR_DAYS[unit])
    months = (end.year - start.year) * 12 + end.month - start.month
    months -= _add_months(start, months) > end
    return months // _CALENDAR_MONTHS[unit]


def _later(at_ms: int, value: int, unit: str, zone: tzinfo) -> int:
    """at_ms moved by calendar units: the same wall-clock time on another day."""
    local = _local(at_ms, zone)
    if unit in _CALENDAR_DAYS:
        return _ms(local + timedelta(days=value * _CALENDAR_DAYS[unit]), zone)
    return _ms(_add_months(local, value * _CALENDAR_MONTHS[unit]), zone)


def _add_months(local: datetime, months: int) -> datetime:
    years, month = divmod(local.year * 12 + local.month - 1 + months, 12)
    if not 1 <= years <= 9999:
        message = f"year {years} is out of range"
        raise OverflowError(message)
    day = min(local.day, calendar.monthrange(years, month + 1)[1])
    return local.replace(year=years, month=month + 1, day=day)


def _local(at_ms: int, zone: tzinfo) -> datetime:
    return (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(zone)


def _ms(local: datetime, zone: tzinfo) -> int:
    return (local.replace(tzinfo=zone) - _EPOCH) // timedelta(milliseconds=1)
