"""The examples of the documents work: configurations, events, queries, commands."""

import json
import re
import shlex
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import requests
from typer.testing import CliRunner

from monitor.commands.main import app
from monitor.config import reader
from monitor.config.settings import KairosDbTable
from monitor.core.codes import MINUTE_MS
from monitor.core.metrics import DataPoint, metric_names
from monitor.devstore import running
from monitor.flow.sink import DAY_S
from monitor.kairosdb.points import Renderer
from monitor.topics import recorded
from tests.support.documents import README, REFERENCE, ROOT, bare, blocks, commands, make_targets, table
from tests.support.driver import Core
from tests.support.messages import BASE_MS
from tests.support.oracle import Message


@pytest.mark.parametrize("document", [README, REFERENCE], ids=lambda path: path.name)
def test_examples_of_configurations_load(document: Path, tmp_path: Path) -> None:
    """The first one of a document is a whole file; each other one fits into it."""
    first, *others = blocks(document, "toml")
    file = tmp_path / "monitor.toml"
    file.write_text(first)
    reader.load(file, {})
    for other in others:
        reader.parse(tomllib.loads(first) | tomllib.loads(other))


def test_examples_of_overrides_are_valid() -> None:
    """Each `MONITOR_...=value` of the reference changes the setting that it names."""
    base = {"dc": "dal", "tenants": {"uswm": {}}}
    found = re.findall(r"`(MONITOR_\w+)='?([^'`]+)'?`", REFERENCE.read_text())
    assert len(found) >= 3
    for variable, text in found:
        assert reader.parse({**base}, environment={variable: text}) != reader.parse({**base})


@pytest.mark.parametrize("document", [README, REFERENCE], ids=lambda path: path.name)
def test_examples_of_events_are_accepted(document: Path) -> None:
    """The events of a document, read by its configuration."""
    core = Core(tomllib.loads(blocks(document, "toml")[0]))
    events = [block for block in blocks(document, "json") if "sessionId" in block]
    for offset, text in enumerate(events):
        event = json.loads(text)
        core.feed([Message(0, offset, event["time"], event["sessionId"].encode(), text.encode())])
        assert core.accepted[event["tenant"]] == offset + 1


def test_the_example_of_a_point_is_what_is_sent() -> None:
    """The point of section 6, written by the code."""
    (text,) = (block for block in blocks(REFERENCE, "json") if "ttl" in block)
    point = json.loads(text)
    tags = "|".join(f"{name}={value}" for name, value in point["tags"].items() if name != "dc")
    renderer = Renderer(point["tags"]["dc"], KairosDbTable().ttl_days * DAY_S)
    ((sent,), _) = renderer.render([DataPoint(f"{point['name']}|{tags}", point["timestamp"], point["value"])])
    assert json.loads(sent.text) == point


def test_the_worked_example_is_what_the_core_does() -> None:
    """Each row of the table: the deltas that arrive with the event, all of them and no others."""
    (example,) = (block for block in blocks(REFERENCE, "toml") if "worked example" in block)
    core = Core({"dc": "dal"} | tomllib.loads(example))
    for offset, row in enumerate(table(REFERENCE, "4. Corrections", "arrives")):
        page, minute = row["arrives"].split("@")
        event = {"tenant": "T", "sessionId": "s", "time": BASE_MS + int(minute) * MINUTE_MS, "event": "page_view"}
        event |= {"assignments": {"E": "red"}, "attributes": {"page": page}, "eventId": str(offset)}
        message = Message(0, offset, BASE_MS + 15 * MINUTE_MS, b"s", json.dumps(event).encode())
        deltas = {
            f"{short(series)}@{at - BASE_MS // MINUTE_MS} {change:+d}"
            for at, of in core.feed([message]).items()
            for series, change in of.items()
        }
        assert deltas == set(row["deltas"].split(", "))


def test_the_example_of_a_recorded_log_is_one(tmp_path: Path) -> None:
    """It is read, and written again it is the same but for white space."""
    (text,) = blocks(REFERENCE, "ndjson")
    file = tmp_path / "log.ndjson"
    file.write_text(text)
    written = b"".join(recorded.line_of(record) for record in recorded.read(file))
    assert [json.loads(line) for line in written.splitlines()] == [json.loads(line) for line in text.splitlines()]


def test_the_metrics_of_the_readme_are_those_of_its_experiment() -> None:
    """Each metric of the table is one that the first configuration measures."""
    settings = reader.parse(tomllib.loads(blocks(README, "toml")[0]))
    (tenant,) = settings.compiled_tenants()
    points = [(point.name, point.value is not None) for point in tenant.points]
    names = metric_names(tenant.name, [name for e in tenant.experiments for name, _ in e.variations], points)
    assert {bare(row["metric"]) for row in table(README, "What you see in KairosDB", "metric")} <= set(names)


def test_the_query_of_the_readme_gives_the_sum_over_tags(tmp_path: Path) -> None:
    """The body of the curl command, asked of the embedded store."""
    (body,) = re.findall(r"datapoints/query -d '(.+?)'\n", README.read_text(), re.DOTALL)
    query = json.loads(body)
    name = query["metrics"][0]["name"]
    minute_ms = (time.time_ns() // 1_000_000 // MINUTE_MS - 1) * MINUTE_MS
    series = [f"{name}|experiment=button_color|device={device}" for device in ("mobile", "desktop")]
    rendered, _ = Renderer("dal", 3_600).render([DataPoint(one, minute_ms, 21) for one in series])
    with running(tmp_path / "store.sqlite3") as url:
        points = [json.loads(one.text) for one in rendered]
        requests.post(f"{url}/api/v1/datapoints", json=points, timeout=10).raise_for_status()
        answer = requests.post(f"{url}/api/v1/datapoints/query", json=query, timeout=10).json()
    assert answer["queries"][0]["results"][0]["values"] == [[minute_ms, 42]]


def test_every_command_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that end by themselves and need no server are run, in their order; others have valid options.

    The whole job, `make run` and the wheel have tests of their own.
    """
    (tmp_path / "var").mkdir()
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "monitor.toml").write_text(blocks(README, "toml")[0])
    monkeypatch.chdir(tmp_path)
    ran = []
    for line in readme_commands():
        program, *arguments = shlex.split(re.sub(r"^MONITOR_CONFIG=\S+ ", "", line).removeprefix(".venv/bin/"))
        match [program, *arguments]:
            case ["make", target]:
                assert target in make_targets(), line
            case ["monitor", "check" | "grafana" | "incident", *_]:
                result = CliRunner().invoke(app, arguments)
                assert result.exit_code == 0, (line, result.output)
            case ["monitor", name, *options]:
                assert commands()[name].make_context(name, options), line
            case ["mkdir", folder]:
                (tmp_path / folder).mkdir()
            case ["python", "-m", "bytewax.recovery", *_]:
                subprocess.run([sys.executable, *arguments], check=True, timeout=60)
            case ["python", "-m", "bytewax.run", flow, *options]:
                assert flow == "dataflow:flow"
                text = subprocess.run([sys.executable, "-m", "bytewax.run", "--help"], capture_output=True, text=True)
                assert all(option in text.stdout for option in options if option.startswith("-")), line
            case ["pip", "wheel", *_] | ["curl", *_]:
                pass
            case _:
                pytest.fail(f"no rule for the command {line}")
        ran.append(program)
    assert set(ran) >= {"make", "monitor", "mkdir", "python", "pip", "curl"}


def readme_commands() -> list[str]:
    """The commands of the README, in their order: lines of blocks without a language, and those in the text."""
    commands: list[str] = []
    in_block, is_shell = False, False
    for line in README.read_text().splitlines():
        if line.startswith("```"):
            in_block, is_shell = not in_block, line == "```"
        elif not in_block:
            commands += re.findall(r"`((?:\.venv/bin/|make |mkdir )[^`]+)`", line)
        elif is_shell and not line.startswith((" ", "}")):
            commands.append("curl" if line.startswith("curl") else line)
    return commands


def short(series: str) -> str:
    """The name of a series as the worked example writes it."""
    return series.split("|")[0].removeprefix("T.visit.").replace(".red", "")
