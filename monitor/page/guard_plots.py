"""The guard over time on an experiment's page: charts of evidence and of the goal's difference, outlook and history."""

from nicegui import ui

from monitor.page import alarm_list, checks, figures, guard_charts, outlook_words
from monitor.page.data import OfExperiment
from monitor.page.elements import Fragment, Plot
from monitor.page.markup import Html, element, joined
from monitor.serve.goal_course import CoursePoint

EVIDENCE_NOTE = (
    "Evidence as the watcher stored it, times each check's share of the budget, so that all have the same thresholds; "
    "the scale is one of powers of ten."
)


class GuardPlots:
    """Words, both charts, and the alarms of the past; what has nothing to show is hidden."""

    def __init__(self) -> None:
        self._head = Fragment(classes="part")
        self._place = ui.element("div").classes("charts")
        with self._place:
            self._evidence = Plot("Evidence", "course")
            self._difference = Plot("The goal's difference", "course")
        self._place.set_visibility(False)
        self._alarms = Fragment(classes="part")

    def show(self, shown: OfExperiment) -> None:
        """Draws what the guard says over the phase."""
        context, judged, courses = shown.context, shown.verdicts, shown.courses
        marks = checks.marks(judged, context.goal)
        found = [] if judged is None else judged.checks
        options = {
            self._evidence: guard_charts.evidence(found, courses.evidence, marks, shown.levels.limits),
            self._difference: guard_charts.difference(courses.goal, context.colours, marks),
        }
        titles = ("Evidence", f"{context.goal}, difference from control")
        for (plot, option), title in zip(options.items(), titles, strict=True):
            plot.set_visible(option is not None)
            if option is not None:
                plot.show(option, title)
        is_drawn = any(option is not None for option in options.values())
        self._place.set_visibility(is_drawn)
        self._head.show(_head(shown) if judged is not None and judged.phase is not None else joined())
        alarms = [(context.answer.tenant, alarm) for alarm in courses.alarms]
        self._alarms.show(alarm_list.table(alarm_list.newest(alarms), courses.since, with_names=False))


def _head(shown: OfExperiment) -> Html:
    last = {variation: points[-1] for variation, points in shown.courses.goal.items() if points}
    said = "; ".join(f"{variation} {_words(point)}" for variation, point in last.items())
    band = f"The band around the difference is a 95 % confidence sequence since the phase began. At its end: {said}."
    parts = [
        element("p", EVIDENCE_NOTE, class_="note") if shown.courses.evidence else joined(),
        element("p", band, class_="note") if said else joined(),
        outlook_words.outlook(shown.context.goal, shown.outlook),
        outlook_words.nightly(shown.courses.nightly),
    ]
    return joined(element("h2", "Since the phase began"), parts) if any(parts) else joined()


def _words(point: CoursePoint) -> str:
    return f"{figures.points(point.difference)} ({figures.interval(point.low, point.high, True)})"
