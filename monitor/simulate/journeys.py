"""The steps of one visit by a shopper or a bot, with their moments. Pure; all chance comes from `draw`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log
from typing import NamedTuple

from monitor.simulate.incidents import Incident
from monitor.simulate.shop import Effect

LONGEST_VISIT_MS = 300_000
"""The longest visit: steps that would come later are not taken."""

Draw = Callable[[], float]
"""A uniform draw from [0, 1)."""

_PAUSE_MS = 7_500.0
_LONGEST_PAUSE_MS = 90_000.0
_PAGES_MEAN = 7.8
_PAGES_MAX = 40
_CART_ODDS = 0.13
_CHECKOUT_ODDS = 0.55
_ORDER_ODDS = 0.68
_LOGIN_ODDS = 0.40
_CARD_SHARE = 0.70
_TEXT_TOTAL_SHARE = 0.02

_HOME = '"page":"home"'
_SEARCH = tuple(f'"page":"search","query":"{query}"' for query in ("lamp", "desk", "green tea", "usb-c cable", "sofa"))
_CLICKS = tuple(f'"target":"{target}"' for target in ("menu", "photo", "filter", "size_chart", "reviews"))
_PRICES_CENTS = tuple(499 + 7919 * sku % 24_500 for sku in range(2_000))
_ITEMS = tuple(
    f'"item":"sku-{sku:04d}","price":{cents // 100}.{cents % 100:02d}' for sku, cents in enumerate(_PRICES_CENTS)
)


class JourneyStep(NamedTuple):
    """One step: its true moment, its event, and its own attributes as JSON members."""

    at_ms: int
    event: str
    attributes: str


class _Walk:
    """The steps so far, and the moment of the next one."""

    __slots__ = ("_at_ms", "_draw", "_end_ms", "steps")

    def __init__(self, draw: Draw, start_ms: int) -> None:
        self.steps: list[JourneyStep] = []
        self._draw = draw
        self._at_ms = start_ms + int(1000 * draw())
        self._end_ms = start_ms + LONGEST_VISIT_MS

    def step(self, event: str, attributes: str) -> int:
        """Takes a step, unless the visit has lasted too long by now, and returns its moment."""
        at_ms = self._at_ms
        if at_ms < self._end_ms:
            self.steps.append(JourneyStep(at_ms, event, attributes))
        pause_ms = -_PAUSE_MS * log(1.0 - self._draw())
        self._at_ms = at_ms + 250 + int(min(pause_ms, _LONGEST_PAUSE_MS))
        return at_ms


def shopper(
    draw: Draw, start_ms: int, effect: Effect, *, logged_in: bool, broken: Sequence[Incident]
) -> list[JourneyStep]:
    """A person's visit that begins within the second at `start_ms`: browsing and, for a few percent, an order.

    `effect` holds the factors of the visitor's device and variations; payments fail during the `broken` incidents.
    """
    walk = _Walk(draw, start_ms)
    sku = _browse(walk, draw)
    if draw() >= _CART_ODDS * effect.cart:
        return walk.steps
    total_cents = _fill_cart(walk, draw, sku)
    if draw() >= _CHECKOUT_ODDS:
        return walk.steps
    if not logged_in and draw() < _LOGIN_ODDS:
        walk.step("login", '"page":"login"')
    _check_out(walk, draw, total_cents, _ORDER_ODDS * effect.order, broken)
    return walk.steps


def bot(draw: Draw, start_ms: int) -> list[JourneyStep]:
    """A crawler's visit: 150 to 550 pages at a steady pace."""
    pages = 150 + int(400 * draw())
    pace_ms = 150 + int(350 * draw())
    first_sku = int(len(_ITEMS) * draw())
    return [
        JourneyStep(start_ms + n * pace_ms, "page_view", f'"page":"item",{_ITEMS[(first_sku + n) % len(_ITEMS)]}')
        for n in range(pages)
    ]


def _browse(walk: _Walk, draw: Draw) -> int:
    """Looks around for a while and returns the item seen last."""
    sku = int(len(_ITEMS) * draw())
    entry = draw()
    if entry < 0.62:
        walk.step("page_view", _HOME)
    elif entry < 0.80:
        walk.step("page_view", _SEARCH[sku % len(_SEARCH)])
    for _ in range(min(1 + int(-_PAGES_MEAN * log(1.0 - draw())), _PAGES_MAX)):
        choice = draw()
        if choice < 0.52:
            sku = int(len(_ITEMS) * draw())
            walk.step("page_view", f'"page":"item",{_ITEMS[sku]}')
        elif choice < 0.74:
            walk.step("page_view", _SEARCH[int(len(_SEARCH) * draw())])
        elif choice < 0.95:
            walk.step("click", _CLICKS[int(len(_CLICKS) * draw())])
        else:
            walk.step("page_view", _HOME)
    return sku


def _fill_cart(walk: _Walk, draw: Draw, sku: int) -> int:
    """Puts one item or more into the cart, looks at the cart, and returns the sum of the prices in cents."""
    total_cents = 0
    while True:
        walk.step("add_to_cart", _ITEMS[sku])
        total_cents += _PRICES_CENTS[sku]
        if draw() < 0.7:
            break
        sku = int(len(_ITEMS) * draw())
        walk.step("page_view", f'"page":"item",{_ITEMS[sku]}')
    walk.step("page_view", '"page":"cart"')
    return total_cents


def _check_out(walk: _Walk, draw: Draw, total_cents: int, order_odds: float, broken: Sequence[Incident]) -> None:
    payment = '"payment":"card"' if draw() < _CARD_SHARE else '"payment":"wallet"'
    wants, gives_up_at, text_total = draw() < order_odds, draw(), draw() < _TEXT_TOTAL_SHARE
    at_ms = walk.step("checkout", payment)
    if any(incident.covers(at_ms) for incident in broken):
        while gives_up_at < 0.5:  # tries again once or more, in vain
            walk.step("payment_failed", payment)
            walk.step("checkout", payment)
            gives_up_at = draw()
        walk.step("payment_failed", payment)
    elif wants:
        total = f"{total_cents // 100}.{total_cents % 100:02d}"
        amount = f'"{total}"' if text_total else total  # an old client sends the total as text: a bad value
        walk.step("order", f'"total":{amount},{payment}')
        walk.step("page_view", '"page":"confirmation"')
