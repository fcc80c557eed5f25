"""Whether an alarm would hold if visits that came too late had counted: information beside a verdict, no part of it.

Late visits are health counters of the data center that serves the present (`monitor.late`): their number is known by
variation, not what they did. See `verdicts.lateness`.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from monitor.config.settings import ExperimentTable
from monitor.config.stored_names import stored_experiments
from monitor.kairosdb.reader import Ask
from monitor.serve.evidence import current_evidence
from monitor.serve.service import Service
from monitor.serve.spans import DAY_MS
from monitor.serve.verdict_models import CheckAnswer, LateAnswer, VerdictsAnswer
from monitor.verdicts.judge import ALARMS, SPLITS, Kind
from monitor.verdicts.lateness import lateness_bounds

LATE = "monitor.late"


class _Alarm(NamedTuple):
    """A check that alarms, of one of the answers, and since when."""

    answer: int
    check: int
    since_ms: int
    sealed_ms: int


def with_late_visits(service: Service, tenant: str, answers: Sequence[VerdictsAnswer]) -> list[VerdictsAnswer]:
    """The answers of a tenant, with late visits beside each alarm of a split or a guardrail. Raises ProblemError."""
    found = list(answers)
    alarms = [alarm for number, answer in enumerate(answers) for alarm in _alarms(number, answer)]
    if not alarms:
        return found
    dc = current_evidence(service, service.now_ms() - DAY_MS).present().dc
    tables = service.tenant(tenant).experiments
    asks = []
    for alarm in alarms:
        name = answers[alarm.answer].experiment
        tags = {"dc": (dc,), "tenant": (tenant,), "experiment": stored_experiments(name, tables[name])}
        asks.append(Ask((LATE,), alarm.since_ms, alarm.sealed_ms, tags, ("variation",), "sum", None))
    for alarm, rows in zip(alarms, service.store.rows(asks), strict=True):
        answer = found[alarm.answer]
        table, checks, late = tables[answer.experiment], list(answer.checks), Counter[str]()
        for row in rows:
            late[table.aliases.get(row.group[0], row.group[0])] += row.value
        beside = _beside(checks[alarm.check], answer, table, late)
        checks[alarm.check] = checks[alarm.check].model_copy(update={"late": beside})
        found[alarm.answer] = answer.model_copy(update={"checks": checks})
    return found


def _alarms(number: int, answer: VerdictsAnswer) -> Iterator[_Alarm]:
    for place, check in enumerate(answer.checks):
        is_of_visits = check.kind in (*SPLITS, Kind.GUARDRAIL)
        if is_of_visits and check.state in ALARMS[1:] and check.since is not None and answer.phase is not None:
            since_ms, sealed_ms = _ms(check.since), _ms(answer.phase.sealed_until)
            if since_ms < sealed_ms:
                yield _Alarm(number, place, since_ms, sealed_ms)


def _beside(
    check: CheckAnswer, answer: VerdictsAnswer, table: ExperimentTable, late: Counter[str]
) -> LateAnswer | None:
    """None where no visit was late, or a variation of weight 0 has visits: that is no question of how many."""
    assert answer.phase is not None
    names = list(table.variations)
    if check.kind is Kind.GUARDRAIL:
        names = [name for name in names if name in (table.control, check.variation)]
    number = sum(late[name] for name in names)
    weights, counts = ([float(of[name]) for name in names] for of in (answer.phase.weights, check.counts_since))
    if number <= 0 or any(count and not weight for count, weight in zip(counts, weights, strict=True)):
        return None
    bounds = lateness_bounds(counts, weights, number)
    holds = check.ln_e - (bounds.as_counted - bounds.on_weaker_side) >= check.note_from
    return LateAnswer(
        visits={name: late[name] for name in names},
        ln_e=bounds.as_counted,
        ln_e_by_weights=bounds.by_weights,
        ln_e_on_weaker_side=bounds.on_weaker_side,
        holds=holds,
        words=_words(number, holds=holds),
    )


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1_000)


def _words(number: int, *, holds: bool) -> str:
    visits = f"{number:,} visits" if number > 1 else "1 visit"
    if holds:
        return f"It holds even if the {visits} that came too late since then had all been on the weaker side."
    return f"It could turn if the {visits} that came too late since then had all been on the weaker side."
