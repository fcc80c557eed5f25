"""What the verdicts of an experiment are computed from, so that anybody can compute them again."""

from typing import NamedTuple

from monitor.serve.verdict_models import VerdictsAnswer
from monitor.verdicts.families import Shares, Thresholds
from monitor.verdicts.judge import Phase, Question


class Inputs(NamedTuple):
    """The arguments of `judged`: all that the verdicts of a phase follow from."""

    question: Question
    counted: Phase
    shares: Shares
    thresholds: Thresholds
    design_effect: float = 1.0
    """What all counts are divided by before they are judged."""


class Judged(NamedTuple):
    """The verdicts of an experiment, and what they were computed from: None where there was nothing to judge."""

    answer: VerdictsAnswer
    inputs: Inputs | None
