"""Signals stop the job without losing what it waits for, and the wait has an end."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

_WAITING = """
import os, signal, sys, threading
from monitor.runtime import signals
signals.STOP_GRACE_S = 0.1
overdue = threading.Event()
signals.when_overdue(overdue.set)
signals.install()
print(signals.stopping.is_set(), flush=True)
print(signals.stopping.wait(20), flush=True)
print(overdue.wait(20), flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_the_job_to_stop(number: signal.Signals) -> None:
    """The flag is set; what still waits after the grace period is ended; the process is not killed by it."""
    with subprocess.Popen([sys.executable, "-c", _WAITING], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "False\n"
            process.send_signal(number)
            assert process.communicate(timeout=25)[0] == "True\nTrue\n"
            assert process.returncode == 0
        finally:
            process.kill()
