"""The table of bounds has each bound of the code, with its value."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.support.documents import REFERENCE, ROOT, bare, name_of, sources, table

BOUND_NAME = re.compile(r"_MAX(_|$)|_BYTES$|_KEPT$|_max$")
"""The names of constants and fields that bound something."""
NOT_BOUNDS = {
    "_ASSIGNMENT_BYTES": "an estimate of the memory of an entry",
    "DIGITS_MAX": "of the batch answer: the digits that Python reads",
    "_ENTRY_BYTES": "an estimate of the memory of an entry",
    "_FIELD_BYTES": "an estimate of the memory of an entry",
    "ID_BYTES": "the length of a hash in the packed format",
    "INT64_MAX": "the largest integer of 64 bits",
    "_KEY_BYTES": "an estimate of the memory of an entry",
    "LARGE_BYTES": "from so many ids on a visit is a large one; it holds no more for it than its metrics",
    "LN_E_MAX": "what is told for any larger evidence; nothing is held",
    "LINE_CHARACTERS_MAX": "characters of a line of TOML in a message",
    "_MESSAGE_BYTES_MAX": "tells librdkafka what the broker may accept; the broker decides",
    "MESSAGE_OVERHEAD_BYTES": "an estimate that is added to a message's length",
    "MINUTES_SHOWN_MAX": "lines that a command prints; nothing is held",
    "_PAGES_MAX": "a property of the simulated visits",
    "POINTS_DOTTED_MAX": "how a chart is drawn",
    "RATE_MAX": "the largest value of an option, in its help",
    "_REST_MAX": "clips numbers in the batch answer, below what 64 bits hold",
    "SCANNED_MAX": "chooses between two ways to compare the same lists",
    "NAMED_MAX": "names in a warning of `monitor check`; nothing is held",
    "_SERIES_BYTES": "an estimate of the memory of an entry",
    "SESSION_ID_CHARACTERS_MAX": "of the batch answer, which states the rule of the core once more",
    "SHARE_MAX": "the share from which a large visit is told",
    "SHOWN_MAX": "lines that a command prints; nothing is held",
    "_SIGNATURE_BYTES": "an estimate of the memory of an entry",
    "_SUM_BYTES": "an estimate of the memory of an entry",
    "TIMESTAMP_MS_MAX": "the largest timestamp that looks like milliseconds, in section 6",
    "TIMEOUT_S_MAX": "the largest value of the settings timeout_s, in section 2",
    "_TIME_BYTES": "the length of a time in the packed format",
    "TOTAL_BYTES": "an estimate of the memory of an entry",
    "_TRANSITION_BYTES": "an estimate of the memory of an entry",
    "TTL_S_MAX": "the largest value of the setting ttl_days, in section 2",
    "VALUE_CHARACTERS_MAX": "characters of a value in a message",
    "VISIT_OVERHEAD_BYTES": "an estimate of the memory of an entry",
}
"""Constants with such a name that need no row in the table of bounds, and why."""
CACHES = {"lru_cache", "LRUCache", "TTLCache"}
"""Caches: each takes a bound as an argument."""
CACHES_BOUND_BY_A_SETTING = {"values_max": "serve.cached_values"}
"""Names that stand for a setting where a collection is made -> the setting."""
CACHES_OF_CONSTANTS = {"_wheel", "_mixes", "_effect"}
"""Functions of the simulated shop with `functools.cache`: their arguments are its few constants."""


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
