"""The answers of the query service, sent as JSON and given to the page.

Moments are UTC; ranges hold their start, not their end, and are of whole minutes.
"""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from monitor.serve.abouts import ExperimentAbout
from monitor.serve.findings import Answer, LargeVisit


class ServingReason(StrEnum):
    """The reason for which a data center serves a range."""

    PREFERRED = "preferred"
    """It is the first of `serve.dcs`, and healthy."""
    STALE = "stale"
    """The preferred one has sent no heartbeat for longer than `serve.stale_after_s`."""
    MISSING = "missing"
    """The preferred one has sent no heartbeat in the time that was examined."""
    BEHIND = "behind"
    """The watermark of the preferred one is more than `serve.behind_s` behind another's."""
    LESS_COMPLETE = "less_complete"
    """The preferred one holds clearly fewer assigned visits of the experiment than another."""
    RECOVERING = "recovering"
    """The preferred one is healthy again, but not for `serve.return_after_s` yet."""
    FORCED = "forced"
    """The request names it with `dc`."""


class DcState(StrEnum):
    """The present state of a data center."""

    HEALTHY = "healthy"
    RECOVERING = "recovering"
    BEHIND = "behind"
    STALE = "stale"
    MISSING = "missing"


class Served(Answer):
    """A range of minutes, and the one data center whose totals are used for it."""

    start: datetime
    end: datetime
    dc: str
    reason: ServingReason


class Basis(Answer):
    """The range of an answer, its data centers, and how final and fresh it is."""

    start: datetime
    end: datetime
    served: list[Served] = Field(description="the whole range, in order of time, without gaps or overlaps")
    final_until: datetime = Field(description="minutes before this are final; at most the end of the range")
    is_final: bool = Field(description="all minutes of the range are final")
    serving_dc: str = Field(description="the active data center, which serves the present")
    newest: datetime | None = Field(description="the last heartbeat of that data center's job; null: none")
    newest_age_s: float | None = Field(description="the time since then")
    is_fresh: bool = Field(description="not longer than `serve.stale_after_s`")


class Estimate(Answer):
    """A rate or a mean, with its standard error and 95 % interval; null where there are too few visits."""

    value: float
    standard_error: float | None = None
    low: float | None = None
    high: float | None = None
    note: str | None = Field(None, description="why there is no interval though there are visits enough")


class Difference(Answer):
    """The difference from control, with its 95 % interval. `is_significant`: the interval does not contain 0."""

    absolute: float
    relative: float | None = Field(description="absolute / control's value; null where that is 0")
    standard_error: float | None
    low: float | None
    high: float | None
    is_significant: bool


class PointResult(Answer):
    """One measurement point of one variation. `visits` and `rate` count each visit once."""

    point: str
    total: int = Field(description="events that count for the point")
    visits: int = Field(description="visits with at least one")
    rate: Estimate | None = Field(description="visits / visits in scope; null without any visit in scope")
    rate_difference: Difference | None = Field(description="from control; null for the control itself")
    sum: float | None = Field(description="of the point's value, in the attribute's unit; null: it has no value")
    mean: Estimate | None = Field(description="sum / visits in scope, in the attribute's unit")
    mean_difference: Difference | None


class VariationResult(Answer):
    """One variation of an experiment."""

    variation: str
    is_control: bool
    weight: float
    assigned: int = Field(description="visits that were given the variation")
    qualified: int = Field(description="those that met the experiment's rule")
    crossed: int = Field(description="those that were given another variation later (crossover)")
    share: float | None = Field(description="of the assigned visits of all variations; null without any")
    planned_share: float = Field(description="by the weights")
    points: list[PointResult]


class SplitVerdict(StrEnum):
    """The result of the test of the split."""

    AS_PLANNED = "as_planned"
    MISMATCH = "mismatch"
    TOO_FEW = "too_few"


class Split(Answer):
    """A chi-square test of the assigned visits against the weights; a sample ratio mismatch if p is below 0.001."""

    verdict: SplitVerdict
    chi_square: float | None
    degrees_of_freedom: int
    p_value: float | None


class Scope(StrEnum):
    """The visits that points are counted for: from the assignment on, or from the qualification on."""

    ASSIGNED = "assigned"
    QUALIFIED = "qualified"


class ExperimentAnswer(Answer):
    """One experiment over a range."""

    tenant: str
    experiment: str
    about: ExperimentAbout
    control: str
    scope: Scope
    tags: dict[str, list[str]] = Field(description="the filter: tag to the values that were let through")
    variations: list[VariationResult]
    split: Split
    large_visits: list[LargeVisit] = Field(description="without a filter; the largest share first")
    basis: Basis


class Group(Answer):
    """The variations among the visits with one combination of tag values."""

    tags: dict[str, str]
    variations: list[VariationResult]
    split: Split


class BreakdownAnswer(Answer):
    """One experiment over a range, split by tags; the largest group first."""

    tenant: str
    experiment: str
    control: str
    scope: Scope
    by: list[str]
    tags: dict[str, list[str]]
    groups: list[Group]
    basis: Basis


class Measure(StrEnum):
    """The measure of a series; those after `share` are of a point."""

    ASSIGNED = "assigned"
    QUALIFIED = "qualified"
    CROSSED = "crossed"
    SHARE = "share"
    TOTAL = "total"
    VISITS = "visits"
    RATE = "rate"
    SUM = "sum"
    MEAN = "mean"

    @property
    def is_of_point(self) -> bool:
        """True if a point must be named with it."""
        return self in (Measure.TOTAL, Measure.VISITS, Measure.RATE, Measure.SUM, Measure.MEAN)


class Step(StrEnum):
    """The length of a step of a series; days are those of UTC."""

    MINUTE = "1m"
    FIVE_MINUTES = "5m"
    QUARTER = "15m"
    HOUR = "1h"
    DAY = "1d"


class SeriesPoint(Answer):
    """The value of one step; null: there were no visits to divide by."""

    start: datetime
    value: float | None
    standard_error: float | None = None
    is_provisional: bool = Field(description="contains a minute that can still change")


class Line(Answer):
    """One line of a series."""

    variation: str
    tags: dict[str, str] = Field(description="the values of the tags that it was split by")
    points: list[SeriesPoint]


class SeriesAnswer(Answer):
    """A measure of an experiment over time, a line per variation and combination of tags; every step of the range."""

    tenant: str
    experiment: str
    measure: Measure
    point: str | None
    scope: Scope
    step: Step
    by: list[str]
    tags: dict[str, list[str]]
    lines: list[Line]
    basis: Basis


class Running(StrEnum):
    """The traffic of an experiment: silent without a visit in 15 minutes, no_data in 24 hours."""

    RUNNING = "running"
    """Visits were assigned within the last 15 minutes."""
    SILENT = "silent"
    NO_DATA = "no_data"


class ExperimentState(Answer):
    """One experiment right now; counts are those of the last 24 hours."""

    experiment: str
    state: Running
    control: str
    variations: dict[str, float] = Field(description="variation to weight")
    first_assigned: datetime | None = Field(description="the first minute with one that the store still holds")
    last_assigned: datetime | None = Field(description="the last minute with one; the hour, if over 2 hours ago")
    assigned: int
    qualified: int
    crossed: int
    assigned_by_variation: dict[str, int]
    qualified_by_variation: dict[str, int]
    qualified_recent: list[int] = Field(description="in steps of 5 minutes of the last 2 hours, the oldest first")
    assigned_recent: dict[str, list[int]] = Field(description="by minute, the last 16, the last of them under way")
    split: Split


class ExperimentsAnswer(Answer):
    """The experiments of a tenant."""

    tenant: str
    at: datetime = Field(description="the moment of which all of it is")
    experiments: list[ExperimentState]
    basis: Basis


class TenantSummary(Answer):
    """The experiments, points and tags of a tenant."""

    tenant: str
    experiments: list[str]
    about: dict[str, ExperimentAbout] = Field(description="experiment to what the configuration says of it")
    points: dict[str, bool] = Field(description="point to whether it has a value")
    tags: dict[str, list[str]] = Field(description="tag to its values, with `other` and `unknown`")


class TenantsAnswer(Answer):
    """All tenants."""

    tenants: list[TenantSummary]
    dcs: list[str] = Field(description="the data centers, in order of preference")
    basis: Basis
