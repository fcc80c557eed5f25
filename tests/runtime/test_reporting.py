"""Errors of steps: each is reported once and plainly."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from monitor.runtime.errors import JobError
from monitor.runtime.reporting import Reporter

ROOT = Path(__file__).parents[2]


def test_an_error_that_a_person_acts_on_is_one_message() -> None:
    """A JobError is logged once and without traceback; any other error with one; the end of a source is none."""
    reported = Reporter()
    fault = JobError("do this")
    with capture_logs() as logs:
        with pytest.raises(JobError), reported:
            raise fault
        with pytest.raises(ZeroDivisionError), reported:
            _ = 1 / 0
        with pytest.raises(StopIteration), reported:
            raise StopIteration
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [
        ("job_failed", "critical"),
        ("job_failed_internally", "critical"),
    ]
    assert logs[0]["reason"] == "do this"
    assert isinstance(logs[1]["exc_info"], ZeroDivisionError)
    assert reported.reports == 2


_FAILING = """
import sys
import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main
from bytewax.testing import TestingSink, TestingSource
from monitor.runtime import logs, reporting
from monitor.runtime.errors import JobError

@reporting.reported
def step(items):
    raise {error}

logs.set_up()
reporting.install()
flow = Dataflow("failing")
op.output("out", op.flat_map_batch("step", op.input("in", flow, TestingSource([1, 2, 3])), step), TestingSink([]))
cli_main(flow, workers_per_process={workers})
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_step_ends_the_process_with_its_message_alone(workers: int) -> None:
    """On stderr it says once, in JSON, what is wrong; no traceback of the engine hides it; the status is not 0."""
    ended = _python(_FAILING.format(error='JobError("the disk is full")', workers=workers))
    assert ended.returncode != 0
    entries = [json.loads(line) for line in ended.stderr.splitlines() if line.startswith("{")]
    assert [(entry["event"], entry["reason"]) for entry in entries] == [("job_failed", "the disk is full")]
    assert ended.stderr.count("the disk is full") == 1
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_an_internal_error_is_reported_with_its_traceback(workers: int) -> None:
    """Where the code is at fault, the log says where."""
    ended = _python(_FAILING.format(error='LookupError("our own")', workers=workers))
    assert ended.returncode != 0
    (entry,) = [json.loads(line) for line in ended.stderr.splitlines() if line.startswith("{")]
    (exception,) = entry["exception"]
    assert (exception["exc_type"], exception["exc_value"]) == ("LookupError", "our own")
    assert exception["frames"][-1]["name"] == "step"


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30)
