"""ARCHITECTURE.md shows the rooms and their imports as they are."""

import ast
import re
from pathlib import Path
from typing import TypeAlias

import grimp
import pytest

ROOT = Path(__file__).parents[2]
ARCHITECTURE = ROOT / "ARCHITECTURE.md"
PICTURE = re.compile(r"<!-- rooms -->\n```mermaid\nflowchart TD\n(.*?)```\n<!-- /rooms -->", re.DOTALL)
Imports: TypeAlias = dict[str, set[str]]
"""Room -> the other rooms that its modules import."""


def test_the_picture_shows_each_room_and_each_import() -> None:
    """Nodes are the rooms; arrows are the transitive reduction of the imports between them.

    An arrow that follows from two others is left out: the picture would have some forty instead of two dozen.
    """
    imports = imports_of_rooms()
    arrows = reduced(imports)
    expected = sorted(f"{room} --> {other}" for room, others in arrows.items() for other in others)
    drawn = [line.strip() for line in picture()]
    assert sorted(line for line in drawn if "-->" in line) == expected
    assert {room for line in drawn for room in line.split(" --> ")} == set(imports)


def test_imports_between_rooms_have_no_cycle() -> None:
    """No room reaches itself; only then is the transitive reduction one picture and no choice."""
    imports = imports_of_rooms()
    assert not [room for room in imports if room in reachable(imports, room)]


def test_each_room_is_explained() -> None:
    """The table has a row for each room, in an order in which imports only go up; what a person types comes last."""
    rows = re.findall(r"^\| `(\w+)/` \|", ARCHITECTURE.read_text(), re.MULTILINE)
    imports = imports_of_rooms()
    assert sorted(rows) == sorted(imports)
    for i, room in enumerate(rows):
        assert imports[room] <= set(rows[:i]), room


def test_every_module_that_is_named_exists() -> None:
    """The files of `monitor` that ARCHITECTURE.md names, such as `core/events.py`."""
    named = {
        name
        for name in re.findall(r"`(\w+/\w+\.(?:py|js))`", ARCHITECTURE.read_text())
        if not name.startswith("bench/")
    }
    assert named
    assert not [name for name in sorted(named) if not (ROOT / "monitor" / name).exists()]


def test_the_way_of_one_event_never_climbs_back() -> None:
    """No module of the core that stands later in the list imports one that stands earlier, on the way to the totals.

    The way is walked from the caller to what it calls: sessions come first and import the rest.
    """
    text = ARCHITECTURE.read_text()
    way = text[text.index("## The way of one event") : text.index("## Guarantees")]
    order = list(dict.fromkeys(re.findall(r"`core/(sessions|classify|visits|attribution)\.py`", way)))
    assert order == ["sessions", "classify", "visits", "attribution"]
    graph = grimp.build_graph("monitor", cache_dir=None)
    for i, name in enumerate(order):
        imported = graph.find_modules_directly_imported_by(f"monitor.core.{name}")
        assert not imported & {f"monitor.core.{earlier}" for earlier in order[:i]}, name


def picture() -> list[str]:
    """The lines of the picture: a room, or an arrow between two."""
    (block,) = PICTURE.findall(ARCHITECTURE.read_text())
    return str(block).splitlines()


def imports_of_rooms() -> Imports:
    """The imports between the packages directly in `monitor`, as the sources have them."""
    graph = grimp.build_graph("monitor", cache_dir=None)
    imports: Imports = {path.parent.name: set() for path in (ROOT / "monitor").glob("*/__init__.py")}
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            room, other = room_of(module), room_of(imported)
            if room in imports and other in imports and room != other:
                imports[room].add(other)
    return imports


def room_of(module: str) -> str:
    """The room of a module: the second part of its name; empty for `monitor` itself."""
    return module.split(".")[1] if "." in module else ""


def reduced(imports: Imports) -> Imports:
    """The imports without those that follow from others, by way of a third room."""
    return {
        room: others - {far for third in others for far in reachable(imports, third)}
        for room, others in imports.items()
    }


def reachable(imports: Imports, room: str) -> set[str]:
    """The rooms that a room reaches over one import or several."""
    reached: set[str] = set()
    waiting = set(imports[room])
    while waiting:
        other = waiting.pop()
        reached.add(other)
        waiting |= imports[other] - reached
    return reached


CORE_MAY_IMPORT = {
    # formats and hashing, and the types that mypyc compiles
    "msgspec",
    "xxhash",
    "mypy_extensions",
    # the pure part of the standard library: nothing that reads a clock, a file, a socket or chance
    "bisect",
    "collections",
    "enum",
    "functools",
    "hashlib",
    "json",
    "math",
    "operator",
    "re",
    "typing",
    "zlib",
}


VERDICTS_MAY_IMPORT = {"collections", "enum", "math", "typing"}


@pytest.mark.parametrize(("room", "may_import"), [("core", CORE_MAY_IMPORT), ("verdicts", VERDICTS_MAY_IMPORT)])
def test_a_pure_room_is_pure(room: str, may_import: set[str]) -> None:
    """It imports itself and what is on the list, so it cannot know the engine, do I/O, or read a clock."""
    for file in (ROOT / "monitor" / room).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                own = name == f"monitor.{room}" or name.startswith(f"monitor.{room}.")
                assert own or name.partition(".")[0] in may_import, f"{file.name} imports {name}"
