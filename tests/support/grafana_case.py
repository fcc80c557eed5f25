"""The configuration and the log that the dashboards for Grafana are tried with, and what they must know of the rest."""

import json
import re
from copy import deepcopy
from pathlib import Path

from monitor.config.settings import Settings
from monitor.grafana.provisioning import files
from tests.support import golden
from tests.support.grafana_plugin import Json
from tests.support.strategies import Config

ROOT = Path(__file__).parents[2]
DC, MIRROR = "grafana-a", "grafana-b"
CASE = golden.LONG_DAY._replace(
    text=golden.LONG_DAY.text.replace(
        "[tenants.day]", '[tenants.day]\ntags.sign-in = { attribute = "loggedIn", values = ["true", "false"] }'
    )
    + """
[tenants.night]
tags.device = ["mobile"]
points.order = { event = "order" }
experiments.fast_checkout = { control = "fc_off", variations = { fc_off = 3, fc_on = 1 }, qualified_when = {} }
experiments.Quiet = { control = "q0", variations = { q0 = 1, q1 = 1 }, qualified_when = { point = "order" } }
"""
)
"""A log over some hours, with a tag that has `-` in its name, and a second tenant, which runs the same experiment with
other variations and one of its own."""


def golden_config() -> Config:
    """The configuration of the log, for the caller to change."""
    return {**deepcopy(CASE.config), "dc": DC}


def dashboards_of(settings: Settings) -> dict[str, Json]:
    """All dashboards of a configuration, by title."""
    texts = files(settings, [DC, MIRROR], "http://kairosdb:8080", "/dashboards")
    dashboards = [json.loads(text) for path, text in texts.items() if path.endswith(".json")]
    return {dashboard["title"]: dashboard for dashboard in dashboards}


def documented_health() -> dict[str, list[str]]:
    """The health metrics of the reference, with their tags besides dc."""
    section = (ROOT / "docs/reference.md").read_text().split("\n## 7. Health\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): re.findall(r"`(\w+)`", row[1]) for row in rows}
