"""The evidence that watchers have stored, over time. Hours that are long over are cached in memory."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from monitor.kairosdb.reader import Ask, Row
from monitor.serve.service import Service
from monitor.serve.spans import HOUR_MS, Span
from monitor.serve.stored_verdicts import LN_E, check_of
from monitor.serve.sums import Key

SETTLED_MS = 2 * HOUR_MS
"""Nothing is written any more of an hour that ended so long ago: a watcher writes the last final minute only."""

Evidence = Mapping[tuple[str, str, str], Sequence[tuple[int, float]]]
"""(tenant, experiment, check) -> (start of a step, the largest ln E of its minutes), in order of time."""


def evidence(
    service: Service, experiments: Sequence[tuple[str, str]], span: Span, step_ms: int, above: float | None = None
) -> Evidence:
    """ln E of all checks of experiments, each with its tenant, in steps that divide an hour. Raises ProblemError.

    Watchers of all data centers write the same, so it does not matter whose point it is. Steps whose evidence is not
    `above` are left out. Names of checks are those of answers. An hour is read and cached as a whole.
    """
    assert not HOUR_MS % step_ms, step_ms
    kind = f"{LN_E} of {' '.join(map('/'.join, experiments))} by {step_ms} above {above}"
    whole = span.widened(HOUR_MS)
    found: list[Row] = []
    missing: list[Span] = []
    for hour_ms in range(*whole, HOUR_MS):
        cached = service.cache.get(_key(kind, hour_ms))
        if cached is not None:
            found += cached
        elif missing and missing[-1].end_ms == hour_ms:
            missing[-1] = Span(missing[-1].start_ms, hour_ms + HOUR_MS)
        else:
            missing.append(Span(hour_ms, hour_ms + HOUR_MS))
    tenants, names = (sorted(set(of)) for of in zip(*experiments, strict=True))
    tags = {"tenant": tenants, "experiment": names}
    asks = [Ask((LN_E,), *part, tags, ("tenant", "experiment", "check"), "max", step_ms) for part in missing]
    settled_ms = service.now_ms() - SETTLED_MS
    for part, rows in zip(missing, service.store.rows(asks), strict=True):
        own = (row for row in rows if row.group[:2] in experiments)
        kept = [row for row in own if above is None or row.value > above]
        found += kept
        for hour_ms in range(*part, HOUR_MS):
            if hour_ms + HOUR_MS <= settled_ms:
                of_hour = tuple(row for row in kept if hour_ms <= row.at_ms < hour_ms + HOUR_MS)
                service.cache.put(_key(kind, hour_ms), of_hour)
    return _by_check(found, span)


def _key(kind: str, hour_ms: int) -> Key:
    return kind, "", hour_ms, 0


def _by_check(rows: Sequence[Row], span: Span) -> Evidence:
    by_check: defaultdict[tuple[str, str, str], list[tuple[int, float]]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.at_ms):
        if span.start_ms <= row.at_ms <= span.end_ms:
            tenant, experiment, check = row.group
            by_check[tenant, experiment, check_of(check)].append((row.at_ms, float(row.value)))
    return by_check
