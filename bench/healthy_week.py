"""Draws docs/pictures/healthy-week.svg: a healthy week in which a z-test cried wolf, and the monitor did not.

    python -m bench.healthy_week

Both look at the same simulated visits of two equal variations. Above is the p-value of the chi-squared test of the
split (of two variations it is the z-test squared), each minute; below the evidence of the monitor's check of it.
"""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from bench.looks import LEVEL, evidence_by_plan, of_split, sums
from bench.weeks import DAY_MINUTES, week
from monitor.verdicts.families import Shares, Thresholds

WEEK = 5
"""The first in which the p-value stays below 0.01 for days. It is there at some look in about every fourth week."""
PICTURE = Path(__file__).parent.parent / "docs" / "pictures" / "healthy-week.svg"
NOTE, HOLD = (threshold / Shares().split_of_assigned for threshold in (Thresholds().note, Thresholds().hold))
"""The evidence from which this check says note and hold."""

LOOK_MINUTES = 10
_LEFT, _WIDTH, _HEIGHT = 70, 800, 170
_INK, _FAINT, _WOLF, _MONITOR = "#1f2328", "#8c959f", "#c0392b", "#1f6feb"

Curve = list[tuple[int, float]]
"""(minute, value) in order."""


class Panel(NamedTuple):
    """A part of the picture: its top, the values at its top and bottom (logarithmic), and the labelled ones."""

    top: int
    at_top: float
    at_bottom: float
    ticks: tuple[float, ...]

    def y(self, value: float) -> float:
        """The place of a value; beyond an end it is the end."""
        part = math.log(self.at_top / value) / math.log(self.at_top / self.at_bottom)
        return self.top + _HEIGHT * min(1.0, max(0.0, part))


def main() -> None:
    """Writes the picture."""
    PICTURE.write_text(drawn(*looks_of(WEEK)), encoding="utf-8")


def looks_of(number: int) -> tuple[Curve, Curve]:
    """Of a healthy week: the least p-value of the looks of each ten minutes, and the evidence E after them."""
    visits = sums([minute.visits for minute in week(number)])
    ends = range(LOOK_MINUTES, len(visits), LOOK_MINUTES)
    p_values = [
        (end, math.exp(-max(of_split(visits[at]) for at in range(end - LOOK_MINUTES + 1, end + 1)))) for end in ends
    ]
    return p_values, [(end, math.exp(evidence_by_plan(visits, end, is_split=True))) for end in ends]


def drawn(p_values: Curve, evidence: Curve) -> str:
    """The picture as SVG, on a white ground, for light and dark pages alike."""
    above, below = Panel(56, 1.0, 0.0003, (1, 0.1, 0.01, 0.001)), Panel(316, 1_000.0, 0.1, (1_000, 100, 10, 1, 0.1))
    percent = 100 * sum(p < LEVEL for _, p in p_values) / len(p_values)
    first = next(minute for minute, p in p_values if p < LEVEL) // DAY_MINUTES + 1
    head = f"Chi-squared test at every look: p below {LEVEL:g} in {percent:.0f} % of the week, first on day {first}"
    parts = [
        _text(_LEFT, 36, head, _INK, "bold"),
        *_frame(above, "p"),
        *_threshold(above, LEVEL, f"alarm below {LEVEL:g}", _WOLF),
        _line(above, p_values, _WOLF),
        _text(_LEFT, 296, f"The monitor: evidence of at most {max(e for _, e in evidence):.1f}", _INK, "bold"),
        *_frame(below, "E"),
        *_threshold(below, HOLD, f"hold from {HOLD:g}", _MONITOR),
        *_threshold(below, NOTE, f"note from {NOTE:g}", _MONITOR),
        _line(below, evidence, _MONITOR),
    ]
    size = f'width="{_LEFT + _WIDTH + 30}" height="530" viewBox="0 0 {_LEFT + _WIDTH + 30} 530"'
    style = 'font-family="system-ui, sans-serif" font-size="14"'
    title = "<title>A healthy week: the p-value of a test at every look, and the evidence of the monitor</title>"
    ground = '<rect width="100%" height="100%" fill="#ffffff"/>'
    body = "\n".join([title, ground, *parts])
    return f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size} {style}>\n{body}\n</svg>\n'


def _frame(panel: Panel, name: str) -> Iterator[str]:
    """The axes: values to the left, days below."""
    bottom = panel.top + _HEIGHT
    for value in panel.ticks:
        y = panel.y(value)
        yield f'<path d="M{_LEFT} {y:.1f}h{_WIDTH}" stroke="{_FAINT}" stroke-opacity="0.3"/>'
        yield _text(_LEFT - 8, y + 5, f"{value:,g}", _FAINT, anchor="end")
    yield _text(16, panel.top + _HEIGHT / 2, name, _INK)
    for day in range(7):
        x = _x(day * DAY_MINUTES)
        yield f'<path d="M{x:.1f} {panel.top}v{_HEIGHT}" stroke="{_FAINT}" stroke-opacity="0.3"/>'
        yield _text(x + _WIDTH / 14, bottom + 20, f"day {day + 1}", _FAINT, anchor="middle")


def _threshold(panel: Panel, value: float, words: str, colour: str) -> Iterator[str]:
    y = panel.y(value)
    yield f'<path d="M{_LEFT} {y:.1f}h{_WIDTH}" stroke="{colour}" stroke-dasharray="6 4"/>'
    yield _text(_x(2 * DAY_MINUTES) + 6, y - 5, words, colour)


def _line(panel: Panel, curve: Curve, colour: str) -> str:
    points = _points((minute, panel.y(value)) for minute, value in curve if value)
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def _points(places: Iterable[tuple[int, float]]) -> str:
    return " ".join(f"{_x(minute):.1f},{y:.1f}" for minute, y in places)


def _x(minute: float) -> float:
    return _LEFT + _WIDTH * minute / (7 * DAY_MINUTES)


def _text(x: float, y: float, words: str, colour: str, weight: str = "normal", anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} fill="{colour}" font-weight="{weight}">{words}</text>'


if __name__ == "__main__":
    main()
