"""What the checks of an experiment's traffic say, in words. Pure."""

from monitor.verdicts.judge import State
from monitor.verdicts.silent_variations import Unseen
from monitor.verdicts.traffic import Fall, TrafficKind

_ABOUT = {
    TrafficKind.NO_TRAFFIC: "The experiment's traffic",
    TrafficKind.TRAFFIC_DROPPED: "The number of assigned visits",
}


def of_silence(found: Fall) -> str:
    """An experiment without traffic."""
    return (
        f"No visits are assigned any more: none in {_minutes(found.minutes)}, where about {found.expected:,.0f} were "
        "expected from the time before."
    )


def of_fall(found: Fall) -> str:
    """An experiment whose traffic has fallen."""
    lost = f"{1 - found.visits / found.expected:.0%}".replace("%", " %")
    return (
        f"Assigned visits have fallen by about {lost}: {found.visits:,} in the last {_minutes(found.minutes)}, where "
        f"about {found.expected:,.0f} were expected from the time before."
    )


def of_silent_variation(variation: str, share: float, found: Unseen) -> str:
    """A variation without visits."""
    where = " and ".join(f"{tag} {value}" for tag, value in found.place)
    place = f", with {where}" if where else ""
    return (
        f"{variation} gets no visits{place}: none of {sum(found.counts):,}, where by the weights about "
        f"{found.expected(share):,.0f} were expected."
    )


def quiet(kind: TrafficKind, variation: str | None, state: State) -> str:
    """What a check that finds nothing says."""
    about = _ABOUT.get(kind, f"Visits of {variation}")
    return {
        State.HEALTHY: f"{about}: nothing is wrong.",
        State.TOO_EARLY: f"{about}: too few visits to say more than that nothing is wrong yet.",
        State.NO_DATA: f"{about}: no data.",
    }[state]


def _minutes(minutes: int) -> str:
    return f"{minutes:,} minutes" if minutes < 180 else f"{minutes // 60:,} hours"
