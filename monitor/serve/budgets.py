"""What the configuration says of checks, as `verdicts` takes it. Pure."""

from monitor.config.guard import GuardTable
from monitor.config.settings import ExperimentTable
from monitor.verdicts.families import Shares, Thresholds


def shares(guard: GuardTable) -> Shares:
    """The shares of a phase's budget."""
    return Shares(**guard.shares.model_dump())


def thresholds(guard: GuardTable) -> Thresholds:
    """The evidence from which a check of share 1 alarms."""
    return Thresholds(**guard.thresholds.model_dump())


def highest(guard: GuardTable, table: ExperimentTable) -> tuple[tuple[str, str], ...]:
    """Each kind of checks with the worst that it may say: as the experiment says, else as all do."""
    return tuple((guard.highest.model_dump() | table.highest).items())


def smallest_effect(guard: GuardTable, table: ExperimentTable) -> float:
    """The relative change from which on there is harm: as the experiment says, else as all do."""
    return guard.smallest_effect if table.smallest_effect is None else table.smallest_effect
