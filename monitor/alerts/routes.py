"""Who is told of what: routes, quiet repeat and resolved notices. Pure.

A check is told to a target when its state is as severe as the route asks, and again when it rises. Otherwise it is
quiet for `repeat_s` after it was told. When a check that was told is healthy again, that is told at once; the next
alarm rises from there. A change that is older than the newest known of its check tells nothing.
"""

from typing import NamedTuple

from monitor.alerts.changes import Change, severity
from monitor.config.alerts import AlertsTable, Route
from monitor.verdicts.judge import State


class Standing(NamedTuple):
    """What a target knows of a check."""

    told: int
    """The severity of the alarm that was told last; 0: none, or it is resolved."""
    told_ms: int
    """The minute of that alarm."""
    newest_ms: int
    """The minute of the newest change, told or not."""


UNKNOWN = Standing(0, 0, -(2**63))


def is_routed(change: Change, route: Route) -> bool:
    """Whether a route leads a change of this tenant, experiment and check to its target."""
    check, first_word = change.check, change.check.partition(" ")[0]
    group = first_word.partition("/")[0]
    return (
        (route.tenants is None or change.tenant in route.tenants)
        and (route.experiments is None or change.experiment in route.experiments)
        and (route.checks is None or any(of in route.checks for of in (check, first_word, group)))
    )


def judged(change: Change, route: Route, alerts: AlertsTable, standing: Standing) -> tuple[bool, Standing]:
    """Whether the change is told, and what the target knows of the check afterwards.

    >>> judged(hold_at(60_000), route, alerts, UNKNOWN)
    (True, Standing(told=3, told_ms=60000, newest_ms=60000))
    """
    if change.at_ms < standing.newest_ms:
        return False, standing
    level = severity(change.state)
    heard = standing._replace(newest_ms=change.at_ms)
    if change.is_resolved:
        return standing.told > 0, heard._replace(told=0)
    if level < severity(State(route.from_state or alerts.from_state)):
        return False, heard
    is_quiet = change.at_ms - standing.told_ms < 1_000 * alerts.repeat_s
    if level <= standing.told and is_quiet:
        return False, heard
    return True, Standing(level, change.at_ms, change.at_ms)
