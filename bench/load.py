"""The reference load: a seeded log of a shop's events, and the configuration that measures them.

Eight tenants, about 10 events a visit, each visit in 2 or 3 experiments of 2 or 3 variations, 6 points a tenant of
which 2 have values, messages of 230 to 300 bytes, about 3.5 contributions an event. 10 % of the events arrive up to
60 s after they happened, 1 % up to 9 minutes, and 0.5 % of the messages come twice. The same arguments give the same
bytes.

    python -m bench.load                     # measures these properties and prints them
    python -m bench.load --write load.log    # writes the log as a file, see `write`
"""

import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeAlias

import typer
from rich.console import Console
from rich.table import Table

SEED = 20_26
START_MS = 1_795_500_000_000
EVENTS_PER_S = 1_000
"""Of event time: how dense the log is."""
EVENTS_PER_VISIT = (5, 15)
PAUSE_MEAN_S, PAUSE_MAX_S = 20.0, 300.0
"""Between two events of a visit."""
LATE_SHARE, LATE_MAX_MS = 0.10, 60_000
VERY_LATE_SHARE, VERY_LATE_MAX_MS = 0.01, 540_000
REPEATED_SHARE, REPEATED_AFTER_MAX_MS = 0.005, 5_000
TRANSPORT_MS = 200
"""How long every event is under way."""

Message: TypeAlias = tuple[bytes, bytes, int]
"""Kafka key, value, message timestamp in ms."""
Config: TypeAlias = dict[str, Any]

TENANTS = ("uswm", "usgr", "mxwm", "mxgr", "brwm", "cawm", "gbas", "jpse")
EXPERIMENTS = {
    "button_color": ("blue", "red"),
    "fast_checkout": ("fc_off", "fc_on"),
    "search_rank": ("rank_a", "rank_b", "rank_c"),
    "free_shipping": ("ship_off", "ship_35", "ship_50"),
}
DEVICES = ("mobile", "desktop", "tablet")
TAGS = {"device": list(DEVICES), "login": {"attribute": "loggedIn", "values": ["true", "false"]}}
POINTS = {
    "home_page": {"event": "page_view", "where": {"page": "home"}},
    "item_page": {"event": "page_view", "where": {"page": "item"}},
    "engaged": {"event": "page_view", "nth": 3},
    "cart": {"event": "add_to_cart", "value": {"attribute": "price", "scale": 100, "max": 1_000_000}},
    "checkout": {"event": "checkout", "where": {"payment": ["card", "wallet"]}},
    "order": {"event": "order", "value": {"attribute": "total", "scale": 100, "max": 10_000_000}},
}
RULES = {
    "button_color": {"point": "home_page"},
    "fast_checkout": {
        "all": [
            {"event": "page_view", "where": {"page": "item"}},
            {"any": [{"event": "add_to_cart"}, {"point": "order"}]},
        ]
    },
    "search_rank": {"event": "page_view", "where": {"page": ["search", "category"]}},
    "free_shipping": {"any": [{"event": "add_to_cart", "where": {"price": {"min": 20}}}, {"point": "engaged"}]},
}
NOTHING_COUNTS = (
    ("click", '"page":"item"'),
    ("scroll", '"page":"item"'),
    ("page_view", '"page":"search"'),
    ("page_view", '"page":"category"'),
    ("click", '"page":"search"'),
)


class Load(NamedTuple):
    """A log in the order of arrival, and how many visits and events it is made of."""

    messages: list[Message]
    visits: int
    events: int


def config() -> Config:
    """The configuration, as parsed TOML."""
    tenant = {
        "tags": TAGS,
        "points": POINTS,
        "experiments": {
            name: {
                "control": variations[0],
                "variations": dict.fromkeys(variations, 1),
                "qualified_when": RULES[name],
            }
            for name, variations in EXPERIMENTS.items()
        },
    }
    return {"dc": "bench", "tenants": dict.fromkeys(TENANTS, tenant)}


def toml(found: Config) -> str:
    """A configuration as TOML text, a line for each top key."""
    return "".join(f"{name} = {_toml(value)}\n" for name, value in found.items())


def make(events: int, seed: int = SEED, start_ms: int = START_MS, events_per_s: float = EVENTS_PER_S) -> Load:
    """About so many events, all of whole visits, that begin at a steady rate from `start_ms` on."""
    chance = random.Random(seed)
    visits = max(1, round(events / (sum(EVENTS_PER_VISIT) / 2)))
    span_ms = 1_000 * events / events_per_s
    arriving: list[tuple[int, int, bytes, bytes]] = []
    for number in range(visits):
        arriving += _arriving(chance, number, start_ms + int(span_ms * number / visits), len(arriving))
    total = len(arriving)
    again = chance.sample(arriving, round(total * REPEATED_SHARE))
    arriving += [
        (at_ms + chance.randrange(1, REPEATED_AFTER_MAX_MS), total + i, key, value)
        for i, (at_ms, _, key, value) in enumerate(again)
    ]
    arriving.sort()
    return Load([(key, value, at_ms) for at_ms, _, key, value in arriving], visits, total)


def _arriving(chance: random.Random, number: int, start_ms: int, sequence: int) -> list[tuple[int, int, bytes, bytes]]:
    """The messages of a visit: (arrival in ms, a number that decides ties, key, value)."""
    session, out = f"{chance.getrandbits(72):018x}", []
    key = session.encode()
    for i, (time_ms, text) in enumerate(visit_events(chance, number, session, start_ms)):
        at_ms, luck = time_ms + TRANSPORT_MS, chance.random()
        if luck < VERY_LATE_SHARE:
            at_ms += chance.randrange(LATE_MAX_MS, VERY_LATE_MAX_MS)
        elif luck < VERY_LATE_SHARE + LATE_SHARE:
            at_ms += chance.randrange(LATE_MAX_MS)
        out.append((at_ms, sequence + i, key, text.encode()))
    return out


def visit_events(chance: random.Random, number: int, session: str, start_ms: int) -> Iterator[tuple[int, str]]:
    """The events of a visit in their order: (event time in ms, JSON)."""
    tenant = TENANTS[number % len(TENANTS)]
    chosen = chance.sample(sorted(EXPERIMENTS), 2 + (number >> 3 & 1))
    arms = ",".join(f'"{name}":"{chance.choice(EXPERIMENTS[name])}"' for name in chosen)
    head = f'{{"tenant":"{tenant}","sessionId":"{session}","time":'
    device, logged_in, time_ms = chance.choice(DEVICES), "false", float(start_ms)
    for i in range(chance.randint(*EVENTS_PER_VISIT)):
        name, attributes = _what(chance, i)
        if name == "checkout":
            logged_in = "true"
        yield (
            int(time_ms),
            f'{head}{int(time_ms)},"event":"{name}","eventId":"{session[:12]}-{i}","assignments":{{{arms}}},'
            f'"attributes":{{{attributes},"device":"{device}","loggedIn":{logged_in}}}}}',
        )
        time_ms += 1 + 1_000 * min(PAUSE_MAX_S, chance.expovariate(1 / PAUSE_MEAN_S))


def _what(chance: random.Random, i: int) -> tuple[str, str]:
    """What happens at the i-th event of a visit: its name and its attributes besides those of the visitor."""
    luck = chance.random()
    if i == 0 and luck < 0.5:
        return "page_view", '"page":"home"'
    if luck < 0.05:
        return "page_view", '"page":"home"'
    if luck < 0.23:
        return "page_view", '"page":"item"'
    if luck < 0.27:
        return "add_to_cart", f'"page":"item","price":{chance.randrange(500, 9_999) / 100}'
    if luck < 0.285:
        return "checkout", f'"page":"cart","payment":"{chance.choice(("card", "wallet", "cash"))}"'
    if luck < 0.295:
        return "order", f'"page":"done","total":{chance.randrange(1_000, 50_000) / 100}'
    return chance.choice(NOTHING_COUNTS)


def write(path: Path, messages: Iterable[Message]) -> None:
    """The log as a file: a line for each message, `TIMESTAMP KEY VALUE`."""
    with path.open("wb") as file:
        file.writelines(map(line, messages))


def line(message: Message) -> bytes:
    """A message as a line of such a file."""
    key, value, at_ms = message
    return b"%d %b %b\n" % (at_ms, key, value)


def read(path: Path) -> Iterator[Message]:
    """The messages of such a file."""
    with path.open("rb") as file:
        yield from parsed(file)


def parsed(lines: Iterable[bytes]) -> Iterator[Message]:
    """The messages of such lines."""
    for line in lines:
        at_ms, key, value = line[:-1].split(b" ", 2)
        yield key, value, int(at_ms)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(name)} = {_toml(inner)}" for name, inner in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)


def properties(load: Load) -> dict[str, float]:
    """What the load is like; contributions are counted by the tests' oracle, so a small load is enough."""
    from tests.support.oracle import Message as Recorded
    from tests.support.oracle import answer, attributed, setting

    sizes = [len(value) for _, value, _ in load.messages]
    latest: dict[bytes, int] = {}
    behind = 0
    delays = []
    for key, value, at_ms in load.messages:
        time_ms = json.loads(value)["time"]
        delays.append(at_ms - time_ms - TRANSPORT_MS)
        behind += time_ms < latest.get(key, 0)
        latest[key] = max(latest.get(key, 0), time_ms)
    conf = config()
    tardy_ms = 1_000 * setting(conf, "time", "tardy_s")
    found = answer(conf, [Recorded(0, i, at_ms, key, value) for i, (key, value, at_ms) in enumerate(load.messages)])
    contributions = sum(
        1
        for visit in found.visits
        for experiment in conf["tenants"][visit.tenant]["experiments"]
        for _ in attributed(conf["tenants"][visit.tenant], experiment, visit.events, tardy_ms)
    )
    accepted = found.accepted.total()
    return {
        "messages": len(load.messages),
        "events accepted": accepted,
        "visits": len(found.visits),
        "events per visit": accepted / len(found.visits),
        "bytes, least": min(sizes),
        "bytes, mean": sum(sizes) / len(sizes),
        "bytes, most": max(sizes),
        "contributions per event": contributions / accepted,
        "totals that are not 0": len(found.totals),
        "% late by up to 60 s": 100 * sum(0 < d <= LATE_MAX_MS for d in delays) / len(delays),
        "% late by up to 9 min": 100 * sum(d > LATE_MAX_MS for d in delays) / len(delays),
        "% behind another of its visit": 100 * behind / len(delays),
        "% rejected as duplicate": 100 * sum(found.rejected.values()) / len(load.messages),
    }


def main(
    events: Annotated[int, typer.Option(help="About how many events.")] = 20_000,
    seed: Annotated[int, typer.Option()] = SEED,
    to: Annotated[Path | None, typer.Option("--write", help="Write the log to this file instead.")] = None,
) -> None:
    """Measures the reference load, or writes it to a file."""
    load = make(events, seed)
    if to is not None:
        write(to, load.messages)
        return
    table = Table(title=f"Reference load, seed {seed}", title_justify="left", show_header=False)
    for name, value in properties(load).items():
        table.add_row(name, f"{value:,.2f}".removesuffix(".00"))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
