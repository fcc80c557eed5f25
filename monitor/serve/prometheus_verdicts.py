"""The verdicts that the guards write, as families of Prometheus gauges, and how the query service reads them."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from prometheus_client.core import GaugeMetricFamily

from monitor.kairosdb.reader import Ask
from monitor.serve.service import Service
from monitor.serve.spans import HOUR_MS
from monitor.serve.stored_verdicts import LN_E, LN_E_MAX, STATE

READ_MS = 2 * HOUR_MS
"""Verdicts stand at the end of the last final minute; older ones are of no use to a rule."""
KEPT_MS = 15 * 60_000
"""A verdict that is so much older than the newest one is told no more: the experiment is judged no more, or its guard
is gone. Guards of all data centers judge the same minutes."""
LABELS = ("dc", "tenant", "experiment", "check")
HELP = {
    STATE: "State of a check: 0 too early, 1 healthy, 2 note, 3 warn, 4 hold, 5 stop, 6 withheld, 7 no data.",
    LN_E: "The logarithm of the evidence now; 700 stands for anything larger.",
    LN_E_MAX: "The largest of the phase so far.",
}


class Told(NamedTuple):
    """The newest value of a figure of a check, at the end of a final minute; tags in the order of `LABELS`."""

    name: str
    tags: tuple[str, ...]
    value: float
    at_ms: int


def written(service: Service) -> list[Told]:
    """What the guards of all data centers have written last, with one request. Raises ProblemError."""
    now_ms = service.now_ms()
    ask = Ask(tuple(HELP), now_ms - READ_MS, now_ms + 1, {"dc": service.dcs}, LABELS, None, only="newest")
    newest: dict[tuple[str, tuple[str, ...]], Told] = {}
    (rows,) = service.store.rows([ask])
    for row in sorted(rows, key=lambda row: row.at_ms):
        newest[row.name, row.group] = Told(row.name, row.group, row.value, row.at_ms)
    return list(newest.values())


def families_of_verdicts(told: Sequence[Told]) -> Iterable[GaugeMetricFamily]:
    """A family for each metric, of what is not out of date."""
    families = {name: GaugeMetricFamily(name.replace(".", "_"), words, labels=LABELS) for name, words in HELP.items()}
    newest_ms = max((one.at_ms for one in told), default=0)
    for one in told:
        if one.at_ms > newest_ms - KEPT_MS:
            families[one.name].add_metric(one.tags, one.value)
    return families.values()
