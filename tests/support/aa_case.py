"""A store with live A/A: visits by variation and by sixteenth, of sessions that come once or return."""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support import served
from tests.support.served import HOUR_MS, MINUTE_MS, Client
from tests.support.served import Served as Case

NOW_MS = 1_795_500_000_000 // HOUR_MS * HOUR_MS + 25 * MINUTE_MS + 17_000
BEGINS_MS = NOW_MS // HOUR_MS * HOUR_MS - 20 * HOUR_MS + 7 * MINUTE_MS
"""The minute of the first visit; of live A/A too."""
LATENESS_S, GAP_S = 600, 1_800
JUDGED_FROM_MS = BEGINS_MS + (LATENESS_S + GAP_S) * 1_000
SEALED_MS = (NOW_MS // MINUTE_MS * MINUTE_MS - LATENESS_S * 1_000) // (10 * MINUTE_MS) * (10 * MINUTE_MS)
SESSIONS_A_MINUTE = 6
DCS = ("dal", "cdc")

Counts = dict[tuple[str, int], int]
"""(variation or sixteenth, minute) -> visits."""


def config(**tenant: Any) -> dict[str, Any]:
    """One tenant with one experiment, with these keys of the tenant's own."""
    experiment = {
        "control": "off",
        "variations": {"off": 1, "on": 1},
        "qualified_when": {"event": "page_view"},
    }
    return {
        "dc": "dal",
        "serve": {"dcs": list(DCS)},
        "time": {"session_gap_s": GAP_S, "allowed_lateness_s": LATENESS_S},
        "tenants": {
            "t": {
                "tags": {},
                "points": {"order": {"event": "order"}},
                "experiments": {"checkout": experiment},
                **tenant,
            }
        },
    }


def visits(each: int, share: float = 0.5, seed: int = 1) -> Counts:
    """The visits of sessions that come `each` times, spread over some hours; `share`: of the sessions in `on`."""
    draw, counts = random.Random(seed), Counter[tuple[str, int]]()
    for minute_ms in range(BEGINS_MS, NOW_MS, MINUTE_MS):
        for _ in range(SESSIONS_A_MINUTE):
            variation, sixteenth = "on" if draw.random() < share else "off", f"aa-{draw.randrange(16):02d}"
            for _ in range(each):
                at_ms = minute_ms + draw.randrange(120) * MINUTE_MS
                counts[variation, at_ms] += 1
                counts[sixteenth, at_ms] += 1
    return dict(counts)


def fill(url: str, counts: Counts) -> None:
    """Writes them for two mirrors. Before live A/A counts all visits it holds nonsense, of corrections."""
    for dc in DCS:
        served.report(url, dc, BEGINS_MS - HOUR_MS, NOW_MS, lateness_s=LATENESS_S)
        tags = {"dc": dc, "experiment": "checkout"}
        early = range(BEGINS_MS, JUDGED_FROM_MS, MINUTE_MS)
        points = [(f"t.visit.assigned.{name}.beta", at_ms, tags, count) for (name, at_ms), count in counts.items()]
        points += [("t.visit.assigned.aa-03.beta", at_ms, tags, -400) for at_ms in early]
        served.post(url, points)


def judged(counts: Counts) -> list[int]:
    """The visits by sixteenth, of the minutes that are judged."""
    return [
        sum(
            count
            for (name, at_ms), count in counts.items()
            if name == f"aa-{sixteenth:02d}" and JUDGED_FROM_MS <= at_ms < SEALED_MS
        )
        for sixteenth in range(16)
    ]


@contextmanager
def serving(url: str, of: dict[str, Any], now_ms: int = NOW_MS) -> Iterator[Client]:
    """The service over a store, at this moment."""
    case = Case(of, None, 0, now_ms, {})  # type: ignore[arg-type]
    with served.serving(url, case, dcs=list(DCS)) as client:
        yield client
