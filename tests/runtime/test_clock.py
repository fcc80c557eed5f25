"""Intervals: something is due once in each, whoever asks how often."""

import pytest

from monitor.runtime.clock import Interval


def test_an_interval_is_due_once() -> None:
    """At once and not again before it is over; or not before the first one is over."""
    interval = Interval(1_000.0)
    assert [interval.is_due() for _ in range(3)] == [True, False, False]
    assert not Interval(1_000.0, first_at_once=False).is_due()


@pytest.mark.parametrize("first_at_once", [True, False])
def test_an_interval_of_no_length_is_always_due(first_at_once: bool) -> None:
    """Each call is behind the interval before it."""
    interval = Interval(0.0, first_at_once=first_at_once)
    assert [interval.is_due() for _ in range(3)] == [True] * 3
