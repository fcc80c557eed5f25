"""The checks of an experiment that are made of counts: the split, guardrails, crossed visits. Pure.

Each is evidence by the plan of restarts (`restarts`), against the weights (`multinomial`) or against a zone around
them (`zones`): the least over the zone is taken in each restart by itself. So for each check P(E ever reaches 1 /
alpha) is at most alpha in a healthy phase.

The null hypothesis of conversions is the plan too, not the visits that were observed: given that somebody converts
now, the variation is drawn by the weights. That is exact whatever the rhythm of arrivals and the lag of conversions
(Lindon and Malek, section on inhomogeneous processes), if at each moment the variations have as many conversions per
allocated visit. It answers for allocated visits: where a variation qualifies more visits, it alarms although the rates
are equal. So while the split is wrong, verdicts on metrics are to be withheld.
"""

import math
from collections.abc import Mapping, Sequence

from monitor.verdicts.multinomial import ln_evidence, mixture
from monitor.verdicts.restarts import Plan, PlanEvidence, with_restarts
from monitor.verdicts.zones import Zone, ln_evidence_against, more, null, tolerance

Counts = Sequence[float]
"""By variation: cumulative counts of a phase. Those below 0, which a store can hold for a moment only, count as 0."""
CROSSED_SHARE = 0.02
"""The share of visits that may cross to another variation."""


def split(
    plan: Plan, counts: Counts, before: Mapping[int, Counts], weights: Sequence[float], tolerated: float = 0.0
) -> PlanEvidence:
    """Evidence that visits do not divide as planned, by more than `tolerated`, a log rate ratio.

    With a tolerance each variation is tested against the rest; of three and more the strongest evidence counts, divided
    by their number. A visit in a variation of weight 0 makes it infinite.
    """
    if any(count > 0 for count, weight in zip(counts, weights, strict=True) if not weight):
        return PlanEvidence(math.inf, plan.restarts[0].start_ms, math.inf, tuple(counts))
    arms = [i for i, weight in enumerate(weights) if weight > 0]
    if tolerated and len(arms) > 1:
        # of two the one deviates as the other does
        tested = arms if len(arms) > 2 else arms[1:]
        zone = tolerance(tolerated)
        found = [_beside_the_rest(plan, counts, before, weights, arm, zone) for arm in tested]
        strongest = max(found, key=lambda evidence: evidence.ln_e)
        return strongest._replace(ln_e=strongest.ln_e - math.log(len(tested)))
    around = mixture([weights[i] for i in arms])

    def against_weights(since: Sequence[float]) -> float:
        return ln_evidence([since[i] for i in arms], around)

    return with_restarts(plan, counts, before, against_weights)


def _beside_the_rest(
    plan: Plan, counts: Counts, before: Mapping[int, Counts], weights: Sequence[float], arm: int, zone: Zone
) -> PlanEvidence:
    rest = [i for i, weight in enumerate(weights) if i != arm and weight > 0]
    hypothesis = null((math.fsum(weights[i] for i in rest), weights[arm]), zone)

    def against_zone(since: Sequence[float]) -> float:
        return ln_evidence_against((sum([since[i] for i in rest]), since[arm]), hypothesis)

    return with_restarts(plan, counts, before, against_zone)


def guardrail(
    plan: Plan,
    counts: Counts,
    before: Mapping[int, Counts],
    weights: Sequence[float],
    arms: tuple[int, int],
    zone: Zone,
) -> PlanEvidence:
    """Evidence of harm to unique conversions: that the effect of a variation lies outside of the tolerated zone.

    `arms` are the control and the variation, both of weight above 0: of the conversions in these two, where are they?
    """
    control, variation = arms
    hypothesis = null((weights[control], weights[variation]), zone)

    def against_zone(since: Sequence[float]) -> float:
        return ln_evidence_against((since[control], since[variation]), hypothesis)

    return with_restarts(plan, counts, before, against_zone)


def crossed(plan: Plan, counts: Counts, before: Mapping[int, Counts], share: float = CROSSED_SHARE) -> PlanEvidence:
    """Evidence that more than a share of visits cross to another variation, from those that did not and that did."""
    return guardrail(plan, counts, before, (1 - share, share), (0, 1), more())
