"""The example configuration, a shop of eight tenants: the default of the commands that take a configuration."""

from pathlib import Path

import monitor

_IN_PROJECT = "examples/shop/monitor.toml"


def example_file() -> Path:
    """The path of the example: the copy in an installed wheel, else the file at the top of the checkout."""
    package = Path(monitor.__file__).parent
    in_wheel = package / _IN_PROJECT
    return in_wheel if in_wheel.is_file() else package.parent / _IN_PROJECT
