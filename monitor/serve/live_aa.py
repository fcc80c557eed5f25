"""Live A/A of a tenant: whether its visits are independent, and whether verdicts alarm as rarely as they say.

Sixteenths of the sessions (`core.sixteenths`) are read from final minutes, each from the data center that serves it,
and judged by `verdicts.aa`. Only `assigned` visits are read: they are the most.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from monitor.config.settings import milliseconds
from monitor.config.stored_names import stored_experiments
from monitor.core.codes import MINUTE_MS
from monitor.core.metrics import SIXTEENTHS, sixteenth_metric_name
from monitor.kairosdb.reader import Ask
from monitor.serve.evidence import current_evidence, serving
from monitor.serve.failover import final_until_ms
from monitor.serve.live_aa_models import IntervalAnswer, LiveAaAnswer
from monitor.serve.plans import clipped
from monitor.serve.service import Service
from monitor.serve.spans import DAY_MS, HOUR_MS, Span, moment
from monitor.serve.sums import Job, SumQuery, sums
from monitor.verdicts import aa

JUDGED_DAYS = 7
"""The days before the last final minute that are judged: it is about the traffic of these days."""
EVERY_MS = 10 * MINUTE_MS
"""What is judged ends with a multiple of this, so that it is computed once in this time."""
VISITS_MIN = 480
"""The visits from which an experiment is judged: 30 in each sixteenth, which are about normally distributed."""


class _Part(NamedTuple):
    """The minutes of an experiment that are judged."""

    experiment: str
    span: Span


def live_aa(service: Service, tenant: str) -> LiveAaAnswer | None:
    """What live A/A says of a tenant; None where it is off. Raises ProblemError."""
    if not (names := service.tenant(tenant).with_live_aa()):
        return None
    evidence = current_evidence(service, service.now_ms() - DAY_MS)
    report = evidence.last(evidence.present().dc)
    end_ms = 0 if report is None else report.watermark_ms // EVERY_MS * EVERY_MS
    answer = service.live_aa.get(tenant, end_ms)
    if answer is None:
        answer = _judged(tenant, names, _counted(service, tenant, names, end_ms))
        service.live_aa.put(tenant, end_ms, answer)
    return answer


def divisor(service: Service, tenant: str) -> float:
    """By what counts of a tenant's visits are divided before they are judged. Raises ProblemError."""
    answer = live_aa(service, tenant)
    if answer is None or answer.design_effect is None or not answer.is_dependent:
        return 1.0
    return answer.design_effect.value


def _counted(
    service: Service, tenant: str, names: Sequence[str], end_ms: int
) -> dict[str, tuple[Span, list[list[int]]]]:
    """By experiment, the minutes that are judged, and the visits by sixteenth up to the end of each of their hours."""
    parts = list(_parts(service, tenant, names, end_ms))
    if not parts:
        return {}
    whole = Span(min(part.span.start_ms for part in parts), end_ms)
    evidence, served = serving(service, tenant, [part.experiment for part in parts], whole, None)
    metrics = tuple(sixteenth_metric_name(tenant, "assigned", sixteenth, None) for sixteenth in range(SIXTEENTHS))
    jobs, spans = [], {}
    for name, span in parts:
        stretches = clipped(served[name], span)
        sealed_ms = final_until_ms(evidence, stretches)
        spans[name] = span = span._replace(end_ms=max(span.start_ms, sealed_ms))
        tags = (("experiment", stored_experiments(name, service.experiment(tenant, name))),)
        jobs.append(Job(SumQuery(metrics, tags, (), HOUR_MS), clipped(stretches, span)))
    found = {}
    for (name, span), of_job in zip(spans.items(), sums(service.store, service.cache, evidence, jobs), strict=True):
        by_hour: defaultdict[int, list[int]] = defaultdict(lambda: [0] * SIXTEENTHS)
        for (metric, _, at_ms), count in of_job.items():
            by_hour[at_ms // HOUR_MS][metrics.index(metric)] += count
        found[name] = span, list(accumulate((by_hour[hour] for hour in sorted(by_hour)), _added))
    return found


def _added(counts: list[int], more: list[int]) -> list[int]:
    return [count + other for count, other in zip(counts, more, strict=True)]


def _parts(service: Service, tenant: str, names: Sequence[str], end_ms: int) -> Iterator[_Part]:
    """The minutes that are judged. Those of the first visits are left out: they had begun before live A/A was on."""
    time = service.settings.time
    wait_ms = milliseconds(time.session_gap_s) + milliseconds(time.allowed_lateness_s)
    for name, began_ms in _began_ms(service, tenant, names, end_ms).items():
        start_ms = max(end_ms - JUDGED_DAYS * DAY_MS, -(-(began_ms + wait_ms) // MINUTE_MS) * MINUTE_MS)
        if start_ms < end_ms:
            yield _Part(name, Span(start_ms, end_ms))


def _began_ms(service: Service, tenant: str, names: Sequence[str], end_ms: int) -> dict[str, int]:
    """The first minute of each experiment of which the store holds live A/A."""
    owners = {old: name for name in names for old in stored_experiments(name, service.experiment(tenant, name))}
    metrics = tuple(sixteenth_metric_name(tenant, "assigned", sixteenth, None) for sixteenth in range(SIXTEENTHS))
    oldest_ms = max(0, end_ms - service.settings.kairosdb.ttl_days * DAY_MS)
    tags = {"dc": service.dcs, "experiment": tuple(owners)}
    (rows,) = service.store.rows([Ask(metrics, oldest_ms, end_ms + 1, tags, ("experiment",), None, only="oldest")])
    began_ms: dict[str, int] = {}
    for row in rows:
        name = owners[row.group[0]]
        began_ms[name] = min(row.at_ms, began_ms.get(name, row.at_ms))
    return began_ms


def _judged(
    tenant: str, names: Sequence[str], counted: Mapping[str, tuple[Span, Sequence[Sequence[int]]]]
) -> LiveAaAnswer:
    """The answer from the counts. Experiments of a tenant mostly have the same visits: D has 15 degrees of freedom."""
    enough = {name: of for name, of in counted.items() if of[1] and sum(of[1][-1]) >= VISITS_MIN}
    last = [looks[-1] for _, looks in enough.values()]
    alarms = sum(aa.alarms(looks) for _, looks in enough.values())
    effect = aa.design_effect(last, freedom=aa.SPLITS)
    splits = aa.SPLITS * len(enough)
    return LiveAaAnswer(
        tenant=tenant,
        experiments=list(enough),
        waiting=[name for name in names if name not in enough],
        start=moment(min(span.start_ms for span, _ in enough.values())) if enough else None,
        end=moment(max(span.end_ms for span, _ in enough.values())) if enough else None,
        visits=sum(map(sum, last)),
        splits=splits,
        alarms=alarms,
        gauge=_interval(aa.gauge(alarms, splits)),
        design_effect=_interval(effect),
        is_dependent=effect is not None and effect.is_dependent,
        words=_words(effect),
    )


def _interval(found: aa.Gauge | aa.DesignEffect | None) -> IntervalAnswer | None:
    return None if found is None else IntervalAnswer(value=found.value, low=found.low, high=found.high)


def _words(effect: aa.DesignEffect | None) -> str:
    if effect is None:
        return "There is too little live A/A to judge yet."
    between = f"{effect.value:.2f} ({effect.low:.2f} to {effect.high:.2f})"
    if effect.is_dependent:
        return (
            f"Visits of a session are not independent: the design effect is {between}. Counts are divided by it before "
            "they are judged."
        )
    return f"Nothing says that visits depend on each other: the design effect is {between}."
