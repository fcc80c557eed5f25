"""Key groups: the fixed number of Bytewax keys that sessions and metrics are spread over, and how they are named.

Keys are never sessions or series: the engine's cost and the rows of its recovery store are per key. Each name carries
the number of groups, `007/128`, so that a store made with another number is recognised by its keys alone.
"""

from monitor.core.metrics import SIXTEENTHS

SESSION_GROUPS = 128
assert SESSION_GROUPS % SIXTEENTHS == 0, "a group's sessions are in one sixteenth"
METRIC_GROUPS = 16
HEALTH_GROUP = METRIC_GROUPS
"""The metric key group that writes health metrics and nothing else."""


def session_group_key(group: int) -> str:
    """The Bytewax key of a session key group."""
    assert 0 <= group < SESSION_GROUPS, "session key groups are numbered from 0"
    return f"{group:03d}/{SESSION_GROUPS}"


def metric_group_key(group: int) -> str:
    """The Bytewax key of a metric key group."""
    assert 0 <= group <= HEALTH_GROUP, "the health group is the last of the metric key groups"
    return f"{group:02d}/{METRIC_GROUPS}"


SESSION_KEYS = tuple(session_group_key(group) for group in range(SESSION_GROUPS))
METRIC_KEYS = tuple(metric_group_key(group) for group in range(METRIC_GROUPS + 1))


def keys_by_step() -> dict[str, set[str]]:
    """The keys that each stateful step can have in a recovery store, by the step's name."""
    return {"sessions": set(SESSION_KEYS), "flush": set(METRIC_KEYS), "totals": set(METRIC_KEYS)}
