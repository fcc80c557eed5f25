"""When a condition becomes an alert, and when that ends."""

import pytest

from monitor.watch import lasting
from monitor.watch.lasting import BEGINS_MINUTES, ENDS_MINUTES, Lasting, Turn

KEY = ("t", "health/future")
MINUTE_MS = 60_000


def turns(of: Lasting, held: str) -> list[tuple[int, bool]]:
    """The minutes at which it begins (True) and ends; "x" is a minute in which the condition holds."""
    found = []
    for number, sign in enumerate(held):
        for turn in of.minute(number * MINUTE_MS, [KEY] if sign == "x" else []):
            assert turn.key == KEY
            found.append((number, turn.is_alert))
    return found


def test_it_begins_and_ends_after_some_minutes() -> None:
    """In a row each."""
    assert turns(Lasting(), "xx.xx.") == []
    assert turns(Lasting(), ".xxxx....x....x.....") == [(BEGINS_MINUTES, True), (14 + ENDS_MINUTES, False)]


def test_it_began_with_its_first_minute() -> None:
    """Not with the one in which it was told."""
    of = Lasting()
    assert turns(of, "..xx") == []
    assert of.minute(4 * MINUTE_MS, [KEY]) == [Turn(KEY, True, 2 * MINUTE_MS)]
    assert of.alerts() == [(KEY, 2 * MINUTE_MS)]


def test_an_alert_of_before_ends_after_a_start() -> None:
    """And is not told again while it holds."""
    assert turns(Lasting([(KEY, 0)]), "xxxxxx.....") == [(10, False)]


def test_a_copy_goes_its_own_way() -> None:
    """What could not be told is told with the same minute."""
    of = Lasting()
    turns(of, "xx")
    assert of.copy().minute(2 * MINUTE_MS, [KEY]) == of.minute(2 * MINUTE_MS, [KEY]) != []


def test_conditions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further ones are told when there is room."""
    monkeypatch.setattr(lasting, "LASTING_MAX", 2)
    of = Lasting()
    keys = [("t", str(number)) for number in range(3)]
    for number in range(BEGINS_MINUTES):
        told = [turn.key for turn in of.minute(number, keys)]
    assert told == keys[:2]
    for number in range(ENDS_MINUTES):
        of.minute(number, keys[2:])
    for _ in range(BEGINS_MINUTES):
        told = [turn.key for turn in of.minute(9, keys[2:])]
    assert told == keys[2:]
