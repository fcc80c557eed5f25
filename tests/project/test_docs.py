"""The documents say what the code does, in both directions: settings, metrics, commands, bounds, examples, links."""

import ast
import importlib
import json
import re
import shlex
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import click
import pytest
import requests
import typer
from bytewax.testing import TestingSink, TestingSource
from bytewax.visualize import to_mermaid
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.testing import CliRunner

import dataflow
from monitor.commands.main import app
from monitor.config import reader
from monitor.config.settings import KairosDbTable, Settings
from monitor.core.events import EventWarning, RejectReason
from monitor.core.metrics import MINUTE_MS, DataPoint, metric_names
from monitor.devstore import running
from monitor.flow.sink import DAY_S
from monitor.kairosdb.points import Renderer
from monitor.kairosdb.stats import WriterStats
from monitor.serve.app import create_app
from monitor.serve.service import open_service
from monitor.simulate import KINDS
from monitor.topics import recorded
from tests.support.driver import Core
from tests.support.oracle import Message

ROOT = Path(__file__).parents[2]
README, ARCHITECTURE = ROOT / "README.md", ROOT / "ARCHITECTURE.md"
REFERENCE, GLOSSARY = ROOT / "docs/reference.md", ROOT / "docs/glossary.md"
DOCUMENTS = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/*.md"),
    ROOT / "bench/README.md",
    *ROOT.glob("examples/*/README.md"),
]

SETTINGS = {
    "Settings": ("The file", "key"),
    "KafkaTable": ("`[kafka]`", "key"),
    "KairosDbTable": ("`[kairosdb]`", "key"),
    "TimeTable": ("`[time]`", "key"),
    "LimitsTable": ("`[limits]`", "key"),
    "ServeTable": ("`[serve]`", "key"),
    "TenantTable": ("`[tenants.TENANT]`", "key"),
    "TagTable": ("Tags", "key"),
    "PredicateTable": ("Predicates", "key"),
    "ConditionTable": ("Predicates", "condition"),
    "PointTable": ("Points", "key"),
    "ValueTable": ("Points", "value"),
    "ExperimentTable": ("Experiments", "key"),
}
"""Model of the configuration -> heading in the reference, and the first column of its table there."""
RULES = {"PointRule", "AllRule", "AnyOfRule"}

BOUND_NAME = re.compile(r"_MAX(_|$)|_BYTES$|_KEPT$|_max$")
"""The names of constants and fields that bound something."""
NOT_BOUNDS = {
    "ID_BYTES": "the length of a hash in the packed format",
    "INT64_MAX": "the largest integer of 64 bits",
    "MESSAGE_OVERHEAD_BYTES": "an estimate that is added to a message's length",
    "MINUTES_SHOWN_MAX": "lines that a command prints; nothing is held",
    "POINTS_DOTTED_MAX": "how a chart is drawn",
    "RATE_MAX": "the largest value of an option, in its help",
    "SCANNED_MAX": "chooses between two ways to compare the same lists",
    "SHOWN_MAX": "characters of a value in a message",
    "TTL_S_MAX": "the largest value of the setting ttl_days, in section 2",
    "TIMESTAMP_MS_MAX": "the largest timestamp that looks like milliseconds, in section 6",
    "_PAGES_MAX": "a property of the simulated visits",
    "_REST_MAX": "clips numbers in the batch answer, below what 64 bits hold",
    "_TIME_BYTES": "the length of a time in the packed format",
    "_MESSAGE_BYTES_MAX": "tells librdkafka what the broker may accept; the broker decides",
    "DIGITS_MAX": "of the batch answer, whose integers have no other bound than Python's",
    "SESSION_ID_CHARACTERS_MAX": "of the batch answer, which states the rule of the core once more",
}
"""Constants with such a name that need no row in the table of bounds, and why."""
CACHES = {"lru_cache", "LRUCache", "TTLCache"}
"""Caches: each takes a bound as an argument."""
CACHES_BOUND_BY_A_SETTING = {"values_max": "serve.cached_values"}
"""Names that stand for a setting where a collection is made -> the setting."""

CACHES_OF_CONSTANTS = {"_wheel", "_mixes", "_effect"}
"""Functions of the simulated shop with `functools.cache`: their arguments are its few constants."""

Row = dict[str, str]


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_documented_with_its_default(name: str) -> None:
    """The keys of each table are those of the code, no more and no less, and so are their defaults."""
    heading, first = SETTINGS[name]
    defaults = {bare(row[first]): row["default"] for row in table(REFERENCE, heading, first)}
    fields = {field.alias or key: field for key, field in models()[name].model_fields.items()}
    assert defaults.keys() == fields.keys()
    wrong = {key: (defaults[key], field) for key, field in fields.items() if not agrees(defaults[key], field)}
    assert not wrong


def test_every_table_of_the_configuration_is_documented() -> None:
    """No table of settings is left out; the three rules share one."""
    found = models()
    assert found.keys() == {*SETTINGS, *RULES}
    keys = {key for name in RULES for key in found[name].model_fields}
    assert {bare(row["rule"]) for row in table(REFERENCE, "Rules", "rule")} == keys


@pytest.mark.parametrize(
    ("heading", "reasons"), [("Rejected messages", list(RejectReason)), ("Warnings", list(EventWarning))]
)
def test_every_reason_is_documented(heading: str, reasons: list[str]) -> None:
    """All of them, in the order in which they are checked."""
    assert [bare(row["reason"]) for row in table(REFERENCE, heading, "reason")] == [str(reason) for reason in reasons]


def test_every_metric_is_documented() -> None:
    """The table has the names that a tenant T, a variation V and a point P with a value can have."""
    rows = table(REFERENCE, "3. What a visit contributes", "metric")
    assert sorted(bare(row["metric"]) for row in rows) == sorted(metric_names("T", ["V"], [("P", True)]))


def test_every_health_metric_is_documented_with_its_tags() -> None:
    """What the code writes, found in its text, is what the table says."""
    documented = {
        bare(row["name"]): set(re.findall(r"`(\w+)`", row["tags besides `dc`"]))
        for row in table(REFERENCE, "7. Health", "name")
    }
    written = {
        f"monitor.{name}": tags for name, tags in [*health_metrics(), *((n, set()) for n in WriterStats().take())]
    }
    assert documented == written


def test_every_command_is_documented_with_its_options() -> None:
    """Each command has a section, named with its arguments, with all of its options and no others."""
    documented = {}
    for title in headings(REFERENCE):
        if title.startswith("`monitor "):
            documented[bare(title)] = {bare(row["option"]) for row in table(REFERENCE, title, "option")}
    expected = {}
    for name, command in commands().items():
        arguments = [(p.name or "").upper() for p in command.params if p.param_type_name == "argument"]
        options = [p for p in command.params if p.param_type_name == "option"]
        usage = " ".join(["monitor", name, *arguments])
        expected[usage] = {opt for p in options for opt in (*p.opts, *p.secondary_opts)}
    assert documented == expected


def test_every_incident_is_documented() -> None:
    """The kinds of incidents that can be simulated, with their settings."""
    rows = table(REFERENCE, "`monitor simulate`", "kind")
    documented = {bare(row["kind"]): re.findall(r"`(\w+)`", row["settings"]) for row in rows}
    assert documented == {kind: list(settings) for kind, settings in KINDS.items()}


def test_every_documented_bound_is_the_one_of_the_code() -> None:
    """The value of each row is that of the constant or field that it names."""
    for row in table(REFERENCE, "11. Bounds", "bound"):
        constant: Any = importlib.import_module("monitor")
        for name in bare(row["in the code"]).split("."):
            if isinstance(constant, ModuleType) and has_module(constant, name):
                constant = importlib.import_module(f"{constant.__name__}.{name}")
            else:
                constant = getattr(constant() if isinstance(constant, type) else constant, name)
        assert float(re.sub("[^0-9.]", "", row["value"])) == constant, row


def test_every_bound_of_the_code_is_documented() -> None:
    """Each constant or field that is named as a bound has a row, unless `NOT_BOUNDS` says why not."""
    documented = documented_bounds()
    names = list(bounds_of_the_code())
    missing = [name for name in names if name not in documented and name.rpartition(".")[2] not in NOT_BOUNDS]
    assert not missing
    assert set(NOT_BOUNDS) <= {name.rpartition(".")[2] for name in names}


def test_every_cache_takes_its_bound_from_the_table() -> None:
    """A cache is made with a constant that has a row, or with a setting; `functools.cache` has no bound."""
    documented = {name.rpartition(".")[2] for name in documented_bounds()} | set(CACHES_BOUND_BY_A_SETTING)
    for path, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and name_of(node.func) in CACHES:
                arguments = [*node.args, *(word.value for word in node.keywords)]
                assert {name_of(argument) for argument in arguments} & documented, f"{path}:{node.lineno}"
            if isinstance(node, ast.FunctionDef):
                decorators = {name_of(decorator) for decorator in node.decorator_list}
                assert not decorators & {"cache", "lru_cache"} or node.name in CACHES_OF_CONSTANTS, node.name


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
        event = {"tenant": "T", "sessionId": "s", "time": int(minute) * MINUTE_MS, "event": "page_view"}
        event |= {"assignments": {"E": "red"}, "attributes": {"page": page}, "eventId": str(offset)}
        message = Message(0, offset, 15 * MINUTE_MS, b"s", json.dumps(event).encode())
        deltas = {
            f"{short(series)}@{at} {change:+d}"
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


def test_the_diagram_is_that_of_the_dataflow() -> None:
    """The block between the markers is what `python -m bytewax.visualize dataflow:flow -o mermaid` prints."""
    flow = dataflow.build(TestingSource([]), TestingSink([]), reader.load(ROOT / "examples/shop/monitor.toml", {}))
    expected = f"<!-- dataflow -->\n```mermaid\n{to_mermaid(flow).strip()}\n```\n<!-- /dataflow -->"
    assert expected in README.read_text()


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


def test_every_make_target_exists() -> None:
    """Each `make TARGET` in the documents is one of the Makefile."""
    named = {target for path in DOCUMENTS for target in re.findall(r"(?:^|`)make ([a-z-]+)", path.read_text(), re.M)}
    assert named
    assert named <= make_targets()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    """Files are there, and in documents the sections too."""
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert not anchor or anchor in map(slug, headings(target)), link


def test_the_reference_has_the_api_as_it_describes_itself() -> None:
    """Each path and each parameter of OpenAPI, and no other; for each parameter the paths that have it."""
    with open_service(reader.load(ROOT / "examples/shop/monitor.toml", {})) as service:
        described = create_app(service).openapi()["paths"]
    parameters = {
        path.replace("{tenant}", "TENANT").replace("{experiment}", "EXPERIMENT"): {
            parameter["name"] for parameter in methods["get"].get("parameters", ()) if parameter["in"] == "query"
        }
        for path, methods in described.items()
    }
    title = "12. The query service"
    assert {bare(row["path"]) for row in table(REFERENCE, title, "path")} == set(parameters)
    for row in table(REFERENCE, title, "parameter"):
        for name in re.findall(r"`(\w+)`", row["parameter"]):
            having = {path for path, names in parameters.items() if name in names}
            assert having == _paths_of(row["of"], set(parameters)), name
            for names in parameters.values():
                names.discard(name)
    assert not any(parameters.values())


def _paths_of(words: str, paths: set[str]) -> set[str]:
    """The paths that the reference means."""
    if words.startswith("all but "):
        return paths - set(re.findall(r"`([^`]+)`", words))
    if words == "all of one experiment":
        return {path for path in paths if "/EXPERIMENT" in path}
    return {path for path in paths if path.rpartition("/")[2] in words.split(", ")}


def test_every_test_that_is_named_exists() -> None:
    """The tests and test files that ARCHITECTURE.md names as holding a guarantee."""
    text = ARCHITECTURE.read_text()
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", text)
    assert named
    assert not [name for name in named if f"def {name}(" not in tests]
    assert not [path for path in re.findall(r"`(tests/[\w/]+\.py)`", text) if not (ROOT / path).exists()]


def test_the_glossary_gives_each_word_one_meaning() -> None:
    """No word has two rows."""
    words = re.findall(r"^\| (?!word |---)([^|]+) \|", GLOSSARY.read_text(), re.MULTILINE)
    single = [word.strip() for cell in words for word in cell.split(",")]
    assert len(single) > 50
    assert sorted(single) == sorted(set(single))


def models() -> dict[str, type[BaseModel]]:
    """The models that the settings are made of, by name."""
    found: dict[str, type[BaseModel]] = {}
    waiting: list[Any] = [Settings]
    while waiting:
        item = waiting.pop()
        if isinstance(item, type) and issubclass(item, BaseModel):
            if item.__name__ not in found:
                found[item.__name__] = item
                waiting += [field.annotation for field in item.model_fields.values()]
        else:
            waiting += get_args(item)
    return found


def agrees(cell: str, field: FieldInfo) -> bool:
    """Whether a cell says a setting's default: as TOML, `required`, nothing for a section, words for none."""
    if field.is_required():
        return cell == "required"
    default = field.get_default()
    if isinstance(default, BaseModel):
        return cell == ""
    if default is None:
        return cell not in ("", "required") and "`" not in cell
    return cell.startswith("`") and bool(tomllib.loads(f"v = {bare(cell)}")["v"] == default)


def health_metrics() -> Iterator[tuple[str, set[str]]]:
    """The health metrics that the job's code names in calls, with their tags."""
    writers = {"health_series", "gauge", "count", "timed"}
    for path, tree in sources():
        if path.parent.name not in ("core", "flow"):
            continue
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            function = name_of(call.func)
            name = call.args[0] if call.args else None
            if function in writers and isinstance(name, ast.Constant) and isinstance(name.value, str):
                tags = {keyword.arg for keyword in call.keywords if keyword.arg} - {"part"}
                yield name.value, {"worker"} if function == "timed" else tags


def has_module(package: ModuleType, name: str) -> bool:
    """True if a package has a module of this name; also if it exports something else under that name."""
    folders = map(Path, getattr(package, "__path__", ()))
    return any((folder / f"{name}.py").exists() or (folder / name).is_dir() for folder in folders)


def documented_bounds() -> set[str]:
    """The constants and fields in the table of bounds, as `room.module.NAME` or `room.module.Class.name`."""
    return {bare(row["in the code"]) for row in table(REFERENCE, "11. Bounds", "bound")}


def bounds_of_the_code() -> Iterator[str]:
    """Constants of modules and fields of classes that have a default and the name of a bound."""
    for path, tree in sources():
        module = ".".join(path.relative_to(ROOT / "monitor").with_suffix("").parts)
        for node in tree.body:
            yield from (f"{module}.{name}" for name in assigned(node) if BOUND_NAME.search(name))
            if isinstance(node, ast.ClassDef):
                for field in node.body:
                    yield from (f"{module}.{node.name}.{name}" for name in assigned(field) if BOUND_NAME.search(name))


def assigned(node: ast.stmt) -> list[str]:
    """The names that a statement gives a value; a field that only describes itself (`Field(...)`) has none."""
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign) and node.value is not None and not isinstance(node.value, ast.Call):
        targets = [node.target]
    return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]


def sources() -> Iterator[tuple[Path, ast.Module]]:
    """The modules of `monitor`, parsed."""
    for path in sorted((ROOT / "monitor").rglob("*.py")):
        yield path, ast.parse(path.read_text())


def name_of(node: ast.expr) -> str:
    """The last part of a dotted name; empty for other expressions."""
    return str(getattr(node, "attr", getattr(node, "id", "")))


def commands() -> dict[str, click.Command]:
    """The commands by name."""
    group: Any = typer.main.get_command(app)
    context = click.Context(group)
    return {name: group.get_command(context, name) for name in group.list_commands(context)}


def make_targets() -> set[str]:
    """The targets of the Makefile."""
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


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


def section(document: Path, title: str) -> str:
    """The text from a heading to the next one of any level."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", without_code(document), re.DOTALL | re.MULTILINE)
    assert found, f"{document.name} has no section {title}"
    return found[1]


def headings(document: Path) -> list[str]:
    """The headings of a document."""
    return re.findall(r"^#+ (.+)$", without_code(document), re.MULTILINE)


def without_code(document: Path) -> str:
    """The text without its blocks of code, in which `#` is no heading."""
    return re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)


def table(document: Path, title: str, first: str) -> list[Row]:
    """The rows of the table in a section whose first column has this name; none if there is no such table."""
    for text in re.findall(r"(?:^\|.*\n)+", section(document, title), re.MULTILINE):
        head, _, *rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines()]
        if head[0] == first:
            return [dict(zip(head, row, strict=True)) for row in rows]
    return []


def blocks(document: Path, language: str) -> list[str]:
    """The blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(), re.DOTALL | re.MULTILINE)


def bare(cell: str) -> str:
    """A cell without the marks of code."""
    return cell.replace("`", "")


def slug(title: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def short(series: str) -> str:
    """The name of a series as the worked example writes it."""
    return series.split("|")[0].removeprefix("T.visit.").replace(".red", "")
