"""The words for the two kinds of intervals. Pure."""

from monitor.page import figures
from monitor.page.markup import Html, element
from monitor.serve.anytime import Intervals
from monitor.serve.models import Difference

CHOICES = {Intervals.ANYTIME: "valid at every look", Intervals.FIXED: "fixed, for one look"}
NAMES = {Intervals.ANYTIME: "95 % interval", Intervals.FIXED: "Fixed 95 % interval"}
PROMISES = {Intervals.ANYTIME: "valid at every look", Intervals.FIXED: "not valid if you peek"}
NOTES = {
    Intervals.ANYTIME: "95 % intervals that are valid however often you look (confidence sequences; none for few "
    "visits), over a range whose start stays, as that of the phase does. Those of differences hold for all variations "
    "together.",
    Intervals.FIXED: "Fixed 95 % intervals (of rates Newcombe's, of means the normal approximation; none for few "
    "visits): they are valid for one look at a moment that was chosen beforehand, not if you peek. A difference that "
    "becomes significant while you watch may turn back.",
}


def result(kind: Intervals, difference: Difference) -> Html:
    """What an interval says, as a label."""
    if not difference.is_significant:
        return element("span", "inconclusive", class_="tag")
    how = "significantly " if kind is Intervals.FIXED else ""
    return element("span", f"{how}{'higher' if difference.absolute > 0 else 'lower'}", class_="tag significant")


def short(kind: Intervals, difference: Difference) -> str:
    """A difference, and whether its interval contains 0."""
    said = "significant" if kind is Intervals.FIXED else "not 0"
    return f"{figures.points(difference.absolute)}{f', {said}' if difference.is_significant else ''}"
