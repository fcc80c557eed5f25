"""Small drawings for a line of text or a cell, as SVG. Pure.

Their colours are CSS custom properties, for light and dark; each has its content as words too, unless those stand
beside it.
"""

from collections.abc import Sequence

from monitor.page.markup import Html, element, joined

SPARK_WIDTH, SPARK_HEIGHT = 120.0, 28.0
INTERVAL_WIDTH, INTERVAL_HEIGHT = 150.0, 18.0
EDGE = 3.0
EVIDENCE_MARGIN = 0.12
"""The part of the scale of evidence beyond the last threshold."""


def spark(values: Sequence[int], label: str) -> Html:
    """A line of counts over time, the last step provisional; words where there is nothing to draw."""
    top = max(values, default=0)
    if top <= 0:
        return element("span", "no visits", class_="spark none")
    step = (SPARK_WIDTH - 2 * EDGE) / max(1, len(values) - 1)
    floor, height = SPARK_HEIGHT - EDGE, SPARK_HEIGHT - 2 * EDGE
    spots = [(EDGE + i * step, floor - height * max(0, value) / top) for i, value in enumerate(values)]
    final = spots[:-1]
    area = [(EDGE, floor), *final, (final[-1][0] if final else EDGE, floor)]
    return _svg(
        SPARK_WIDTH,
        SPARK_HEIGHT,
        "spark",
        label,
        element("polygon", points=_points(area), class_="area"),
        element("polyline", points=_points(final), class_="stroke"),
        element("polyline", points=_points(spots[-2:]), class_="stroke provisional"),
    )


def shares(parts: Sequence[tuple[str, float, float]], label: str) -> Html:
    """Shares as one bar, with a mark at each planned end: (colour, share, planned share), shares from 0 to 1."""
    bars, marks = [], []
    planned_end = 0.0
    for colour, share, planned in parts:
        planned_end += planned
        bars.append(element("span", style=f"width:{100 * share:.2f}%;background:{colour}"))
        marks.append(element("i", style=f"left:{100 * planned_end:.2f}%"))
    return element("span", bars, marks[:-1], class_="shares", role="img", aria_label=label)


def interval(low: float, value: float, high: float, reach: float, colour: str) -> Html:
    """An interval around a value, on a scale from -reach to reach, with a line at 0; its words stand beside it."""

    def x(at: float) -> float:
        inside = max(-1.0, min(1.0, at / reach)) if reach else 0.0
        return INTERVAL_WIDTH / 2 + inside * (INTERVAL_WIDTH / 2 - EDGE)

    line = _line(INTERVAL_WIDTH / 2, 0, INTERVAL_WIDTH / 2, INTERVAL_HEIGHT, "zero")
    return _around(x(low), x(value), x(high), line, colour, None)


def estimate(low: float, value: float, high: float, span: tuple[float, float], colour: str, label: str) -> Html:
    """An interval around a value, on a scale from the first to the second of span."""
    start, end = span

    def x(at: float) -> float:
        inside = (max(start, min(end, at)) - start) / (end - start) if end > start else 0.5
        return EDGE + 2 + inside * (INTERVAL_WIDTH - 2 * EDGE - 4)

    line = _line(EDGE, INTERVAL_HEIGHT / 2, INTERVAL_WIDTH - EDGE, INTERVAL_HEIGHT / 2, "track")
    return _around(x(low), x(value), x(high), line, colour, label)


def _around(low: float, value: float, high: float, line: Html, colour: str, label: str | None) -> Html:
    """An interval from low to high around a value, in pixels, with a line behind it."""
    middle = INTERVAL_HEIGHT / 2
    dot = element("circle", cx=value, cy=middle, r=4, style=f"fill:{colour}")
    whiskers = _whiskers(low, high, middle, colour)
    return _svg(INTERVAL_WIDTH, INTERVAL_HEIGHT, "interval", label, line, whiskers, dot)


def gauge(value: float, normal: tuple[float, float], reach: float, label: str) -> Html:
    """A value on a scale from 0 to reach, with its normal range marked."""
    low, high = (100 * max(0.0, min(1.0, at / reach)) for at in normal)
    at = 100 * max(0.0, min(1.0, value / reach))
    inside = normal[0] <= value <= normal[1]
    return element(
        "span",
        element("span", class_="normal", style=f"left:{low:.1f}%;width:{high - low:.1f}%"),
        element("i", style=f"left:{at:.1f}%"),
        class_="gauge" if inside else "gauge outside",
        role="img",
        aria_label=label,
    )


def evidence(ln_e: float, thresholds: Sequence[float], label: str) -> Html:
    """ln E as a bar from 0 on, with a mark at each threshold; what is above the last is drawn at the end."""
    reach = thresholds[-1] * (1 + EVIDENCE_MARGIN)

    def x(at: float) -> float:
        return EDGE + max(0.0, min(1.0, at / reach)) * (INTERVAL_WIDTH - 2 * EDGE)

    middle, reached = INTERVAL_HEIGHT / 2, sum(ln_e >= threshold for threshold in thresholds)
    return _svg(
        INTERVAL_WIDTH,
        INTERVAL_HEIGHT,
        f"interval evidence reached-{reached}",
        label,
        _line(EDGE, middle, INTERVAL_WIDTH - EDGE, middle, "track"),
        _line(EDGE, middle, x(ln_e), middle, "grown"),
        [_line(x(threshold), 2, x(threshold), INTERVAL_HEIGHT - 2, "threshold") for threshold in thresholds],
    )


def _svg(width: float, height: float, class_: str, label: str | None, *parts: Html | Sequence[Html]) -> Html:
    """A drawing; without a label it is hidden from those who hear the page."""
    return element(
        "svg",
        joined(*parts),
        of={"viewBox": f"0 0 {width:g} {height:g}"},
        width=width,
        height=height,
        class_=class_,
        role="img" if label else None,
        aria_label=label,
        aria_hidden=None if label else "true",
    )


def _points(spots: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)


def _whiskers(left: float, right: float, middle: float, colour: str) -> Html:
    return joined(
        _line(left, middle, right, middle, "bar", colour),
        _line(left, middle - 4, left, middle + 4, "bar", colour),
        _line(right, middle - 4, right, middle + 4, "bar", colour),
    )


def _line(x1: float, y1: float, x2: float, y2: float, class_: str, colour: str | None = None) -> Html:
    style = None if colour is None else f"stroke:{colour}"
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_, style=style)
