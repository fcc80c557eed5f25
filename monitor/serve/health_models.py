"""The shapes of answers about the state of the monitor."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from monitor.serve.findings import Answer, BadValueCount, FutureCount, LateCount, UnknownNameCount
from monitor.serve.live_aa_models import LiveAaAnswer
from monitor.serve.models import DcState, ServingReason


class Count(Answer):
    """Rejected messages or warnings of one reason; `tenant` is `unknown` where it could not be read."""

    tenant: str
    reason: str
    messages: int = Field(description="within the last hour")
    last_5_min: int


class TenantFlow(Answer):
    """The accepted events of one tenant."""

    tenant: str
    events: int = Field(description="accepted within the last hour")
    last_5_min: int
    events_per_s: float = Field(description="mean over the last 5 minutes")
    delay_ms_mean: float | None = Field(description="message timestamp - event time, within the last hour")
    delay_ms_max: int | None


class DcHealth(Answer):
    """One data center's job. Counters are those of the last hour."""

    dc: str
    state: DcState
    is_serving: bool
    last_heartbeat: datetime | None
    heartbeat_age_s: float | None
    watermark: datetime | None = Field(description="minutes that end by then are final")
    watermark_age_s: float | None
    lag_messages: int | None = Field(description="between the positions read and the ends of the partitions")
    lag_by_partition: dict[str, int] = Field(description="TOPIC/PARTITION to messages")
    sessions: int | None = Field(description="that may still get events")
    totals: int | None = Field(description="that can still change")
    memory_bytes: int | None
    corrections: int = Field(description="negative deltas")
    points_written: int
    retries: int
    dead_letters: int
    repaired: int = Field(description="totals that the store had lost and that were written again")
    unread: int = Field(description="totals of final minutes that were not read back")
    tenants: list[TenantFlow]
    rejected: list[Count]
    warnings: list[Count]
    late: list[LateCount]
    future: list[FutureCount] = Field(description="whose clocks are ahead")
    bad_values: list[BadValueCount]
    unknown_names: list[UnknownNameCount] = Field(description="the most frequent ones")
    new_partitions: int = Field(description="partitions of its topics that it does not read yet")
    vanished_partitions: list[str] = Field(description="TOPIC/PARTITION that it reports no more")
    notices: list[str] = Field(description="good to know; no faults, and without effect on the status")


class Failover(Answer):
    """A moment from which another data center served; of one experiment, if one is named, from that minute on."""

    at: datetime
    from_dc: str
    to_dc: str
    reason: ServingReason
    tenant: str | None = None
    experiment: str | None = None


class Divergence(Answer):
    """The difference of two data centers in one experiment, over the last hour's minutes that are final in both."""

    tenant: str
    experiment: str
    dc: str
    against: str
    ppm_max: int = Field(description="of the worst minute: differing visits per million")
    worst_minute: datetime
    minutes: int = Field(description="that were compared")


class StoreHealth(Answer):
    """The KairosDB that everything is read from."""

    url: str
    reachable: bool
    answer_ms: float | None
    message: str | None


class Status(StrEnum):
    """The state in one word."""

    OK = "ok"
    DEGRADED = "degraded"
    """A figure is outside of its normal range, so something needs attention: see `advice`."""
    DOWN = "down"
    """No data center sends heartbeats, or the store does not answer: numbers are old, or missing."""


class HealthAnswer(Answer):
    """The state of the monitor."""

    status: Status
    advice: list[str] = Field(description="all figures outside of their normal ranges, each with what to do")
    notices: list[str] = Field(description="what is good to know and does not change the status")
    at: datetime
    serving_dc: str
    final_until: datetime | None = Field(description="in the active data center")
    store: StoreHealth
    dcs: list[DcHealth]
    failovers: list[Failover] = Field(description="of the last 24 hours, the newest first")
    divergences: list[Divergence] = Field(description="only those above 0, the largest first")
    compared_experiments: int = Field(description="experiments whose data centers were compared within the last hour")
    live_aa: list[LiveAaAnswer] = Field(description="by tenant, where it is on")
