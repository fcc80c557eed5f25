"""Simulated weeks of an experiment with two equal variations: what happens in each minute, healthy or with an incident.

Visits arrive at random, 20 a minute in the mean, 4 at three in the morning and 36 at three in the afternoon. Each falls
to a variation by the weights, one in twenty converts, on average eight minutes later, and one in fifty crosses over.
A week is a function of its number and its incident alone.
"""

import math
from random import Random
from typing import NamedTuple

HOUR_MINUTES = 60
DAY_MINUTES = 24 * HOUR_MINUTES
VISITS_A_MINUTE = 20.0
RHYTHM = 0.8
"""By how much traffic is below its mean in the quietest minute, and above it half a day later."""
QUIETEST_MINUTE = 3 * HOUR_MINUTES
"""Of each day, from midnight."""
CONVERSION = 0.05
LAG_MINUTES = 8.0
"""The mean time from a visit to its conversion, exponentially distributed."""
CROSSING = 0.02
"""The share that crosses: just as many as are tolerated, which is the worst case of a healthy experiment."""

Pair = tuple[int, int]
"""Of the control and of the variation."""


class Incident(NamedTuple):
    """From a minute on the variation gets another share of the visits, or its visits convert at another rate."""

    name: str
    from_minute: int = 0
    share: float = 0.5
    conversion: float = CONVERSION


HEALTHY = Incident("healthy")
_LATE = 4 * DAY_MINUTES + 10 * HOUR_MINUTES + 30
"""The fifth day at 10:30, half an hour after the last restart by the hour."""
INCIDENTS = (
    Incident("conversion 5 % to 2.5 %, at once", conversion=0.025),
    Incident("conversion 5 % to 2.5 %, on day 5", _LATE, conversion=0.025),
    Incident("split 50/50 to 48/52, at once", share=0.52),
    Incident("split 50/50 to 48/52, on day 5", _LATE, share=0.52),
)


class Minute(NamedTuple):
    """What is counted in a minute: visits, unique conversions, and visits that crossed."""

    visits: Pair
    conversions: Pair
    crossed: int


def week(number: int, incident: Incident = HEALTHY, days: int = 7) -> list[Minute]:
    """The minutes of a week from midnight on; `days`: where it is longer or shorter than one."""
    minutes = days * DAY_MINUTES
    chance = Random(f"{incident.name} {number}")
    drawn = chance.random
    visits, crossed = [[0, 0] for _ in range(minutes)], [0] * minutes
    conversions = [[0, 0] for _ in range(minutes)]
    for minute in range(minutes):
        is_on = minute >= incident.from_minute
        share = incident.share if is_on else HEALTHY.share
        rates = CONVERSION, incident.conversion if is_on else CONVERSION
        for _ in range(_poisson(chance, expected_visits(minute))):
            variation = 1 if drawn() < share else 0
            visits[minute][variation] += 1
            if drawn() < rates[variation]:
                at = int(minute + drawn() + chance.expovariate(1 / LAG_MINUTES))
                if at < minutes:
                    conversions[at][variation] += 1
            if drawn() < CROSSING:
                crossed[minute] += 1
    return [
        Minute((own[0], own[1]), (converted[0], converted[1]), of_minute)
        for own, converted, of_minute in zip(visits, conversions, crossed, strict=True)
    ]


def expected_visits(minute: int) -> float:
    """The visits that are expected in a minute since midnight of the first day."""
    return VISITS_A_MINUTE * (1 - RHYTHM * math.cos(2 * math.pi * (minute - QUIETEST_MINUTE) / DAY_MINUTES))


def _poisson(chance: Random, mean: float) -> int:
    """A number with a Poisson distribution, for means of some dozens: Knuth's product of random numbers."""
    least, product, number = math.exp(-mean), chance.random(), 0
    while product > least:
        product *= chance.random()
        number += 1
    return number
