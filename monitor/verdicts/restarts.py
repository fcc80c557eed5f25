"""A fixed plan of restarts, so that an incident is found soon though a week of health came before it. Pure.

Evidence over a whole phase first has to pay back the healthy days. So a capital of 1 is divided beforehand:

    E = capital not staked yet + sum over restarts j of w_j E_j,    E_j from the counts since the restart, n - n(s_j)

    0.4            the whole phase
    0.3 / 672      each hour on the hour, for 28 planned days
    0.2 / 4032     each other ten minutes of these days, dropped when 6 hours old
    0.1 / (i(i+1)) the i-th hour beyond these days

Hours and ten minutes are those of event time, UTC. Source: the weighted sum over restarts of e-processes is one
itself; with equal weights it is the e-SR detector of Shin, Ramdas and Rinaldo, E-detectors, arXiv 2203.03532, with a
bound for the whole life instead of a mean time between false alarms. Guarantee: each E_j has a mean of at most 1 and
all weights together are at most 1, so P(E ever reaches 1 / alpha) <= alpha during a healthy phase, however long. An
incident at any time costs 8 nats more evidence at an hour's restart, ln(672 / 0.3), and 10 at a ten-minute one,
ln(4032 / 0.2).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from monitor.verdicts.multinomial import ln_sum

TEN_MINUTES_MS = 600_000
HOUR_MS = 3_600_000
PLANNED_HOURS = 672
"""28 days: what the plan is made for."""
LIFE_MS = 6 * HOUR_MS
"""The age up to which a ten-minute restart lives."""
WHOLE_SHARE = 0.4
HOURLY_SHARE = 0.3
TEN_MINUTE_SHARE = 0.2
BEYOND_SHARE = 0.1


class Restart(NamedTuple):
    """A moment of event time from which counts are taken, and its share of the capital."""

    start_ms: int
    ln_weight: float


class Plan(NamedTuple):
    """The restarts that live at a moment, in order of time, and the logarithm of the capital not staked yet."""

    restarts: tuple[Restart, ...]
    ln_unstaked: float


class PlanEvidence(NamedTuple):
    """ln E of a test, and since when: the restart with the most capital, with its counts and the ln of its capital."""

    ln_e: float
    since_ms: int
    ln_capital: float
    counts: tuple[float, ...]


def plan(start_ms: int, now_ms: int) -> Plan:
    """The plan of a phase at a moment of event time, mostly the end of the last sealed minute.

    Capital of restarts that were dropped is lost; that of restarts to come is not staked. There are 168 restarts by the
    hour and 30 by ten minutes after a week; one more an hour later on.

    >>> [round(math.exp(restart.ln_weight), 6) for restart in plan(0, 3_600_000).restarts]
    [0.4, 5e-05, 5e-05, 5e-05, 5e-05, 5e-05, 0.000446]
    """
    assert start_ms <= now_ms, (start_ms, now_ms)
    first_hour_ms = (start_ms // HOUR_MS + 1) * HOUR_MS
    hours = max(0, (now_ms - first_hour_ms) // HOUR_MS + 1)
    beyond = max(0, hours - PLANNED_HOURS)
    restarts = [Restart(start_ms, math.log(WHOLE_SHARE))]
    restarts += [Restart(first_hour_ms + i * HOUR_MS, ln_weight_of_hour(i)) for i in range(hours)]
    end_ms = first_hour_ms + (PLANNED_HOURS - 1) * HOUR_MS
    tens = [start for start in _tens(start_ms, min(now_ms, end_ms)) if now_ms - start <= LIFE_MS]
    ten_minute_weight = TEN_MINUTE_SHARE / (6 * PLANNED_HOURS)
    restarts += [Restart(start, math.log(ten_minute_weight)) for start in tens]
    staked = math.fsum(
        [
            WHOLE_SHARE,
            HOURLY_SHARE * min(hours, PLANNED_HOURS) / PLANNED_HOURS,
            ten_minute_weight * len(_tens(start_ms, min(now_ms, end_ms))),
            BEYOND_SHARE * beyond / (beyond + 1),
        ]
    )
    return Plan(tuple(sorted(restarts)), math.log1p(-staked))


def ln_weight_of_hour(i: int) -> float:
    """The logarithm of the weight of the hour i after the start of a phase, from 0 on."""
    beyond = i - PLANNED_HOURS + 1
    return math.log(BEYOND_SHARE / (beyond * (beyond + 1)) if beyond > 0 else HOURLY_SHARE / PLANNED_HOURS)


def _tens(start_ms: int, end_ms: int) -> list[int]:
    """The ten-minute marks after a start, up to an end, without the hours."""
    first_ms = (start_ms // TEN_MINUTES_MS + 1) * TEN_MINUTES_MS
    return [mark for mark in range(first_ms, end_ms + 1, TEN_MINUTES_MS) if mark % HOUR_MS]


def with_restarts(
    of: Plan,
    counts: Sequence[float],
    before: Mapping[int, Sequence[float]],
    ln_evidence: Callable[[Sequence[float]], float],
    difference: Callable[[float, float], float] | None = None,
) -> PlanEvidence:
    """ln E of a test by its plan.

    `counts` are those of the phase by cell, `before` those up to each restart: of the phase's minutes before it. A
    restart that `before` lacks is worth nothing, which only loses power; the start of the phase needs none.
    `ln_evidence` gives ln E from the counts since a restart: by default, where a correction makes them fall, they count
    as 0. Sums of values of both signs need another `difference`.
    """
    nothing = (0.0,) * len(counts)
    phase_ms = of.restarts[0].start_ms
    known: dict[tuple[float, ...], float] = {}
    capitals = [of.ln_unstaked]
    found = PlanEvidence(0.0, phase_ms, -math.inf, nothing)
    for start_ms, ln_weight in of.restarts:
        earlier = nothing if start_ms == phase_ms else before.get(start_ms)
        if earlier is None:
            continue
        since = tuple(map(difference or _since, counts, earlier))
        ln_e = known.get(since)
        if ln_e is None:
            ln_e = known[since] = ln_evidence(since)
        capital = ln_weight + ln_e
        capitals.append(capital)
        if capital > found.ln_capital:
            found = PlanEvidence(0.0, start_ms, capital, since)
    return found._replace(ln_e=ln_sum(capitals))


def _since(count: float, earlier: float) -> float:
    return count - earlier if count > earlier else 0.0
