"""Incidents that can be switched on in the simulated traffic: what goes wrong, from when to when, and for whom."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from monitor.runtime.errors import MonitorError
from monitor.simulate.shop import DEVICES, TENANTS

Setting = str | float

KINDS: dict[str, Mapping[str, Setting]] = {
    "payment_broken": {"variation": "fc_on", "device": "mobile"},
    "variation_missing": {"tenant": "uswm", "variation": "red"},
    "traffic_drop": {"tenant": "uswm", "share": 0.9},
    "clock_skew": {"device": "tablet", "seconds": 300.0},
    "duplicate_storm": {"share": 0.5},
    "garbage": {"share": 0.2},
}
"""Every kind of incident with its settings and their defaults.

* `payment_broken`: payments fail on that device in that variation; checkouts lead to no order.
* `variation_missing`: the visitors of that variation are given no variation at all.
* `traffic_drop`: that share of a tenant's visits does not happen.
* `clock_skew`: the clocks of a kind of device are ahead by so many seconds.
* `duplicate_storm`: that share of messages is sent again, up to three times.
* `garbage`: malformed messages on top, as a share of the rate.
"""

_KNOWN: dict[str, frozenset[str]] = {
    "tenant": frozenset(tenant.name for tenant in TENANTS),
    "device": frozenset(name for name, _ in DEVICES if name is not None),
    "variation": frozenset(
        name for tenant in TENANTS for experiment in tenant.experiments for name, _ in experiment.weights
    ),
}
_LIMITS: dict[str, float] = {"share": 1.0, "seconds": 86_400.0}
_TEXT = re.compile(r"(?P<kind>\w*)(:(?P<settings>[^@]*))?(@(?P<when>.+))?", re.ASCII)
_MINUTES = re.compile(r"(\d+(?:\.\d+)?)(?:-(\d+(?:\.\d+)?))?", re.ASCII)


class IncidentError(MonitorError):
    """A text that names no incident that can be simulated; the message says what is wrong and what there is."""


class Incident(NamedTuple):
    """One incident during [start_ms, end_ms), milliseconds UTC; without an end it never stops."""

    kind: str
    start_ms: int
    end_ms: int | None
    settings: Mapping[str, Setting]

    def covers(self, at_ms: int) -> bool:
        """Whether it goes on at this moment."""
        return self.start_ms <= at_ms and (self.end_ms is None or at_ms < self.end_ms)

    def number(self, setting: str) -> float:
        """A numeric setting."""
        value = self.settings[setting]
        assert isinstance(value, float)
        return value


def of_kind(incidents: Iterable[Incident], kind: str) -> tuple[Incident, ...]:
    """Those incidents that are of one kind."""
    return tuple(incident for incident in incidents if incident.kind == kind)


def parse_incident(text: str, start_ms: int) -> Incident:
    """The incident that a text such as `payment_broken@10-40` describes, for traffic that begins at `start_ms`.

    `KIND[:SETTING=VALUE,...][@WHEN]`, where WHEN is minutes after the start (`30`, or `10-40`) or moments in ISO 8601
    (`2026-01-05T12:30Z`, or two with a `/` between; UTC by default). Without WHEN it lasts all the time.
    Examples: `garbage`, `traffic_drop:tenant=cawm,share=0.5@20`. Raises IncidentError.
    """
    match = _TEXT.fullmatch(text)
    if match is None or match["kind"] not in KINDS:
        message = f"unknown incident {text!r}; there are: {', '.join(KINDS)} (for example payment_broken@10-40)"
        raise IncidentError(message)
    begin_ms, end_ms = _parse_when(text, match["when"], start_ms)
    if end_ms is not None and end_ms <= begin_ms:
        message = f"an incident must end after it starts; got {text!r}"
        raise IncidentError(message)
    return Incident(match["kind"], begin_ms, end_ms, _parse_settings(match["kind"], match["settings"] or ""))


def _parse_when(text: str, when: str | None, start_ms: int) -> tuple[int, int | None]:
    if when is None:
        return 0, None
    if minutes := _MINUTES.fullmatch(when):
        first, last = (None if part is None else start_ms + round(float(part) * 60_000) for part in minutes.groups())
        assert first is not None
        return first, last
    moments = when.split("/")
    try:
        begin_ms, *rest = [_moment_ms(moment) for moment in moments]
    except ValueError:
        rest = [0, 0]
    if len(rest) > 1:
        message = f"an incident starts at a minute (30), in minutes (10-40) or at an ISO moment; got {text!r}"
        raise IncidentError(message)
    return begin_ms, rest[0] if rest else None


def _moment_ms(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def _parse_settings(kind: str, text: str) -> Mapping[str, Setting]:
    settings: dict[str, Setting] = dict(KINDS[kind])
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        if name not in settings:
            message = f"{kind} has no setting {name!r}; it has: {', '.join(settings)}"
            raise IncidentError(message)
        settings[name] = _parse_setting(kind, name, value)
    return settings


def _parse_setting(kind: str, name: str, value: str) -> Setting:
    if name in _KNOWN:
        if value not in _KNOWN[name]:
            message = f"{kind}: there is no {name} {value!r}; there are: {', '.join(sorted(_KNOWN[name]))}"
            raise IncidentError(message)
        return value
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 < number <= _LIMITS[name]:
        message = f"{kind}: {name} must be a number above 0, up to {_LIMITS[name]:g}; got {value!r}"
        raise IncidentError(message)
    return number
