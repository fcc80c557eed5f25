"""The monitor's health at a glance: numbers that stand on the overview and on top of the health dashboard."""

from collections.abc import Sequence

from monitor.config.settings import TimeTable
from monitor.grafana import panels, transformations
from monitor.grafana.panels import EXACT, Steps
from monitor.grafana.targets import Json, multiplied, newest, per_interval, target
from monitor.grafana.transformations import Ratio

BEHIND = Steps(warning=10_000, alarm=100_000)
REJECTED = Steps(warning=0.01, alarm=0.05)
ANY = Steps(warning=1, alarm=1)
RETRIES = Steps(warning=1, alarm=60)


def final_until() -> Json:
    """Until when nothing can change any more."""
    watermark = health_target("watermark_s", "final", newest(), multiplied(1_000))
    return panels.stat(
        "Minutes are final up to",
        "Minutes that end by then are sealed: nothing can change them any more. Normal: about "
        "time.allowed_lateness_s ago. If it stands still: look at the lag by partition, the slowest one holds it "
        "back; no data: the job does not run, or has seen no message yet.",
        [watermark],
        calculation="lastNotNull",
        unit="dateTimeFromNow",
        graph=False,
    )


def furthest_behind() -> Json:
    """The lag of the slowest partition."""
    return panels.stat(
        "Messages behind, slowest partition",
        f"Between the position read and the end of the partition. Normal: below {BEHIND.warning:,.0f} and not growing. "
        "If it grows, the job is too slow or KairosDB holds it up: see KairosDB and Process on the page Health; start "
        "more processes.",
        [health_target("lag", "behind", per_interval("max"))],
        calculation="lastNotNull",
        limits=BEHIND,
    )


def rejected_share() -> Json:
    """The share of messages that were rejected."""
    return panels.stat(
        "Rejected, of all messages",
        f"In the whole range. Normal: below {REJECTED.warning:.0%}. If not: see which reason on the page Health. late: "
        "producers hold events back; bad_field, not_json: a producer was changed; unknown_tenant: the configuration "
        "lacks one.",
        [
            health_target("rejected", "rejected", per_interval("sum")),
            health_target("events", "accepted", per_interval("sum")),
        ],
        calculation="lastNotNull",
        unit="percentunit",
        limits=REJECTED,
        transformations=transformations.in_total([Ratio("share", ("rejected",), ("rejected", "accepted"))]),
        graph=False,
    )


def dead_letters() -> Json:
    """Points that were given up, in the range."""
    return panels.stat(
        "Points given up",
        "Dead letters, in the whole range. Normal: none. If there are: the file kairosdb.dead_letters says which "
        "points and why KairosDB does not take them.",
        [health_target("dead_letters", "given up", per_interval("sum"))],
        calculation="sum",
        unit=EXACT,
        limits=ANY,
        graph=False,
    )


def retried() -> Json:
    """Requests that were tried again, in the range."""
    return panels.stat(
        "Requests tried again",
        "In the whole range. Normal: none. Some are harmless, for nothing is lost by them; if they go on, KairosDB is "
        "overloaded or away: see its log.",
        [health_target("retries", "tried again", per_interval("sum"))],
        calculation="sum",
        unit=EXACT,
        limits=RETRIES,
        graph=False,
    )


def largest_delay(time: TimeTable) -> Json:
    """The largest delay of an accepted event, in the range."""
    return panels.stat(
        "Largest delay",
        delay_words(time),
        [health_target("delay_ms.max", "delay", per_interval("max"))],
        calculation="max",
        unit="ms",
        limits=lateness(time),
    )


def delay_words(time: TimeTable) -> str:
    """What the delay means, and what to do."""
    return (
        f"Of accepted events. Normal: below half of time.allowed_lateness_s, which is {time.allowed_lateness_s:g} s: "
        "events beyond that are rejected as late. If it comes near: look for late in Rejected messages, and raise "
        "the setting or repair the producer."
    )


def lateness(time: TimeTable) -> Steps:
    """The normal range of a delay, in ms: up to half of what is allowed."""
    allowed_ms = time.allowed_lateness_s * 1_000
    return Steps(allowed_ms / 2, allowed_ms * 0.95)


def health_target(name: str, alias: str, *aggregators: Json, by: Sequence[str] = (), **tags: str) -> Json:
    """A health metric, named without `monitor.`, of the chosen data center."""
    return target(f"monitor.{name}", alias, {"dc": "$dc", **tags}, *aggregators, by=by)
