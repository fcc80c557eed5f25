"""The examples in the docstrings of the verdicts."""

import doctest
import importlib
from pathlib import Path

import pytest

import monitor.verdicts

MODULES = sorted(path.stem for path in Path(monitor.verdicts.__path__[0]).glob("[a-z]*.py"))


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_docstrings_are_right(name: str) -> None:
    """What they print is what is written there."""
    assert not doctest.testmod(importlib.import_module(f"monitor.verdicts.{name}")).failed
