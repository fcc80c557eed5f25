"""The monitor's health at a glance: numbers at the top of the overview and of the health dashboard."""

from collections.abc import Sequence

from monitor.config.settings import TimeTable
from monitor.grafana import panels, transformations
from monitor.grafana.panels import EXACT, Steps
from monitor.grafana.targets import Json, multiplied, newest, per_interval, target
from monitor.grafana.transformations import Ratio
from monitor.page import figures
from monitor.serve.health_ranges import (
    DEAD_LETTERS,
    LAG,
    REJECTS,
    RETRIES,
    HealthRange,
    Unit,
    largest_delay,
    watermark_delay,
)


def final_until(time: TimeTable) -> Json:
    """The end of the last final minute."""
    watermark = health_target("watermark_s", "final", newest(), multiplied(1_000))
    return panels.stat(
        "Minutes are final until",
        described(watermark_delay(time)) + " No data: the job is not running, or has not seen a message yet.",
        [watermark],
        calculation="lastNotNull",
        unit="dateTimeFromNow",
        graph=False,
    )


def furthest_behind() -> Json:
    """The lag of the slowest partition."""
    return panels.stat(
        "Messages behind, slowest partition",
        described(LAG) + " See KairosDB and Process on the dashboard Health.",
        [health_target("lag", "behind", per_interval("max"))],
        calculation="lastNotNull",
        limits=limits_of(LAG),
    )


def rejected_share() -> Json:
    """The share of messages that were rejected."""
    return panels.stat(
        "Rejected, of all messages",
        described(REJECTS) + " late: producers hold events back; bad_field, not_json: a producer has changed; "
        "unknown_tenant: the configuration lacks one.",
        [
            health_target("rejected", "rejected", per_interval("sum")),
            health_target("events", "accepted", per_interval("sum")),
        ],
        calculation="lastNotNull",
        unit="percentunit",
        limits=limits_of(REJECTS),
        transformations=transformations.in_total([Ratio("share", ("rejected",), ("rejected", "accepted"))]),
        graph=False,
    )


def dead_letters() -> Json:
    """The dead letters in the range."""
    return panels.stat(
        "Dead letters",
        described(DEAD_LETTERS),
        [health_target("dead_letters", "dead letters", per_interval("sum"))],
        calculation="sum",
        unit=EXACT,
        limits=limits_of(DEAD_LETTERS),
        graph=False,
    )


def retried() -> Json:
    """The repeated requests in the range."""
    return panels.stat(
        "Retries",
        described(RETRIES) + " An occasional retry is harmless: nothing is lost.",
        [health_target("retries", "retries", per_interval("sum"))],
        calculation="sum",
        unit=EXACT,
        limits=limits_of(RETRIES),
        graph=False,
    )


def longest_delay(time: TimeTable) -> Json:
    """The largest delay of an accepted event in the range."""
    limits = largest_delay(time)
    return panels.stat(
        "Largest delay",
        described(limits),
        [health_target("delay_ms.max", "delay", per_interval("max"))],
        calculation="max",
        unit="ms",
        limits=limits_of(limits),
    )


def described(limits: HealthRange) -> str:
    """A description of a panel: the figure, its normal range, and what to do above it."""
    normal = figures.normal_range(limits).replace(figures.THIN, " ")
    return f"{limits.meaning} Normal: {normal}. Above: {limits.fix}"


def limits_of(limits: HealthRange) -> Steps:
    """The steps of a panel, whose unit is ms where the figure's is seconds."""
    scale = 1_000 if limits.unit is Unit.SECONDS else 1
    return Steps(max(limits.normal * scale, 1 if limits.unit is Unit.COUNT else 0), limits.alarm * scale)


def health_target(name: str, alias: str, *aggregators: Json, by: Sequence[str] = (), **tags: str) -> Json:
    """A health metric, named without `monitor.`, of the chosen data center."""
    return target(f"monitor.{name}", alias, {"dc": "$dc", **tags}, *aggregators, by=by)
