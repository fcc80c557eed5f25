"""Panels of the health dashboard that name variations and points: what was not counted, and what is too much."""

from monitor.config.settings import LimitsTable
from monitor.grafana import panels
from monitor.grafana.glance import described, health_target, limits_of
from monitor.grafana.targets import Json, per_interval
from monitor.serve.health_ranges import (
    BAD_VALUES,
    FUTURE_EVENTS,
    LATE_VISITS,
    UNKNOWN_NAMES,
    HealthRange,
    largest_visit,
)


def late_visits() -> Json:
    """Late visits by variation."""
    return _by_name("late", "Late visits", LATE_VISITS, "tenant", "experiment", "variation")


def future_events() -> Json:
    """Events from the future by tag."""
    return _by_name("future", "Events from the future", FUTURE_EVENTS, "tenant", "tag", "value")


def bad_values() -> Json:
    """Values that are missing or no numbers, by point."""
    return _by_name("noted", "Bad values", BAD_VALUES, "tenant", "point", reason="bad_value")


def unknown_names() -> Json:
    """Names that the events carry and the configuration lacks."""
    return _by_name("unknown", "Unknown names", UNKNOWN_NAMES, "tenant", "kind", "experiment", "name")


def largest_events(limits: LimitsTable) -> Json:
    """The events of the largest visits."""
    described_range = largest_visit(limits)
    target = health_target("largest_visit.events", _alias(*_OF_VISIT), per_interval("max"), by=_OF_VISIT)
    return panels.timeseries(
        "Largest visits, events",
        f"{described(described_range)} Visits of fewer than 20 events are not shown.",
        [target],
        legend=("max",),
        limits=limits_of(described_range),
    )


def largest_values() -> Json:
    """The values of the largest visits: each point has its own unit, so there is no normal range."""
    target = health_target("largest_visit.value", _alias(*_OF_VISIT), per_interval("max"), by=_OF_VISIT)
    return panels.timeseries(
        "Largest visits, value",
        "The value of the largest qualified visit since the last flush, without its sign, by variation and point, in "
        "the point's scaled units. What is normal depends on the point: the page says when one visit makes more than "
        "5 % of a variation's value.",
        [target],
        legend=("max",),
    )


_OF_VISIT = ("tenant", "experiment", "variation", "point")


def _by_name(name: str, title: str, limits: HealthRange, *by: str, **tags: str) -> Json:
    """A counter by these tags; of those with the values `tags`."""
    return panels.timeseries(
        f"{title}, by name",
        f"Per interval. {described(limits)}",
        [health_target(name, _alias(*by), per_interval("sum"), by=by, **tags)],
        limits=limits_of(limits),
    )


def _alias(*by: str) -> str:
    return " · ".join(f"$_tag_group_{tag}" for tag in by)
