"""The settings of checks: what they tolerate, from which evidence they alarm, and how far an alarm may go.

The rules between them are in `guard_relations`.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Action = Literal["note", "warn", "hold", "stop"]
"""The alarms of a check, from the mildest to the worst."""
CheckKind = Literal["split_of_assigned", "split_of_qualified", "guardrail", "mean", "crossed", "lateness"]
"""The kinds of checks that have evidence."""
NEVER = 1e12
"""Evidence of this size needs so many visits that nothing would ever alarm."""


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", validate_default=False)


class ThresholdsTable(_Model):
    """The evidence from which a check of share 1 alarms; each is divided by the check's share."""

    note: float = Field(20, gt=1, le=NEVER, description="says note")
    warn: float = Field(50, gt=1, le=NEVER, description="warns")
    hold: float = Field(100, gt=1, le=NEVER, description="says hold")
    stop: float = Field(1_000, gt=1, le=NEVER, description="says stop")


class SharesTable(_Model):
    """The shares of the budget of false alarms of an experiment's phase."""

    split_of_assigned: float = Field(0.2, gt=0, le=1, description="the split of the assigned visits")
    split_of_qualified: float = Field(0.1, gt=0, le=1, description="the split of the qualified visits")
    guardrails: float = Field(0.4, gt=0, le=1, description="divided equally among guardrails and means")
    slices: float = Field(0.15, gt=0, le=1, description="that a healthy slice is named")
    crossed: float = Field(0.05, gt=0, le=1, description="crossed visits")
    fairness: float = Field(0.1, gt=0, le=1, description="lateness")


class HighestTable(_Model):
    """The worst that a check of a kind may say, whatever its evidence."""

    split_of_assigned: Action = Field("stop", description="the split of the assigned visits")
    split_of_qualified: Action = Field("stop", description="the split of the qualified visits")
    guardrail: Action = Field("stop", description="guardrails on conversions")
    mean: Action = Field("stop", description="guardrails on means")
    crossed: Action = Field("stop", description="crossed visits")
    lateness: Action = Field("warn", description="tardy visits: a fault of the delivery, not of what visitors see")


class GuardTable(_Model):
    """What the checks of all experiments tolerate, and what they may do."""

    split_tolerance: float = Field(0.005, ge=0, lt=1, description="a smaller relative deviation of a split is none")
    crossed_share: float = Field(0.02, gt=0, lt=1, description="the share of visits that may cross over")
    smallest_effect: float = Field(
        0, ge=0, lt=1, description="a smaller relative change of conversions or means is no harm"
    )
    thresholds: ThresholdsTable = ThresholdsTable()
    shares: SharesTable = SharesTable()
    highest: HighestTable = HighestTable()
