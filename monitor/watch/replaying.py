"""A change of a state, computed again: from the counts in its evidence bundle, then from those of the store."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Any, NamedTuple

from monitor.runtime.errors import MonitorError
from monitor.serve.beginnings import held_from_ms
from monitor.serve.past_phases import judged_until
from monitor.serve.phases import RunningPhase
from monitor.serve.problems import ProblemError
from monitor.serve.service import Service
from monitor.serve.spans import iso
from monitor.serve.verdict_inputs import Judged
from monitor.serve.verdicts import LN_E_MAX
from monitor.verdicts.judge import Counted, Course, Phase, State
from monitor.watch.bundles import Bundle, narrowed

RELATIVE = 1e-9
"""Two machines may differ by this much in ln E, relative, and by as much absolute below 1."""
DIFFERENCES_MAX = 20
"""Counts that are named where the store has other ones."""


class ReplayError(MonitorError):
    """A change cannot be computed again; the message says why."""


class Outcome(StrEnum):
    """What a change that is computed again comes to."""

    SAME = "same"
    OTHER_COUNTS = "other counts"
    BUG = "same counts, other verdict: a bug"


class Difference(NamedTuple):
    """A count that the store has otherwise: of what, where, before which restart ("": in all), and both counts."""

    what: str
    place: str
    before: str
    bundle: tuple[float, ...]
    store: tuple[float, ...]


class Replay(NamedTuple):
    """What came out; `state` and `ln_e` as computed from the bundle's counts, `now_...` from the store's.

    `differences` are the first DIFFERENCES_MAX. `unread`: why the store was not read.
    """

    outcome: Outcome
    state: State
    ln_e: float
    now_state: State | None = None
    now_ln_e: float | None = None
    differences: tuple[Difference, ...] = ()
    unread: str = ""


def replayed(bundle: Bundle, service: Service | None, dc: str | None = None) -> Replay:
    """A change, computed again; without a service only from its own counts. Raises ReplayError and BundleError."""
    verdict = bundle.judged(bundle.counts)
    if verdict is None:
        return _by_rule(bundle, service, dc)
    found = Replay(Outcome.SAME, verdict.state, _told(verdict.ln_e))
    if verdict.state is not bundle.check.state or not _is_equal(found.ln_e, bundle.check.ln_e):
        return found._replace(outcome=Outcome.BUG)
    if service is None:
        return found._replace(unread="it was not asked")
    if _is_gone(bundle, service):
        return found._replace(unread="it no longer has the beginning of the phase")
    inputs = _of_store(bundle, service, dc).inputs
    assert inputs is not None, "a phase that was judged"
    stored = narrowed(inputs.counted, bundle.check)
    differences = tuple(islice(_differences(bundle.counts, stored), DIFFERENCES_MAX))
    now = bundle.judged(stored) if differences else None
    if now is None:
        return found
    return found._replace(
        outcome=Outcome.OTHER_COUNTS, now_state=now.state, now_ln_e=_told(now.ln_e), differences=differences
    )


def _by_rule(bundle: Bundle, service: Service | None, dc: str | None) -> Replay:
    """A check that is a rule, no evidence from counts: what it says of the store now."""
    check = bundle.check
    if service is None or _is_gone(bundle, service):
        message = f"{check.check} is computed from minutes, which only the store has, and it was not asked or lost them"
        raise ReplayError(message)
    now = next((of for of in _of_store(bundle, service, dc).answer.checks if of.check == check.check), None)
    if now is None:
        message = f"there is no check {check.check} under this configuration"
        raise ReplayError(message)
    if now.counts != check.counts:
        counts = (tuple(map(float, of.counts.values())) for of in (check, now))
        difference = Difference(check.check, "", "", *counts)
        return Replay(Outcome.OTHER_COUNTS, check.state, check.ln_e, now.state, now.ln_e, (difference,))
    is_same = now.state is check.state and _is_equal(now.ln_e, check.ln_e)
    return Replay(Outcome.SAME if is_same else Outcome.BUG, now.state, now.ln_e)


def _is_gone(bundle: Bundle, service: Service) -> bool:
    """True if the store may no longer have the first minutes of the phase."""
    return _ms(bundle.phase.visits_from) < held_from_ms(service, service.now_ms())


def _of_store(bundle: Bundle, service: Service, dc: str | None) -> Judged:
    """What the bundle's phase, up to its last final minute, comes to in the store as it is now."""
    phase = bundle.phase
    running = RunningPhase(
        _ms(phase.start), phase.weights, _ms(phase.visits_from), _ms(phase.conversions_from), is_split_judged=True
    )
    try:
        table = service.experiment(bundle.tenant, bundle.experiment)
        if tuple(table.variations) != bundle.question.variations:
            message = (
                f"the configuration has other variations now: {', '.join(table.variations)}; of the change they are "
                f"{', '.join(bundle.question.variations)}: give the configuration of then (--config), or --own"
            )
            raise ReplayError(message)
        return judged_until(service, bundle.tenant, bundle.experiment, running, _ms(phase.sealed_until), dc)
    except ProblemError as error:
        message = f"{error.problem.detail}: {error.problem.fix} With --own only the bundle's own counts are used"
        raise ReplayError(message) from error


def _differences(bundle: Phase, store: Phase) -> Iterator[Difference]:
    """The counts that differ; those over all visits first."""
    pairs = list(_pairs(bundle._asdict(), store._asdict()))
    for what, ours, theirs in pairs:
        yield from _of_course(what, "", ours.whole, theirs.whole)
    for what, ours, theirs in pairs:
        for place in dict.fromkeys([*ours.slices, *theirs.slices]):
            words = " ".join(f"{tag}={value}" for tag, value in place)
            nothing = Course((0,) * len(ours.whole.counts), {})
            yield from _of_course(what, words, ours.slices.get(place, nothing), theirs.slices.get(place, nothing))


def _pairs(ours: Mapping[str, Any], theirs: Mapping[str, Any], of: str = "") -> Iterator[tuple[str, Counted, Counted]]:
    """What is counted in both, by its name."""
    for name, value in ours.items():
        if isinstance(value, Counted) and isinstance(theirs.get(name), Counted):
            yield f"{of}{name}", value, theirs[name]
        elif isinstance(value, Mapping):
            yield from _pairs(value, theirs.get(name, {}), f"{name} ")


def _of_course(what: str, place: str, ours: Course, theirs: Course) -> Iterator[Difference]:
    """The counts in all, and those before the first restart at which they differ."""
    if ours.counts != theirs.counts:
        yield Difference(what, place, "", ours.counts, theirs.counts)
    nothing = (0,) * len(ours.counts)
    for at_ms in dict.fromkeys([*ours.before, *theirs.before]):
        both = ours.before.get(at_ms, nothing), theirs.before.get(at_ms, nothing)
        if both[0] != both[1]:
            yield Difference(what, place, iso(at_ms), *both)
            return


def _told(ln_e: float) -> float:
    return max(-LN_E_MAX, min(LN_E_MAX, ln_e))


def _is_equal(one: float, other: float) -> bool:
    return abs(one - other) <= RELATIVE * max(1.0, abs(one), abs(other))


def _ms(time: datetime) -> int:
    return round(time.timestamp() * 1_000)
