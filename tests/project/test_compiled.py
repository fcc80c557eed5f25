"""The wheel: it has the compiled core where that can be built, the example, and commands that need no checkout."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from monitor import __version__
from tests.support.interpreted import is_compiled
from tests.support.job import ROOT
from tests.support.servers import in_ci

BUILD_S = 240
"""mypyc takes some ten seconds; CI is slow."""
WHERE = "import monitor.core.sessions; print(monitor.core.sessions.__file__)"
has_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what is built."""
    copy = tmp_path / "project"
    shutil.copytree(ROOT / "monitor", copy / "monitor", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    shutil.copytree(ROOT / "examples", copy / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "hatch_build.py", "dataflow.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    return copy


def run(folder: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in a folder, with what is there first."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("AB_MONITOR_COMPILE", "CC")}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env=inherited | {"PYTHONPATH": str(folder)} | environment,
        capture_output=True,
        text=True,
        timeout=BUILD_S,
    )


def build_wheel(project: Path, folder: Path, compiled: str) -> Path:
    """The wheel of the project, built into a folder as `pip wheel` does."""
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    built = run(project, "-m", "pip", "wheel", *options, project, AB_MONITOR_COMPILE=compiled)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.mark.skipif(not in_ci(), reason="elsewhere there need be no compiler")
def test_ci_tests_the_compiled_core() -> None:
    """`make test` tests both forms: this one is the compiled one."""
    assert is_compiled()


def test_the_source_can_be_run_though_there_is_a_library() -> None:
    """What tests the interpreted form does not get the compiled one."""
    ran = run(ROOT, "-m", "tests.support.interpreted", "timeit", "-n1", "-r1", WHERE)
    assert ran.stdout.splitlines()[0] == str(ROOT / "monitor/core/sessions.py"), ran.stderr


def test_without_a_compiler_the_source_runs(project: Path) -> None:
    """A build that is not possible says so and goes on; nothing of it is left."""
    built = run(project, "hatch_build.py", CC="false")
    assert built.returncode == 0
    assert "The core stays interpreted" in built.stderr
    assert run(project, "-c", WHERE).stdout.strip() == str(project / "monitor/core/sessions.py")


def test_a_build_that_must_be_compiled_fails_without_a_compiler(project: Path) -> None:
    """`AB_MONITOR_COMPILE=yes` is for those who build images: not half as fast without a word."""
    built = run(project, "hatch_build.py", CC="false", AB_MONITOR_COMPILE="yes")
    assert built.returncode != 0
    assert not list(project.rglob("*.so"))


@has_compiler
def test_a_wheel_has_the_compiled_core(project: Path, tmp_path: Path) -> None:
    """It is for this platform, and what it has is what runs."""
    wheel = build_wheel(project, tmp_path, "yes")
    assert "py3-none-any" not in wheel.name
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as files:
        files.extractall(installed)
    where = Path(run(installed, "-c", WHERE).stdout.strip())
    assert (where.parents[2], where.suffix) == (installed, ".so")


def test_a_wheel_may_be_for_any_platform(project: Path, tmp_path: Path) -> None:
    """`AB_MONITOR_COMPILE=no` builds one of sources alone."""
    assert build_wheel(project, tmp_path, "no").name.endswith("-py3-none-any.whl")


def test_a_wheel_has_all_that_its_commands_need(project: Path, tmp_path: Path) -> None:
    """Every module, the page's files, the types' mark, the dataflow and the example, in this version; no tests."""
    with zipfile.ZipFile(build_wheel(project, tmp_path, "no")) as files:
        names = {name for name in files.namelist() if ".dist-info/" not in name}
        (metadata,) = (name for name in files.namelist() if name.endswith("/METADATA"))
        metadata_lines = files.read(metadata).decode().splitlines()
        assert files.read("monitor/examples/shop/monitor.toml") == (ROOT / "examples/shop/monitor.toml").read_bytes()
    package = {str(path.relative_to(project)) for path in (project / "monitor").rglob("*") if path.is_file()}
    assert names == package | {"dataflow.py", "monitor/examples/shop/monitor.toml"}
    assert "monitor/py.typed" in names
    assert f"Version: {__version__}" in metadata_lines
    assert "Classifier: Typing :: Typed" in metadata_lines


def test_an_installed_wheel_finds_its_example(project: Path, tmp_path: Path) -> None:
    """Outside of a checkout, the configuration that commands take by default is the wheel's copy."""
    installed, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with zipfile.ZipFile(build_wheel(project, tmp_path, "no")) as files:
        files.extractall(installed)
    program = "from monitor.config.example import example_file; print(example_file())"
    example = run(elsewhere, "-c", program, PYTHONPATH=str(installed)).stdout.strip()
    assert example == str(installed / "monitor/examples/shop/monitor.toml")
    checked = run(elsewhere, "-m", "monitor", "check", example, PYTHONPATH=str(installed))
    assert checked.returncode == 0, checked.stderr
    assert re.search(r": OK(, \d+ warnings?)?\n$", checked.stdout)
