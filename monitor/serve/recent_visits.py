"""The assigned visits of phases whose counts are kept: by minute of the last hours from the store, before by the hour.

The hours are those of the tally, so they outlive the ttl of the store's points. Minutes of final hours are cached.
"""

from collections import Counter
from collections.abc import Mapping

from monitor.config.stored_names import by_configured_name, stored_experiments, stored_metrics
from monitor.core.codes import MINUTE_MS
from monitor.serve.evidence import serving
from monitor.serve.plans import clipped
from monitor.serve.results import Metrics
from monitor.serve.service import Service
from monitor.serve.spans import HOUR_MS, Span
from monitor.serve.sums import Job, SumQuery, Sums, sums
from monitor.serve.tally import Tally, recent_from_ms


def visits_of(
    service: Service, tenant: str, tallies: Mapping[str, Tally], sealed: Mapping[str, int]
) -> dict[str, list[Sums]]:
    """By experiment, the assigned visits up to the end of its final minutes: hours, then minutes.

    The tallies were counted up to there. Raises ProblemError.
    """
    found: dict[str, list[Sums]] = {}
    spans = {name: Span(max(of.start_ms, recent_from_ms(sealed[name])), sealed[name]) for name, of in tallies.items()}
    for name, tally in tallies.items():
        found[name] = [_by_hour(tally, _assigned(service, tenant, name), spans[name].start_ms)]
    spans = {name: span for name, span in spans.items() if span.start_ms < span.end_ms}
    if not spans:
        return found
    whole = Span(min(span.start_ms for span in spans.values()), max(span.end_ms for span in spans.values()))
    evidence, served = serving(service, tenant, list(spans), whole, None)
    stored, jobs = {}, []
    for name, span in spans.items():
        table = service.experiment(tenant, name)
        stored[name] = stored_metrics(_assigned(service, tenant, name), table)
        tags = (("experiment", stored_experiments(name, table)),)
        query = SumQuery(tuple(stored[name]), tags, tallies[name].tags, MINUTE_MS)
        jobs.append(Job(query, clipped(served[name], span)))
    for name, of_name in zip(spans, sums(service.store, service.cache, evidence, jobs), strict=True):
        found[name].append(by_configured_name(of_name, stored[name]))
    return found


def _assigned(service: Service, tenant: str, experiment: str) -> tuple[str, ...]:
    metrics = Metrics(tenant, experiment)
    return tuple(
        metrics.visits("assigned", variation) for variation in service.experiment(tenant, experiment).variations
    )


def _by_hour(tally: Tally, metrics: tuple[str, ...], until_ms: int) -> Sums:
    """The visits of each hour before a moment, an hour's start or that of the phase."""
    found: Sums = Counter()
    for span, part in tally.counted(metrics, until_ms):
        for (metric, group), count in part.items():
            found[metric, group, span.start_ms // HOUR_MS * HOUR_MS] += int(count)
    return found
