"""The start of the job: which options of the engine it reads, and when it leaves servers alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import init_db_dir

import dataflow
from monitor.flow import start
from monitor.flow.start import RunOptions
from tests.support.messages import shop
from tests.support.strategies import to_toml

ROOT = Path(__file__).parents[2]
EXIT_TIMEOUT_S = 60
RECOVERY_ENVIRONMENT = {
    "BYTEWAX_RECOVERY_DIRECTORY": "store",
    "BYTEWAX_SNAPSHOT_INTERVAL": "1",
    "BYTEWAX_RECOVERY_BACKUP_INTERVAL": "0",
}
PROBE = """
from bytewax.dataflow import Dataflow
import bytewax.operators as op
from bytewax.testing import TestingSink, TestingSource
from monitor.flow import start

print(start.is_run_by_engine(), *start.run_options(), flush=True)
flow = Dataflow("flow")
op.output("out", op.input("in", flow, TestingSource([])), TestingSink([]))
"""


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        ((), {}, "True 0 None 1"),
        (("-r", "store", "-s", "1", "-b", "0"), {}, "True 0 store 1"),
        ((), RECOVERY_ENVIRONMENT, "True 0 store 1"),
    ],
    ids=["none", "arguments", "environment"],
)
def test_the_engines_options_are_read(
    tmp_path: Path, arguments: tuple[str, ...], environment: dict[str, str], expected: str
) -> None:
    """From the command line and from the environment, in a flow that bytewax.run imports."""
    (tmp_path / "probe.py").write_text(PROBE)
    (tmp_path / "store").mkdir()
    init_db_dir(tmp_path / "store", 1)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BYTEWAX_")}
    environment = inherited | environment | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "bytewax.run", "probe", *arguments]
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=EXIT_TIMEOUT_S
    )
    assert ended.stdout.splitlines()[:1] == [expected], ended.stderr


def test_the_number_of_a_process_is_the_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """From -i, or from the names that a StatefulSet gives its pods."""
    monkeypatch.setattr(sys, "argv", ["run.py", "dataflow:flow", "-i", "2", "-a", "a:1;b:1;c:1"])
    assert start.run_options() == RunOptions("2", None, 3)
    monkeypatch.setattr(sys, "argv", ["run.py", "dataflow:flow", "-a", "a:1;b:1"])
    monkeypatch.setenv("BYTEWAX_POD_NAME", "monitor-1")
    monkeypatch.setenv("BYTEWAX_STATEFULSET_NAME", "monitor")
    assert start.run_options() == RunOptions("1", None, 2)


def test_another_program_prepares_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flow that is imported to be drawn, for example, is built without its servers and makes no recovery store."""
    (tmp_path / "monitor.toml").write_text(to_toml(shop() | {"kairosdb": {"url": "http://127.0.0.1:9"}}))
    monkeypatch.setenv("MONITOR_CONFIG", str(tmp_path / "monitor.toml"))
    monkeypatch.setenv("BYTEWAX_RECOVERY_DIRECTORY", str(tmp_path / "recovery"))
    assert not start.is_run_by_engine()
    assert isinstance(dataflow.flow, Dataflow)
    assert not (tmp_path / "recovery").exists()
