"""What a configuration costs: data points, and the memory of visits and totals. Pure.

The memory of a visit is measured on sample visits of the configuration, which the core takes in and packs as a
snapshot does.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from monitor.core.codes import MINUTE_MS, SCOPES
from monitor.core.compiled import CompiledConfig
from monitor.core.definitions import Condition, Limits, Predicate, Scalar, Tenant
from monitor.core.metrics import SIXTEENTHS, metric_names
from monitor.core.sessions import Message, SessionGroup
from monitor.core.tags import TagSets
from monitor.core.watermark import Watermark

VISITS = 50
EVENTS_PER_VISIT = 10
"""The sample: so many visits, of so many events each."""
VISIT_OVERHEAD_BYTES = 390
"""What a visit takes in memory besides its packed bytes, measured with a million of them."""
TOTAL_BYTES = 200
"""What a provisional total takes in memory, estimated: the text of its series, its number, its place in a table."""
_START_MS = 1_700_000_000_000


class Cost(NamedTuple):
    """What a configuration costs at most; `visit_bytes`: the memory of a visit of the tenant with the largest."""

    series: int
    visit_bytes: int
    totals_bytes: int


def series_of(tenant: Tenant) -> dict[str, tuple[int, int]]:
    """Metrics, and the most series, of each experiment."""
    points = [(point.name, point.value is not None) for point in tenant.points]
    combinations = TagSets(tenant.tags).count()
    counts = {}
    for experiment in tenant.experiments:
        metrics = len(metric_names(tenant.name, [name for name, _ in experiment.variations], points))
        by_sixteenth = SIXTEENTHS * len(SCOPES) * (1 + len(points)) if experiment.aa else 0
        counts[experiment.name] = metrics + by_sixteenth, metrics * combinations + by_sixteenth
    return counts


def cost(tenants: Sequence[Tenant], limits: Limits) -> Cost:
    """The cost of all tenants."""
    series = sum(count for tenant in tenants for _, count in series_of(tenant).values())
    provisional_minutes = limits.lateness_ms // MINUTE_MS + 2
    compiled = CompiledConfig(tenants, Limits())
    visit_bytes = max(_visit_bytes(compiled, tenant) for tenant in tenants)
    return Cost(series, visit_bytes, series * provisional_minutes * TOTAL_BYTES)


def _visit_bytes(compiled: CompiledConfig, tenant: Tenant) -> int:
    """The mean memory of sample visits of a tenant, which are in all of its experiments."""
    group = SessionGroup(compiled, Watermark(compiled.limits.lateness_ms))
    group.feed(_sample(tenant))
    packed = group.pack().get(tenant.name, {})
    sizes = [len(session) for session in packed.values()]
    return VISIT_OVERHEAD_BYTES + (sum(sizes) // len(sizes) if sizes else 0)


def _sample(tenant: Tenant) -> Iterator[Message]:
    """Messages of visits in which each event counts for one of the points."""
    assignments = {experiment.name: experiment.variations[0][0] for experiment in tenant.experiments}
    predicates = [point.predicate for point in tenant.points] or [Predicate()]
    for visit in range(VISITS):
        for number in range(EVENTS_PER_VISIT):
            predicate = predicates[(visit + number) % len(predicates)]
            time_ms = _START_MS + number
            attributes = {name: _fitting(condition) for name, condition in predicate.where}
            session_id = f"sample-session-{visit}"
            event = {
                "tenant": tenant.name,
                "sessionId": session_id,
                "time": time_ms,
                "event": (predicate.events or ("event",))[0],
                "eventId": f"{number}",
                "assignments": assignments,
                "attributes": attributes,
            }
            yield session_id.encode(), msgspec.json.encode(event), time_ms


def _fitting(condition: Condition) -> Scalar | None:
    """A value that meets an ordinary condition."""
    if condition.any_of is not None:
        return condition.any_of[0]
    if condition.exists is False:
        return None
    bound = condition.minimum if condition.minimum is not None else condition.maximum
    return bound if bound is not None else "text"
