"""One visit as event messages: the visitor, and the visitor's events on the wire.

A visitor is a number; the session id, the device and the variations are functions of it, so a visitor who comes back is
in the same variations. All chance of one visit comes from its own generator, so an incident changes the visits it
affects and no other byte of the traffic.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from random import Random
from typing import NamedTuple

from monitor.simulate.incidents import Incident, of_kind
from monitor.simulate.journeys import JourneyStep, bot, shopper
from monitor.simulate.shop import (
    BOT_USER_AGENTS,
    DEVICE_EFFECTS,
    DEVICES,
    EFFECTS,
    OTHER_USER_AGENT,
    USER_AGENTS,
    Effect,
    ShopExperiment,
    ShopTenant,
)

BOT_VISITS = 1 / 2_500
LOGGED_IN_SHARE = 0.35
CROSSING_SHARE = 0.004
UNKNOWN_EXPERIMENT_SHARE = 0.005
UNKNOWN_VARIATION_SHARE = 0.002
UNASSIGNED_EVENTS = 0.08
WITHOUT_EVENT_ID = 0.03

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E37_79B9_7F4A_7C15
_DEVICE_WHEEL = tuple(name for name, share in DEVICES for _ in range(share))

Assignments = dict[str, str]


class Sent(NamedTuple):
    """One event: its true moment, which may differ from its `time`, and its JSON text."""

    at_ms: int
    value: bytes


def mix(number: int) -> int:
    """Scatters an integer over 64 bits: the output function of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    number = (number + _GOLDEN) & _MASK
    number = ((number ^ number >> 30) * 0xBF58_476D_1CE4_E5B9) & _MASK
    number = ((number ^ number >> 27) * 0x94D0_49BB_1331_11EB) & _MASK
    return number ^ number >> 31


def visitor_of(seed: int, realm: int, second: int, index: int) -> int:
    """The number of the visitor whose first visit is the index-th that begins in this second."""
    return mix(mix(mix(mix(seed) + realm) + second) + index)


def session_id(visitor: int) -> str:
    """The visitor's session id: 16 hexadecimal digits."""
    return f"{visitor:016x}"


def visit(
    tenant: ShopTenant, visitor: int, second: int, start_ms: int, rng: Random, incidents: Sequence[Incident]
) -> list[Sent]:
    """All events of the visit that begins in `second` (at `start_ms`), in order of their true moments.

    `rng` is seeded here, so nothing but the arguments matters. `incidents` are those of the whole traffic.
    """
    rng.seed(mix(visitor ^ mix(second)))
    draw = rng.random
    device = _DEVICE_WHEEL[visitor % len(_DEVICE_WHEEL)]
    assignments = _without_missing(_assignments(tenant, visitor), tenant, start_ms, incidents)
    logged_in = draw() < LOGGED_IN_SHARE
    agent = USER_AGENTS.get(device, OTHER_USER_AGENT)
    if draw() < BOT_VISITS:
        agent = BOT_USER_AGENTS[visitor % len(BOT_USER_AGENTS)]
        steps, logged_in, crawls = bot(draw, start_ms), False, True
    else:
        effect = _effect(device, tuple(assignments.values()))
        broken = _broken(device, assignments, incidents)
        steps, crawls = shopper(draw, start_ms, effect, logged_in=logged_in, broken=broken), False
    later = _crossed(tenant, assignments, draw()) if draw() < CROSSING_SHARE else assignments
    carried = _carried(assignments, draw()), _carried(later, 1.0)
    context = _VisitContext(tenant.name, session_id(visitor), second, device, logged_in, agent, crawls, carried)
    return context.render(steps, rng, [i for i in of_kind(incidents, "clock_skew") if i.settings["device"] == device])


class _VisitContext(NamedTuple):
    """The properties that the events of one visit share."""

    tenant: str
    session_id: str
    second: int
    device: str | None
    logged_in: bool
    agent: str
    crawls: bool
    carried: tuple[str, str]

    def render(self, steps: Sequence[JourneyStep], rng: Random, skews: Sequence[Incident]) -> list[Sent]:
        """The steps as JSON texts, formatted directly: json.dumps would take half of the time of all the traffic."""
        draw = rng.random
        head = f'{{"tenant":"{self.tenant}","sessionId":"{self.session_id}",'
        agent = f'"userAgent":"{self.agent}",'
        members = self._members(self.logged_in)
        before, carried = self.carried
        crossing_at = len(steps) // 2 if before != carried else 0
        sent = []
        for n, (at_ms, event, own) in enumerate(steps):
            time_ms = at_ms + sum(int(1000 * s.number("seconds")) for s in skews if s.covers(at_ms)) if skews else at_ms
            identity = "" if draw() < WITHOUT_EVENT_ID else f'"eventId":"{self.second:x}-{n}",'
            bare = draw() < UNASSIGNED_EVENTS
            middle = "" if bare else before if n < crossing_at else carried
            attributes = f"{agent if bare or self.crawls else ''}{members}{own}"
            value = f'{head}"time":{time_ms},"event":"{event}",{identity}{middle}"attributes":{{{attributes}}}}}'
            sent.append(Sent(at_ms, value.encode()))
            if event == "login":
                members = self._members(logged_in=True)
        return sent

    def _members(self, logged_in: bool) -> str:
        device = "" if self.device is None else f'"device":"{self.device}",'
        return f'{device}"loggedIn":{"true" if logged_in else "false"},'


def _assignments(tenant: ShopTenant, visitor: int) -> Assignments:
    mixes = _mixes(tenant)
    chosen = mixes[(visitor >> 24) % len(mixes)]
    return {tenant.experiments[n].name: tenant.experiments[n].variation(mix(visitor + n) >> 8) for n in chosen}


@cache  # an entry for each tenant
def _mixes(tenant: ShopTenant) -> tuple[tuple[int, ...], ...]:
    return tenant.mixes()


def _without_missing(
    assignments: Assignments, tenant: ShopTenant, start_ms: int, incidents: Sequence[Incident]
) -> Assignments:
    missing = {
        incident.settings["variation"]
        for incident in of_kind(incidents, "variation_missing")
        if incident.settings["tenant"] == tenant.name and incident.covers(start_ms)
    }
    if not missing:
        return assignments
    return {experiment: variation for experiment, variation in assignments.items() if variation not in missing}


@cache  # as many entries as devices times sets of variations: a few hundred
def _effect(device: str | None, variations: tuple[str, ...]) -> Effect:
    cart, order = DEVICE_EFFECTS.get(device, Effect())
    for variation in variations:
        effect = EFFECTS.get(variation, Effect())
        cart, order = cart * effect.cart, order * effect.order
    return Effect(cart, order)


def _broken(device: str | None, assignments: Assignments, incidents: Sequence[Incident]) -> list[Incident]:
    return [
        incident
        for incident in of_kind(incidents, "payment_broken")
        if incident.settings["device"] == device and incident.settings["variation"] in assignments.values()
    ]


def _crossed(tenant: ShopTenant, assignments: Assignments, draw: float) -> Assignments:
    """The same assignments but with another variation in the first experiment, as after a deleted cookie."""
    if not assignments:
        return assignments
    name, variation = next(iter(assignments.items()))
    experiment: ShopExperiment = next(e for e in tenant.experiments if e.name == name)
    others = [other for other, _ in experiment.weights if other != variation]
    return {**assignments, name: others[int(len(others) * draw)]}


def _carried(assignments: Assignments, draw: float) -> str:
    """The JSON member `assignments`, sometimes with a name that is in no configuration."""
    if draw < UNKNOWN_EXPERIMENT_SHARE:
        assignments = {**assignments, "old_banner": "ob_1"}
    elif draw < UNKNOWN_EXPERIMENT_SHARE + UNKNOWN_VARIATION_SHARE and assignments:
        assignments = {**assignments, next(reversed(assignments)): "retired"}
    pairs = ",".join(f'"{experiment}":"{variation}"' for experiment, variation in assignments.items())
    return f'"assignments":{{{pairs}}},'
