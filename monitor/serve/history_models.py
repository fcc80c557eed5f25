"""The shapes of answers about what checks have said over time."""

from datetime import datetime

from pydantic import Field

from monitor.serve.findings import Answer
from monitor.serve.models import Step
from monitor.verdicts.judge import State


class ChangeAnswer(Answer):
    """A check that said something else than before."""

    at: datetime = Field(description="the end of the last final minute that was judged")
    check: str
    previous: State | None = Field(description="null: the first that is known of the range")
    state: State


class HistoryAnswer(Answer):
    """The changes of an experiment's checks over a range, the oldest first."""

    tenant: str
    experiment: str
    start: datetime
    end: datetime
    step: Step = Field(description="of each step the last state counts: a state that lasted for less may be missing")
    changes: list[ChangeAnswer]
    is_cut: bool = Field(description="true: there are older changes within the range, too many to be listed")


class EvidencePoint(Answer):
    """The evidence of a check within a step."""

    at: datetime = Field(description="the start of the step; of a step of a minute, the end of the last final minute")
    ln_e: float = Field(description="the largest ln E of the step; 700 stands for anything larger")
    ln_e_max: float = Field(description="the largest of the phase up to then")


class EvidenceLine(Answer):
    """The evidence of one check over time."""

    check: str
    points: list[EvidencePoint]


class EvidenceAnswer(Answer):
    """The evidence of an experiment's checks over a range, those with the largest first."""

    tenant: str
    experiment: str
    start: datetime
    end: datetime
    step: Step
    lines: list[EvidenceLine]
