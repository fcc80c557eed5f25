"""The command line: what `check` shows, how faults are told, and that everything is explained."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.core import TyperGroup
from typer.testing import CliRunner

from monitor.commands import main
from tests.support.messages import shop
from tests.support.strategies import to_toml

SHOP = Path(__file__).parents[2] / "examples/shop/monitor.toml"


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that breaks no line."""
    monkeypatch.setattr(main, "OUT", Console(width=200))


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
    for order, which has a value: 11. Two scopes and crossed.beta make 23, two variations 46. The tags device (mobile,
    desktop, other, unknown) and login (true, false, other, unknown) have 16 combinations: 736 series.
    """
    file = tmp_path / "monitor.toml"
    file.write_text(to_toml(shop()))
    result = CliRunner().invoke(main.app, ["check", str(file)])
    assert result.exit_code == 0
    assert _cells(result.output) == [
        ["uswm", "button_color", "blue 50, red 50", "46", "736"],
        ["in all", "", "", "46", "736"],
    ]
    assert f"{file} is right" in result.output
    assert "dc dal" in result.output


def test_check_sums_over_tenants_and_experiments(tmp_path: Path) -> None:
    """By hand: without tags and with one plain point, a variation has 2 x 3 + 1 metrics of one series each."""
    config = shop()
    one = {"control": "a", "variations": {"a": 1, "b": 2.5}, "qualified_when": {"point": "p"}}
    other = {"control": "c", "variations": {"c": 1, "d": 1, "e": 0}, "qualified_when": {"point": "p"}}
    config["tenants"]["small"] = {"points": {"p": {"event": "click"}}, "experiments": {"one": one, "other": other}}
    file = tmp_path / "monitor.toml"
    file.write_text(to_toml(config))
    result = CliRunner().invoke(main.app, ["check", str(file)])
    assert _cells(result.output)[1:] == [
        ["small", "one", "a 1, b 2.5", "14", "14"],
        ["small", "other", "c 1, d 1, e 0", "21", "21"],
        ["in all", "", "", "81", "771"],
    ]


def test_the_example_is_right() -> None:
    """The shop's configuration, which `monitor run` takes unless told otherwise."""
    result = CliRunner().invoke(main.app, ["check", str(SHOP)])
    assert (result.exit_code, result.stderr) == (0, "")
    *experiments, in_all = _cells(result.output)
    assert len(experiments) > 16
    for column in (3, 4):
        assert sum(_number(row[column]) for row in experiments) == _number(in_all[column])


def test_check_tells_all_faults_at_once(tmp_path: Path) -> None:
    """Each with its place; exit status 2; nothing on stdout."""
    config = shop(lateness_s=7_200, gap_s=1_800)
    config["kafka"] = {"broker": "127.0.0.1:9092"}
    config["tenants"]["uswm"]["experiments"]["button_color"]["control"] = "green"
    config["tenants"]["uswm"]["points"]["order"]["value"]["scale"] = 0
    file = tmp_path / "monitor.toml"
    file.write_text(to_toml(config))
    result = CliRunner().invoke(main.app, ["check", str(file)])
    assert (result.exit_code, result.stdout) == (2, "")
    first, *faults = result.stderr.splitlines()
    assert first == f"monitor: {file}: 4 faults in the configuration"
    places = ("time", "kafka.broker", "tenants.uswm.experiments.button_color", "tenants.uswm.points.order.value")
    assert [sum(fault.strip().startswith(place) for fault in faults) for place in places] == [1, 1, 1, 1]


@pytest.mark.parametrize("text", [b"dc = ", b"\xff", None])
def test_check_of_no_configuration_is_one_fault(tmp_path: Path, text: bytes | None) -> None:
    """A file that is not TOML, not UTF-8 or not there."""
    file = tmp_path / "monitor.toml"
    if text is not None:
        file.write_bytes(text)
    result = CliRunner().invoke(main.app, ["check", str(file)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"monitor: {file}: 1 fault in the configuration\n  ")


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
    """The faults are told before anything is started."""
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
    root = typer.main.get_command(main.app)
    assert isinstance(root, TyperGroup)
    assert {"check", "store", "run", "simulate", "replay", "record"} <= set(root.commands)
    unexplained = [name for name, command in root.commands.items() if not command.help]
    for name, command in root.commands.items():
        unexplained += [f"{name} {param.name}" for param in command.params if not getattr(param, "help", None)]
    assert unexplained == []


def test_no_command_shows_the_help() -> None:
    """`monitor` alone lists the commands."""
    result = CliRunner().invoke(main.app, [])
    assert result.exit_code == 2
    assert all(command in result.output for command in ("check", "store", "run", "simulate", "replay", "record"))


def _cells(output: str) -> list[list[str]]:
    """The rows of the table."""
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in output.splitlines() if line[:1] == "│"]


def _number(cell: str) -> int:
    assert re.fullmatch(r"\d{1,3}(,\d{3})*", cell)
    return int(cell.replace(",", ""))
