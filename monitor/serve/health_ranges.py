"""The monitor's own figures: their normal ranges, and what to do outside of them. Pure.

The page, the API's advice and the dashboards of Grafana use this table; `docs/operators.md` shows it to people, and a
test holds the two together.
"""

from enum import Enum
from typing import NamedTuple

from monitor.config.settings import LimitsTable, Settings, TimeTable

GIB = 2**30
MINUTE_S = 60
CONNECTIONS = 4
"""Requests that a job has open to KairosDB at a time."""


class Unit(Enum):
    """The unit of a figure, for who shows it."""

    COUNT = "count"
    RATIO = "ratio"
    SHARE = "share"
    SECONDS = "seconds"
    MILLISECONDS = "milliseconds"
    BYTES = "bytes"
    PER_MILLION = "per million"


class HealthRange(NamedTuple):
    """A figure that is normal from 0 up to `normal`, and an alarm from `alarm` on, where its scale ends.

    `meaning` and `fix` are sentences: the definition of the figure, and what to do above the normal range.
    """

    name: str
    unit: Unit
    normal: float
    alarm: float
    meaning: str
    fix: str


LAG = HealthRange(
    "lag",
    Unit.COUNT,
    100_000,
    400_000,
    "Messages between the position read and the end of the topic.",
    "If it grows, the job cannot keep up: start it with more processes.",
)
REJECTS = HealthRange(
    "rejects",
    Unit.SHARE,
    0.02,
    0.1,
    "Rejected messages as a share of all, without duplicates, in 5 minutes.",
    "Look at the reasons; the producer must fix most of them.",
)
DUPLICATES = HealthRange(
    "duplicates",
    Unit.SHARE,
    0.5,
    0.9,
    "Messages that repeat an accepted event, as a share of all, in 5 minutes. Each event counts once.",
    "Most of the traffic is repeated: look at the producers, and at what replays the topic.",
)
WARNINGS = HealthRange(
    "warnings",
    Unit.SHARE,
    0.01,
    0.05,
    "Accepted events with a warning, as a share of accepted events, in 5 minutes.",
    "Look at the reasons; most are names that the events and the configuration do not share.",
)
CORRECTIONS = HealthRange(
    "corrections",
    Unit.RATIO,
    1.0,
    5.0,
    "Corrections per accepted event, caused by late events.",
    "Events arrive very late or out of order: look at the delays, and at the producers' clocks.",
)
SESSIONS = HealthRange(
    "sessions in state",
    Unit.COUNT,
    2_000_000,
    5_000_000,
    "Sessions that may still get events.",
    "Traffic has grown, session_gap_s is long, or the watermark does not advance; watch the memory.",
)
TOTALS = HealthRange(
    "totals in state",
    Unit.COUNT,
    2_000_000,
    5_000_000,
    "(Series, minute) totals that can still change.",
    "There are many combinations of tags, or the watermark does not advance.",
)
MEMORY = HealthRange(
    "memory",
    Unit.BYTES,
    2 * GIB,
    6 * GIB,
    "Resident memory of all processes.",
    "Start more processes, or give the machine more memory.",
)
RETRIES = HealthRange(
    "retries",
    Unit.COUNT,
    5,
    50,
    "Requests to KairosDB that were repeated.",
    "KairosDB is slow or was unavailable: look at its log.",
)
DEAD_LETTERS = HealthRange(
    "dead letters",
    Unit.COUNT,
    0,
    10,
    "Data points that KairosDB rejects permanently.",
    "The file kairosdb.dead_letters lists them with the reason.",
)
REPAIRED = HealthRange(
    "repaired",
    Unit.COUNT,
    0,
    1_000,
    "Totals of final minutes that KairosDB had lost and that were written again.",
    "The numbers are right again, but KairosDB loses what it accepts: look at its log and its data store.",
)
NEW_PARTITIONS = HealthRange(
    "new partitions",
    Unit.COUNT,
    0,
    10,
    "Partitions of the topics that the job does not read yet; nothing becomes final meanwhile.",
    "Restart all processes of the job with the same recovery directory.",
)
STORE_ANSWER = HealthRange(
    "store answer",
    Unit.MILLISECONDS,
    500,
    3_000,
    "The time that KairosDB takes for a small query.",
    "KairosDB is slow, and so is the page: look at its log and machine.",
)
DIVERGENCE = HealthRange(
    "divergence",
    Unit.PER_MILLION,
    10_000,
    100_000,
    "The share of visits by which the data centers differ in their worst final minute.",
    "One job has counted messages that the other has not: monitor verify --against names them.",
)
"""Up to the normal range, it can come from late events, which depend on each broker's clock."""
MEAN_DELAY = HealthRange(
    "mean delay",
    Unit.SECONDS,
    MINUTE_S,
    5 * MINUTE_S,
    "Message timestamp less event time, on average.",
    "Producers hold events back; below 0, their clocks are ahead.",
)
LATE_VISITS = HealthRange(
    "late visits",
    Unit.COUNT,
    5,
    100,
    "Visits with an event that was rejected as late, by variation.",
    "The numbers of that variation are too low: look at the delays, and at time.allowed_lateness_s.",
)
FUTURE_EVENTS = HealthRange(
    "future events",
    Unit.COUNT,
    20,
    1_000,
    "Events that were rejected since their time is in the future, by tag.",
    "The clocks of these devices are ahead: the producer must correct them.",
)
BAD_VALUES = HealthRange(
    "bad values",
    Unit.COUNT,
    5,
    100,
    "Values of a point that are missing or no numbers; they count as 0.",
    "The mean is too low: the producer must send a number. monitor rejects --reason bad_value shows examples.",
)
UNKNOWN_NAMES = HealthRange(
    "unknown names",
    Unit.COUNT,
    20,
    1_000,
    "Events with an experiment or a variation that is not configured, by name.",
    "Configure it, or add it to the experiment's names or aliases; or the producer must fix it.",
)
REWRITTEN = HealthRange(
    "rewritten",
    Unit.COUNT,
    0,
    1_000_000,
    "Data points written again after an outage of KairosDB.",
    "Nothing is lost, but KairosDB was restarted or did not answer: look at its log.",
)
UNREAD = HealthRange(
    "unread",
    Unit.COUNT,
    0,
    1_000_000,
    "Totals of final minutes that were not read back, so a loss in them would not be noticed.",
    "There are more than kairosdb.readback_points a minute, which may be raised, or KairosDB did not answer.",
)
BUSY = HealthRange(
    "busy connections",
    Unit.RATIO,
    CONNECTIONS / 2,
    CONNECTIONS * 0.9,
    f"Connections to KairosDB in use, on average over a minute, of {CONNECTIONS}.",
    "KairosDB limits the job: look at its own metrics, or write less often (time.flush_s).",
)
CPU = HealthRange(
    "CPU",
    Unit.RATIO,
    0.7,
    0.9,
    "Cores used by a process, on average over a minute; its flow has one.",
    "If the lag grows too, start more processes.",
)
SNAPSHOTS = HealthRange(
    "snapshot time",
    Unit.SHARE,
    0.1,
    0.3,
    "The share of each minute that a process spends on snapshots.",
    "The disk under the recovery directory is slow, or snapshots are too frequent (-s).",
)


def heartbeat_age(stale_after_s: float) -> HealthRange:
    """The range of the age of the last report of a data center's job."""
    return HealthRange(
        "heartbeat age",
        Unit.SECONDS,
        stale_after_s,
        3 * stale_after_s,
        "Time since the last report of this data center's job.",
        "Is the job running, and does KairosDB accept its data points? Look at its log.",
    )


def watermark_delay(time: TimeTable) -> HealthRange:
    """The range of the age of the watermark."""
    delay_s = time.allowed_lateness_s + time.idle_after_s + 3 * time.flush_s + 30
    return HealthRange(
        "watermark delay",
        Unit.SECONDS,
        delay_s,
        2.5 * delay_s,
        "Minutes that ended this long ago are final. It is never below allowed_lateness_s.",
        "Look at the lag by partition: the slowest partition holds the watermark back.",
    )


def largest_delay(time: TimeTable) -> HealthRange:
    """The range of the largest delay of an accepted event: half of what is allowed."""
    return HealthRange(
        "largest delay",
        Unit.SECONDS,
        time.allowed_lateness_s / 2,
        time.allowed_lateness_s * 0.95,
        "The largest delay of an accepted event; above allowed_lateness_s it is rejected as late.",
        "Look for late among the rejects; raise time.allowed_lateness_s, or repair the producer.",
    )


def largest_visit(limits: LimitsTable) -> HealthRange:
    """The range of the events of one visit for one point."""
    return HealthRange(
        "largest visit",
        Unit.COUNT,
        limits.crowded_events,
        limits.events_per_visit,
        "Events of the largest qualified visit since the last flush, by variation and point.",
        "A robot, or one id for many visitors: monitor rejects --reason crowded_visit names it; see "
        "limits.placeholder_ids.",
    )


def ranges(settings: Settings) -> dict[str, HealthRange]:
    """All figures by name, in the order in which they are shown."""
    time = settings.time
    figures = (
        heartbeat_age(settings.serve.stale_after_s),
        watermark_delay(time),
        LAG,
        REJECTS,
        DUPLICATES,
        WARNINGS,
        CORRECTIONS,
        SESSIONS,
        TOTALS,
        MEMORY,
        RETRIES,
        DEAD_LETTERS,
        REPAIRED,
        NEW_PARTITIONS,
        STORE_ANSWER,
        DIVERGENCE,
        MEAN_DELAY,
        largest_delay(time),
        LATE_VISITS,
        FUTURE_EVENTS,
        BAD_VALUES,
        UNKNOWN_NAMES,
        largest_visit(settings.limits),
        REWRITTEN,
        UNREAD,
        BUSY,
        CPU,
        SNAPSHOTS,
    )
    return {figure.name: figure for figure in figures}
