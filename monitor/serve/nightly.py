"""What a chi-squared test of the split, asked once a night, would have said of a phase.

It is there to agree with others who run one, and labelled with how often it is wrong. Nights end at 00:00 UTC.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from monitor.config.stored_names import stored_experiments, stored_metrics
from monitor.serve import statistics
from monitor.serve.failover import Evidence, Stretch
from monitor.serve.plans import Plan, together
from monitor.serve.results import Metrics
from monitor.serve.service import Service
from monitor.serve.spans import DAY_MS, HOUR_MS, Span
from monitor.serve.sums import SumQuery, Sums

NIGHTLY_P = 0.01
"""The p-value below which such a test alarms, as most of those in use."""
CRIES_WOLF = 0.04
"""The share of healthy weeks in which seven nights of it alarm, 3.95 %: docs/statistics.md has the source."""


class Nightly(NamedTuple):
    """The nights of the phase so far, and that of the first alarm, as its end in ms; None: there was none."""

    nights: int
    alarm_ms: int | None


def nightly(service: Service, tenant: str, experiment: str, weights: Mapping[str, float], span: Span) -> Nightly:
    """From the assigned visits of the final minutes of a phase, by the phase's weights. Raises ProblemError."""
    metrics, table = Metrics(tenant, experiment), service.experiment(tenant, experiment)
    names = {metrics.visits("assigned", variation): variation for variation in table.variations}
    query = SumQuery(
        tuple(stored_metrics(names, table)), (("experiment", stored_experiments(experiment, table)),), (), HOUR_MS
    )

    def answer(_evidence: Evidence, _served: Sequence[Stretch], of_reads: Sequence[Sums]) -> Nightly:
        ends = range((span.start_ms // DAY_MS + 1) * DAY_MS, span.end_ms + 1, DAY_MS)
        by_night = {variation: [0] * len(ends) for variation in table.variations}
        for (name, _, at_ms), count in of_reads[0].items():
            night = (at_ms - ends.start) // DAY_MS + 1
            if name in names and night < len(ends):
                by_night[names[name]][night] += count
        return Nightly(len(ends), next(_alarms(ends, by_night, weights), None))

    found: Nightly = together(service, tenant, experiment, [Plan(span, [(query, span)], answer)])[0]
    return found


def _alarms(ends: range, by_night: Mapping[str, Sequence[int]], weights: Mapping[str, float]) -> Iterator[int]:
    """The ends of the nights with a p-value below NIGHTLY_P, each of all visits until then."""
    cumulative = zip(*(accumulate(counts) for counts in by_night.values()), strict=True)
    for end_ms, counts in zip(ends, cumulative, strict=True):
        p = statistics.split(counts, [weights.get(variation, 0) for variation in by_night]).p_value
        if p is not None and p < NIGHTLY_P:
            yield end_ms
