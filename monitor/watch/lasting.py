"""When something that comes and goes begins and ends as an alert: it must last for some minutes, and be gone for some.

Pure: what is said of a minute follows from the minutes before it.
"""

from collections.abc import Iterable
from typing import NamedTuple

BEGINS_MINUTES = 3
"""An alert begins when a condition has held for so many minutes in a row."""
ENDS_MINUTES = 5
"""It ends when it has not held for so many."""
LASTING_MAX = 1_000
"""Conditions that are remembered; further ones are told when there is room."""

Key = tuple[str, str]
"""Tenant and check."""


class Spell(NamedTuple):
    """Minutes in a row with a condition, or without it; when it began; whether it is an alert."""

    held: int
    gone: int
    since_ms: int
    is_alert: bool


class Turn(NamedTuple):
    """An alert that begins (`is_alert`) or ends with a minute."""

    key: Key
    is_alert: bool
    since_ms: int


class Lasting:
    """The conditions that hold or are alerts, as of the last minute."""

    def __init__(self, alerts: Iterable[tuple[Key, int]] = ()) -> None:
        self._spells = {key: Spell(0, 0, since_ms, True) for key, since_ms in alerts}
        """`alerts`: those that have begun, and when."""

    def copy(self) -> "Lasting":
        """One that goes its own way from here on."""
        copied = Lasting()
        copied._spells = dict(self._spells)
        return copied

    def minute(self, end_ms: int, conditions: Iterable[Key]) -> list[Turn]:
        """Takes in the conditions that hold at the end of the next minute; what begins and ends with it."""
        turns, held = [], dict.fromkeys(conditions)
        for key in [*held, *(key for key in self._spells if key not in held)]:
            known = self._spells.get(key)
            if known is None and len(self._spells) >= LASTING_MAX:
                continue
            before = known or Spell(0, 0, end_ms, False)
            spell = before._replace(
                held=before.held + 1 if key in held else 0, gone=0 if key in held else before.gone + 1
            )
            begins = not spell.is_alert and spell.held >= BEGINS_MINUTES
            if begins or (spell.is_alert and spell.gone >= ENDS_MINUTES):
                spell = spell._replace(is_alert=begins)
                turns.append(Turn(key, begins, spell.since_ms))
            if spell.is_alert or spell.held:
                self._spells[key] = spell
            else:
                self._spells.pop(key, None)
        return turns

    def alerts(self) -> list[tuple[Key, int]]:
        """Those that last, and when they began."""
        return [(key, spell.since_ms) for key, spell in self._spells.items() if spell.is_alert]
