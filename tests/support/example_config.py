"""The configuration that the tests of the configuration start from, and changes of it."""

import copy
import tomllib
from typing import Any

from monitor.config.errors import ConfigError, SettingError
from monitor.config.reader import parse
from tests.support.strategies import Config

EXAMPLE = """
dc = "dal"                                   # tag `dc` of every point

[kafka]
brokers = "127.0.0.1:9092"
topics = ["useful-events"]
tail = true                                  # false: stop at the present end of the topic
start = "beginning"                          # or "end"; only where no offset was recovered
key_is_session_id = true                     # false: route by the decoded sessionId, not by the key
[kafka.options]                              # any librdkafka property: SASL, TLS, ...

[kairosdb]
url = "http://127.0.0.1:8080"
ttl_days = 30

[time]
session_gap_s = 1800
allowed_lateness_s = 600                     # must not exceed session_gap_s
future_tolerance_s = 60
idle_after_s = 30
flush_s = 10                                 # how often changed totals are written

[limits]
message_bytes = 1_048_576
events_per_visit = 5_000

[tenants.uswm.tags]
device = ["mobile", "desktop", "tablet"]     # tag device from attribute device; others become "other", none "unknown"
login = { attribute = "loggedIn", values = ["true", "false"] }

[tenants.uswm.points]
home_page = { event = "page_view", where = { page = "home" } }
item_page = { event = "page_view", where = { page = "item" } }
order     = { event = "order", value = { attribute = "total", scale = 100, max = 1_000_000 } }
engaged   = { event = "page_view", nth = 2 }

[tenants.uswm.experiments.button_color]
control = "blue"
variations = { blue = 50, red = 50 }         # weights
qualified_when = { point = "home_page" }

[tenants.uswm.experiments.fast_checkout]
control = "fc_off"
variations = { fc_off = 1, fc_on = 1 }
qualified_when = { all = [ { event = "page_view", where = { device = "mobile" } },
                           { any = [ { event = "checkout", where = { payment = ["card", "wallet"] } },
                                     { point = "order" } ] } ] }
"""
ABSENT = object()
U = "tenants/uswm"
HOME, ORDER, COLOR = f"{U}/points/home_page", f"{U}/points/order", f"{U}/experiments/button_color"


def example() -> Config:
    """The example, parsed anew."""
    return tomllib.loads(EXAMPLE)


def put(config: Config, path: str, value: Any) -> Config:
    """The configuration with another value at a path (tables on the way are made), or without one."""
    config = copy.deepcopy(config)
    table = config
    *steps, last = path.split("/")
    for step in steps:
        table = table.setdefault(step, {})
    if value is ABSENT:
        del table[last]
    else:
        table[last] = value
    return config


def errors_of(config: Config, environment: dict[str, str] | None = None, or_none: bool = False) -> list[SettingError]:
    """The errors that are reported; none only if the caller allows a valid configuration."""
    try:
        parse(config, "monitor.toml", environment or {})
    except ConfigError as error:
        return error.errors
    assert or_none, "no error was reported"
    return []
