"""An answer that takes long is waited for within a bound, and computed once for all who wait."""

import threading

import pytest

from monitor.runtime.in_time import InTime

PATIENT_S = 30.0


def test_who_cannot_wait_gets_none_and_the_next_one_the_same_answer() -> None:
    """The computation goes on; it is not begun anew while it runs."""
    may_end, calls = threading.Event(), list[int]()

    def compute() -> int:
        calls.append(1)
        may_end.wait(PATIENT_S)
        return len(calls)

    in_time = InTime(compute, "slow")
    assert in_time.get(0.01) is None
    assert in_time.get(0.01) is None
    may_end.set()
    assert in_time.get(PATIENT_S) in (1, 2)
    assert len(calls) <= 2


def test_what_is_raised_is_the_callers() -> None:
    """Each time anew."""

    def compute() -> int:
        message = "no"
        raise ValueError(message)

    in_time = InTime(compute, "broken")
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            in_time.get(PATIENT_S)
