"""How long an experiment must still run, and what a nightly test would have said, in words. Pure."""

from datetime import UTC, datetime

from monitor.page import figures
from monitor.page.markup import Html, element, joined, moment
from monitor.serve.nightly import CRIES_WOLF, NIGHTLY_P, Nightly
from monitor.serve.outlook import HORIZON_DAYS, Outlook


def outlook(goal: str | None, of: Outlook | None) -> Html:
    """The days until the smallest effect that matters would be seen."""
    if goal is None or of is None:
        return joined()
    effect = f"a change of {goal} by {figures.percent(of.effect, 0)}"
    if of.days is None:
        said = f"{effect} cannot be seen with this traffic: it would need more than {HORIZON_DAYS} days more."
    elif not of.days:
        said = f"the visits so far are enough to see {effect}."
    else:
        said = f"about {_days(of.days)} more at this pace until {effect} would be seen."
    return element("p", element("strong", "How long still? "), f"{said[0].upper()}{said[1:]}", class_="note")


def _days(days: float) -> str:
    """Days, or hours where these are few."""
    if days < 2:
        return figures.plural(max(1, round(24 * days)), "hour")
    return figures.plural(round(days), "day")


def nightly(of: Nightly | None) -> Html:
    """What a nightly chi-squared test of the split would have said, with how often it is wrong."""
    if of is None:
        return joined()
    if not of.nights:
        said = joined("has not been asked yet in this phase")
    elif of.alarm_ms is None:
        said = joined(f"would have said nothing in {figures.plural(of.nights, 'night')}")
    else:
        said = joined("would have alarmed first at ", moment(datetime.fromtimestamp(of.alarm_ms / 1_000, UTC), "day"))
    wolf = f", and cries wolf in {figures.percent(CRIES_WOLF, 0)} of healthy weeks."
    test = f"A nightly chi-squared test of the split (p < {NIGHTLY_P:g}) "
    return element("p", element("strong", test), said, wolf, class_="note")
