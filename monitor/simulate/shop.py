"""The shop whose traffic is simulated: tenants, their experiments, and what a variation does to its visitors.

`examples/shop/monitor.toml` is the configuration that measures it; a test holds the two together.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations
from typing import NamedTuple


class ShopExperiment(NamedTuple):
    """An experiment as one tenant runs it: variations with their integer weights, the control first."""

    name: str
    weights: tuple[tuple[str, int], ...]

    def variation(self, draw: int) -> str:
        """The variation that a draw (any integer that is 0 or more) falls on, in proportion to the weights."""
        wheel = _wheel(self)
        return wheel[draw % len(wheel)]


class ShopTenant(NamedTuple):
    """One tenant: `share` of all visits, `peak_hour` (UTC) of its day, `realm` within which session ids are shared."""

    name: str
    share: float
    peak_hour: float
    realm: int
    experiments: tuple[ShopExperiment, ...]

    def mixes(self) -> tuple[tuple[int, ...], ...]:
        """The sets of experiments, as positions, that its visits can be in: any 2, and any 3."""
        positions = range(len(self.experiments))
        return (*combinations(positions, 2), *combinations(positions, 3))


class Effect(NamedTuple):
    """Factors on the odds that a visitor fills a cart, and that a visitor who checks out also orders."""

    cart: float = 1.0
    order: float = 1.0


@cache  # an entry for each experiment
def _wheel(experiment: ShopExperiment) -> tuple[str, ...]:
    """Each variation as often as its weight says."""
    return tuple(name for name, weight in experiment.weights for _ in range(weight))


COLOR = ShopExperiment("button_color", (("blue", 50), ("red", 50)))
CHECKOUT = ShopExperiment("fast_checkout", (("fc_off", 1), ("fc_on", 1)))
RANKING = ShopExperiment("search_ranking", (("rank_a", 34), ("rank_b", 33), ("rank_c", 33)))
SHIPPING = ShopExperiment("free_shipping", (("ship_off", 80), ("ship_50", 10), ("ship_35", 10)))
REVIEWS = ShopExperiment("item_reviews", (("rv_off", 90), ("rv_on", 10)))

# The two American tenants belong to one owner with a common sign-on: a visitor's session id is the same at both.
TENANTS: tuple[ShopTenant, ...] = (
    ShopTenant("uswm", 0.50, 20.0, 0, (COLOR, CHECKOUT, RANKING, SHIPPING)),
    ShopTenant("usgr", 0.20, 23.0, 0, (COLOR, CHECKOUT, REVIEWS)),
    ShopTenant("mxwm", 0.12, 2.0, 1, (COLOR, RANKING, SHIPPING, REVIEWS)),
    ShopTenant("cawm", 0.08, 19.0, 2, (CHECKOUT, RANKING, REVIEWS)),
    ShopTenant("ukad", 0.05, 18.0, 3, (COLOR, CHECKOUT, SHIPPING)),
    ShopTenant("degs", 0.03, 17.0, 4, (COLOR, CHECKOUT)),
    ShopTenant("brsc", 0.015, 22.0, 5, (RANKING, SHIPPING)),
    ShopTenant("jpsy", 0.005, 11.0, 6, (COLOR, REVIEWS)),
)

EFFECTS: dict[str, Effect] = {
    "red": Effect(cart=1.05),
    "fc_on": Effect(order=1.10),
    "rank_b": Effect(cart=1.03),
    "rank_c": Effect(cart=0.96),
    "ship_50": Effect(cart=1.04, order=1.06),
    "ship_35": Effect(cart=1.06, order=1.12),
    "rv_on": Effect(cart=1.02, order=0.98),
}

# Device and its share of visitors in thousandths. The configuration lists the first three; None: the device is absent.
DEVICES: tuple[tuple[str | None, int], ...] = (
    ("mobile", 575),
    ("desktop", 340),
    ("tablet", 70),
    ("tv", 6),
    ("console", 4),
    ("smart fridge", 2),
    (None, 3),
)

DEVICE_EFFECTS: dict[str | None, Effect] = {
    "mobile": Effect(cart=0.85, order=0.80),
    "desktop": Effect(cart=1.20, order=1.15),
    "tv": Effect(cart=0.30, order=0.50),
}

USER_AGENTS: dict[str | None, str] = {
    "mobile": "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X)",
    "desktop": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Firefox/140.0",
    "tablet": "Mozilla/5.0 (iPad; CPU OS 17_5 like Mac OS X) Safari/604.1",
}
OTHER_USER_AGENT = "Mozilla/5.0 (Linux; Android 12) AppleWebKit/537.36"

BOT_USER_AGENTS: tuple[str, ...] = ("Googlebot/2.1", "bingbot/2.0", "AhrefsBot/7.0", "python-requests/2.32")
