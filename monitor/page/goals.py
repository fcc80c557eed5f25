"""Which point is the goal. Pure."""

from collections.abc import Mapping

from monitor.config.settings import PointTable

USUAL = "order"
"""The goal where no other is chosen."""


def goal_of(points: Mapping[str, PointTable], *chosen: str | None) -> str | None:
    """The primary metric: the first chosen point that there is, else `order`, else the first guarded point.

    None: there is no point. A goal that nobody guards has no verdict.
    """
    for name in (*chosen, USUAL):
        if name in points:
            return name
    guarded = (name for name, point in points.items() if point.better != "none")
    return next(guarded, next(iter(points), None))
