"""Counts of visits that are not independent, for tests of independent visits: divided by the design effect. Pure.

Counts divided by the design effect vary as those of independent visits do, so that evidence from them is evidence
again, asymptotically: as their number grows. Sums and sums of squares of values are divided likewise: that leaves their
mean, and makes its variance as large as the design effect says.
"""

from collections.abc import Sequence

from monitor.verdicts.families import Shares, Thresholds
from monitor.verdicts.judge import Counted, Course, Known, Phase, Question, Verdict, judged


def effective(phase: Phase, design_effect: float) -> Phase:
    """The phase with all counts divided; the same one if visits are independent."""
    if design_effect == 1:
        return phase

    def counted(of: Counted) -> Counted:
        return Counted(course(of.whole), {place: course(own) for place, own in of.slices.items()})

    def course(of: Course) -> Course:
        before = {at: _times(counts, 1 / design_effect) for at, counts in of.before.items()}
        return Course(_times(of.counts, 1 / design_effect), before)

    return phase._replace(
        assigned=counted(phase.assigned),
        qualified=counted(phase.qualified),
        crossed=counted(phase.crossed),
        conversions={point: counted(of) for point, of in phase.conversions.items()},
        tardy=counted(phase.tardy),
        values={point: counted(of) for point, of in phase.values.items()},
    )


def judged_effective(
    question: Question,
    phase: Phase,
    shares: Shares,
    limits: Thresholds,
    design_effect: float,
    known: Known | None = None,
) -> list[Verdict]:
    """All verdicts on the divided counts of a phase, each with the counts of visits as they are.

    `known`: as that of `judged`; it holds divided counts.
    """
    found = judged(question, effective(phase, design_effect), shares, limits, known)
    return found if design_effect == 1 else [as_counted(verdict, design_effect) for verdict in found]


def as_counted(verdict: Verdict, design_effect: float) -> Verdict:
    """A verdict on divided counts, with the counts of visits as they are."""
    return verdict._replace(
        counts=_times(verdict.counts, design_effect), counts_since=_times(verdict.counts_since, design_effect)
    )


def _times(counts: Sequence[float], factor: float) -> tuple[float, ...]:
    return tuple(count * factor for count in counts)
