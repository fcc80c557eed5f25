"""One colour and one shape for each variation, the same everywhere. Pure.

The palette is Okabe and Ito's (2008), which colour-blind people can tell apart; `page.css` has its values for light
and dark as the custom properties --v0 to --v7, and the shapes. The control has the first of both; the others follow in
their order. The numbers of further colours and of shapes have no common divisor, so that 43 variations differ.
"""

from collections.abc import Iterable

COLOURS = 8
"""Further variations begin with the second colour again, in another shape."""
SHAPES = ("circle", "square", "triangle", "diamond", "down", "plus")


def of_variations(control: str, variations: Iterable[str]) -> dict[str, str]:
    """Variation to CSS colour, the control first."""
    others = [name for name in variations if name != control]
    return {control: "var(--v0)"} | {name: f"var(--v{1 + i % (COLOURS - 1)})" for i, name in enumerate(others)}


def shapes(colours: Iterable[str]) -> dict[str, str]:
    """Variation to shape, for variations in the order of `of_variations`."""
    return {name: SHAPES[i % len(SHAPES)] for i, name in enumerate(colours)}
