"""The dashboard of the monitor's own health: each metric, its normal range, and what to do above it."""

from collections.abc import Iterator, Sequence

from monitor.config.settings import Settings, TimeTable
from monitor.core.codes import MINUTE_MS
from monitor.grafana import glance, health_by_name, panels, transformations
from monitor.grafana.dashboards import HEALTH_UID, TimeSeries, dashboard, data_center, heading
from monitor.grafana.glance import described, health_target, limits_of
from monitor.grafana.panels import AtLeast, Limits
from monitor.grafana.targets import Json, divided, multiplied, newest_of_interval, per_interval, per_minute
from monitor.grafana.transformations import PLAIN, Ratio
from monitor.serve.health_ranges import (
    BUSY,
    CORRECTIONS,
    CPU,
    DEAD_LETTERS,
    LAG,
    MEAN_DELAY,
    MEMORY,
    NEW_PARTITIONS,
    REJECTS,
    REPAIRED,
    RETRIES,
    REWRITTEN,
    SESSIONS,
    SNAPSHOTS,
    TOTALS,
    UNREAD,
    WARNINGS,
    HealthRange,
    largest_delay,
    watermark_delay,
)

TITLE = "A/B monitor: health"


def health_dashboard(settings: Settings, dcs: Sequence[str]) -> Json:
    """The dashboard. Dashed lines mark where the normal range ends; a panel's description says what to do then."""
    return dashboard(
        HEALTH_UID,
        TITLE,
        "The job's own metrics. Dashed lines mark the end of the normal range; the description of a panel (its i) says "
        "what to do.",
        [data_center(dcs)],
        _lines(settings),
    )


def _lines(settings: Settings) -> Iterator[TimeSeries]:
    tenants = list(settings.tenants)
    at_a_glance = [
        glance.final_until(settings.time),
        glance.furthest_behind(),
        glance.rejected_share(),
        glance.dead_letters(),
        glance.retried(),
        glance.longest_delay(settings.time),
    ]
    yield heading(panels.row("At a glance"))
    yield TimeSeries(4, [(4, panel) for panel in at_a_glance])
    yield heading(panels.row("Messages"))
    yield TimeSeries(9, [(8, _events()), (8, _rejected()), (8, _rejected_of(tenants))])
    yield TimeSeries(9, [(8, _warnings()), (8, _warnings_of(tenants)), (8, _corrections(tenants))])
    yield TimeSeries(9, [(12, _delay(tenants)), (12, _delay_max(settings.time))])
    yield heading(panels.row("By name"))
    yield TimeSeries(9, [(12, health_by_name.late_visits()), (12, health_by_name.future_events())])
    yield TimeSeries(9, [(12, health_by_name.bad_values()), (12, health_by_name.unknown_names())])
    largest = [health_by_name.largest_events(settings.limits), health_by_name.largest_values()]
    yield TimeSeries(9, [(12, panel) for panel in largest])
    yield heading(panels.row("Kafka and time"))
    yield TimeSeries(9, [(12, _lag()), (12, _watermark_age(settings.time))])
    yield TimeSeries(9, [(12, _new_partitions()), (12, _notices())])
    yield heading(panels.row("KairosDB"))
    yield TimeSeries(9, [(6, _written()), (6, _busy()), (6, _retries()), (6, _dead_letters())])
    lost = [
        _points("rewritten", "Written again after an outage", REWRITTEN),
        _points("repaired", "Repaired", REPAIRED),
        _points("unread", "Not read back", UNREAD),
    ]
    yield TimeSeries(9, [(8, panel) for panel in lost])
    yield heading(panels.row("Process"))
    yield TimeSeries(9, [(12, _in_state("sessions", SESSIONS)), (12, _in_state("totals", TOTALS))])
    yield TimeSeries(9, [(8, _memory()), (8, _cpu()), (8, _snapshots())])


def _events() -> Json:
    return _by_tenant(
        "events",
        "Accepted events",
        "By tenant, per interval. Normal: above 0, and like yesterday. If a tenant stops, look at its producer; if all "
        "stop, at the lag and the job's log.",
        AtLeast(1),
    )


def _rejected() -> Json:
    return _by_tenant(
        "rejected",
        "Rejected messages",
        "By tenant and reason, per interval. late: more than time.allowed_lateness_s after the event time. "
        "future: a clock is ahead. duplicate: sent twice, harmless. visit_full: a client sends without end. "
        "unknown_tenant, bad_field, not_json, oversized: the producer and the configuration do not agree.",
        None,
        "reason",
    )


def _rejected_of(tenants: Sequence[str]) -> Json:
    return _shares_of(
        "rejected",
        tenants,
        "Rejected, of a tenant's messages",
        f"Within each interval. {described(REJECTS)}",
        REJECTS,
        both=True,
    )


def _warnings() -> Json:
    return _by_tenant(
        "noted",
        "Warnings",
        "Accepted events with a warning, by tenant and reason, per interval. unknown_experiment, unknown_variation: "
        "names in the events that the configuration lacks. bad_value: the attribute of a value is not a number. "
        "key_mismatch: the Kafka key is not the sessionId.",
        None,
        "reason",
    )


def _warnings_of(tenants: Sequence[str]) -> Json:
    return _shares_of(
        "noted",
        tenants,
        "Warnings per accepted event, by tenant",
        f"Within each interval. {described(WARNINGS)}",
        WARNINGS,
        both=False,
    )


def _corrections(tenants: Sequence[str]) -> Json:
    return _shares_of(
        "corrections",
        tenants,
        "Corrections per accepted event",
        f"{described(CORRECTIONS)} The totals are right, but cost more work.",
        CORRECTIONS,
        both=False,
        unit="short",
    )


def _delay(tenants: Sequence[str]) -> Json:
    targets = [_of_tenants(f"delay_ms.{part}", part) for part in ("sum", "count")]
    ratios = [Ratio(tenant, (f"{tenant} sum",), (f"{tenant} count",)) for tenant in tenants]
    return panels.timeseries(
        "Mean delay from event to Kafka",
        f"By tenant. {described(MEAN_DELAY)}",
        targets,
        unit="ms",
        legend=("mean", "max"),
        limits=limits_of(MEAN_DELAY),
        transformations=transformations.by_interval(ratios),
    )


def _delay_max(time: TimeTable) -> Json:
    limits = largest_delay(time)
    return panels.timeseries(
        "Largest delay from event to Kafka",
        described(limits),
        [health_target("delay_ms.max", "$_tag_group_tenant", per_interval("max"), by=("tenant",))],
        unit="ms",
        legend=("max",),
        limits=limits_of(limits),
    )


def _lag() -> Json:
    return panels.timeseries(
        "Messages behind, by partition",
        f"{described(LAG)} After a start it falls. One partition alone: its key is too frequent. All: the job is too "
        "slow, or waits for KairosDB.",
        [
            health_target(
                "lag", "$_tag_group_topic/$_tag_group_partition", per_interval("max"), by=("topic", "partition")
            )
        ],
        legend=("lastNotNull", "max"),
        limits=limits_of(LAG),
    )


def _watermark_age(time: TimeTable) -> Json:
    limits = watermark_delay(time)
    return panels.timeseries(
        "How far the watermark is behind",
        f"{described(limits)} A topic with CreateTime that is silent also holds it back.",
        [health_target("watermark_s", "watermark", newest_of_interval(), multiplied(1_000))],
        unit="ms",
        legend=("lastNotNull", "max"),
        limits=limits_of(limits),
        transformations=transformations.age_of("watermark", "behind"),
    )


def _new_partitions() -> Json:
    return panels.timeseries(
        "New partitions, not read yet",
        described(NEW_PARTITIONS),
        [health_target("new_partitions", "$_tag_group_topic", per_interval("max"), by=("topic",))],
        legend=("lastNotNull", "max"),
        limits=limits_of(NEW_PARTITIONS),
    )


def _notices() -> Json:
    return panels.timeseries(
        "Notices about topics",
        "What is no error but may cost numbers, by topic: create_time (the producers' clocks set the timestamps), "
        "short_retention, single_replica, compacted, settings_unknown. No range is normal: it changes no status.",
        [
            health_target(
                "notice", "$_tag_group_topic · $_tag_group_notice", per_interval("max"), by=("topic", "notice")
            )
        ],
        legend=("lastNotNull",),
    )


def _written() -> Json:
    return panels.timeseries(
        "Data points written",
        "Data points that KairosDB accepted, per interval. Normal: above 0 while there are events. If not, look at "
        "the retries, and at KairosDB's log.",
        [health_target("points_written", "points", per_interval("sum"))],
        limits=AtLeast(1),
    )


def _busy() -> Json:
    return panels.timeseries(
        "Busy connections to KairosDB",
        f"{described(BUSY)} Computed from monitor.write_ms.",
        [health_target("write_ms", "busy", per_minute("sum"), divided(MINUTE_MS))],
        legend=("mean", "max"),
        limits=limits_of(BUSY),
    )


def _retries() -> Json:
    return panels.timeseries(
        "Retries over time",
        f"Per interval. {described(RETRIES)} Nothing is lost, but data points wait; in the end the job stops reading.",
        [health_target("retries", "retries", per_interval("sum"))],
        limits=limits_of(RETRIES),
    )


def _dead_letters() -> Json:
    return panels.timeseries(
        "Dead letters over time",
        f"Per interval. {described(DEAD_LETTERS)}",
        [health_target("dead_letters", "dead letters", per_interval("sum"))],
        limits=limits_of(DEAD_LETTERS),
    )


def _points(metric: str, title: str, limits: HealthRange) -> Json:
    return panels.timeseries(
        title,
        f"Per interval. {described(limits)}",
        [health_target(metric, limits.name, per_interval("sum"))],
        limits=limits_of(limits),
    )


def _in_state(metric: str, limits: HealthRange) -> Json:
    return panels.timeseries(
        limits.name.capitalize(),
        f"{described(limits)} It should follow the traffic.",
        [health_target(metric, metric, per_interval("max"))],
        legend=("lastNotNull", "max"),
        limits=limits_of(limits),
    )


def _memory() -> Json:
    return _by_worker(
        "memory_bytes",
        "Memory",
        f"{described(MEMORY)} Shown by process; it should follow the sessions and totals in state.",
        "bytes",
        limits_of(MEMORY),
        per_interval("max"),
    )


def _cpu() -> Json:
    return _by_worker(
        "cpu_ms",
        "CPU",
        described(CPU),
        "short",
        limits_of(CPU),
        per_minute("sum"),
        divided(MINUTE_MS),
    )


def _snapshots() -> Json:
    return _by_worker(
        "snapshot_ms",
        "Time spent on snapshots",
        described(SNAPSHOTS),
        "percentunit",
        limits_of(SNAPSHOTS),
        per_minute("sum"),
        divided(MINUTE_MS),
    )


def _by_tenant(name: str, title: str, description: str, limits: Limits, *by: str) -> Json:
    alias = " · ".join(f"$_tag_group_{tag}" for tag in ("tenant", *by))
    one = health_target(name, alias, per_interval("sum"), by=("tenant", *by))
    return panels.timeseries(title, description, [one], limits=limits)


def _shares_of(
    name: str,
    tenants: Sequence[str],
    title: str,
    description: str,
    limits: HealthRange,
    *,
    both: bool,
    unit: str = "percentunit",
) -> Json:
    """A counter divided by accepted events, by tenant; with `both` by accepted and so counted ones together."""
    targets = [_of_tenants(metric, metric) for metric in (name, "events")]
    ratios = [
        Ratio(tenant, (f"{tenant} {name}",), (f"{tenant} events", *([f"{tenant} {name}"] if both else [])))
        for tenant in tenants
    ]
    steps = transformations.by_interval(ratios)
    return panels.timeseries(
        title, description, targets, unit=unit, legend=("mean", "max"), limits=limits_of(limits), transformations=steps
    )


def _by_worker(name: str, title: str, description: str, unit: str, limits: Limits, *aggregators: Json) -> Json:
    one = health_target(name, "process $_tag_group_worker", *aggregators, by=("worker",))
    return panels.timeseries(
        title, description, [one], unit=unit, legend=("mean", "max"), limits=limits, transformations=(PLAIN,)
    )


def _of_tenants(name: str, called: str) -> Json:
    """A counter by tenant, each series called by its tenant and this word."""
    return health_target(name, f"$_tag_group_tenant {called}", per_interval("sum"), by=("tenant",))
