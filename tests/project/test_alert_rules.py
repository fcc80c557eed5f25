"""The alert rules name only what `/metrics` gives, each has a runbook, and the commands of the runbooks run."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.support.documents import REFERENCE, ROOT, bare, commands, headings, slug, table
from tests.support.metrics_case import Exposing, exposing
from tests.support.promql import grouping_labels, selectors
from tests.support.scraped import Sample

RULES, OPERATORS = ROOT / "examples/alert-rules.yml", ROOT / "docs/operators.md"
RUNBOOKS = "https://github.com/ab-monitor/ab-monitor/blob/main/docs/operators.md#"
BY_PROMETHEUS = {"up": {"job", "instance"}}
"""Metrics that Prometheus itself makes, with their labels."""
NEED_KAFKA = {"rejects", "verify"}
"""Commands of which only the options are tried."""
NOT_GIVEN = {"monitor.largest_visit.events", "monitor.largest_visit.value"}


def rules() -> list[dict[str, Any]]:
    """All rules of all groups."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exposing]:
    with exposing(tmp_path_factory.mktemp("metrics")) as both:
        yield both


@pytest.fixture(scope="module")
def given(at: Exposing) -> dict[str, list[Sample]]:
    """What both processes give."""
    return at.scraped()


def test_metrics_and_labels_are_those_of_the_reference(given: dict[str, list[Sample]]) -> None:
    """Of each name that is given, and of no other; a counter has the last 5 minutes and the last hour."""
    documented = {
        bare(row["name"]): set(re.findall(r"`(\w+)`", row["labels"]))
        for row in table(REFERENCE, "15. Figures for Prometheus", "name")
    }
    for row in table(REFERENCE, "7. Health", "name"):
        if (name := bare(row["name"])) not in NOT_GIVEN:
            labels = {"dc", *re.findall(r"`(\w+)`", row["tags besides `dc`"])}
            labels -= {"name", "experiment"} if name == "monitor.unknown" else set()
            for suffix in ("", "_1h") if row["kind"] == "counter" else ("",):
                documented[name.replace(".", "_") + suffix] = labels
    ours = {name: set().union(*(of.labels for of in samples)) for name, samples in given.items()}
    assert {name: labels for name, labels in ours.items() if name.startswith("monitor_")} == documented


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_a_rule_is_whole(rule: dict[str, Any]) -> None:
    """Severity, words, and a runbook that is there, under the name of the alert."""
    assert rule.keys() - {"for"} == {"alert", "expr", "labels", "annotations"}
    assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))
    assert rule["labels"] in ({"severity": "critical"}, {"severity": "warning"})
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert all(rule["annotations"].values())
    assert rule["annotations"]["runbook_url"] == RUNBOOKS + slug(rule["alert"])
    assert rule["alert"] in headings(OPERATORS)


def test_names_of_rules_are_those_of_runbooks() -> None:
    """No alert twice, and no runbook without one."""
    names = [rule["alert"] for rule in rules()]
    assert names == [title for title in headings(OPERATORS) if re.fullmatch("Monitor[A-Z]\\w+", title)]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_a_rule_reads_what_is_given(rule: dict[str, Any], given: dict[str, list[Sample]]) -> None:
    """Each metric, each label, and each value that a label must have; templates use labels that are left."""
    labels: set[str] = set()
    for metric, matchers in selectors(rule["expr"]):
        assert metric in given or metric in BY_PROMETHEUS, metric
        samples = given.get(metric, [])
        its = BY_PROMETHEUS.get(metric, set()).union(*(sample.labels for sample in samples))
        labels |= its
        for label, operator, text in matchers:
            assert label in its, (metric, label)
            if operator in ("=", "=~") and metric in given:
                values = {sample.labels[label] for sample in samples}
                assert set(text.split("|")) <= values, (metric, label)
    assert grouping_labels(rule["expr"]) <= labels
    words = " ".join(rule["annotations"].values())
    left = BY_PROMETHEUS["up"] if rule["expr"].startswith("up") else grouping_labels(rule["expr"])
    assert set(re.findall(r"\$labels\.(\w+)", words)) <= left


def test_every_command_of_the_runbooks_runs(at: Exposing) -> None:
    """Each in its turn, against both processes; those that read Kafka have valid options."""
    (at.folder / "dead-letters.jsonl").write_text("{}\n")
    ran = []
    for name in (rule["alert"] for rule in rules()):
        lines = runbook_commands(name)
        assert lines, name
        for line in lines:
            program, *arguments = shlex.split(line)
            if program == "monitor" and arguments[0] in NEED_KAFKA:
                assert commands()[arguments[0]].make_context(arguments[0], arguments[1:]), line
            else:
                done = run(line, at)
                assert done.returncode == 0, (name, line, done.stdout, done.stderr)
                assert done.stdout, line
            ran.append(program)
    assert set(ran) == {"curl", "monitor", "tail", "df"}


def runbook_commands(name: str) -> list[str]:
    """The lines of the blocks of an entry, and commands in its text."""
    (text,) = re.findall(rf"^### {name}\n(.*?)(?=^##|\Z)", OPERATORS.read_text(), re.DOTALL | re.MULTILINE)
    inline = [line for line in re.findall(r"`(monitor \w[^`]+)`", text) if " --" in line]
    return [
        line for block in re.findall(r"^```\n(.*?)^```$", text, re.DOTALL | re.MULTILINE) for line in block.splitlines()
    ] + inline


def run(line: str, at: Exposing) -> subprocess.CompletedProcess[str]:
    """A line in a shell, with the addresses of the test; curl fails on an error of the server."""
    for port, url in ((8090, at.serve), (8091, at.watch), (8080, at.store)):
        line = line.replace(f"http://127.0.0.1:{port}", url)
    line = line.replace("curl -s ", "curl -sf ")
    python = f"{shlex.quote(sys.executable)} -m monitor"
    script = f'set -o pipefail; export PYTHONPATH={shlex.quote(str(ROOT))}; monitor() {{ {python} "$@"; }}; {line}'
    environment = {name: text for name, text in os.environ.items() if not name.startswith("MONITOR_")}
    return subprocess.run(
        ["bash", "-c", script], cwd=at.folder, env=environment, capture_output=True, text=True, timeout=120
    )
