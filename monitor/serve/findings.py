"""What was not counted, and what makes too much of the counts, by name; and the base of all answers."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Answer(BaseModel):
    """The base of all parts of answers, which are values."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LateCount(Answer):
    """Visits of one variation with an event that was rejected as late, each counted once while it is in memory."""

    tenant: str
    experiment: str
    variation: str
    visits: int = Field(description="within the last hour")
    last_5_min: int


class FutureCount(Answer):
    """Events of a tenant that were rejected since their time is in the future, by the value of a tag."""

    tenant: str
    tag: str
    value: str
    events: int = Field(description="within the last hour")
    last_5_min: int


class BadValueCount(Answer):
    """Accepted events whose value for a point is missing or no finite number; it counts as 0."""

    tenant: str
    point: str
    events: int = Field(description="within the last hour")
    last_5_min: int


class UnknownNameCount(Answer):
    """A name that events carry and that is not configured: of an experiment, or of a variation of `experiment`."""

    tenant: str
    kind: str = Field(description="experiment or variation")
    experiment: str = Field(description="empty for the name of an experiment")
    name: str
    events: int = Field(description="within the last hour")
    last_5_min: int


class LargeVisit(Answer):
    """The largest qualified visit of a variation, where it makes more than 5 % of a point's events or value."""

    variation: str
    point: str
    of: Literal["events", "value"]
    size: float = Field(description="the visit's events, or its value without sign, in the attribute's unit")
    share: float = Field(description="of the variation's total over the range")
