"""Evidence bundles: all that a change of a check's state follows from, as JSON, and the counts in it. Pure.

A bundle has the counts that its check reads: over all visits, by slice, and before each restart of the plan. So the
state can be computed again from the bundle alone, by any machine.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from monitor import __version__
from monitor.runtime.errors import MonitorError
from monitor.serve.effective_counts import judged_effective
from monitor.serve.failover import Stretch
from monitor.serve.past_phases import Provenance
from monitor.serve.spans import iso
from monitor.serve.verdict_inputs import Inputs
from monitor.serve.verdict_models import CheckAnswer, PhaseAnswer
from monitor.verdicts import judge, restarts
from monitor.verdicts.families import Shares, Thresholds
from monitor.verdicts.judge import Counted, Course, Kind, Phase, Question, Verdict
from monitor.verdicts.multinomial import STRENGTHS
from monitor.watch.plain import Marks, plain, typed

SERVED_KEPT = 100
"""Parts of the phase's range, each with its data center, that a bundle names: the newest."""
CONSTANTS: Mapping[str, Any] = {
    "priors": list(STRENGTHS),
    "plan": {
        "whole": restarts.WHOLE_SHARE,
        "hourly": restarts.HOURLY_SHARE,
        "ten_minute": restarts.TEN_MINUTE_SHARE,
        "beyond": restarts.BEYOND_SHARE,
        "planned_hours": restarts.PLANNED_HOURS,
        "life_ms": restarts.LIFE_MS,
    },
    "early_visits": judge.EARLY_VISITS,
}
"""What a verdict depends on beside counts and configuration."""


class BundleError(MonitorError):
    """A text that is no evidence bundle; the message says why."""


class Bundle(NamedTuple):
    """A bundle that was read: what was recorded, and what it was computed from."""

    tenant: str
    experiment: str
    phase: PhaseAnswer
    check: CheckAnswer
    question: Question
    counts: Phase
    shares: Shares
    thresholds: Thresholds
    design_effect: float
    config_hash: str
    differing: tuple[str, ...]
    """What this program does otherwise than the one that made it: `version`, and names of `CONSTANTS`."""

    def judged(self, counts: Phase) -> Verdict | None:
        """What the check says of these counts; None of a check that is no evidence from counts."""
        found = judged_effective(self.question, counts, self.shares, self.thresholds, self.design_effect)
        return of_check(found, self.check)


def bundled(inputs: Inputs, origin: Provenance, check: CheckAnswer, **more: Any) -> str:
    """The bundle of a check as JSON; `more`: what stands beside it."""
    marks = Marks()
    counts = plain(narrowed(inputs.counted, check), marks)
    bundle = {
        **more,
        "check": check.model_dump(mode="json"),
        "shares": inputs.shares._asdict(),
        "thresholds": inputs.thresholds._asdict(),
        "design_effect": inputs.design_effect,
        **CONSTANTS,
        "watermarks": {dc: iso(at_ms) for dc, at_ms in origin.watermarks_ms.items()},
        "served": [_served(stretch) for stretch in origin.served[-SERVED_KEPT:]],
        "version": __version__,
        "question": plain(inputs.question, marks),
        "counts": counts,
        "marks": marks.lists,
    }
    return msgspec.json.encode(bundle).decode()


def read_bundle(text: str) -> Bundle:
    """A bundle from its JSON, or from a line of `monitor audit` that has one. Raises BundleError."""
    try:
        found = msgspec.json.decode(text)
        found = found.get("bundle", found)
        if "counts" not in found:
            message = (
                "the bundle has no counts, so it cannot be computed again: it is of an earlier version, or of no check"
            )
            raise BundleError(message)
        marks = Marks(found["marks"])
        ours = {**CONSTANTS, "version": __version__}
        return Bundle(
            found["tenant"],
            found["experiment"],
            PhaseAnswer.model_validate(found["phase"]),
            CheckAnswer.model_validate(found["check"]),
            typed(Question, found["question"], marks),
            typed(Phase, found["counts"], marks),
            Shares(**found["shares"]),
            Thresholds(**found["thresholds"]),
            found["design_effect"],
            found["config_hash"],
            tuple(name for name, value in ours.items() if found.get(name) != value),
        )
    except (msgspec.DecodeError, LookupError, TypeError, ValueError, AttributeError) as error:
        message = f"this is no evidence bundle: {type(error).__name__}: {error}"
        raise BundleError(message) from error


def narrowed(phase: Phase, check: CheckAnswer) -> Phase:
    """The counts without those of other points, which the check does not read."""
    others: dict[str, Any] = {
        name: {point: of if point == check.point else _emptied(of) for point, of in value.items()}
        for name, value in phase._asdict().items()
        if isinstance(value, Mapping)
    }
    if check.kind is not Kind.CROSSED:
        others["crossed"] = _emptied(phase.crossed)
    return phase._replace(**others)


def of_check(verdicts: Sequence[Verdict], check: CheckAnswer) -> Verdict | None:
    """The verdict of a check among those of its experiment, if it is one of them."""
    alike = [of for of in verdicts if (of.kind, of.point) == (check.kind, check.point)]
    if len(alike) > 1:
        alike = [of for of in alike if of.variation == check.variation]
    return alike[0] if alike else None


def _emptied(of: Any) -> Any:
    if not isinstance(of, Counted):
        return of
    return Counted(Course((0,) * len(of.whole.counts), {}), {})


def _served(stretch: Stretch) -> dict[str, str]:
    return {"from": iso(stretch.start_ms), "to": iso(stretch.end_ms), "dc": stretch.dc, "reason": stretch.reason.value}
