"""Benchmarks: what an event costs, and how that compares with other ways to do the same work. See README.md."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "tests"))  # the oracle, and the real servers
