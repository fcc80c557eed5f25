"""Builds the wheel: with the core as machine code, by mypyc, where there is a C compiler, and with the example.

Without a compiler the core is interpreted, from the same source. Hatchling calls this for a wheel, `make` in place:
`python hatch_build.py`. The environment variable `AB_MONITOR_COMPILE` is `no` to leave the core interpreted, `yes` to
fail where it cannot be built.
"""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MODULES = (
    "attribution",
    "classify",
    "codes",
    "packing",
    "predicates",
    "rules",
    "sessions",
    "sixteenths",
    "states",
    "tags",
    "visits",
    "watermark",
)
"""The modules that run once per event or more often."""
LIBRARY = "monitor.core.native__mypyc"
"""The library that holds all of them; each module's own library only loads it."""
EXAMPLE = "examples/shop/monitor.toml"
"""The example that commands use by default: at the top of the checkout, in the wheel below the package."""
REASON_CHARACTERS_MAX = 200
"""Of a compiler's message: its command line may be of thousands."""


class WheelHook(BuildHookInterface):  # type: ignore[type-arg]  # hatchling's is not generic at run time
    """The hook that Hatchling calls."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the libraries and the example to a wheel; an editable installation uses those of the checkout."""
        if version == "editable":
            return
        build_data["force_include"][EXAMPLE] = f"monitor/{EXAMPLE}"
        if built := build(Path(self.root)):
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
            build_data["artifacts"] += [f"/{path.relative_to(self.root)}" for path in built]


def build(root: Path) -> list[Path]:
    """Builds the libraries beside their sources, unless that is switched off or impossible; gives those that exist."""
    wish = os.environ.get("AB_MONITOR_COMPILE")
    remove(root)  # an old library would be imported in place of a changed source
    if wish == "no":
        return []
    try:
        compile_core(root)
    except (Exception, SystemExit) as failure:  # setuptools and mypyc have many ways to say no
        remove(root)
        if wish == "yes":
            raise
        print(
            "The core stays interpreted, half as fast, since it could not be compiled. Are there a C compiler and "
            f"Python's headers? {type(failure).__name__}: {str(failure)[:REASON_CHARACTERS_MAX]}",
            file=sys.stderr,
        )
    return libraries(root)


def compile_core(root: Path) -> None:
    """Builds the libraries with mypyc; raises what mypyc, setuptools or the compiler raise."""
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    before = Path.cwd()
    os.chdir(root)
    try:
        with TemporaryDirectory(prefix="ab-monitor-build-") as folder:
            sources = [f"monitor/core/{name}.py" for name in MODULES]
            options = ["--config-file=", "--strict", "--explicit-package-bases", f"--cache-dir={folder}"]
            extensions = mypycify(
                [*options, *sources],
                group_name=LIBRARY.removesuffix("__mypyc"),
                opt_level="3",
                debug_level="0",
                target_dir=folder,
            )
            command = build_ext(Distribution({"name": "ab-monitor", "packages": [], "ext_modules": extensions}))
            command.inplace, command.build_temp = True, folder
            command.ensure_finalized()
            command.run()
    finally:
        os.chdir(before)


def libraries(root: Path) -> list[Path]:
    """The libraries that exist, sorted."""
    return sorted((root / "monitor/core").glob("*.so"))


def remove(root: Path) -> None:
    """Removes the libraries."""
    for path in libraries(root):
        path.unlink()


if __name__ == "__main__":
    build(Path(__file__).parent)
