"""Charts over time: options of ECharts, from series. Pure.

Each variation is always two lines, the final part and the provisional part (dashed), even where one of them is empty:
as long as the number of lines stays, an update keeps the reader's zoom. A datum is [ms, y, visits, base, provisional];
the functions named under a key that begins with a colon are in `page.js`.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Any, NamedTuple

from monitor.page import colours as colour_marks
from monitor.page.address import By, Charted
from monitor.page.checks import Mark
from monitor.serve.models import Line, SeriesAnswer, Step

POINTS_DOTTED_MAX = 3
"""Up to this many steps are all marked, since a line would hardly be visible."""
MARKED_TOP = 30
"""The pixels above a chart with marked moments, for their words."""
MARKS = 6
"""The shapes along a longer line."""
HOUR_S = 3_600
FONT = "system-ui, Segoe UI, Roboto, DejaVu Sans, sans-serif"
"""That of `page.css`. ECharts measures texts before it draws them, and cannot measure an inherited font."""
LABELS = {"year": "{yyyy}", "month": "{d} {MMM}", "day": "{d} {MMM}", "hour": "{HH}:{mm}", "minute": "{HH}:{mm}"}
"""ECharts' formats of times at the axis."""

Option = dict[str, Any]

GREY: Option = {"color": "var(--muted)", "fontFamily": FONT, "fontSize": 12}
"""The style of the labels of axes."""


class Spot(NamedTuple):
    """One step of one variation."""

    at: datetime
    visits: int
    base: int
    is_provisional: bool


def step_of(by: By, length_s: float) -> Step:
    """The step of a chart over a range of this length, which gives at most some hundred steps."""
    if by is By.HOUR:
        return Step.HOUR
    hours = length_s / HOUR_S
    if hours <= 6:
        return Step.MINUTE
    return Step.FIVE_MINUTES if hours <= 24 else Step.HOUR if hours > 72 else Step.QUARTER


def of_point(
    visits: SeriesAnswer,
    base: SeriesAnswer,
    by: By,
    charted: Charted,
    colours: Mapping[str, str],
    marks: Sequence[Mark] = (),
) -> Option:
    """Visits with a metric, or their share of all visits in scope (`base`), by variation; with moments marked."""
    lines = {line.variation: _spots(line, _line_of(base, line.variation), by is By.CUMULATIVE) for line in visits.lines}
    option = _option(_trimmed(lines), colours, is_rate=charted is Charted.RATE, is_cumulative=by is By.CUMULATIVE)
    return marked(option, marks)


def of_visits(base: SeriesAnswer, by: By, colours: Mapping[str, str], marks: Sequence[Mark] = ()) -> Option:
    """Visits in scope, by variation; with moments marked."""
    lines = {line.variation: _spots(line, line, by is By.CUMULATIVE) for line in base.lines}
    option = _option(_trimmed(lines), colours, is_rate=False, is_cumulative=by is By.CUMULATIVE)
    return marked(option, marks)


def marked(option: Option, marks: Sequence[Mark]) -> Option:
    """The option with a vertical line at each moment, and its words above it.

    Of a chart without data nothing is marked. The line is there without marks too: an update must take old ones away.
    """
    times = [datum[0] for line in option["series"] for datum in line["data"]]
    middle = (min(times) + max(times)) / 2 if times else 0.0
    lines = [
        {
            "xAxis": mark.at.timestamp() * 1_000,
            "name": mark.words,
            "label": {"align": "left" if mark.at.timestamp() * 1_000 < middle else "right"},
        }
        for mark in marks
    ]
    grid = {**option["grid"], "top": MARKED_TOP} if marks else option["grid"]
    first, *others = option["series"]
    return {**option, "grid": grid, "series": [{**first, "markLine": _mark_line(lines)}, *others]}


def _mark_line(lines: Sequence[Option]) -> Option:
    return {
        "silent": True,
        "animation": False,
        "symbol": "none",
        "lineStyle": {"color": "var(--bad)", "width": 1.5, "type": "solid"},
        "label": {"position": "end", ":formatter": "monitorPage.began", "color": "var(--bad)", "fontFamily": FONT},
        "data": list(lines),
    }


def _line_of(answer: SeriesAnswer, variation: str) -> Line:
    return next(line for line in answer.lines if line.variation == variation)


def _spots(visits: Line, base: Line, is_cumulative: bool) -> list[Spot]:
    counts: Iterable[int] = (round(point.value or 0) for point in visits.points)
    bases: Iterable[int] = (round(point.value or 0) for point in base.points)
    if is_cumulative:
        counts, bases = accumulate(counts), accumulate(bases)
    steps = zip(visits.points, counts, bases, strict=True)
    return [Spot(point.start, count, of, point.is_provisional) for point, count, of in steps]


def _trimmed(lines: Mapping[str, list[Spot]]) -> dict[str, list[Spot]]:
    """The lines without the steps before the first visit of any variation."""
    length = max((len(spots) for spots in lines.values()), default=0)
    first = next((i for i in range(length) if any(spots[i].base or spots[i].visits for spots in lines.values())), 0)
    return {name: spots[first:] for name, spots in lines.items()}


def _option(lines: Mapping[str, list[Spot]], colours: Mapping[str, str], is_rate: bool, is_cumulative: bool) -> Option:
    grey = GREY
    shapes = colour_marks.shapes(colours)
    return {
        "animation": False,
        "aria": {"enabled": False},
        "grid": {"left": 8, "right": 12, "top": 12, "bottom": 44, "containLabel": True},
        "xAxis": time_axis(grey),
        "yAxis": {
            "type": "value",
            "min": None if is_rate and is_cumulative else 0,
            "scale": is_rate and is_cumulative,
            "minInterval": None if is_rate else 1,
            "splitNumber": 4,
            "splitLine": {"lineStyle": {"color": "var(--line)"}},
            "axisLabel": {**grey, ":formatter": "monitorPage.axisRate" if is_rate else "monitorPage.axisCount"},
        },
        "tooltip": tooltip("monitorPage.tipRate" if is_rate else "monitorPage.tipCount"),
        # No start and end here: the reader's choice stays. The wheel without Ctrl scrolls the page.
        "dataZoom": [
            {"type": "inside", "filterMode": "none", "zoomOnMouseWheel": "ctrl", "moveOnMouseWheel": False},
            {"type": "slider", "filterMode": "none", "height": 16, "bottom": 8, "showDetail": False, **_slider()},
        ],
        "series": [
            line
            for i, (name, spots) in enumerate(lines.items())
            for line in _pair(name, spots, colours[name], _marks(shapes[name], len(spots), i / len(lines)), is_rate)
        ],
    }


def tooltip(formatter: str) -> Option:
    """What is told of the moment under the pointer; `formatter`: the function of `page.js` that tells it."""
    return {
        "trigger": "axis",
        "confine": True,
        "backgroundColor": "var(--raised)",
        "borderColor": "var(--line)",
        "textStyle": {"color": "var(--text)", "fontFamily": FONT, "fontSize": 13},
        "axisPointer": {"type": "line", "lineStyle": {"color": "var(--muted)"}},
        ":formatter": formatter,
    }


def time_axis(text: Option) -> Option:
    """The axis of time; `text`: the style of its labels."""
    return {
        "type": "time",
        "axisLine": {"lineStyle": {"color": "var(--line)"}},
        "axisTick": {"show": False},
        "axisLabel": {
            **text,
            "hideOverlap": True,
            "formatter": LABELS,
            "margin": 12,
            "alignMinLabel": "left",
            "alignMaxLabel": "right",
        },
        "minInterval": 60_000,
        "splitNumber": 5,
    }


def _marks(shape: str, steps: int, shift: float) -> Option:
    """The shapes along a line: at every step if there are few, otherwise at some, apart from those of other lines."""
    every = 1 if steps <= POINTS_DOTTED_MAX else max(2, -(-steps // MARKS))
    return {
        ":symbol": f'monitorPage.mark("{shape}", {every}, {int(shift * every)})',
        "showSymbol": True,
        "symbolSize": 8,
    }


def _pair(name: str, spots: list[Spot], colour: str, marks: Option, is_rate: bool) -> list[Option]:
    """The final part of a line, and the provisional one, which begins where that ends."""
    end = next((i for i, spot in enumerate(spots) if spot.is_provisional), len(spots))
    final, provisional = spots[:end], spots[max(0, end - 1) :] if end < len(spots) else []
    return [
        _line(name, final, colour, marks, "solid", is_rate),
        _line(name, provisional, colour, marks, "dashed", is_rate),
    ]


def _line(name: str, spots: list[Spot], colour: str, marks: Option, kind: str, is_rate: bool) -> Option:
    return {
        "type": "line",
        "name": name,
        "data": [_datum(spot, is_rate) for spot in spots],
        **marks,
        "color": colour,
        "lineStyle": {"color": colour, "width": 2, "type": kind},
        "itemStyle": {"color": colour},
        "emphasis": {"disabled": True},
        "connectNulls": True,
    }


def _datum(spot: Spot, is_rate: bool) -> list[float | None]:
    y = (spot.visits / spot.base if spot.base > 0 else None) if is_rate else spot.visits
    return [spot.at.timestamp() * 1_000, y, spot.visits, spot.base, int(spot.is_provisional)]


def _slider() -> Option:
    faint = {"color": "var(--line)", "opacity": 0.5}
    return {
        "borderColor": "var(--line)",
        "fillerColor": "var(--tint)",
        "backgroundColor": "transparent",
        "dataBackground": {"lineStyle": faint, "areaStyle": faint},
        "selectedDataBackground": {"lineStyle": faint, "areaStyle": faint},
        "handleStyle": {"color": "var(--raised)", "borderColor": "var(--muted)"},
        "moveHandleSize": 0,
        "brushSelect": False,
    }
