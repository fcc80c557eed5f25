"""Whether an experiment's traffic has stopped or fallen, beside what it was shortly before. Pure.

Unlike the evidence of the other checks this is a rule over estimated baselines: it says when traffic is far below each
of them, and its rate of false alarms is measured (docs/statistics.md), not proven.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
BASELINE_MINUTES = 60
"""The minutes before a window that are its baseline; fewer of an experiment that is younger, 10 at least."""
FIRST_MINUTES = 10
"""The first minutes of an experiment are no baseline: visits that have begun before are assigned in them."""
PART_MINUTES = 10
"""The baseline is at most the median of parts of this length, times their number: a spike raises it no further."""
ALPHA = 1e-6
"""The chance, at the share of the baseline that may be left, below which so few visits are a fall."""
QUIET_MINUTES = 5
"""Fewer minutes without a visit are never said to be without traffic."""
EARLIER_MS = (DAY_MS, 7 * DAY_MS)
"""The same time a day and a week before are baselines too, where the phase has them."""


class TrafficKind(StrEnum):
    """The kinds of checks of an experiment's traffic: rules, without evidence and without a share of the budget."""

    NO_TRAFFIC = "no_traffic"
    TRAFFIC_DROPPED = "traffic_dropped"
    VARIATION_WITHOUT_VISITS = "variation_without_visits"


class Traffic(NamedTuple):
    """The assigned visits of an experiment since `begins_ms`: by minute from `from_ms` on, and of the hours before it.

    A whole hour that `hours` lacks had no visits.
    """

    begins_ms: int
    from_ms: int
    minutes: Sequence[int]
    hours: Mapping[int, int]

    @property
    def first_hour_ms(self) -> int:
        """The first whole hour."""
        return -(-self.begins_ms // HOUR_MS) * HOUR_MS


class Window(NamedTuple):
    """The last minutes that are compared with a baseline, and the share of it that is no fall."""

    minutes: int
    kept: float


WINDOWS = (Window(10, 0.6), Window(60, 0.5))
"""The short one finds a large fall soon, the long one where visits are few.

A daily rhythm whose peak is 25 times its trough, as a sine, falls to 0.69 and 0.53 within them at its steepest.
"""
SILENCE_SHARE = 0.5
"""The share of the baselines beside which a time without visits is judged."""


class Baseline(NamedTuple):
    """Visits that were counted within so many minutes."""

    visits: float
    minutes: float

    def expected(self, minutes: float) -> float:
        """The visits of so many minutes at its rate."""
        return self.visits * minutes / self.minutes


class Fall(NamedTuple):
    """Traffic that has fallen: the visits of the last `minutes` and how many the lowest baseline has in that time."""

    since_ms: int
    minutes: int
    visits: int
    expected: float


def silence(traffic: Traffic) -> Fall | None:
    """No visits where there had been some, for so long that it is no chance beside any baseline; else None."""
    last_ms, baseline = _last(traffic)
    minutes = (traffic.from_ms + len(traffic.minutes) * MINUTE_MS - last_ms) // MINUTE_MS
    if baseline is None or minutes < QUIET_MINUTES:
        return None
    baselines = [baseline, *_earlier(traffic, last_ms, minutes)]
    if not _is_far_below(0, Window(minutes, SILENCE_SHARE), baselines):
        return None
    return Fall(last_ms, minutes, 0, min(of.expected(minutes) for of in baselines))


def fall(traffic: Traffic) -> Fall | None:
    """A fall that lasts, or None.

    It begins when a window is far below each baseline, and its last part below it too. It lasts until the window is
    at least `kept` of the lowest one; the hour before it stays its baseline. One that began before the minutes that
    are given is none: what is there since then is normal.
    """
    sums = _sums(traffic.minutes)
    began: _Begun | None = None
    for end in range(_first(traffic) + PART_MINUTES + WINDOWS[0].minutes, len(traffic.minutes) + 1):
        if began is None:
            began = next(_begun(traffic, sums, end), None)
        else:
            visits, expected = _present(traffic, sums, end, began)
            began = None if visits >= began.window.kept * expected else began
    if began is None:
        return None
    visits, expected = _present(traffic, sums, len(traffic.minutes), began)
    return Fall(traffic.from_ms + began.since * MINUTE_MS, began.window.minutes, visits, expected)


def ln_chance(visits: float, minutes: float, baseline: Baseline, kept: float) -> float:
    """The logarithm of a bound of the chance of so few visits in so many minutes, at `kept` of the baseline's rate.

    Given n visits in both, those of the window are binomial with p = kept·m / (kept·m + M) for Poisson counts
    (Przyborowski and Wilenski 1940); P(X ≤ x) ≤ exp(-n·KL(x/n, p)) for x/n < p (Chernoff). So the error of the
    baseline is part of the chance.

    >>> round(ln_chance(0, 10, Baseline(120, 60), 0.6), 2)
    -11.44
    """
    total = visits + baseline.visits
    p = kept * minutes / (kept * minutes + baseline.minutes)
    if total <= 0 or visits >= total * p:
        return 0.0
    share = visits / total
    lower = share * math.log(share / p) if share else 0.0
    return -total * (lower + (1 - share) * math.log((1 - share) / (1 - p)))


class _Begun(NamedTuple):
    """A fall: the number of its first minute, the window that found it, and the hour before that."""

    since: int
    window: Window
    baseline: Baseline


def _begun(traffic: Traffic, sums: Sequence[int], end: int) -> Iterator[_Begun]:
    """The falls that begin with the windows that end before a minute."""
    for window in WINDOWS:
        start = end - window.minutes
        if start >= _first(traffic) + PART_MINUTES:
            visits, baseline = sums[end] - sums[start], _hour_before(sums, start, _first(traffic))
            baselines = [baseline, *_earlier(traffic, traffic.from_ms + start * MINUTE_MS, window.minutes)]
            lately = sums[end] - sums[end - PART_MINUTES]
            is_lasting = all(lately < window.kept * of.expected(PART_MINUTES) for of in baselines)
            if is_lasting and _is_far_below(visits, window, baselines):
                yield _Begun(_since(sums, start, end, window.kept, baseline), window, baseline)


def _since(sums: Sequence[int], start: int, end: int, kept: float, baseline: Baseline) -> int:
    """The minute of a window from which on so few visits are the least likely."""
    return min(range(start, end), key=lambda at: ln_chance(sums[end] - sums[at], end - at, baseline, kept))


def _present(traffic: Traffic, sums: Sequence[int], end: int, began: _Begun) -> tuple[int, float]:
    """The visits of a fall's window that ends before a minute, and those of the lowest baseline."""
    start, minutes = end - began.window.minutes, began.window.minutes
    baselines = [began.baseline, *_earlier(traffic, traffic.from_ms + start * MINUTE_MS, minutes)]
    return sums[end] - sums[start], min(of.expected(minutes) for of in baselines)


def _is_far_below(visits: float, window: Window, baselines: Sequence[Baseline]) -> bool:
    return all(ln_chance(visits, window.minutes, of, window.kept) < math.log(ALPHA) for of in baselines)


def _first(traffic: Traffic) -> int:
    """The number of the first minute that may be a baseline."""
    return max(0, (traffic.begins_ms - traffic.from_ms) // MINUTE_MS + FIRST_MINUTES)


def _hour_before(sums: Sequence[int], start: int, first: int) -> Baseline:
    """The minutes before one, as far as there are some, without what a spike adds."""
    minutes = min(BASELINE_MINUTES, (start - first) // PART_MINUTES * PART_MINUTES)
    parts = [sums[at + PART_MINUTES] - sums[at] for at in range(start - minutes, start, PART_MINUTES)]
    parts.sort()
    median = (parts[(len(parts) - 1) // 2] + parts[len(parts) // 2]) / 2
    return Baseline(min(float(sum(parts)), median * len(parts)), minutes)


def _earlier(traffic: Traffic, start_ms: int, minutes: int) -> Iterator[Baseline]:
    """The hours that hold the same time a day and a week before, where all of them are known and before it."""
    for ago_ms in EARLIER_MS:
        first_ms = (start_ms - ago_ms) // HOUR_MS * HOUR_MS
        end_ms = start_ms + minutes * MINUTE_MS - ago_ms
        hours = range(first_ms, end_ms, HOUR_MS)
        if first_ms >= traffic.first_hour_ms and hours[-1] + HOUR_MS <= min(traffic.from_ms, start_ms):
            yield Baseline(sum(traffic.hours.get(hour, 0) for hour in hours), len(hours) * 60)


def _last(traffic: Traffic) -> tuple[int, Baseline | None]:
    """The end of the last minute or hour with a visit, and the hour up to then; None: there never was one."""
    at = next((at for at in reversed(range(len(traffic.minutes))) if traffic.minutes[at]), None)
    if at is not None:
        minutes = traffic.minutes[max(0, at + 1 - BASELINE_MINUTES) : at + 1]
        baseline = Baseline(sum(minutes), len(minutes))
        before_ms = traffic.from_ms - HOUR_MS
        if len(minutes) < BASELINE_MINUTES and before_ms >= traffic.first_hour_ms:
            baseline = Baseline(baseline.visits + traffic.hours.get(before_ms, 0), baseline.minutes + 60)
        return traffic.from_ms + (at + 1) * MINUTE_MS, baseline
    seen = [hour for hour, visits in traffic.hours.items() if visits]
    if not seen:
        return traffic.from_ms, None
    return max(seen) + HOUR_MS, Baseline(traffic.hours[max(seen)], 60)


def _sums(minutes: Sequence[int]) -> list[int]:
    """The visits before each minute, and all."""
    sums = [0]
    for visits in minutes:
        sums.append(sums[-1] + visits)
    return sums
