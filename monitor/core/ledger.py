"""The ledger: totals per (series, minute) that can still change, of one metric key group. Pure.

Totals are absolute. What changed is written again with its new total, so that writing twice changes nothing. A minute
that the watermark of every session key group has passed is *final*: nothing can change it, and it is forgotten.
"""

from collections.abc import Mapping

from monitor.core.codes import MINUTE_MS
from monitor.core.deltas import Deltas
from monitor.core.metrics import DataPoint, Series
from monitor.core.watermark import NEVER, smallest

SQUARES = ".sumsq|"
"""Marks the series of sums of squares: the last part of the metric's name, before the tags."""


class Ledger:
    """The totals of one metric key group: what the store holds for every (series, minute) that can still change."""

    def __init__(
        self, totals: Deltas | None = None, watermarks: Mapping[int, int] | None = None, doubles_from: int = 0
    ) -> None:
        self.totals: Deltas = totals or {}
        self.watermarks = dict(watermarks or {})
        """Session key group -> its watermark, in ms."""
        self.doubles_from = doubles_from
        """The minute from which on `.sumsq` is written as a double. KairosDB keeps a long and a double of one minute
        side by side, so minutes of which there may be longs, of the first state format, stay long."""

    def apply(self, deltas: Mapping[int, Mapping[Series, int]]) -> list[DataPoint]:
        """Adds changes, those of 0 too; returns the new totals of all that was touched."""
        points: list[DataPoint] = []
        for minute, changes in deltas.items():
            totals = self.totals.setdefault(minute, {})
            for series, change in changes.items():
                # may fall: a late event retracts what others had contributed
                totals[series] = totals.get(series, 0) + change
            points += self.points_of(minute, {series: totals[series] for series in changes})
        return points

    def points_of(self, minute: int, totals: Mapping[Series, int]) -> list[DataPoint]:
        """Totals of a minute as points; a sum of squares outgrows 64 bits, so it is held exactly and rounded here."""
        at_ms, has_doubles = minute * MINUTE_MS, minute >= self.doubles_from
        return [
            DataPoint(series, at_ms, float(total) if has_doubles and SQUARES in series else total)
            for series, total in totals.items()
        ]

    def seal(self, watermarks: Mapping[int, int], groups: int) -> int:
        """Takes in the watermarks of session key groups, and forgets the minutes that all `groups` have passed.

        Returns the watermark that all have passed, in ms: minutes that end by then are final.
        """
        for group, watermark_ms in watermarks.items():
            assert 0 <= group < groups, "a watermark is of a session key group"
            self.watermarks[group] = max(self.watermarks.get(group, NEVER), watermark_ms)
        passed_ms = smallest(self.watermarks, range(groups))
        for minute in [minute for minute in self.totals if (minute + 1) * MINUTE_MS <= passed_ms]:
            del self.totals[minute]
        return passed_ms

    def size(self) -> int:
        """The number of totals held."""
        return sum(len(totals) for totals in self.totals.values())
