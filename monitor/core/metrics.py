"""Metrics: their names, and series as text. Pure.

A *series* is written `name|tag=value|...`, for example
`uswm.visit.fm.red.item_page.beta|experiment=button_color|device=mobile`; neither `|` nor `=` can occur in a part, and
the tenant's tags stand in the order of their names. The tag `dc` is the same for all and added last, by the sink.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple, TypeAlias

from monitor.core.codes import MetricKey

Series: TypeAlias = str
SIXTEENTHS: Final = 16
"""Of live A/A (sixteenths.py)."""


class DataPoint(NamedTuple):
    """One value of one series: what the sink writes, a float as type `double`, an int as `long`."""

    series: Series
    timestamp_ms: int
    value: int | float


def metric_name(tenant: str, metric_key: MetricKey) -> str:
    """The name of a metric key: `T.visit.SCOPE.V[.P][.part]`."""
    parts = (tenant, "visit", metric_key.scope, metric_key.variation, metric_key.point, metric_key.part)
    return ".".join(part for part in parts if part is not None)


def sixteenth_name(sixteenth: int) -> str:
    """The name of a sixteenth of live A/A, in the place of a variation's: `aa-00` to `aa-15`."""
    return f"aa-{sixteenth:02d}"


def sixteenth_metric_name(tenant: str, scope: str, sixteenth: int, point: str | None) -> str:
    """The name of a counter of live A/A: `T.visit.SCOPE.aa-BB[.P].beta`."""
    return metric_name(tenant, MetricKey("", scope, sixteenth_name(sixteenth), point, "beta"))


def metric_names(tenant: str, variations: Iterable[str], points: Iterable[tuple[str, bool]]) -> list[str]:
    """All metric names that a tenant's experiment with these variations and points (name, has a value) can have."""
    points = list(points)
    names = []
    for variation in variations:
        names += [f"{tenant}.visit.crossed.{variation}.beta", f"{tenant}.visit.tardy.{variation}.beta"]
        for scope in ("assigned", "fm"):
            prefix = f"{tenant}.visit.{scope}.{variation}"
            names.append(f"{prefix}.beta")
            for point, has_value in points:
                names += [f"{prefix}.{point}", f"{prefix}.{point}.beta"]
                names += [f"{prefix}.{point}.sum", f"{prefix}.{point}.sumsq"] if has_value else []
    return names


def health_series(name: str, /, **tags: str) -> Series:
    """A series of the job's own health: `monitor.NAME` with these tags besides dc."""
    return "|".join([f"monitor.{name}", *(f"{tag}={value}" for tag, value in tags.items())])
