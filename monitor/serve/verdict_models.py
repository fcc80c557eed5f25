"""The shapes of answers about verdicts."""

from datetime import datetime

from pydantic import Field

from monitor.serve.findings import Answer
from monitor.verdicts.judge import Kind, State
from monitor.verdicts.traffic import TrafficKind


class EffectAnswer(Answer):
    """A relative change, with the confidence sequence of 95 %: -0.2 is a fifth less."""

    estimate: float
    low: float | None = Field(description="null: no bound")
    high: float | None = Field(description="null: no bound")


class LateAnswer(Answer):
    """Visits that came too late since an alarm began, and what they could change of it; no part of the verdict."""

    visits: dict[str, int] = Field(description="by variation")
    ln_e: float = Field(description="ln E against the weights since then, without restarts and tolerance")
    ln_e_by_weights: float = Field(description="the same with the late visits divided as the weights say")
    ln_e_on_weaker_side: float = Field(description="the same with all of them on the weaker side, up to the plan")
    holds: bool = Field(description="whether it would still say note with all of them on the weaker side")
    words: str


class SliceAnswer(Answer):
    """The evidence of a check within a slice."""

    place: dict[str, str] = Field(description="tag to value")
    ln_e: float


class CheckAnswer(Answer):
    """What one check says."""

    check: str = Field(description="its name, unique in the experiment")
    kind: Kind | TrafficKind
    point: str | None
    variation: str | None
    state: State
    ln_e: float = Field(description="the logarithm of the evidence; 700 stands for anything larger; 0 of rules")
    note_from: float = Field(
        description="ln E from which it says note; by default warn, hold, stop need 0.9, 1.6, 3.9 more; 0 of rules"
    )
    since: datetime | None = Field(description="when it began, as far as the evidence says; null: it says nothing")
    place: dict[str, str] = Field(description="tag to value of the slice that carries it; empty: everywhere")
    effect: EffectAnswer | None = Field(description="of the variation since then, beside the control or its weight")
    counts: dict[str, int] = Field(
        description="in the phase, by variation; of crossed visits: stayed, crossed; of a mean: by VARIATION.sum, "
        "VARIATION.sumsq and VARIATION.beta, the qualified visits"
    )
    counts_since: dict[str, int] = Field(description="since then")
    late: LateAnswer | None = Field(None, description="beside alarms of splits and guardrails; null: no visit was late")
    words: str = Field(description="all of it in a sentence")
    slices: list[SliceAnswer] = Field([], description="of an alarm: at most 10, the most evidence first")


class PhaseAnswer(Answer):
    """The phase that the verdicts belong to."""

    start: datetime
    weights: dict[str, float]
    visits_from: datetime = Field(description="visits are counted from this minute on")
    conversions_from: datetime = Field(description="conversions are counted from this minute on")
    sealed_until: datetime = Field(description="only minutes before this are counted: they are final")


class VerdictsAnswer(Answer):
    """The verdicts of an experiment, the worst first."""

    tenant: str
    experiment: str
    state: State = Field(description="the worst")
    words: str = Field(description="the worst verdict in a sentence")
    phase: PhaseAnswer | None = Field(description="null: none has begun, or the store no longer has its beginning")
    checks: list[CheckAnswer]
    design_effect: float = Field(1.0, description="what counts were divided by before they were judged (live A/A)")


class TenantVerdictsAnswer(Answer):
    """The verdicts of all experiments of a tenant, the worst first."""

    tenant: str
    experiments: list[VerdictsAnswer]
