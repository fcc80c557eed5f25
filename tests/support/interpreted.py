"""The core as its source says, whether it is compiled or not.

    python -m tests.support.interpreted MODULE [ARGUMENTS]   # runs a module so; processes that it starts are not
    python -m pytest -p tests.support.interpreted_core       # the tests, in every worker of theirs

A module that is compiled has its source beside it, and the library is found first; here the source is.
"""

import runpy
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from types import ModuleType

PACKAGE = "monitor"


def is_compiled() -> bool:
    """Whether the core that this process has imported is compiled."""
    from monitor.core import sessions

    return not sessions.__file__.endswith(".py")


class SourceFinder(MetaPathFinder):
    """Finds the sources of the package's modules, and nothing else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As the import system asks."""
        if path is None or fullname.partition(".")[0] != PACKAGE:
            return None
        found = (FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(fullname) for folder in path)
        return next((spec for spec in found if spec is not None), None)


def prefer_sources() -> None:
    """From now on the sources are imported."""
    assert PACKAGE not in sys.modules, "it is too late"
    sys.meta_path.insert(0, SourceFinder())


def main() -> None:
    """Runs the module that the arguments name."""
    prefer_sources()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
