"""Which point is the goal. Pure."""

from collections.abc import Mapping

from monitor.config.settings import PointTable

USUAL = "order"
"""The goal where no other is chosen."""


def goal_of(points: Mapping[str, PointTable], chosen: str | None = None) -> str | None:
    """The primary metric: the chosen point, else `order`, else the first guarded point, else the first; None: no point.

    A goal that nobody guards has no verdict.
    """
    if chosen in points:
        return chosen
    if USUAL in points:
        return USUAL
    guarded = (name for name, point in points.items() if point.better != "none")
    return next(guarded, next(iter(points), None))
