"""The documents, in parts: sections, tables, blocks of code; and what the tests compare them with."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import typer

from monitor.commands.main import app

ROOT = Path(__file__).parents[2]
README, ARCHITECTURE = ROOT / "README.md", ROOT / "ARCHITECTURE.md"
REFERENCE, GLOSSARY = ROOT / "docs/reference.md", ROOT / "docs/glossary.md"
DOCUMENTS = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/*.md"),
    ROOT / "bench/README.md",
    *ROOT.glob("examples/*/README.md"),
]
Row = dict[str, str]


def sources() -> Iterator[tuple[Path, ast.Module]]:
    """The modules of `monitor`, parsed."""
    for path in sorted((ROOT / "monitor").rglob("*.py")):
        yield path, ast.parse(path.read_text())


def name_of(node: ast.expr) -> str:
    """The last part of a dotted name; empty for other expressions."""
    return str(getattr(node, "attr", getattr(node, "id", "")))


def commands() -> dict[str, click.Command]:
    """The commands by name, each with its options; a command is imported for that."""
    group: Any = typer.main.get_command(app)
    context = click.Context(group)
    return {name: group.resolve_command(context, [name])[1] for name in group.list_commands(context)}


def make_targets() -> set[str]:
    """The targets of the Makefile."""
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


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
