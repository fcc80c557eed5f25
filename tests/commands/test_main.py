"""The command line: what `check` shows, how errors are reported, what is imported, and that everything is explained."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from monitor import __version__
from monitor.commands import check, main
from monitor.runtime.errors import MonitorError
from tests.support.messages import shop
from tests.support.strategies import to_toml

SHOP = Path(__file__).parents[2] / "examples/shop/monitor.toml"


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that breaks no line."""
    monkeypatch.setattr(check, "OUT", Console(width=200))


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port on which somebody else listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_check_shows_what_is_measured(tmp_path: Path) -> None:
    """Metrics and the most series of each experiment.

    By hand: a scope of a variation has beta (1), two for each of the points home_page, item_page and engaged (6), four
    for order, which has a value: 11. Two scopes, crossed.beta and tardy.beta make 24, two variations 48. The tags
    device (mobile, desktop, other, unknown) and login (true, false, other, unknown) have 16 combinations: 768 series.
    """
    file = tmp_path / "monitor.toml"
    file.write_text(to_toml(shop()))
    result = CliRunner().invoke(main.app, ["check", str(file)])
    assert result.exit_code == 0
    assert _cells(result.output) == [
        ["uswm", "button_color", "blue 50, red 50", "48", "768"],
        ["in all", "", "", "48", "768"],
    ]
    assert f"{file}: OK" in result.output
    assert "dc dal" in result.output


def test_check_sums_over_tenants_and_experiments(tmp_path: Path) -> None:
    """By hand: without tags and with one plain point, a variation has 2 x 3 + 2 metrics of one series each."""
    config = shop()
    one = {"control": "a", "variations": {"a": 1, "b": 2.5}, "qualified_when": {"point": "p"}}
    other = {"control": "c", "variations": {"c": 1, "d": 1, "e": 0}, "qualified_when": {"point": "p"}}
    config["tenants"]["small"] = {"points": {"p": {"event": "click"}}, "experiments": {"one": one, "other": other}}
    file = tmp_path / "monitor.toml"
    file.write_text(to_toml(config))
    result = CliRunner().invoke(main.app, ["check", str(file)])
    assert _cells(result.output)[1:] == [
        ["small", "one", "a 1, b 2.5", "16", "16"],
        ["small", "other", "c 1, d 1, e 0", "24", "24"],
        ["in all", "", "", "88", "808"],
    ]


def test_the_example_is_valid() -> None:
    """The shop's configuration, the default of `monitor run`."""
    result = CliRunner().invoke(main.app, ["check", str(SHOP)])
    assert (result.exit_code, result.stderr) == (0, "")
    *experiments, in_all = _cells(result.output)
    assert len(experiments) > 16
    assert result.stdout.count("warning: ") == 1, "its fast_checkout is qualified by what comes last"
    for column in (3, 4):
        assert sum(_number(row[column]) for row in experiments) == _number(in_all[column])


def test_check_tells_costs_and_warnings(tmp_path: Path) -> None:
    """What a valid configuration costs at most; what is most likely not meant, and exit status 0 all the same."""
    config = shop()
    config["time"]["flush_s"] = 5
    config["tenants"]["uswm"]["experiments"]["button_color"]["variations"] = {"blue": 1}
    config["tenants"]["uswm"]["points"]["home_page"]["where"]["loggedIn"] = "true"
    file = tmp_path / "monitor.toml"
    file.write_text(to_toml(config))
    result = CliRunner().invoke(main.app, ["check", str(file)])
    assert (result.exit_code, result.stderr) == (0, "")
    points, visits, totals, *warnings, last = result.stdout.splitlines()[-6:]
    assert points == "at most 384 data points a minute, each written up to 12 times while it changes"
    assert re.fullmatch(r"memory: about [\d.]+ MB for a million visits in progress", visits)
    assert totals == "        and at most 921.6 kB for totals that are not final yet"
    assert [warning.split(": ")[1] for warning in warnings] == [
        "tenants.uswm.points.home_page.where.loggedIn",
        "tenants.uswm.experiments.button_color.variations",
    ]
    assert last == f"{file}: OK, 2 warnings"


def test_check_reports_all_errors_at_once(tmp_path: Path) -> None:
    """Each with its place; exit status 2; nothing on stdout."""
    config = shop(lateness_s=7_200, gap_s=1_800)
    config["kafka"] = {"broker": "127.0.0.1:9092"}
    config["tenants"]["uswm"]["experiments"]["button_color"]["control"] = "green"
    config["tenants"]["uswm"]["points"]["order"]["value"]["scale"] = 0
    file = tmp_path / "monitor.toml"
    file.write_text(to_toml(config))
    result = CliRunner().invoke(main.app, ["check", str(file)])
    assert (result.exit_code, result.stdout) == (2, "")
    first, *errors = result.stderr.splitlines()
    assert first == f"monitor: {file}: 4 errors"
    places = ("time", "kafka.broker", "tenants.uswm.experiments.button_color", "tenants.uswm.points.order.value")
    assert [sum(error.strip().startswith(place) for error in errors) for place in places] == [1, 1, 1, 1]


@pytest.mark.parametrize("text", [b"dc = ", b"\xff", None])
def test_check_of_no_configuration_is_one_error(tmp_path: Path, text: bytes | None) -> None:
    """A file that is not TOML, not UTF-8 or not there."""
    file = tmp_path / "monitor.toml"
    if text is not None:
        file.write_bytes(text)
    result = CliRunner().invoke(main.app, ["check", str(file)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"monitor: {file}: 1 error\n  ")


def test_a_store_on_a_taken_port_is_one_message(tmp_path: Path, taken_port: int) -> None:
    """It names the address; exit status 2, no traceback."""
    result = CliRunner().invoke(main.app, ["store", str(tmp_path / "store.sqlite3"), "--port", str(taken_port)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(f"monitor: cannot listen on 127.0.0.1:{taken_port}: ")


def test_a_store_that_is_no_database_is_one_message(tmp_path: Path) -> None:
    """A file of something else cannot be opened: it is named, and left as it is."""
    path = tmp_path / "store.sqlite3"
    path.write_text("something else " * 100)
    result = CliRunner().invoke(main.app, ["store", str(path), "--port", "0"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert str(path) in result.stderr
    assert path.read_text() == "something else " * 100


def test_a_run_on_a_taken_port_is_one_message(tmp_path: Path, taken_port: int) -> None:
    """It says how to choose another; exit status 2, and nothing was started."""
    folder = tmp_path / "var"
    result = CliRunner().invoke(main.app, ["run", "--folder", str(folder), "--port", str(taken_port)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(f"monitor: port {taken_port} is taken ")
    assert "--port" in result.stderr
    assert list(folder.iterdir()) == []


def test_a_run_with_a_wrong_configuration_is_one_message(tmp_path: Path) -> None:
    """The errors are reported before anything is started."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder, file = tmp_path / "var", tmp_path / "monitor.toml"
    file.write_text("dc = 7")
    arguments = ["run", "--config", str(file), "--folder", str(folder), "--port", str(port)]
    result = CliRunner().invoke(main.app, arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"monitor: {file}: ")
    assert "dc" in result.stderr
    assert list(folder.iterdir()) == []


def test_every_command_and_option_is_explained() -> None:
    """A help text for each command, each of its options and arguments."""
    commands = {name: main.loaded(name) for name, *_ in main.COMMANDS}
    assert {"check", "store", "run", "simulate", "replay", "record"} <= set(commands)
    unexplained = [name for name, command in commands.items() if not command.help]
    for name, command in commands.items():
        unexplained += [f"{name} {param.name}" for param in command.params if not getattr(param, "help", None)]
    assert unexplained == []


def test_help_is_whole_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 80 columns no help text is cut."""
    monkeypatch.setenv("COLUMNS", "80")
    for arguments in [["--help"], *([name, "--help"] for name, *_ in main.COMMANDS)]:
        result = CliRunner().invoke(main.app, arguments)
        assert result.exit_code == 0
        assert "…" not in result.output, arguments


def test_the_help_lists_every_command_with_its_summary() -> None:
    """In panels, without importing any; a command's own help begins with the same line."""
    output = CliRunner(env={"COLUMNS": "200"}).invoke(main.app, ["--help"]).output
    for name, summary, panel in main.COMMANDS:
        assert re.search(rf"^│ {name} +{re.escape(summary)} +│$", output, re.MULTILINE), name
        assert f"─ {panel} ─" in output
        assert (main.loaded(name).help or "").startswith(f"{summary}\n\n")


HEAVY = ("bytewax", "fastapi", "starlette", "uvicorn", "nicegui", "duckdb", "requests", "confluent_kafka", "psutil")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["check", str(SHOP)], ["check", "--help"], ["chekc"]], ids=" ".join
)
def test_what_answers_at_once_imports_no_engine_and_no_server(arguments: list[str]) -> None:
    """Help, version and `check` import none of the libraries that only other commands need."""
    imported = _imported(arguments)
    assert "monitor.commands.main" in imported
    assert imported.isdisjoint(HEAVY), imported & set(HEAVY)


def test_completion_of_commands_imports_none_of_them() -> None:
    """A shell that completes `monitor s` gets names and summaries, without waiting for imports."""
    environment = {"_MONITOR_COMPLETE": "complete_bash", "COMP_WORDS": "monitor s", "COMP_CWORD": "1"}
    completed = _python("-m", "monitor", environment=environment)
    assert completed.stdout.split() == ["serve", "state", "simulate", "store"]
    environment = {"_MONITOR_COMPLETE": "complete_bash", "COMP_WORDS": "monitor check --he", "COMP_CWORD": "2"}
    assert _python("-m", "monitor", environment=environment).stdout.split() == ["--help"]


def test_a_mistyped_command_gets_a_suggestion() -> None:
    """Exit status 2, and the closest name."""
    result = CliRunner().invoke(main.app, ["chekc"])
    assert result.exit_code == 2
    assert "Did you mean 'check'?" in result.stderr


def test_the_version() -> None:
    """On one line, before any command."""
    result = CliRunner().invoke(main.app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"ab-monitor {__version__}\n")


@pytest.mark.parametrize(
    ("raised", "status", "message"),
    [
        (MonitorError("a must be b; got c"), 2, "monitor: a must be b; got c\n"),
        (
            FileNotFoundError(2, "No such file or directory", "x.toml"),
            2,
            "monitor: x.toml: No such file or directory\n",
        ),
        (OSError("[bracketed] text"), 2, "monitor: [bracketed] text\n"),
        (KeyboardInterrupt(), 130, "monitor: interrupted\n"),
    ],
)
def test_an_error_of_any_command_is_one_message(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException, status: int, message: str
) -> None:
    """What a person can act on has no traceback."""

    def fail(_path: Path) -> None:
        raise raised

    monkeypatch.setattr(check, "load", fail)
    result = CliRunner().invoke(main.app, ["check", "x.toml"])
    assert (result.exit_code, result.stdout, result.stderr) == (status, "", message)


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other exception is not taken for an error that a person can act on."""

    def fail(_path: Path) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(check, "load", fail)
    assert isinstance(CliRunner().invoke(main.app, ["check", "x.toml"]).exception, ZeroDivisionError)


def test_check_folds_long_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 80 columns nothing of a name is cut."""
    monkeypatch.setattr(check, "OUT", Console(width=80))
    tenant, variation = "a_tenant_with_quite_a_long_name_of_its_own", "v00_control_with_a_name_that_says_it_all"
    config = shop()
    config["tenants"][tenant] = config["tenants"].pop("uswm")
    config["tenants"][tenant]["experiments"]["button_color"] |= {"control": variation, "variations": {variation: 1}}
    file = tmp_path / "monitor.toml"
    file.write_text(to_toml(config))
    rows = _cells(CliRunner().invoke(main.app, ["check", str(file)]).output)
    folded = ["".join(row[column] for row in rows[:-1]).replace(" ", "") for column in range(3)]
    assert folded == [tenant, "button_color", f"{variation}1"]
    assert rows[-1][0] == "in all"


def test_no_command_shows_the_help() -> None:
    """`monitor` alone lists the commands."""
    result = CliRunner().invoke(main.app, [])
    assert result.exit_code == 2
    assert all(command in result.output for command in ("check", "store", "run", "simulate", "replay", "record"))


def _imported(arguments: list[str]) -> set[str]:
    """The modules that are imported when a command line has ended."""
    program = f"""
import contextlib, sys
from monitor.commands.main import app
with contextlib.suppress(SystemExit):
    app({arguments!r})
print(*sys.modules, sep="\\n")
"""
    return set(_python("-c", program).stdout.splitlines())


def _python(*arguments: str, environment: Mapping[str, str] = {}) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=SHOP.parents[2],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def _cells(output: str) -> list[list[str]]:
    """The rows of the table."""
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in output.splitlines() if line[:1] == "│"]


def _number(cell: str) -> int:
    assert re.fullmatch(r"\d{1,3}(,\d{3})*", cell)
    return int(cell.replace(",", ""))
