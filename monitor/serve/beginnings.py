"""Where the running phase of an experiment begins, also where its definitions changed without a configured start.

`monitor watch` remembers a hash of each definition that counts. If one of them is another one, and no later `started`
or `phases` explains it, the phase begins in the minute after that look: the job counts what comes by the new ones.
What reads the watcher's file says the same. Without a file only `started`, `phases` and the first visit count.
"""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import msgspec
import structlog

from monitor.config.settings import AllRule, AnyOfRule, ExperimentTable, PointRule, PointTable, PredicateTable
from monitor.core.codes import MINUTE_MS
from monitor.serve.count_file import Beginning, CountFile, NotWrittenError
from monitor.serve.phases import RunningPhase, begun_anew, running_phase
from monitor.serve.service import Service
from monitor.serve.spans import DAY_MS, HOUR_MS

log = structlog.get_logger(__name__)

LOST_MS = DAY_MS
"""So long before the end of its ttl, the first minute that the store holds may not be an experiment's first one."""
NOT_BEGUN = "It has not begun yet."
NO_VISIT = "No visit was assigned yet."
LOST = "The store no longer has the beginning of this phase, so there is no verdict: begin a new phase."
OTHER_DEFINITIONS = (
    "`monitor watch` knows other definitions of this experiment, so there is no verdict: "
    "give it the same configuration as the query service."
)
WEIGHTS, VARIATIONS, RULE, POINT = "weights", "variations", "rule", "point"
_HASH_CHARACTERS = 16


def held_from_ms(service: Service, now_ms: int) -> int:
    """The hour from which on the store certainly still holds all minutes, if it ever held them."""
    days = min(service.settings.kairosdb.ttl_days, service.settings.serve.range_days)
    return -(-(now_ms - days * DAY_MS + LOST_MS) // HOUR_MS) * HOUR_MS


def begun(service: Service, tenant: str, experiment: str, first_ms: int | None, now_ms: int) -> RunningPhase | str:
    """The running phase of an experiment, or why there is none to judge; `first_ms`: the first visit in the store.

    Raises CountFileError.
    """
    file, table = service.counts, service.experiment(tenant, experiment)
    known = None if file is None else file.beginning(tenant, experiment)
    if known is not None and known.first_ms < held_from_ms(service, now_ms):
        first_ms = known.first_ms if first_ms is None else min(first_ms, known.first_ms)
    if first_ms is None:
        return NO_VISIT
    phase = running_phase(table, service.settings.time, first_ms, now_ms)
    if phase is None:
        return NOT_BEGUN
    if file is None or (known is None and not file.is_writer):
        return phase
    found = definitions(table, service.tenant(tenant).points, phase.weights)
    is_configured = table.started is not None or any(of.begins <= now_ms for of in table.phases)
    configured_ms = phase.start_ms if is_configured else 0
    beginning = _now(known, Beginning(first_ms, configured_ms, 0, False, found), now_ms)
    if file.is_writer:
        _keep(file, tenant, experiment, known, beginning, now_ms)
    elif known is not None and beginning.since_ms != known.since_ms:
        return OTHER_DEFINITIONS
    if beginning.since_ms <= phase.start_ms:
        return phase
    return begun_anew(phase, table, service.settings.time, beginning.since_ms, is_reweighted=beginning.is_reweighted)


def definitions(
    table: ExperimentTable, points: Mapping[str, PointTable], weights: Mapping[str, float]
) -> dict[str, str]:
    """A hash of each definition that counts: the weights, the variations with their names in events, the rule with
    the points that it names, and each point that is guarded.
    """
    whole = math.fsum(weights.values())
    rule = table.qualified_when
    named = {name: _of_point(points[name]) for name in sorted(_points_of(rule)) if name in points}
    guarded = {f"{POINT} {name}": _hash(_of_point(point)) for name, point in points.items() if point.better != "none"}
    return {
        WEIGHTS: _hash({name: f"{weight / whole:.12g}" for name, weight in weights.items()}),
        VARIATIONS: _hash([table.control, sorted(table.variations), table.aliases, sorted(table.names)]),
        RULE: _hash([rule.model_dump(mode="json", by_alias=True), named]),
    } | guarded


def _now(known: Beginning | None, found: Beginning, now_ms: int) -> Beginning:
    """What is known now: a definition that both have and that differs begins a phase, if nothing configured does.

    A point that is added or has gone is no change of what the others count; one that comes back is compared.
    """
    if known is None:
        return found
    changed = {name for name, of in found.definitions.items() if known.definitions.get(name, of) != of}
    since_ms, is_reweighted = known.since_ms, known.is_reweighted
    if changed and found.configured_ms <= known.configured_ms:
        since_ms, is_reweighted = (now_ms // MINUTE_MS + 1) * MINUTE_MS, WEIGHTS in changed
    return found._replace(
        since_ms=since_ms, is_reweighted=is_reweighted, definitions=known.definitions | found.definitions
    )


def _keep(
    file: CountFile, tenant: str, experiment: str, known: Beginning | None, beginning: Beginning, now_ms: int
) -> None:
    """Writes what has changed; without it the next look finds it again."""
    if beginning == known:
        return
    try:
        file.begin(tenant, experiment, beginning, now_ms)
    except NotWrittenError as error:
        log.warning("counts_not_written", tenant=tenant, experiment=experiment, reason=str(error))


def _points_of(rule: PointRule | AllRule | AnyOfRule | PredicateTable) -> set[str]:
    match rule:
        case PointRule():
            return {rule.point}
        case AllRule():
            return {name for part in rule.all for name in _points_of(part)}
        case AnyOfRule():
            return {name for part in rule.any for name in _points_of(part)}
        case PredicateTable():
            return set()


def _of_point(point: PointTable) -> dict[str, Any]:
    return point.model_dump(mode="json", by_alias=True, exclude={"better"})


def _hash(definition: Any) -> str:
    text = msgspec.json.encode(definition, order="deterministic")
    return hashlib.sha256(text).hexdigest()[:_HASH_CHARACTERS]
