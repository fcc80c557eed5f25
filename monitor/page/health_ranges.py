"""Health figures with their normal ranges, and what to do outside of them. Pure.

`docs/operators.md` has the same in a table; a test holds the two together.
"""

from typing import NamedTuple

from monitor.config.settings import Settings
from monitor.serve.health import DIVERGENCE_PPM_LOOK, LAG_LOOK

GIB = 2**30


class Normal(NamedTuple):
    """The normal range of a figure, from 0 on, how far its scale reaches, and what to do beyond it."""

    name: str
    most: float
    reach: float
    meaning: str
    fix: str


FIXED = (
    Normal(
        "lag",
        LAG_LOOK,
        4 * LAG_LOOK,
        "Messages between the position read and the end of the topic.",
        "If it grows, the job cannot keep up: start it with more processes.",
    ),
    Normal(
        "rejects",
        0.02,
        0.1,
        "Rejected messages as a share of all, in the last hour.",
        "Look at the reasons below; the producer has to mend most of them.",
    ),
    Normal(
        "corrections",
        1.0,
        5.0,
        "What late events have taken back from totals, for each accepted event, in the last hour.",
        "Events come very late or in disorder: look at the delays below, and at the producers' clocks.",
    ),
    Normal(
        "sessions in state",
        2_000_000,
        5_000_000,
        "Sessions that may still get events.",
        "Traffic has grown, or session_gap_s is long; watch the memory.",
    ),
    Normal(
        "totals in state",
        2_000_000,
        5_000_000,
        "(Series, minute) totals that can still change.",
        "Many combinations of tags, or a watermark that stands still.",
    ),
    Normal(
        "memory",
        2 * GIB,
        6 * GIB,
        "Resident memory of all processes.",
        "Start more processes, or give the machine more memory.",
    ),
    Normal(
        "retries",
        5,
        50,
        "Requests to KairosDB that were tried again, in the last hour.",
        "KairosDB is slow or was away: look at its log.",
    ),
    Normal(
        "dead letters",
        0,
        10,
        "Points that KairosDB never takes, in the last hour.",
        "The file kairosdb.dead_letters says which and why.",
    ),
    Normal(
        "store answer",
        500,
        3_000,
        "How long KairosDB takes for a small query, in milliseconds.",
        "KairosDB is slow, so the page is: look at its log and machine.",
    ),
    Normal(
        "divergence",
        DIVERGENCE_PPM_LOOK,
        10 * DIVERGENCE_PPM_LOOK,
        "How far the mirrors are apart in their worst sealed minute, in visits per million.",
        "One job has counted messages that the other has not: monitor verify --against says where.",
    ),
)
"""Those that do not depend on the configuration."""


def of(settings: Settings) -> dict[str, Normal]:
    """By figure, in the order in which they are shown."""
    time, serve = settings.time, settings.serve
    delay_s = time.allowed_lateness_s + time.idle_after_s + 3 * time.flush_s + 30
    by_settings = (
        Normal(
            "report age",
            serve.stale_after_s,
            3 * serve.stale_after_s,
            "How long ago the job of this data center wrote its last report.",
            "Does the job run, and does KairosDB take its points? Look at its log.",
        ),
        Normal(
            "watermark delay",
            delay_s,
            2.5 * delay_s,
            "Minutes that ended so long ago are sealed. It is never below allowed_lateness_s.",
            "Look at the lag by partition: the slowest partition holds the watermark back.",
        ),
    )
    return {normal.name: normal for normal in (*by_settings, *FIXED)}
