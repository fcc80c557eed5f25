"""The rules between settings of checks; like all of `relations`, they are checked on the raw tables."""

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from monitor.config.errors import SettingError, shown
from monitor.config.guard import SharesTable, ThresholdsTable

ROUNDING = 1e-9
"""Shares of a sum of 1 may have a little more in doubles."""


def errors_between_checks(guard: Mapping[str, Any]) -> Iterator[SettingError]:
    """All errors between the settings of `[guard]`."""
    thresholds = _numbers(guard.get("thresholds"), ThresholdsTable())
    if thresholds is not None:
        for (lower, low), (higher, high) in pairwise(thresholds.items()):
            if low >= high:
                rule = f"must be above {lower}; got {shown(high)} and {shown(low)}"
                yield SettingError(f"guard.thresholds.{higher}", rule)
    shares = _numbers(guard.get("shares"), SharesTable())
    if shares is not None and (whole := math.fsum(shares.values())) > 1 + ROUNDING:
        rule = f"must have a sum of at most 1: that is the whole budget; got {round(whole, 6)}"
        yield SettingError("guard.shares", rule)


def _numbers(table: Any, defaults: ThresholdsTable | SharesTable) -> dict[str, float] | None:
    """The settings of a table with their defaults; None where one is no number, which is its own error."""
    given = defaults.model_dump() | (table if isinstance(table, dict) else {})
    found = {name: given[name] for name in defaults.model_dump()}
    is_sound = all(isinstance(value, int | float) and math.isfinite(value) for value in found.values())
    return found if is_sound else None
