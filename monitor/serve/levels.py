"""From which evidence the checks of an experiment alarm, and how far each kind may go. Pure."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from monitor.config.guard import GuardTable
from monitor.config.settings import ExperimentTable
from monitor.serve import budgets
from monitor.serve.verdict_models import CheckAnswer
from monitor.verdicts.families import Thresholds
from monitor.verdicts.judge import ALARMS, State


class Levels(NamedTuple):
    """The thresholds of a check of share 1, and the worst state of kinds; a kind that is not among them may stop."""

    limits: Thresholds = Thresholds()
    highest: Mapping[str, str] = MappingProxyType({})

    def of(self, check: CheckAnswer) -> Mapping[State, float]:
        """ln E from which a check says each of its alarms, the mildest first; empty of a rule."""
        if check.note_from <= 0:
            return {}
        worst = ALARMS.index(State(self.highest.get(check.kind, State.STOP)))
        return {
            state: check.note_from + math.log(evidence / self.limits.note)
            for state, evidence in list(zip(ALARMS[1:], self.limits, strict=True))[:worst]
        }


LEVELS = Levels()
"""Those of a configuration that says nothing, but that every kind may stop."""


def levels(guard: GuardTable, table: ExperimentTable) -> Levels:
    """Those of an experiment, as the configuration says."""
    return Levels(budgets.thresholds(guard), dict(budgets.highest(guard, table)))
