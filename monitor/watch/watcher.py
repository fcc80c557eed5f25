"""Every final minute all checks of all experiments: changes are recorded with their evidence, and points are written.

What is written follows from the store and the configuration, and so does the id of a change: a watcher that starts
again, or that of the other data center, says the same under the same id.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

import structlog

from monitor.core.metrics import DataPoint, health_series
from monitor.serve.past_phases import provenance
from monitor.serve.problems import ProblemError
from monitor.serve.service import Service
from monitor.serve.stored_verdicts import STATES, tag_of
from monitor.serve.verdict_inputs import Inputs
from monitor.serve.verdict_models import CheckAnswer, PhaseAnswer, VerdictsAnswer
from monitor.serve.verdicts import judged_of_tenant
from monitor.verdicts.judge import ALARMS, State
from monitor.watch.audit import Audit, Latest, Recorded
from monitor.watch.bundles import bundled

log = structlog.get_logger(__name__)

Write = Callable[[Sequence[DataPoint]], None]


class Change(NamedTuple):
    """A change of the state of a check."""

    recorded: Recorded
    check: CheckAnswer

    @property
    def is_alarm(self) -> bool:
        """True if an alarm begins, changes or ends."""
        return self.recorded.state in ALARMS[1:] or self.recorded.previous in ALARMS[1:]


Tell = Callable[[Sequence[Change]], None]


class Watcher:
    """Looks at all experiments; `write` gets the points, and `tell` the alarms that begin, change or end, of each.

    Both come before the changes are recorded: that was recorded has been told, and one that was told may be told again,
    under the same id.
    """

    def __init__(self, service: Service, config_hash: str, audit: Audit, write: Write, tell: Tell) -> None:
        self._service, self._config_hash, self._audit = service, config_hash, audit
        self._write, self._tell = write, tell
        self._seen: dict[tuple[str, str], tuple[PhaseAnswer, int]] = {}
        """By experiment, the phase and the end of the final minutes that were judged last."""

    def once(self) -> int:
        """Judges each experiment of which a further minute has become final; returns how many. Raises ProblemError."""
        judged = 0
        for tenant, table in self._service.settings.tenants.items():
            if not table.experiments:
                continue
            for answer, inputs in judged_of_tenant(self._service, tenant):
                key = tenant, answer.experiment
                if answer.phase is None or inputs is None:
                    continue
                if self._seen.get(key) != _moment(answer.phase):
                    self._take_in(answer, answer.phase, inputs)
                    self._seen[key] = _moment(answer.phase)
                    judged += 1
        return judged

    def _take_in(self, answer: VerdictsAnswer, phase: PhaseAnswer, inputs: Inputs) -> None:
        phase_ms, sealed_ms = _ms(phase.start), _ms(phase.sealed_until)
        before = self._audit.latest(answer.tenant, answer.experiment)
        latest: list[tuple[str, Latest]] = []
        changes: list[Change] = []
        for check in answer.checks:
            known = before.get(check.check)
            is_same_phase = known is not None and known.phase_ms == phase_ms
            ln_e_max = max(check.ln_e, known.ln_e_max if known is not None and is_same_phase else check.ln_e)
            latest.append((check.check, Latest(phase_ms, check.state, ln_e_max)))
            previous = known.state if known is not None and is_same_phase else State.TOO_EARLY
            if check.state is not previous:
                recorded = self._recorded(answer, phase, inputs, Latest(phase_ms, previous, ln_e_max), check)
                changes.append(Change(recorded, check))
        self._write(list(_points(answer, latest, sealed_ms)))
        if alarms := [change for change in changes if change.is_alarm]:
            self._tell(alarms)
        self._audit.record(answer.tenant, answer.experiment, latest, [change.recorded for change in changes])
        for change in changes:
            if change.is_alarm:
                log.info(
                    "verdict_changed",
                    tenant=answer.tenant,
                    experiment=answer.experiment,
                    check=change.check.check,
                    state=change.check.state.value,
                    previous=change.recorded.previous.value,
                    words=change.check.words,
                )

    def _recorded(
        self, answer: VerdictsAnswer, phase: PhaseAnswer, inputs: Inputs, before: Latest, check: CheckAnswer
    ) -> Recorded:
        """A change, with its bundle; `before`: the state before it, and the largest ln E of the phase up to now."""
        sealed_ms = _ms(phase.sealed_until)
        parts = answer.tenant, answer.experiment, str(before.phase_ms), check.check, check.state.value, str(sealed_ms)
        identity = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
        visits_from_ms = _ms(phase.visits_from)
        bundle = bundled(
            inputs,
            provenance(self._service, answer.tenant, answer.experiment, visits_from_ms, sealed_ms),
            check,
            id=identity,
            tenant=answer.tenant,
            experiment=answer.experiment,
            phase=phase.model_dump(mode="json"),
            previous=before.state.value,
            ln_e_max=before.ln_e_max,
            guard=self._service.settings.guard.model_dump(),
            dcs=self._service.dcs,
            config_hash=self._config_hash,
        )
        of = answer.tenant, answer.experiment, check.check
        return Recorded(identity, sealed_ms, *of, before.state, check.state, bundle)


def looked(watcher: Watcher) -> bool:
    """Looks once; whether the store answered. What is missed is judged at the next look."""
    try:
        watcher.once()
    except ProblemError as error:
        log.warning("verdicts_not_computed", reason=error.problem.detail)
        return False
    return True


def _points(answer: VerdictsAnswer, latest: Sequence[tuple[str, Latest]], sealed_ms: int) -> Iterator[DataPoint]:
    """The state of each check and its evidence, now and at most, at the end of the last final minute."""
    for check, (_, of) in zip(answer.checks, latest, strict=True):
        tags = {"tenant": answer.tenant, "experiment": answer.experiment, "check": tag_of(check.check)}
        yield DataPoint(health_series("verdict.state", **tags), sealed_ms, STATES.index(check.state))
        yield DataPoint(health_series("verdict.ln_e", **tags), sealed_ms, float(check.ln_e))
        yield DataPoint(health_series("verdict.ln_e_max", **tags), sealed_ms, float(of.ln_e_max))


def _moment(phase: PhaseAnswer) -> tuple[PhaseAnswer, int]:
    return phase.model_copy(update={"sealed_until": phase.start}), _ms(phase.sealed_until)


def _ms(time: datetime) -> int:
    return round(time.timestamp() * 1_000)
