"""A small shop to measure, and messages of its visitors."""

from typing import Any

from tests.support.driver import Core
from tests.support.oracle import Message
from tests.support.strategies import Config, encode

MINUTE_MS = 60_000
BASE_MS = 1_795_491_000_000 - 1_795_491_000_000 % MINUTE_MS
"""The start of a minute: events are told by their milliseconds after it."""
SESSION = "s-1"


def shop(lateness_s: int = 600, gap_s: int = 1_800, **limits: int) -> Config:
    """One experiment, qualified by the home page; points with and without value and `nth`; tags device and login."""
    login = {"attribute": "loggedIn", "values": ["true", "false"]}
    return {
        "dc": "dal",
        "time": {"session_gap_s": gap_s, "allowed_lateness_s": lateness_s, "future_tolerance_s": 60},
        "limits": limits,
        "tenants": {
            "uswm": {
                "tags": {
                    "device": ["mobile", "desktop"],
                    "login": login,
                },
                "points": {
                    "home_page": {"event": "page_view", "where": {"page": "home"}},
                    "item_page": {"event": "page_view", "where": {"page": "item"}},
                    "order": {"event": "order", "value": {"attribute": "total", "scale": 100, "max": 1_000_000}},
                    "engaged": {"event": "page_view", "nth": 2},
                },
                "experiments": {
                    "button_color": {
                        "control": "blue",
                        "variations": {"blue": 50, "red": 50},
                        "qualified_when": {"point": "home_page"},
                    },
                },
            },
        },
    }


def message(at_ms: int, page: str | None = None, arrives_ms: int | None = None, **fields: Any) -> Message:
    """A page view, in variation red, `at_ms` after the base; it arrives at once, in partition 0.

    `fields` replace those of the event; one that is None is left out. Without an own identity its time and page are it.
    """
    attributes = {} if page is None else {"page": page}
    event: dict[str, Any] = {
        "tenant": "uswm",
        "sessionId": SESSION,
        "time": BASE_MS + at_ms,
        "event": "page_view",
        "eventId": f"{at_ms}-{page}",
        "assignments": {"button_color": "red"},
        "attributes": attributes,
    }
    event = {name: found for name, found in (event | fields).items() if found is not None}
    arrives_ms = at_ms if arrives_ms is None else arrives_ms
    return Message(0, 0, BASE_MS + arrives_ms, event["sessionId"].encode(), encode(event))


def names_of(core: Core) -> dict[tuple[str, int], int | float]:
    """The totals over all tags, without zeros: (name after `T.visit.`, minutes after the base) -> total."""
    totals: dict[tuple[str, int], int | float] = {}
    for (name, minute_ms, _), total in core.answer().items():
        key = name.split(".", 2)[2], (minute_ms - BASE_MS) // MINUTE_MS
        totals[key] = totals.get(key, 0) + total
    return {key: total for key, total in totals.items() if total}
