"""What the guard says over time as options of ECharts: the evidence of checks, and the goal's difference. Pure.

The functions named under a key that begins with a colon are in `page.js`.
"""

import math
from collections.abc import Mapping, Sequence

from monitor.page import judgements
from monitor.page.charts import GREY, Option, marked, time_axis, tooltip
from monitor.page.checks import Mark
from monitor.serve.goal_course import CoursePoint, Courses
from monitor.serve.verdict_models import CheckAnswer
from monitor.verdicts.families import Thresholds
from monitor.verdicts.judge import LIMITS

CHECKS_DRAWN = 6
"""The checks whose evidence is drawn, the worst ones."""
BANDS_DRAWN = 3
"""The variations whose difference is drawn, the clearest ones."""
POWERS = (-1, 4)
"""The powers of ten between which evidence is drawn; what is outside is drawn at the end.

Higher thresholds make the scale longer."""
WIDE = 4.0
"""Early bands that are so many times as wide as the last one reach beyond the chart."""
LINES = tuple(f"var(--v{i})" for i in range(8))


def evidence(
    checks: Sequence[CheckAnswer],
    stored: Mapping[str, Sequence[tuple[int, float]]],
    marks: Sequence[Mark],
    limits: Thresholds = LIMITS,
) -> Option | None:
    """The evidence of the worst checks, times their shares of the budget, with the thresholds; None: nothing is stored.

    With the shares the thresholds of all checks are the same: those of share 1.
    """
    drawn = [check for check in checks if judgements.has_evidence(check) and stored.get(check.check)][:CHECKS_DRAWN]
    if not drawn:
        return None
    series, top = [], max(POWERS[1], math.ceil(math.log10(max(limits))))
    for check, colour in zip(drawn, LINES, strict=False):
        ln_share = math.log(limits.note) - check.note_from
        data = [[at_ms, _power(ln_e + ln_share, top), ln_e] for at_ms, ln_e in stored[check.check]]
        series.append({**_line(judgements.name(check), colour), "data": data})
    option = {
        "animation": False,
        "aria": {"enabled": False},
        "legend": {"type": "scroll", "top": 0, "left": 0, "icon": "rect", "itemHeight": 4, "textStyle": GREY},
        "grid": {"left": 8, "right": 44, "top": 34, "bottom": 8, "containLabel": True},
        "xAxis": time_axis(GREY),
        "yAxis": {
            "type": "value",
            "min": POWERS[0],
            "max": top,
            "interval": 1,
            "splitLine": {"lineStyle": {"color": "var(--line)"}},
            "axisLabel": {**GREY, ":formatter": "monitorPage.axisPower"},
        },
        "tooltip": tooltip("monitorPage.tipEvidence"),
        "series": [*series, _thresholds(limits)],
    }
    return _placed(marked(option, marks), 46)


def _power(ln_e: float, top: int) -> float:
    """The power of ten, as far as it is drawn."""
    return max(POWERS[0], min(top, ln_e / math.log(10)))


def _thresholds(limits: Thresholds) -> Option:
    """A series without a line of its own: a dashed line at each threshold, with its name at the right."""
    of_states = zip(judgements.NOTABLE, limits, strict=True)
    label = {**GREY, "position": "end", "formatter": "{b}", "fontSize": 11}
    lines = [{"yAxis": math.log10(evidence), "name": state.value} for state, evidence in of_states]
    return {
        "type": "line",
        "name": "",
        "data": [],
        "markLine": {
            "silent": True,
            "animation": False,
            "symbol": "none",
            "lineStyle": {"color": "var(--muted)", "width": 1, "type": "dashed"},
            "label": label,
            "data": lines,
        },
    }


def difference(courses: Courses, colours: Mapping[str, str], marks: Sequence[Mark]) -> Option | None:
    """The difference of the goal's rate from control with its band, by variation; None: too few conversions."""
    found = [(variation, points) for variation, points in courses.items() if points]
    found = sorted(found, key=lambda pair: -_clearness(pair[1][-1]))[:BANDS_DRAWN]
    if not found:
        return None
    reach = max(_reach(points) for _, points in found)
    option = {
        "animation": False,
        "aria": {"enabled": False},
        "grid": {"left": 8, "right": 12, "top": 12, "bottom": 8, "containLabel": True},
        "xAxis": time_axis(GREY),
        "yAxis": {
            "type": "value",
            "min": -reach,
            "max": reach,
            "splitNumber": 4,
            "splitLine": {"lineStyle": {"color": "var(--line)"}},
            "axisLabel": {**GREY, "showMinLabel": False, "showMaxLabel": False, ":formatter": "monitorPage.axisPoints"},
        },
        "tooltip": tooltip("monitorPage.tipDifference"),
        "series": [line for variation, points in found for line in _band(variation, points, colours[variation])],
    }
    return marked(option, marks)


def _band(variation: str, points: Sequence[CoursePoint], colour: str) -> list[Option]:
    """The line of the difference, and the band below it: its lower end, and what is between, stacked on that."""
    hidden = {"lineStyle": {"opacity": 0}, "stack": variation, "stackStrategy": "all", "silent": True}
    line = _line(variation, colour)
    return [
        {**line, "data": [[p.at_ms, p.difference, p.low, p.high] for p in points]},
        {**line, **hidden, "data": [[p.at_ms, p.low] for p in points]},
        {
            **line,
            **hidden,
            "areaStyle": {"color": colour, "opacity": 0.18},
            "data": [[p.at_ms, p.high - p.low] for p in points],
        },
    ]


def _line(name: str, colour: str) -> Option:
    return {
        "type": "line",
        "name": name,
        "color": colour,
        "lineStyle": {"color": colour, "width": 2},
        "itemStyle": {"color": colour},
        "showSymbol": False,
        "emphasis": {"disabled": True},
    }


def _reach(points: Sequence[CoursePoint]) -> float:
    """How far from 0 the band reaches, without its first part."""
    last = points[-1].high - points[-1].low
    return max(max(abs(p.low), abs(p.high)) for p in points if p.high - p.low <= WIDE * last)


def _clearness(point: CoursePoint) -> float:
    width = point.high - point.low
    return abs(point.difference) / width if width else 0.0


def _placed(option: Option, top: int) -> Option:
    """With room above for the legend and the words of marks."""
    return {**option, "grid": {**option["grid"], "top": max(top, option["grid"]["top"])}}
