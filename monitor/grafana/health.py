"""The dashboard of the monitor's own health: each metric, its normal range, and what to do outside of it."""

from collections.abc import Iterator, Sequence

from monitor.config.settings import Settings, TimeTable
from monitor.core.codes import MINUTE_MS
from monitor.grafana import glance, panels, transformations
from monitor.grafana.dashboards import HEALTH_UID, TimeSeries, dashboard, data_center, heading
from monitor.grafana.glance import ANY, BEHIND, REJECTED, RETRIES, delay_words, health_target, lateness
from monitor.grafana.panels import AtLeast, Limits, Steps
from monitor.grafana.targets import Json, divided, multiplied, newest_of_interval, per_interval, per_minute
from monitor.grafana.transformations import PLAIN, Ratio

TITLE = "A/B monitor: health"
CONNECTIONS = 4
"""Requests to KairosDB at a time."""

NOTED = Steps(warning=0.01, alarm=0.05)
CORRECTED = Steps(warning=0.5, alarm=2.0)
IN_MEMORY = Steps(warning=1_000_000, alarm=5_000_000)
MEMORY = Steps(warning=2 * 2**30, alarm=4 * 2**30)
CORES = Steps(warning=0.7, alarm=0.9)
SNAPSHOTS = Steps(warning=0.1, alarm=0.3)
BUSY = Steps(warning=CONNECTIONS / 2, alarm=CONNECTIONS * 0.9)


def health_dashboard(settings: Settings, dcs: Sequence[str]) -> Json:
    """The dashboard. Dashed lines mark where the normal range ends; a panel's description says what to do then."""
    return dashboard(
        HEALTH_UID,
        TITLE,
        "What the job says of itself. Dashed lines mark where the normal range ends; the description of a panel (its "
        "i) says what to do.",
        [data_center(dcs)],
        _lines(settings),
    )


def _lines(settings: Settings) -> Iterator[TimeSeries]:
    tenants = list(settings.tenants)
    at_a_glance = [
        glance.final_until(),
        glance.furthest_behind(),
        glance.rejected_share(),
        glance.dead_letters(),
        glance.retried(),
        glance.largest_delay(settings.time),
    ]
    yield heading(panels.row("At a glance"))
    yield TimeSeries(4, [(4, panel) for panel in at_a_glance])
    yield heading(panels.row("Messages"))
    yield TimeSeries(9, [(8, _events()), (8, _rejected()), (8, _rejected_of(tenants))])
    yield TimeSeries(9, [(8, _noted()), (8, _noted_of(tenants)), (8, _corrections(tenants))])
    yield TimeSeries(9, [(12, _delay(tenants)), (12, _delay_max(settings.time))])
    yield heading(panels.row("Kafka and time"))
    yield TimeSeries(9, [(12, _lag()), (12, _watermark_age(settings.time))])
    yield heading(panels.row("KairosDB"))
    yield TimeSeries(9, [(6, _written()), (6, _busy()), (6, _retries()), (6, _given_up())])
    yield heading(panels.row("Process"))
    yield TimeSeries(9, [(12, _held("visits")), (12, _held("totals"))])
    yield TimeSeries(9, [(8, _memory()), (8, _cpu()), (8, _snapshots())])


def _events() -> Json:
    return _by_tenant(
        "events",
        "Accepted events",
        "By tenant, per interval. Normal: above 0, and like yesterday. If a tenant stops: its producer; if all stop: "
        "the lag, and the job's log.",
        AtLeast(1),
    )


def _rejected() -> Json:
    return _by_tenant(
        "rejected",
        "Rejected messages",
        "By tenant and reason, per interval. late: they came more than time.allowed_lateness_s after they happened. "
        "future: a clock is ahead. duplicate: sent twice, harmless. visit_full: a client runs wild. unknown_tenant, "
        "bad_field, not_json, oversized: the producer and the configuration do not agree.",
        None,
        "reason",
    )


def _rejected_of(tenants: Sequence[str]) -> Json:
    return _shares_of(
        "rejected",
        tenants,
        "Rejected, of a tenant's messages",
        f"Within each interval. Normal: below {REJECTED.warning:.0%}. If not: the reasons are beside this.",
        REJECTED,
        both=True,
    )


def _noted() -> Json:
    return _by_tenant(
        "noted",
        "Noted events",
        "Not rejected, but not as they should be: by tenant and reason, per interval. unknown_experiment, "
        "unknown_variation: other names in the events than in the configuration. bad_value: no number in the "
        "attribute of a value. key_mismatch: the Kafka key is not the sessionId.",
        None,
        "reason",
    )


def _noted_of(tenants: Sequence[str]) -> Json:
    return _shares_of(
        "noted",
        tenants,
        "Noted, for each accepted event, by tenant",
        f"Within each interval. Normal: below {NOTED.warning:.0%}; much more where experiments run that are not "
        "configured. If not: the reasons are beside this.",
        NOTED,
        both=False,
    )


def _corrections(tenants: Sequence[str]) -> Json:
    return _shares_of(
        "corrections",
        tenants,
        "Corrections, for each accepted event",
        f"Totals that were lowered again, since events came out of order. Normal: below {CORRECTED.warning:g}. More "
        "is not wrong, but work: look at the delay, and whether producers send in the order in which things happen.",
        CORRECTED,
        both=False,
        unit="short",
    )


def _delay(tenants: Sequence[str]) -> Json:
    targets = [_of_tenants(f"delay_ms.{part}", part) for part in ("sum", "count")]
    ratios = [Ratio(tenant, (f"{tenant} sum",), (f"{tenant} count",)) for tenant in tenants]
    return panels.timeseries(
        "Mean delay from event to Kafka",
        "Message timestamp less event time, by tenant. Normal: seconds, below 1 minute. If it grows, producers hold "
        "events back; below 0, their clocks are ahead.",
        targets,
        unit="ms",
        legend=("mean", "max"),
        limits=Steps(MINUTE_MS, 5 * MINUTE_MS),
        transformations=transformations.by_interval(ratios),
    )


def _delay_max(time: TimeTable) -> Json:
    return panels.timeseries(
        "Largest delay from event to Kafka",
        delay_words(time),
        [health_target("delay_ms.max", "$_tag_group_tenant", per_interval("max"), by=("tenant",))],
        unit="ms",
        legend=("max",),
        limits=lateness(time),
    )


def _lag() -> Json:
    return panels.timeseries(
        "Messages behind, by partition",
        f"Between the position read and the end of the partition. Normal: below {BEHIND.warning:,.0f}, and falling "
        "after a start. One partition alone: its key is too frequent. All: the job is too slow, or waits for "
        "KairosDB.",
        [
            health_target(
                "lag", "$_tag_group_topic/$_tag_group_partition", per_interval("max"), by=("topic", "partition")
            )
        ],
        legend=("lastNotNull", "max"),
        limits=BEHIND,
    )


def _watermark_age(time: TimeTable) -> Json:
    normal_s = time.allowed_lateness_s + time.idle_after_s + time.flush_s
    return panels.timeseries(
        "How far the watermark is behind",
        f"Time of the flush less monitor.watermark_s. Normal: up to {2 * normal_s:g} s (twice allowed_lateness_s, "
        "idle_after_s and flush_s together). If it grows, minutes do not become final: the slowest partition holds it "
        "back, or a topic with CreateTime is silent.",
        [health_target("watermark_s", "watermark", newest_of_interval(), multiplied(1_000))],
        unit="ms",
        legend=("lastNotNull", "max"),
        limits=Steps(2_000 * normal_s, 6_000 * normal_s),
        transformations=transformations.age_of("watermark", "behind"),
    )


def _written() -> Json:
    return panels.timeseries(
        "Points written",
        "That KairosDB accepted, per interval. Normal: above 0 while there are events. If not: retries, and "
        "KairosDB's log.",
        [health_target("points_written", "points", per_interval("sum"))],
        limits=AtLeast(1),
    )


def _busy() -> Json:
    return panels.timeseries(
        "Connections to KairosDB that are busy",
        f"On average over a minute, of {CONNECTIONS} (from monitor.write_ms). Normal: below {BUSY.warning:g}. If it "
        f"comes near {CONNECTIONS}, KairosDB is what limits the job: look at its own metrics, or write less often "
        "(time.flush_s).",
        [health_target("write_ms", "busy", per_minute("sum"), divided(MINUTE_MS))],
        legend=("mean", "max"),
        limits=BUSY,
    )


def _retries() -> Json:
    return panels.timeseries(
        "Requests tried again over time",
        "Per interval. Normal: none. Nothing is lost by them, but points wait, and at last the job stops reading "
        "Kafka.",
        [health_target("retries", "tried again", per_interval("sum"))],
        limits=RETRIES,
    )


def _given_up() -> Json:
    return panels.timeseries(
        "Points given up over time",
        "Dead letters, per interval. Normal: none. The file kairosdb.dead_letters says which and why.",
        [health_target("dead_letters", "given up", per_interval("sum"))],
        limits=ANY,
    )


def _held(what: str) -> Json:
    words = {
        "visits": "Sessions in memory. They are held for session_gap_s and allowed_lateness_s after their last event.",
        "totals": "Totals, by series and minute, in memory. They are held until their minute is final.",
    }
    return panels.timeseries(
        f"Live {what}",
        f"{words[what]} Normal: level with the traffic, below {IN_MEMORY.warning:,.0f} as a rule. If it only grows: "
        "the watermark stands still.",
        [health_target(what, what, per_interval("max"))],
        legend=("lastNotNull", "max"),
        limits=IN_MEMORY,
    )


def _memory() -> Json:
    return _by_worker(
        "memory_bytes",
        "Memory",
        f"Resident, by process. Normal: level, below {MEMORY.warning / 2**30:g} GiB as a rule. If it grows with Live "
        "visits or totals: see there; start more processes, or keep fewer tag values.",
        "bytes",
        MEMORY,
        per_interval("max"),
    )


def _cpu() -> Json:
    return _by_worker(
        "cpu_ms",
        "CPU",
        f"Cores used, by process, on average over a minute. Normal: below {CORES.warning:g}; a process has one core "
        "for its flow. If it comes near 1 and the lag grows: start more processes.",
        "short",
        CORES,
        per_minute("sum"),
        divided(MINUTE_MS),
    )


def _snapshots() -> Json:
    return _by_worker(
        "snapshot_ms",
        "Time spent on snapshots",
        f"As a share of each minute, by process. Normal: below {SNAPSHOTS.warning:.0%}. If not: a slow disk under the "
        "recovery directory, or too frequent snapshots (-s).",
        "percentunit",
        SNAPSHOTS,
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
    limits: Limits,
    *,
    both: bool,
    unit: str = "percentunit",
) -> Json:
    """A counter for each accepted event, by tenant; with `both` for each accepted or so counted one."""
    targets = [_of_tenants(metric, metric) for metric in (name, "events")]
    ratios = [
        Ratio(tenant, (f"{tenant} {name}",), (f"{tenant} events", *([f"{tenant} {name}"] if both else [])))
        for tenant in tenants
    ]
    steps = transformations.by_interval(ratios)
    return panels.timeseries(
        title, description, targets, unit=unit, legend=("mean", "max"), limits=limits, transformations=steps
    )


def _by_worker(name: str, title: str, description: str, unit: str, limits: Limits, *aggregators: Json) -> Json:
    one = health_target(name, "process $_tag_group_worker", *aggregators, by=("worker",))
    return panels.timeseries(
        title, description, [one], unit=unit, legend=("mean", "max"), limits=limits, transformations=(PLAIN,)
    )


def _of_tenants(name: str, called: str) -> Json:
    """A counter by tenant, each series called by its tenant and this word."""
    return health_target(name, f"$_tag_group_tenant {called}", per_interval("sum"), by=("tenant",))
