"""The life of the process: errors are told once and plainly, signals stop it without haste."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from monitor.runtime import lifecycle
from monitor.runtime.lifecycle import JobError

ROOT = Path(__file__).parents[2]


def test_an_error_that_a_person_acts_on_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """A JobError is logged once and without traceback; any other error with one; the end of a source is none."""
    monkeypatch.setattr(lifecycle.reported, "errors", [])
    fault = JobError("do this")
    with capture_logs() as logs:
        with pytest.raises(JobError), lifecycle.reported:
            raise fault
        with pytest.raises(ZeroDivisionError), lifecycle.reported:
            _ = 1 / 0
        with pytest.raises(StopIteration), lifecycle.reported:
            raise StopIteration
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [
        ("the job stops", "critical"),
        ("the job stops by an error of its own", "critical"),
    ]
    assert logs[0]["reason"] == "do this"
    assert isinstance(logs[1]["exc_info"], ZeroDivisionError)
    assert len(lifecycle.reported.errors) == 2


_FAILING = """
import sys
import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main
from bytewax.testing import TestingSink, TestingSource
from monitor.runtime import lifecycle, logs

def step(items):
    with lifecycle.reported:
        raise {error}

logs.set_up()
lifecycle.install()
flow = Dataflow("failing")
op.output("out", op.flat_map_batch("step", op.input("in", flow, TestingSource([1, 2, 3])), step), TestingSink([]))
cli_main(flow, workers_per_process={workers})
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_fault_in_a_step_ends_the_process_with_its_message_alone(workers: int) -> None:
    """On stderr it says once, in JSON, what is wrong; no traceback of the engine hides it; the status is not 0."""
    ended = _python(_FAILING.format(error='lifecycle.JobError("the disk is full")', workers=workers))
    assert ended.returncode != 0
    entries = [json.loads(line) for line in ended.stderr.splitlines() if line.startswith("{")]
    assert [(entry["event"], entry["reason"]) for entry in entries] == [("the job stops", "the disk is full")]
    assert ended.stderr.count("the disk is full") == 1
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_our_own_is_told_with_its_traceback(workers: int) -> None:
    """Where the code is at fault, the log says where."""
    ended = _python(_FAILING.format(error='LookupError("our own")', workers=workers))
    assert ended.returncode != 0
    (entry,) = [json.loads(line) for line in ended.stderr.splitlines() if line.startswith("{")]
    (exception,) = entry["exception"]
    assert (exception["exc_type"], exception["exc_value"]) == ("LookupError", "our own")
    assert exception["frames"][-1]["name"] == "step"


_WAITING = """
import os, signal, sys, threading
from monitor.runtime import lifecycle
lifecycle.STOP_GRACE_S = 0.1
overdue = threading.Event()
lifecycle.when_overdue(overdue.set)
lifecycle.install()
print(lifecycle.stopping.is_set(), flush=True)
print(lifecycle.stopping.wait(20), flush=True)
print(overdue.wait(20), flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_the_job_to_stop(number: signal.Signals) -> None:
    """The flag is set; what still waits after the grace is told to give up; the process is not killed by it."""
    with subprocess.Popen([sys.executable, "-c", _WAITING], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "False\n"
            process.send_signal(number)
            assert process.communicate(timeout=25)[0] == "True\nTrue\n"
            assert process.returncode == 0
        finally:
            process.kill()


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30)
