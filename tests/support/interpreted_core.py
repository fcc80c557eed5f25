"""A plugin of pytest that makes it, and each worker of pytest-xdist, import the core's sources: `-p` with this name."""

from tests.support.interpreted import prefer_sources

prefer_sources()
