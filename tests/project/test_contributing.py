"""The contributor's door: what its documents name is there, and what machines read of it can be read."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", ".github/pull_request_template.md")]
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
HOOKS = ROOT / ".pre-commit-config.yaml"
MADE = {".venv"}
"""Paths that `make` makes."""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_that_is_named_exists(document: Path) -> None:
    """A name in backticks with a slash, or with the ending of a file, is a path of the repository."""
    spans = re.findall(r"`([^`\s]+)`", document.read_text())
    paths = {span for span in spans if "/" in span or re.fullmatch(r"[\w.]+\.(md|py|toml|yml)", span)}
    links = set(re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()))
    assert not [path for path in sorted((paths | links) - MADE) if not (ROOT / path).exists()]
    assert document.name != "CONTRIBUTING.md" or len(paths) > 20


@pytest.mark.parametrize("document", [*DOCUMENTS, *WORKFLOWS, HOOKS], ids=lambda path: path.name)
def test_every_make_target_that_is_named_exists(document: Path) -> None:
    """`make TARGET`, in a line of its own, in backticks, or run by a workflow."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`|run: )make ([a-z-]+)", document.read_text(), re.MULTILINE))
    assert named <= targets
    assert document.name != "CONTRIBUTING.md" or {"run", "check", "test"} <= named


def test_every_target_of_the_makefile_is_explained() -> None:
    """`make help` lists them all."""
    makefile = (ROOT / "Makefile").read_text()
    phony = re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    explained = re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE)
    assert sorted(phony[0].split()) == sorted(explained)


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.name)
def test_issue_forms_are_complete(form: Path) -> None:
    """A name, a description, and a body in which each field has an id of its own and a label."""
    read = yaml.safe_load(form.read_text())
    assert read["name"]
    assert read["description"]
    fields: list[dict[str, Any]] = [field for field in read["body"] if field["type"] != "markdown"]
    assert all(field["attributes"]["label"] for field in fields)
    assert len({field["id"] for field in fields}) == len(fields) > 0


def test_workflows_test_each_supported_python_and_have_no_secrets() -> None:
    """Python 3.11 and 3.12, as in pyproject.toml; they may read the repository and nothing else."""
    assert {path.name for path in WORKFLOWS} == {"ci.yml", "wheels.yml"}
    for workflow in WORKFLOWS:
        text = workflow.read_text()
        read = yaml.safe_load(text)
        assert read["permissions"] == {"contents": "read"}
        assert "secrets." not in text
        for job in read["jobs"].values():
            assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12"]
            assert job["timeout-minutes"]
            assert all(("uses" in step) != ("run" in step) for step in job["steps"])


def test_hooks_are_those_of_make_lint() -> None:
    """All are local, so that they need no network, and run the tools that `make lint` runs."""
    repositories = yaml.safe_load(HOOKS.read_text())["repos"]
    assert {repository["repo"] for repository in repositories} == {"local"}
    hooks = [hook for repository in repositories for hook in repository["hooks"]]
    assert {hook["language"] for hook in hooks} == {"system"}
    recipe = re.findall(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[0]
    tools = re.findall(r"\$\(BIN\)/([\w-]+)", recipe)
    assert sorted(Path(hook["entry"].split()[0]).name for hook in hooks) == sorted(tools)
