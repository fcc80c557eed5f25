"""The checks of an experiment's traffic: whether it has stopped or fallen, and variations without visits."""

from collections.abc import Mapping, Sequence

from monitor.config.settings import ExperimentTable
from monitor.serve.phase_counts import Reading, recent_from_ms, slices
from monitor.serve.phases import RunningPhase
from monitor.serve.results import Metrics
from monitor.serve.spans import moment
from monitor.serve.sums import Sums
from monitor.serve.traffic_counts import Unseens, Visits, assigned, traffic
from monitor.serve.traffic_words import of_fall, of_silence, of_silent_variation, quiet
from monitor.serve.verdict_models import CheckAnswer
from monitor.verdicts.judge import EARLY_VISITS, State
from monitor.verdicts.silent_variations import Unseen, silent
from monitor.verdicts.traffic import Fall, TrafficKind, fall, silence


def traffic_checks(
    metrics: Metrics,
    table: ExperimentTable,
    tags: Mapping[str, Sequence[str]],
    phase: RunningPhase,
    sealed_ms: int,
    read: Sequence[Sums],
) -> list[CheckAnswer]:
    """No traffic, traffic dropped, and for each variation with a weight whether it gets visits.

    `read`: the sums of `phase_counts.queries`; `tags`: tag to its values. After a change of weights under sticky
    assignment returning visitors keep their variations, so nothing is said of variations.
    """
    names = [metrics.visits("assigned", variation) for variation in table.variations]
    recent_ms = recent_from_ms(Reading(tuple(names), phase.visits_from_ms), sealed_ms)
    visits = Visits(phase.visits_from_ms, recent_ms, sealed_ms, assigned(names, read))
    of_all = traffic(visits)
    counts = [0] * len(names)
    for by_time in visits.cells.values():
        for of_time in by_time.values():
            counts = [count + more for count, more in zip(counts, of_time, strict=True)]
    by_variation = dict(zip(table.variations, counts, strict=True))
    found = [
        _of_traffic(TrafficKind.NO_TRAFFIC, silence(of_all), by_variation),
        _of_traffic(TrafficKind.TRAFFIC_DROPPED, fall(of_all), by_variation),
    ]
    if phase.is_split_judged:
        found += _of_variations(table, tags, phase, visits, by_variation)
    return found


def _of_variations(
    table: ExperimentTable,
    tags: Mapping[str, Sequence[str]],
    phase: RunningPhase,
    visits: Visits,
    counts: Mapping[str, int],
) -> list[CheckAnswer]:
    unseens, places, whole = Unseens(visits, list(tags), len(counts)), slices(tags), sum(phase.weights.values())
    found = []
    for number, variation in enumerate(table.variations):
        if weight := phase.weights[variation]:
            share = weight / whole
            of = silent(share, unseens.of(number, ()), [unseens.of(number, place) for place in places])
            found.append(_of_variation(variation, share, of, counts))
    return found


def _of_traffic(kind: TrafficKind, found: Fall | None, counts: Mapping[str, int]) -> CheckAnswer:
    if found is None:
        return _answer(kind, None, _quiet_state(counts), counts, quiet(kind, None, _quiet_state(counts)))
    words = of_silence(found) if kind is TrafficKind.NO_TRAFFIC else of_fall(found)
    answer = _answer(kind, None, State.WARN, counts, words)
    return answer.model_copy(update={"since": moment(found.since_ms)})


def _of_variation(variation: str, share: float, found: Unseen | None, counts: Mapping[str, int]) -> CheckAnswer:
    kind, state = TrafficKind.VARIATION_WITHOUT_VISITS, _quiet_state(counts)
    if found is None:
        return _answer(kind, variation, state, counts, quiet(kind, variation, state))
    answer = _answer(kind, variation, State.HOLD, counts, of_silent_variation(variation, share, found))
    since = {name: count for name, count in zip(counts, found.counts, strict=True)}
    return answer.model_copy(
        update={"since": moment(found.since_ms), "place": dict(found.place), "counts_since": since}
    )


def _quiet_state(counts: Mapping[str, int]) -> State:
    """As that of other checks that find nothing."""
    if not sum(counts.values()):
        return State.NO_DATA
    return State.TOO_EARLY if min(counts.values()) < EARLY_VISITS else State.HEALTHY


def _answer(
    kind: TrafficKind, variation: str | None, state: State, counts: Mapping[str, int], words: str
) -> CheckAnswer:
    return CheckAnswer(
        check=kind.value if variation is None else f"{kind.value} {variation}",
        kind=kind,
        point=None,
        variation=variation,
        state=state,
        ln_e=0.0,
        note_from=0.0,
        since=None,
        place={},
        effect=None,
        counts=dict(counts),
        counts_since={},
        words=words,
    )
