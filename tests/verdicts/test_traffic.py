"""Traffic that stops or falls is found soon, and a daily rhythm, spikes and chance are no fall."""

import math
import random
from collections.abc import Callable, Sequence

import pytest

from monitor.verdicts.silent_variations import EXPECTED_MIN, Unseen, ln_chance, silent
from monitor.verdicts.traffic import (
    ALPHA,
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    Baseline,
    Fall,
    Traffic,
    fall,
    silence,
)
from monitor.verdicts.traffic import ln_chance as ln_chance_of_visits

HOURS = 7


def steady(visits: int, minutes: int = HOURS * 60) -> list[int]:
    return [visits] * minutes


def traffic(minutes: Sequence[int]) -> Traffic:
    return Traffic(0, 0, minutes, {})


def test_the_chance_bounds_that_of_the_binomial() -> None:
    """Given all visits, those of the window; the exact tail is below the bound, and not far."""
    visits, baseline = 3, Baseline(60, 60)
    total, p = visits + 60, 0.5 * 30 / (0.5 * 30 + 60)
    tail = math.fsum(math.comb(total, k) * p**k * (1 - p) ** (total - k) for k in range(visits + 1))
    bound = ln_chance_of_visits(visits, 30, baseline, 0.5)
    assert math.log(tail) <= bound <= math.log(tail) + 2
    assert ln_chance_of_visits(20, 30, baseline, 0.5) == 0


def test_steady_traffic_is_no_fall() -> None:
    """Nor is none at all, nor too little of it."""
    for minutes in (steady(20), steady(0), steady(20, 30), []):
        assert (fall(traffic(minutes)), silence(traffic(minutes))) == (None, None)


@pytest.mark.parametrize(("before", "after", "within", "window"), [(20, 2, 8, 10), (200, 80, 9, 10), (1, 0, 60, 60)])
def test_a_fall_is_found_soon_and_lasts(before: int, after: int, within: int, window: int) -> None:
    """With what was expected, and from when on; until the traffic is back, though the hour before has fallen too."""
    began = 200
    ends = range(began, HOURS * 60 + 1)
    found = [fall(traffic([*steady(before, began), *steady(after, end - began)])) for end in ends]
    first = next(number for number, of in enumerate(found) if of is not None)
    assert first <= within
    assert all(of is not None for of in found[first:])
    last = found[-1]
    assert last is not None
    assert abs(last.since_ms - began * MINUTE_MS) <= MINUTE_MS
    assert (last.minutes, last.visits, last.expected) == (window, window * after, window * before)
    for minutes in (20, 50, 60, 70, 100):
        back = [*steady(before, began), *steady(after, minutes), *steady(before, window)]
        assert fall(traffic(back)) is None


def test_a_fall_is_found_in_a_young_experiment() -> None:
    """From half an hour on; its first minutes, in which those who are there already are assigned, are no baseline."""
    assert fall(traffic([*steady(100, 10), *steady(20, 20), *steady(0, 10)])) is not None
    assert fall(traffic([*steady(100, 10), *steady(20, 11)])) is None
    assert fall(traffic([*steady(100, 10), *steady(20, 60)])) is None


def test_a_spike_is_no_baseline() -> None:
    """After ten minutes of ten times the traffic it is as before."""
    assert fall(traffic([*steady(20, 200), *steady(200, 10), *steady(20, 20)])) is None


def test_what_the_same_time_a_day_before_had_is_no_fall() -> None:
    """A shop that closes: the hour before alone would say so."""
    end_hour = 40
    minutes = [*steady(20, 5 * 60), *steady(1, 20)]
    from_ms = end_hour * HOUR_MS - len(minutes) * MINUTE_MS // HOUR_MS * HOUR_MS
    hours = {hour: 1_200 for hour in range(0, from_ms, HOUR_MS)}
    assert fall(Traffic(0, from_ms, minutes, hours)) is not None
    closed = range(from_ms + 5 * HOUR_MS - DAY_MS, from_ms + 6 * HOUR_MS - DAY_MS, HOUR_MS)
    assert fall(Traffic(0, from_ms, minutes, hours | dict.fromkeys(closed, 60))) is None
    assert fall(Traffic(from_ms, from_ms, minutes, {})) is not None


def test_no_traffic_is_found_when_it_is_no_chance() -> None:
    """After 5 minutes at the soonest; where visits are few only when some were expected; also after days."""

    def minutes_until(before: list[int]) -> int:
        return next(n for n in range(2_000) if silence(traffic([*before, *steady(0, n)])) is not None)

    assert minutes_until(steady(200)) == 5
    assert 15 <= minutes_until(steady(2)) <= 40
    few = minutes_until([1, 0, 0, 0, 0, 0] * 60 + [1])
    assert few > 300
    gone = Traffic(0, 100 * HOUR_MS, steady(0, 400), {2 * HOUR_MS: 900, 3 * HOUR_MS: 700})
    found = silence(gone)
    assert found is not None
    assert (found.since_ms, found.visits) == (4 * HOUR_MS, 0)
    assert silence(traffic([*steady(200), *steady(0, 30), 1])) is None


@pytest.mark.parametrize(("mean", "peak"), [(0.3, 9.0), (2.0, 9.0), (20.0, 25.0), (300.0, 25.0), (20.0, 1.0)])
def test_a_healthy_day_alarms_never(mean: float, peak: float) -> None:
    """Poisson visits whose rate at the peak is many times that at the trough, on the first day."""
    minutes = day(random.Random(11), mean, peak)
    found: list[Fall] = []
    for end in range(1, len(minutes), 3):
        start = max(0, end - 360) // 60 * 60
        of = Traffic(0, start * MINUTE_MS, minutes[start:end], {})
        checks: list[Callable[[Traffic], Fall | None]] = [silence] if end % 30 else [silence, fall]
        found += [alarm for check in checks if (alarm := check(of)) is not None]
    assert found == []


def day(chance: random.Random, mean: float, peak: float) -> list[int]:
    """Visits by minute of a day, with a sine of this ratio of peak to trough."""
    height = (peak - 1) / (peak + 1)
    rates = [mean * (1 + height * math.sin(2 * math.pi * minute / 1_440)) for minute in range(1_440)]
    return [poisson(chance, rate) for rate in rates]


def poisson(chance: random.Random, mean: float) -> int:
    """Knuth's method; the normal approximation of large means."""
    if mean > 40:
        return max(0, round(chance.gauss(mean, math.sqrt(mean))))
    count, product = 0, chance.random()
    while product > math.exp(-mean):
        count, product = count + 1, product * chance.random()
    return count


MOBILE, DESKTOP = (("device", "mobile"),), (("device", "desktop"),)


def test_a_variation_without_visits_is_named_where_it_is() -> None:
    """Everywhere before a slice, and of slices the one with the most visits."""
    few, many, more = Unseen((), 0, (20, 0)), Unseen(MOBILE, 0, (41, 0)), Unseen(DESKTOP, 0, (60, 0))
    assert silent(0.5, few, []) is None
    assert silent(0.5, few, [many]) == many
    assert silent(0.5, few, [many, more]) == more
    everywhere = Unseen((), 0, (100, 0))
    assert silent(0.5, everywhere, [many, more]) == everywhere
    assert silent(0.1, everywhere, []) is None


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_so_many_expected_visits_are_missing_by_no_chance(share: float) -> None:
    """Whatever the weights."""
    assert ln_chance(math.ceil(EXPECTED_MIN / share), share) <= -EXPECTED_MIN
    assert ln_chance(math.ceil(EXPECTED_MIN / share), share) < math.log(ALPHA)
