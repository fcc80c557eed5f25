"""What the verdicts of an experiment are computed from, so that anybody can compute them again."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from monitor.serve.failover import Evidence, Stretch
from monitor.serve.verdict_models import VerdictsAnswer
from monitor.verdicts.families import Shares, Thresholds
from monitor.verdicts.judge import Phase, Question


class Inputs(NamedTuple):
    """All that the verdicts of a phase follow from, and where its counts came from.

    `served`: the data center of each minute of the phase, in ms of event time. `watermarks_ms`: the last watermark of
    each data center that has reported one.
    """

    question: Question
    counted: Phase
    shares: Shares
    thresholds: Thresholds
    served: Sequence[Stretch]
    watermarks_ms: Mapping[str, int]
    design_effect: float
    """What all counts are divided by before they are judged."""


class Judged(NamedTuple):
    """The verdicts of an experiment, and what they were computed from: None where there was nothing to judge."""

    answer: VerdictsAnswer
    inputs: Inputs | None


def watermarks_ms(evidence: Evidence, dcs: Sequence[str]) -> dict[str, int]:
    """The last watermark of each data center that has reported one."""
    reports = {dc: evidence.last(dc) for dc in dcs}
    return {dc: report.watermark_ms for dc, report in reports.items() if report is not None}
