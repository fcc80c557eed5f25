"""Seeded traffic as a broker receives it: messages in order of arrival, second by second.

The messages of second k are a function of the seed, the settings and k alone. Each visit has its own generator, and all
its messages arrive within HORIZON_S; so second k is made from the visits that began up to HORIZON_S before it, and any
second can be made without the earlier ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from math import exp, pi, sin
from random import Random
from typing import NamedTuple
from zlib import crc32

from monitor.simulate.incidents import Incident, of_kind
from monitor.simulate.journeys import LONGEST_VISIT_MS, Draw
from monitor.simulate.malformed_messages import malformed
from monitor.simulate.shop import TENANTS, ShopTenant
from monitor.simulate.visits import Sent, mix, session_id, visit, visitor_of

DEFAULT_RATE = 1_000.0
RATE_MAX = 20_000.0
"""Events a second. Messages yet to arrive are in memory: about 70 seconds of traffic, 600 MB at this rate."""

EVENTS_PER_VISIT = 10.0
"""Measured mean, bots and repeats included."""

ON_TIME_MS = (20, 400)
OUT_OF_ORDER_SHARE, OUT_OF_ORDER_MS = 0.10, (400, 60_000)
LATE_SHARE, LATE_MS = 0.01, (60_000, 540_000)
TOO_LATE_SHARE, TOO_LATE_MS = 0.0003, (601_000, 720_000)
REPEAT_SHARE, REPEAT_MS = 0.005, 20_000
STORM_REPEATS = 3
MALFORMED_SHARE = 0.002
WITHOUT_KEY_SHARE = 0.002

HORIZON_S = (LONGEST_VISIT_MS + TOO_LATE_MS[1] + REPEAT_MS) // 1000 + 1
"""No message arrives later than this many seconds after its visit began."""

WARM_UP_S = 120
"""Nearly all visits end within this time; visits that began before the start give the full rate from the start on."""

DAILY_SWING = 0.6
"""The busiest moment of a tenant's day has 1.6 times its mean traffic, the quietest 0.4 times."""

RETURN_SHARE, RETURN_AFTER_S = 0.02, 2_700
"""Some visits are by a visitor of 45 minutes before: the same session id after more than any session gap."""

_DELAYED_SHARE = TOO_LATE_SHARE + LATE_SHARE + OUT_OF_ORDER_SHARE
_MALFORMED_REALM = -1
_POISSON_STEP = 500.0


class SimulatedMessage(NamedTuple):
    """One message of the topic; `timestamp_ms` is its arrival, milliseconds UTC."""

    partition: int
    key: bytes | None
    value: bytes
    timestamp_ms: int


def _none_on(_: int) -> Sequence[Incident]:
    return ()


class Traffic:
    """Endless traffic that begins at `start_ms`, with `rate` events a second in the mean over a day.

    Second k runs from start_ms + 1000 k, k from 0; visits that began up to WARM_UP_S before the start are under way
    then. `partitions` is that of the topic; a message's is crc32(key) modulo it. `on_at` gives further incidents for
    visits that begin at a moment, and must always give the same for a moment. Going forward costs O(1) a
    message, a jump the visits of HORIZON_S seconds. Raises ValueError for a rate or number of partitions out of range.

    >>> traffic = Traffic(seed=1, start_ms=1_767_614_400_000, rate=50)
    >>> traffic.second(90) == Traffic(seed=1, start_ms=1_767_614_400_000, rate=50).second(90)
    True
    """

    def __init__(
        self,
        seed: int,
        start_ms: int,
        rate: float = DEFAULT_RATE,
        incidents: Sequence[Incident] = (),
        partitions: int = 4,
        on_at: Callable[[int], Sequence[Incident]] = _none_on,
    ) -> None:
        if not 0 < rate <= RATE_MAX:
            message = f"rate must be above 0 and at most {RATE_MAX:g} events/s; got {rate:g}"
            raise ValueError(message)
        if partitions < 1:
            message = f"partitions must be 1 or more; got {partitions}"
            raise ValueError(message)
        self.seed, self.start_ms, self.rate, self.partitions = seed, start_ms, rate, partitions
        self.incidents = tuple(incidents)
        self._on_at = on_at
        self._rng = Random()
        self._next = -WARM_UP_S
        # By second of arrival; RATE_MAX bounds the rate, and HORIZON_S how far ahead a message can be.
        self._pending: defaultdict[int, list[SimulatedMessage]] = defaultdict(list)

    def second(self, k: int) -> list[SimulatedMessage]:
        """The messages that arrive in second k (0 or later), in order of arrival."""
        assert k >= 0, k
        if k != self._next:
            self._pending.clear()
            self._next = max(-WARM_UP_S, k - HORIZON_S)
        for begun in range(self._next, k + 1):
            self._begin(begun, k)
        self._next = k + 1
        # The sort is stable and visits begin in order, so messages of one millisecond keep one order.
        return sorted(self._pending.pop(k, ()), key=_arrival)

    def from_second(self, k: int) -> Iterator[list[SimulatedMessage]]:
        """Seconds k, k + 1, ... without end."""
        while True:
            yield self.second(k)
            k += 1

    def visits_per_s(self, tenant: ShopTenant, second: int) -> float:
        """The visits of a tenant expected to begin in a second: its share of the rate times its daily rhythm (UTC)."""
        hours = (self.start_ms / 1000 + second) / 3600
        rhythm = 1.0 + DAILY_SWING * sin(2 * pi * (hours - tenant.peak_hour + 6.0) / 24.0)
        return self.rate / EVENTS_PER_VISIT * tenant.share * rhythm

    def _begin(self, second: int, first_due: int) -> None:
        """Generates the visits that begin in a second and keeps messages that arrive in second `first_due` or later."""
        start_ms = self.start_ms + 1000 * second
        floor_ms = self.start_ms + 1000 * first_due
        incidents = (*self.incidents, *self._on_at(start_ms))
        drops, storms = of_kind(incidents, "traffic_drop"), of_kind(incidents, "duplicate_storm")
        for number, tenant in enumerate(TENANTS):
            draw = _stream(mix(self.seed) + 1, number, second)
            for index in range(_poisson(draw, self.visits_per_s(tenant, second))):
                returns = draw() < RETURN_SHARE and second >= RETURN_AFTER_S
                origin = second - RETURN_AFTER_S if returns else second
                visitor = visitor_of(self.seed, tenant.realm, origin, index)
                if not self._dropped(tenant, visitor, start_ms, drops):
                    sent = visit(tenant, visitor, second, start_ms, self._rng, incidents)
                    self._deliver(sent, session_id(visitor).encode(), floor_ms, storms)
        if second >= first_due:
            self._begin_malformed(second, start_ms, of_kind(incidents, "garbage"))

    def _dropped(self, tenant: ShopTenant, visitor: int, start_ms: int, drops: Sequence[Incident]) -> bool:
        return any(
            drop.settings["tenant"] == tenant.name
            and drop.covers(start_ms)
            and mix(visitor ^ self.seed) < drop.number("share") * 2.0**64
            for drop in drops
        )

    def _deliver(self, sent: Sequence[Sent], key: bytes, floor_ms: int, storms: Sequence[Incident]) -> None:
        """Schedules the arrival of each event of the visit generated last: most at once, some late, a few twice."""
        draw = self._rng.random
        pending, origin_ms = self._pending, self.start_ms
        key_partition = crc32(key) % self.partitions
        storm_draw = _stream(mix(self.seed) + 3, crc32(key), sent[0].at_ms) if storms else draw
        for at_ms, value in sent:
            fate = draw()
            low_ms, high_ms = ON_TIME_MS if fate >= _DELAYED_SHARE else _delay(fate)
            arrival_ms = at_ms + low_ms + int((high_ms - low_ms) * draw())
            due = [arrival_ms]
            if fate >= 1.0 - REPEAT_SHARE:
                due.append(arrival_ms + int(REPEAT_MS * draw()))
            if storms:
                due += [arrival_ms + later_ms for later_ms in _storm_delays_ms(storm_draw, at_ms, storms)]
            keyed = draw() >= WITHOUT_KEY_SHARE
            partition = key_partition if keyed else crc32(value) % self.partitions
            for due_ms in due:
                if due_ms >= floor_ms:
                    message = SimulatedMessage(partition, key if keyed else None, value, due_ms)
                    pending[(due_ms - origin_ms) // 1000].append(message)

    def _begin_malformed(self, second: int, start_ms: int, floods: Sequence[Incident]) -> None:
        draw = _stream(mix(self.seed) + 2, 0, second)
        flood = sum(flood.number("share") for flood in floods if flood.covers(start_ms))
        for index in range(_poisson(draw, self.rate * (MALFORMED_SHARE + flood))):
            at_ms = start_ms + int(1000 * draw())
            sender = session_id(visitor_of(self.seed, _MALFORMED_REALM, second, index))
            key = sender.encode()
            message = SimulatedMessage(crc32(key) % self.partitions, key, malformed(draw, at_ms, sender), at_ms)
            self._pending[second].append(message)


def _storm_delays_ms(draw: Draw, at_ms: int, storms: Sequence[Incident]) -> list[int]:
    return [
        int(REPEAT_MS * draw())
        for storm in storms
        if storm.covers(at_ms) and draw() < storm.number("share")
        for _ in range(1 + int(STORM_REPEATS * draw()))
    ]


def _delay(fate: float) -> tuple[int, int]:
    """The least and the greatest delay of an event that does not arrive at once."""
    if fate < TOO_LATE_SHARE:
        return TOO_LATE_MS
    return LATE_MS if fate < TOO_LATE_SHARE + LATE_SHARE else OUT_OF_ORDER_MS


def _stream(seed: int, number: int, second: int) -> Draw:
    return Random(mix(mix(mix(seed) + number) + second)).random  # random() of a seed never changes between versions


def _poisson(draw: Draw, mean: float) -> int:
    """A Poisson variate by multiplication (Knuth), in steps so that exp() does not underflow."""
    count = 0
    while mean > _POISSON_STEP:
        mean -= _POISSON_STEP
        count += _poisson(draw, _POISSON_STEP)
    limit, product = exp(-mean), draw()
    while product > limit:
        count += 1
        product *= draw()
    return count


def _arrival(message: SimulatedMessage) -> int:
    return message.timestamp_ms
