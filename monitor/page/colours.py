"""One colour for each variation, the same everywhere. Pure.

The palette is Okabe and Ito's (2008), which colour-blind people can tell apart; `page.css` has its values for light
and dark as the custom properties --v0 to --v7. The control has the first one; the others follow in their order.
"""

from collections.abc import Iterable

COLOURS = 8
"""Further variations begin with the second colour again."""


def of_variations(control: str, variations: Iterable[str]) -> dict[str, str]:
    """Variation to CSS colour."""
    others = [name for name in variations if name != control]
    return {control: "var(--v0)"} | {name: f"var(--v{1 + i % (COLOURS - 1)})" for i, name in enumerate(others)}
