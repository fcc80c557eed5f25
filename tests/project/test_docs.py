"""The documents say what the code does, in both directions: settings, metrics, commands, API, links."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from bytewax.testing import TestingSink, TestingSource
from bytewax.visualize import to_mermaid
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import dataflow
from monitor.config import reader
from monitor.config.settings import Settings
from monitor.core.codes import SCOPES
from monitor.core.events import EventWarning, RejectReason
from monitor.core.metrics import SIXTEENTHS, metric_names, sixteenth_metric_name, sixteenth_name
from monitor.kairosdb.stats import WriterStats
from monitor.serve.app import create_app
from monitor.serve.service import open_service
from monitor.simulate import KINDS
from tests.support.documents import (
    ARCHITECTURE,
    DOCUMENTS,
    GLOSSARY,
    README,
    REFERENCE,
    ROOT,
    bare,
    commands,
    headings,
    make_targets,
    name_of,
    slug,
    sources,
    table,
)

SETTINGS = {
    "Settings": ("The file", "key"),
    "KafkaTable": ("`[kafka]`", "key"),
    "KairosDbTable": ("`[kairosdb]`", "key"),
    "TimeTable": ("`[time]`", "key"),
    "LimitsTable": ("`[limits]`", "key"),
    "ServeTable": ("`[serve]`", "key"),
    "AlertsTable": ("`[alerts]`", "key"),
    "WebhookTable": ("`[alerts.webhooks.NAME]`", "key"),
    "AlertsEmailTable": ("`[alerts.email]`", "key"),
    "AlertsKafkaTable": ("`[alerts.kafka]`", "key"),
    "WatchTable": ("`[watch]`", "key"),
    "TenantTable": ("`[tenants.TENANT]`", "key"),
    "TagTable": ("Tags", "key"),
    "PredicateTable": ("Predicates", "key"),
    "ConditionTable": ("Predicates", "condition"),
    "PointTable": ("Points", "key"),
    "GuardTable": ("`[guard]`", "key"),
    "ThresholdsTable": ("`[guard.thresholds]`", "key"),
    "SharesTable": ("`[guard.shares]`", "key"),
    "HighestTable": ("`[guard.highest]`", "key"),
    "PhaseTable": ("Phases", "phase"),
    "ValueTable": ("Points", "value"),
    "ExperimentTable": ("Experiments", "key"),
}
"""Model of the configuration -> heading in the reference, and the first column of its table there."""
RULES = {"PointRule", "AllRule", "AnyOfRule"}


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


def test_every_metric_of_a_sixteenth_is_documented() -> None:
    """The table of live A/A has the names of both scopes, of the visits and of those with a point."""
    rows = table(REFERENCE, "Live A/A", "metric")
    names = {
        sixteenth_metric_name("T", scope, 0, point).replace("00", "BB") for scope in SCOPES for point in (None, "P")
    }
    assert {bare(row["metric"]).replace("SCOPE", scope) for row in rows for scope in SCOPES} == names
    assert f"{sixteenth_name(0)}` to `{sixteenth_name(SIXTEENTHS - 1)}`" in REFERENCE.read_text()


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


def test_the_diagram_is_that_of_the_dataflow() -> None:
    """The block between the markers is what `python -m bytewax.visualize dataflow:flow -o mermaid` prints."""
    flow = dataflow.build(TestingSource([]), TestingSink([]), reader.load(ROOT / "examples/shop/monitor.toml", {}))
    expected = f"<!-- dataflow -->\n```mermaid\n{to_mermaid(flow).strip()}\n```\n<!-- /dataflow -->"
    assert expected in README.read_text()


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
