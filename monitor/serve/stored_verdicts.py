"""What checks have said over time, from the points that `monitor watch` has written.

Where the watchers of two data centers have written, that of the preferred one counts, step by step: they say the same.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

from monitor.config.stored_names import stored_experiments
from monitor.kairosdb.reader import Ask, Row
from monitor.serve.evidence import refuse_long
from monitor.serve.history_models import ChangeAnswer, EvidenceAnswer, EvidenceLine, EvidencePoint, HistoryAnswer
from monitor.serve.models import Step
from monitor.serve.problems import refuse_unknown
from monitor.serve.service import Service
from monitor.serve.spans import STEP_MS, Span, moment
from monitor.verdicts.judge import State

STATE, LN_E, LN_E_MAX = "monitor.verdict.state", "monitor.verdict.ln_e", "monitor.verdict.ln_e_max"
"""The metrics of a check's state, of its evidence, and of the largest in the phase."""
STATES = tuple(State)
"""A state is written as its place in this order, from 0 for too early to 7 for no data."""
CHANGES_MAX = 1_000
"""Changes in one answer: the newest."""
STEPS_MAX = 3_000
"""Steps that are read of each check: a longer range has longer steps."""

Values = dict[int, Any]
"""Time in ms -> value."""


def tag_of(check: str) -> str:
    """The tag `check` of a check's points: its name, in which KairosDB allows no spaces."""
    return check.replace(" ", "/")


def check_of(tag: str) -> str:
    """The name of a check, from the tag of its points."""
    return tag.replace("/", " ")


def history(
    service: Service, tenant: str, experiment: str, span: Span, check: str | None = None, dc: str | None = None
) -> HistoryAnswer:
    """The changes of states over a range. Raises ProblemError."""
    step, (states,) = _read(service, tenant, experiment, span, (STATE,), "last", check, dc)
    changes = [
        ChangeAnswer(at=moment(at_ms), check=name, previous=previous, state=state)
        for name, values in states.items()
        for at_ms, previous, state in _changes(values)
    ]
    changes.sort(key=lambda change: (change.at, change.check))
    return HistoryAnswer(
        tenant=tenant,
        experiment=experiment,
        start=moment(span.start_ms),
        end=moment(span.end_ms),
        step=step,
        changes=changes[-CHANGES_MAX:],
        is_cut=len(changes) > CHANGES_MAX,
    )


def evidence(
    service: Service, tenant: str, experiment: str, span: Span, check: str | None = None, dc: str | None = None
) -> EvidenceAnswer:
    """The evidence of checks over a range. Raises ProblemError."""
    step, (now, most) = _read(service, tenant, experiment, span, (LN_E, LN_E_MAX), "max", check, dc)
    lines = [
        EvidenceLine(
            check=name,
            points=[
                EvidencePoint(at=moment(at_ms), ln_e=ln_e, ln_e_max=most.get(name, {}).get(at_ms, ln_e))
                for at_ms, ln_e in sorted(values.items())
            ],
        )
        for name, values in now.items()
    ]
    lines.sort(key=lambda line: (-max(point.ln_e for point in line.points), line.check))
    return EvidenceAnswer(
        tenant=tenant,
        experiment=experiment,
        start=moment(span.start_ms),
        end=moment(span.end_ms),
        step=step,
        lines=lines,
    )


def step_of(span: Span) -> Step:
    """The shortest step of which a range has at most STEPS_MAX, else the longest one."""
    length_ms = span.end_ms - span.start_ms
    return next((step for step, step_ms in STEP_MS.items() if length_ms <= STEPS_MAX * step_ms), Step.DAY)


def _read(
    service: Service,
    tenant: str,
    experiment: str,
    span: Span,
    metrics: Sequence[str],
    aggregator: Literal["last", "max"],
    check: str | None,
    dc: str | None,
) -> tuple[Step, list[dict[str, Values]]]:
    """The step, and of each metric the values over time by check."""
    table = service.experiment(tenant, experiment)
    refuse_long(service, span)
    if dc is not None and dc not in service.dcs:
        refuse_unknown("data center", dc, service.dcs)
    step = step_of(span)
    tags: Mapping[str, Sequence[str]] = {
        "tenant": (tenant,),
        "experiment": stored_experiments(experiment, table),
        **({} if check is None else {"check": (tag_of(check),)}),
        **({} if dc is None else {"dc": (dc,)}),
    }
    asks = [Ask((name,), *span, tags, ("check", "dc"), aggregator, STEP_MS[step]) for name in metrics]
    return step, [_by_check(rows, service.dcs, STEP_MS[step]) for rows in service.store.rows(asks)]


def _by_check(rows: Sequence[Row], dcs: Sequence[str], step_ms: int) -> dict[str, Values]:
    """The values over time by check, in each step those of one data center."""
    preference = {dc: place for place, dc in enumerate(dcs)}
    of_steps: defaultdict[str, dict[int, tuple[int, int, Any]]] = defaultdict(dict)
    for row in rows:
        name, dc = row.group
        place = preference.get(dc, len(dcs))
        steps, step = of_steps[check_of(name)], row.at_ms // step_ms
        if step not in steps or place < steps[step][0]:
            steps[step] = place, row.at_ms, row.value
    return {name: {at_ms: value for _, at_ms, value in steps.values()} for name, steps in of_steps.items()}


def _changes(values: Values) -> list[tuple[int, State | None, State]]:
    """When a state became another one, from which, and to which; the first one has none before it."""
    states = [(at_ms, STATES[value]) for at_ms, value in sorted(values.items()) if 0 <= value < len(STATES)]
    first = [(at_ms, None, state) for at_ms, state in states[:1]]
    return [
        *first,
        *((at_ms, before, state) for (_, before), (at_ms, state) in pairwise(states) if state is not before),
    ]
