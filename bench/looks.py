"""What the monitor's verdicts say of a simulated week, look by look, beside tests that are made for one look only.

Every figure is from the functions that the monitor itself uses. Tests of the whole phase and those of one look are
asked each minute. A healthy week is judged each ten minutes by `judged`, restarts and all; after an incident the
check that it concerns is asked each minute.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate

from bench.weeks import Incident, Minute, Pair, week
from monitor.serve.statistics import chi_square_above, split
from monitor.verdicts import checks, sequences
from monitor.verdicts.judge import Counted, Course, Guarded, Kind, Phase, Question, judged
from monitor.verdicts.multinomial import ln_evidence, mixture
from monitor.verdicts.restarts import HOUR_MS, LIFE_MS, TEN_MINUTES_MS, plan
from monitor.verdicts.zones import fewer

MINUTE_MS = 60_000
WEIGHTS = (0.5, 0.5)
LEVEL = 0.01
"""The level at which an incident is found."""
SEARCHED_DAYS = 12
"""Days of a week with an incident: it is looked for until then."""
SPLIT, SPLIT_BY_PLAN = "split, whole phase", "split, restarts"
CONVERSIONS, CONVERSIONS_BY_PLAN = "conversions, whole phase", "conversions, restarts"
CROSSED_BY_PLAN, RATES = "crossed visits, restarts", "rates, asymptotic sequence"
CHI_SQUARED, Z_TEST = "chi-squared test of the split", "z-test of the rates"
NIGHTLY = "chi-squared test of the split, at midnight only"
VERDICTS = (SPLIT, SPLIT_BY_PLAN, CONVERSIONS, CONVERSIONS_BY_PLAN, CROSSED_BY_PLAN, RATES)
"""What promises its level at every look."""
ONE_LOOK = (CHI_SQUARED, Z_TEST, NIGHTLY)
"""What promises it for one look at a planned moment; as evidence counts 1 / p."""

_AROUND = mixture(WEIGHTS)
_RHO = sequences.rho(LEVEL)
_QUESTION = Question(WEIGHTS, ("control", "variation"), 0, (Guarded("order", False, 0.0),), 0.0, checks.CROSSED_SHARE)
_DAY_MINUTES = 1_440


def strongest(number: int) -> dict[str, float]:
    """By test, the largest ln E of a healthy week, of all looks."""
    minutes = week(number)
    visits, conversions = sums([m.visits for m in minutes]), sums([m.conversions for m in minutes])
    most = dict.fromkeys((*VERDICTS, *ONE_LOOK), 0.0)

    def seen(test: str, value: float) -> None:
        most[test] = max(most[test], value)

    for minute in range(1, len(visits)):
        of_visits, of_conversions = visits[minute], conversions[minute]
        seen(SPLIT, ln_evidence(of_visits, _AROUND))
        if of_conversions != conversions[minute - 1]:
            seen(CONVERSIONS, ln_evidence(of_conversions, _AROUND))
        seen(RATES, of_rates(of_visits, of_conversions)[0])
        seen(Z_TEST, of_rates(of_visits, of_conversions)[1])
        chi_squared = of_split(of_visits)
        seen(CHI_SQUARED, chi_squared)
        if minute % _DAY_MINUTES == 0:
            seen(NIGHTLY, chi_squared)
    for phase in _phases(minutes, visits, conversions):
        for verdict in judged(_QUESTION, phase):
            if verdict.kind in _BY_PLAN:
                seen(_BY_PLAN[verdict.kind], verdict.ln_e)
    return most


_BY_PLAN = {
    Kind.SPLIT_OF_ASSIGNED: SPLIT_BY_PLAN,
    Kind.GUARDRAIL: CONVERSIONS_BY_PLAN,
    Kind.CROSSED: CROSSED_BY_PLAN,
}


def of_split(visits: Pair) -> float:
    """-ln p of the chi-squared test; 0 while there are too few visits for it."""
    p = split(visits, WEIGHTS).p_value
    return 0.0 if p is None else _minus_ln(p)


def of_rates(visits: Pair, conversions: Pair) -> tuple[float, float]:
    """ln E of the rates' confidence sequence, and -ln p of the z-test; both 0 below the floor."""
    control, variation = (sequences.rate(*of) for of in zip(conversions, visits, strict=True))
    if control is None or variation is None:
        return 0.0, 0.0
    apart = sequences.difference(variation, control)
    p = chi_square_above((apart.value / apart.standard_error) ** 2, 1)
    return sequences.ln_evidence(apart, 0.0, _RHO), _minus_ln(p)


def _minus_ln(p: float) -> float:
    return -math.log(p) if p else math.inf


def _phases(minutes: Sequence[Minute], visits: Sequence[Pair], conversions: Sequence[Pair]) -> Iterator[Phase]:
    """The phase as it is at each ten minutes."""
    crossed = list(accumulate((m.crossed for m in minutes), initial=0))
    nothing = Counted(Course((0, 0), {}), {})
    marks: list[int] = []
    for at_ms in range(TEN_MINUTES_MS, len(minutes) * MINUTE_MS + 1, TEN_MINUTES_MS):
        marks = [*_alive(marks, at_ms), at_ms]
        now = at_ms // MINUTE_MS
        before = {mark: visits[mark // MINUTE_MS] for mark in marks}
        converted = {mark: conversions[mark // MINUTE_MS] for mark in marks}
        crossed_before = {mark: (crossed[mark // MINUTE_MS],) for mark in marks}
        yield Phase(
            0,
            0,
            at_ms,
            Counted(Course(visits[now], before), {}),
            nothing,  # qualified visits: their check is that of the assigned ones
            Counted(Course((crossed[now],), crossed_before), {}),
            {"order": Counted(Course(conversions[now], converted), {})},
        )


def _alive(marks: Sequence[int], at_ms: int) -> list[int]:
    return [mark for mark in marks if mark % HOUR_MS == 0 or at_ms - mark <= LIFE_MS]


def found_after(number: int, incident: Incident) -> dict[str, float]:
    """By test, the minutes from the incident to the alarm at LEVEL; infinite if it was not found in SEARCHED_DAYS."""
    minutes = week(number, incident, SEARCHED_DAYS)
    visits, conversions = sums([m.visits for m in minutes]), sums([m.conversions for m in minutes])
    is_split = incident.share != 0.5
    counts = visits if is_split else conversions
    whole, by_plan = (SPLIT, SPLIT_BY_PLAN) if is_split else (CONVERSIONS, CONVERSIONS_BY_PLAN)
    late = {test: math.inf for test in ((whole, by_plan) if is_split else (whole, by_plan, RATES))}
    limit = -math.log(LEVEL)
    for minute in range(incident.from_minute + 1, len(visits)):
        after = minute - incident.from_minute
        if math.isinf(late[whole]) and ln_evidence(counts[minute], _AROUND) >= limit:
            late[whole] = after
        if math.isinf(late[by_plan]) and evidence_by_plan(counts, minute, is_split) >= limit:
            late[by_plan] = after
        if math.isinf(late.get(RATES, 0)) and of_rates(visits[minute], conversions[minute])[0] >= limit:
            late[RATES] = after
        if not any(map(math.isinf, late.values())):
            break
    return late


def evidence_by_plan(counts: Sequence[Pair], minute: int, is_split: bool) -> float:
    """ln E of a check by its plan; of counts that did not change it is not asked again."""
    if counts[minute] == counts[minute - 1]:
        return -math.inf
    of = plan(0, minute * MINUTE_MS)
    before = {restart.start_ms: counts[restart.start_ms // MINUTE_MS] for restart in of.restarts}
    if is_split:
        return checks.split(of, counts[minute], before, WEIGHTS).ln_e
    return checks.guardrail(of, counts[minute], before, WEIGHTS, (0, 1), fewer()).ln_e


def sums(pairs: Sequence[Pair]) -> list[Pair]:
    """The sums of all pairs before each minute, and of all."""
    firsts = accumulate((first for first, _ in pairs), initial=0)
    return list(zip(firsts, accumulate((second for _, second in pairs), initial=0), strict=True))
