"""The health figures as families of Prometheus gauges: each metric of the jobs under its own name, with `_` for `.`,
and the figures that the page shows, with their normal ranges. Pure.

Counters of the store are given as what was counted lately, as gauges: in the last 5 minutes, and with `_1h` in the last
hour. What producers choose freely, such as the text of an unknown name, is no label.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.core import GaugeMetricFamily

from monitor.serve.health_figures import Ranges, of_dc, of_store
from monitor.serve.health_models import DcHealth, HealthAnswer, Status
from monitor.serve.health_reports import COUNTERS, GAUGES, Reports
from monitor.serve.messages import messages
from monitor.serve.models import DcState

_STATUS = (Status.OK, Status.DEGRADED, Status.DOWN)
"""`monitor_status` is the place in this order."""
_LABELS = {"unknown": 3}
"""How many of a metric's tags are labels, where not all are: names in events are chosen by whoever sends them."""
_GAUGE_HELP = {
    "lag": "Messages between the position read and the end of the partition.",
    "sessions": "Sessions in memory.",
    "totals": "(Series, minute) totals in memory.",
    "memory_bytes": "Resident memory of a process of the job.",
    "notice": "1 for each notice about a topic.",
    "new_partitions": "Partitions that were added since the job started, which it does not read.",
}
_COUNTER_HELP = {
    "events": "Accepted events",
    "delay_ms.sum": "Sum of message timestamp less event time of accepted events, in ms,",
    "delay_ms.count": "Accepted events with a delay",
    "rejected": "Rejected messages",
    "noted": "Warnings about accepted events",
    "corrections": "Negative deltas",
    "points_written": "Data points that KairosDB accepted",
    "write_ms": "Time spent in requests to KairosDB, in ms,",
    "retries": "Retried requests to KairosDB",
    "dead_letters": "Data points that KairosDB rejected permanently",
    "rewritten": "Data points written again after an outage of KairosDB",
    "repaired": "Totals of final minutes that KairosDB had lost and that were written again",
    "unread": "Totals of final minutes that were not read back",
    "late": "Visits with an event that was rejected as late",
    "future": "Events that were rejected as from the future, by tag",
    "unknown": "Events with a name that is not configured",
    "snapshot_ms": "Time spent on snapshots, in ms,",
    "cpu_ms": "CPU time used, in ms,",
}


def families(
    health: HealthAnswer, reports: Reports, ranges: Ranges, stale_after_s: float
) -> Iterator[GaugeMetricFamily]:
    """All of them. A gauge that a job has not told for `stale_after_s` before its last report is left out."""
    yield from _of_state(health.status, health.store.reachable)
    yield from _of_dcs(health)
    yield from _of_figures(health, ranges)
    yield from _of_messages(health.dcs)
    yield from _of_experiments(health)
    for name, tags in GAUGES.items():
        yield _gauge(name, tags, health.dcs, reports, stale_after_s)
    for name, tags in COUNTERS.items():
        yield from _counters(name, tags, health.dcs, reports)
    yield from _largest_delays(reports)


def families_of_no_answer() -> Iterator[GaugeMetricFamily]:
    """Those of a store that does not answer, or not in time."""
    return _of_state(Status.DOWN, False)


def _of_state(status: Status, is_store_up: bool) -> Iterator[GaugeMetricFamily]:
    yield GaugeMetricFamily("monitor_status", "0: ok, 1: degraded, 2: down.", _STATUS.index(status))
    yield GaugeMetricFamily("monitor_store_up", "1 if KairosDB answers.", int(is_store_up))


def _of_dcs(health: HealthAnswer) -> Iterator[GaugeMetricFamily]:
    state = GaugeMetricFamily("monitor_dc_state", "1 for the state of a data center.", labels=["dc", "state"])
    serving = GaugeMetricFamily("monitor_dc_serving", "1 for the data center that serves the present.", labels=["dc"])
    heartbeat = GaugeMetricFamily("monitor_heartbeat_age_s", "Time since the last report of the job.", labels=["dc"])
    watermark = GaugeMetricFamily(
        "monitor_watermark_s", "Minutes that end by then are final, seconds since 1970.", labels=["dc"]
    )
    age = GaugeMetricFamily("monitor_watermark_age_s", "Minutes that ended this long ago are final.", labels=["dc"])
    for dc in health.dcs:
        for one in DcState:
            state.add_metric([dc.dc, one.value], int(dc.state is one))
        serving.add_metric([dc.dc], int(dc.is_serving))
        if dc.heartbeat_age_s is not None:
            heartbeat.add_metric([dc.dc], dc.heartbeat_age_s)
        if dc.watermark_age_s is not None:
            age.add_metric([dc.dc], dc.watermark_age_s)
            watermark.add_metric([dc.dc], round(health.at.timestamp() - dc.watermark_age_s, 3))
    yield from (state, serving, heartbeat, watermark, age)


def _of_figures(health: HealthAnswer, ranges: Ranges) -> Iterator[GaugeMetricFamily]:
    """The figures that the page shows, in the unit of their range, which depends on the configuration."""
    value = GaugeMetricFamily("monitor_figure", "A figure of the page Health.", labels=["dc", "figure"])
    normal = GaugeMetricFamily("monitor_figure_normal", "The end of a figure's normal range.", labels=["figure"])
    alarm = GaugeMetricFamily("monitor_figure_alarm", "From here on a figure is an alarm.", labels=["figure"])
    for dc in health.dcs:
        for figure in of_dc(dc, ranges):
            if figure.value is not None:
                value.add_metric([dc.dc, figure.range.name], figure.value)
    answer = of_store(health.store, ranges)
    if answer.value is not None:
        value.add_metric(["", answer.range.name], answer.value)
    for name, of in ranges.items():
        normal.add_metric([name], of.normal)
        alarm.add_metric([name], of.alarm)
    yield from (value, normal, alarm)


def _of_messages(dcs: Sequence[DcHealth]) -> Iterator[GaugeMetricFamily]:
    """What a share of rejects is a share of."""
    words = "Messages in the last 5 minutes, accepted or rejected."
    family = GaugeMetricFamily("monitor_messages", words, labels=["dc", "tenant"])
    for dc in dcs:
        for tenant, of_tenant in messages(dc).items():
            family.add_metric([dc.dc, tenant], of_tenant.all)
    yield family


def _of_experiments(health: HealthAnswer) -> Iterator[GaugeMetricFamily]:
    words = "Visits per million that two data centers do not both have, in the worst final minute of the last hour."
    apart = GaugeMetricFamily("monitor_divergence_ppm", words, labels=["dc", "against", "tenant", "experiment"])
    for of in health.divergences:
        apart.add_metric([of.dc, of.against, of.tenant, of.experiment], of.ppm_max)
    words = "Switches to a data center in the last 24 hours."
    switches = GaugeMetricFamily("monitor_failover_24h", words, labels=["dc", "from", "reason"])
    counts = Counter((of.to_dc, of.from_dc, of.reason.value) for of in health.failovers)
    for labels, count in counts.items():
        switches.add_metric(labels, count)
    yield from (apart, switches)


def _gauge(
    name: str, tags: Sequence[str], dcs: Sequence[DcHealth], reports: Reports, stale_after_s: float
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(_named(name), _GAUGE_HELP[name], labels=tags)
    for dc in dcs:
        for group, row in reports.newest(name, dc.dc).items():
            if dc.last_heartbeat is not None and row.at_ms >= 1_000 * (dc.last_heartbeat.timestamp() - stale_after_s):
                family.add_metric([dc.dc, *group], row.value)
    return family


def _counters(name: str, tags: Sequence[str], dcs: Sequence[DcHealth], reports: Reports) -> Iterator[GaugeMetricFamily]:
    """What was counted; 0 where nothing was of late, so that a rule sees the end of what it has seen."""
    labels = tags[: _LABELS.get(name, len(tags))]
    known = {row.group[: len(labels)] for row in reports.hour[name]}
    if len(labels) == 1:
        known |= {(dc.dc,) for dc in dcs if dc.last_heartbeat is not None}
    for suffix, words, rows in (("", "5 minutes", reports.recent), ("_1h", "hour", reports.hour)):
        sums = Counter(dict.fromkeys(sorted(known), 0))
        for row in rows[name]:
            sums[row.group[: len(labels)]] += row.value
        yield _summed(f"{_named(name)}{suffix}", f"{_COUNTER_HELP[name]} in the last {words}.", labels, sums)


def _largest_delays(reports: Reports) -> Iterator[GaugeMetricFamily]:
    words = "The largest of message timestamp less event time of accepted events, in ms, in the last"
    for suffix, span, rows in (("", "5 minutes", reports.recent), ("_1h", "hour", reports.hour)):
        largest: dict[tuple[str, ...], float] = {}
        for row in rows["delay_ms.max"]:
            largest[row.group] = max(row.value, largest.get(row.group, row.value))
        yield _summed(f"monitor_delay_ms_max{suffix}", f"{words} {span}.", ["dc", "tenant"], largest)


def _summed(name: str, words: str, labels: Sequence[str], values: Mapping[tuple[str, ...], float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, words, labels=labels)
    for group, value in values.items():
        family.add_metric(group, value)
    return family


def _named(name: str) -> str:
    """The name of a metric of the store, without `monitor.`, in Prometheus."""
    return f"monitor_{name.replace('.', '_')}"
