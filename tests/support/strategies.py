"""Hypothesis strategies: any configuration in the small, and logs that collide with every rule of it.

`configs()` draws what `tomllib` gives for a valid file, `logs(config)` a `LogAppendTime` log for it, `arrivals(items)`
any order and batching of items. Vocabularies are small on purpose: predicates, attributes, sessions, times and
identities have to meet often, and on their boundaries.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

from hypothesis import strategies as st

from tests.support.oracle import Message

T = TypeVar("T")
Config = dict[str, Any]
Fields = dict[str, Any]
Case = tuple[Config, list[Message]]

BASE_MS = 1_795_491_000_000
MESSAGE_BYTES_SMALL = 420
RULE_DEPTH_MAX = 3
CHOICES_MAX = 128

EVENT_NAMES = ("page_view", "click", "order")
SESSION_IDS = ("s-1", "s-2", "größe 3", "x" * 256)
TENANTS = ("uswm", "shop-2")
EXPERIMENTS = {
    "button_color": ("blue", "red", "green"),
    "fast_checkout": ("fc_off", "fc_on", "fc-2"),
    "Search": ("s0", "s1", "s2"),
}
POINTS = ("home_page", "item_page", "orders", "p-4", "assigned")
EXPERIMENT_NAMES = tuple(EXPERIMENTS)
TAGS = ("device", "login", "amount", "page")
ATTRIBUTES: dict[str, tuple[str | int | float | bool, ...]] = {
    "page": ("home", "item", "a b/ü", "other"),
    "device": ("mobile", "desktop", "true", 2),
    "loggedIn": (True, False, "true", 1, 0),
    "total": (1, 2, 1.0, 2.5, -3, 19.99, 0.005, "2"),
}
ATTRIBUTE_NAMES = tuple(ATTRIBUTES)
# Values that only events carry; infinity is written as 1e999.
ABSENT_VALUES: tuple[Any, ...] = (None, [], ["home"], {"home": 1})
RARE_VALUES = (*ABSENT_VALUES, math.inf, -math.inf, -0.0, 1e16, 1e300, 10**18, True, "", "\ud800", 0)
WRONG_KEYS = (b"s-1", b"", b"\xff")
UNNAMED = (None,)
STRANGE_TEXTS: tuple[Any, ...] = (
    1,
    1.0,
    2.5,
    True,
    None,
    [],
    {"a": "b"},
    math.inf,
    "\ud800",
    "Blue (old)",
    "grp/2",
    "maroon",
    "pink",
)
EVENT_IDS = (*(f"e{number}" for number in range(30)), None, "", "~é")
RARE_KINDS = ("again", "again", "again", "not_json", "bad_field", "missing", "strange", "strange", "doubled")
KINDS = ("event",) * 32 + RARE_KINDS
TAG_VALUES = ("mobile", "desktop", "true", "false", "home", "item", "a_b/_", "1", "2", "2.5", "-3", "other")


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """A configuration as `tomllib` gives it; sections that are all defaults may be absent."""
    gap_s = draw(st.sampled_from((30, 60, 90, 600, 1800)))
    lateness_s = draw(st.sampled_from([seconds for seconds in (1, 20, 30, 60, 600) if seconds <= gap_s]))
    tardy: Config = draw(TARDY)
    config: Config = {
        "dc": draw(st.sampled_from(("dal", "fra-1"))),
        "time": {
            **tardy,
            "session_gap_s": gap_s,
            "allowed_lateness_s": lateness_s,
            "future_tolerance_s": draw(st.sampled_from((0, 5, 60))),
        },
        "tenants": {name: draw(TENANT) for name in TENANTS[: draw(st.integers(1, 2))]},
    }
    return config | draw(OPTIONAL_SECTIONS)


@st.composite
def tenants(draw: st.DrawFn) -> Config:
    """What a tenant's tables hold: tags (possibly absent), points and experiments."""
    points = {name: draw(POINT) for name in draw(some(POINTS, 1, 5))}
    experiments = {
        name: draw(experiment(EXPERIMENTS[name], tuple(points))) for name in draw(some(EXPERIMENT_NAMES, 1, 3))
    }
    tags = {name: draw(tag_definition(name)) for name in draw(some(TAGS, 0, 3))}
    tenant: Config = {"points": points, "experiments": experiments}
    return draw(AA) | ({"tags": tags, **tenant} if tags else tenant)


@cache
def tag_definition(name: str) -> st.SearchStrategy[Any]:
    """Both forms: a list of values, where the attribute has the tag's name, and a table that names the attribute."""
    values = some(TAG_VALUES, 1, 4)
    table = st.fixed_dictionaries({"attribute": st.sampled_from(ATTRIBUTE_NAMES), "values": values})
    return st.one_of(values, table) if name in ATTRIBUTES else table


@st.composite
def measurement_points(draw: st.DrawFn) -> Config:
    """A predicate with, now and then, `nth` and `value`."""
    return draw(PREDICATE) | draw(NTH_AND_VALUE)


@st.composite
def experiment(draw: st.DrawFn, variations: tuple[str, ...], points: tuple[str, ...]) -> Config:
    """Two or three variations with weights, the first being the control, a rule; at times further texts and names."""
    chosen = variations[: draw(st.integers(2, 3))]
    aliases = {"Blue (old)": chosen[0], "grp/2": chosen[1], "1": chosen[1], "true": chosen[0], "2.5": chosen[-1]}
    further: Config = {}
    if draw(st.booleans()):
        further = {"aliases": aliases, "names": [f"Test of {chosen[0]}", f"{chosen[0]}.old"]}
    return (
        draw(OWN_AA)
        | further
        | {
            "control": chosen[0],
            "variations": {name: draw(WEIGHT) for name in chosen},
            "qualified_when": draw(rules(points, RULE_DEPTH_MAX)),
        }
    )


@cache
def rules(points: tuple[str, ...], depth: int) -> st.SearchStrategy[Config]:
    """A rule of at most this depth: a predicate, a point, or all or any of rules one less deep."""
    leaf = st.one_of(st.fixed_dictionaries({"point": st.sampled_from(points)}), PREDICATE)
    if depth == 1:
        return leaf
    parts = st.lists(rules(points, depth - 1), min_size=1, max_size=3)
    return st.one_of(leaf, st.fixed_dictionaries({"all": parts}), st.fixed_dictionaries({"any": parts}))


@st.composite
def predicates(draw: st.DrawFn) -> Config:
    """`event` as a string, a list or absent; `where` with up to two conditions, or absent."""
    predicate: Config = draw(st.fixed_dictionaries({}, optional={"event": EVENT_NAME_OR_LIST}))
    if draw(st.booleans()):
        predicate["where"] = {name: draw(conditions(name)) for name in draw(some(ATTRIBUTE_NAMES, 1, 2))}
    return predicate


@cache
def conditions(attribute: str) -> st.SearchStrategy[Any]:
    """A value, a list of values of any types, or a table of one condition or several."""
    scalar = st.sampled_from((*ATTRIBUTES[attribute] * 2, "home", True, 1, 2.5))
    scalars = st.lists(scalar, min_size=1, max_size=3)
    tests = {
        "not": scalars,
        "exists": st.booleans(),
        "min": st.sampled_from((-3, 0, 1, 1.0)),
        "max": st.sampled_from((1, 2, 2.5, 19.99)),
    }
    single = [st.fixed_dictionaries({name: test}) for name, test in tests.items()]
    return st.one_of(scalar, scalars, *single, st.fixed_dictionaries({}, optional=tests).filter(bool))


@cache
def some(choices: tuple[str, ...], least: int, most: int) -> st.SearchStrategy[list[str]]:
    """Between `least` and `most` of the choices, each once."""
    return st.lists(st.sampled_from(choices), min_size=least, max_size=most, unique=True)


class Choices:
    """The choices that make a message, a byte each, so that it is drawn at once; zeros choose the plainest."""

    def __init__(self, drawn: bytes) -> None:
        self._left = iter(drawn)

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[next(self._left) % len(options)]

    def one_in(self, n: int) -> bool:
        """True once in `n` times."""
        return next(self._left) % n == n - 1


class Session(NamedTuple):
    """What a message of a session is drawn from: its id, the partition's time and what the session has sent before."""

    session_id: str
    now_ms: int
    earlier: list[tuple[Fields, bytes]]


@st.composite
def logs(draw: st.DrawFn, config: Config, messages_max: int = 40, wrong_keys: bool = True) -> list[Message]:
    """A `LogAppendTime` log in order of arrival, of 1 to 3 partitions whose clocks run apart, in any interleaving.

    All messages of one (tenant, sessionId) are in one partition; its timestamps never fall, its offsets count from 0.
    Without `wrong_keys` a key that is there is the id of the session whose message it is.
    """
    partitions = draw(st.integers(1, 3))
    now_ms = [BASE_MS + skew_ms for skew_ms in draw(PARTITION_SKEWS_MS)[:partitions]]
    offsets = [0] * partitions
    earlier: list[list[tuple[Fields, bytes]]] = [[] for _ in SESSION_IDS]
    log: list[Message] = []
    size = draw(st.integers(1, messages_max))
    for drawn in draw(st.lists(MESSAGE_CHOICES, min_size=size, max_size=size)):
        choices = Choices(drawn)
        index = choices.pick((0, 0, 0, 0, 0, 1, 1, 2, 3))
        partition = index % partitions
        now_ms[partition] += choices.pick(arrival_steps_ms(config))
        session = Session(SESSION_IDS[index], now_ms[partition], earlier[index])
        fields, value = message_value(choices, config, session)
        key = message_key(choices, session.session_id, wrong_keys)
        log.append(Message(partition, offsets[partition], now_ms[partition], key, value))
        offsets[partition] += 1
        earlier[index].append((fields, value))
    return log


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A configuration and a log for it."""
    config = draw(configs())
    return config, draw(logs(config))


def arrival_steps_ms(config: Config) -> tuple[int, ...]:
    """How much later than the message before one arrives in its partition."""
    gap_ms, lateness_ms = config["time"]["session_gap_s"] * 1000, config["time"]["allowed_lateness_s"] * 1000
    return 0, 0, 0, 1, 1_000, 7_000, 30_000, lateness_ms // 2, lateness_ms, gap_ms, gap_ms + 1, gap_ms + 2_000


def message_key(choices: Choices, session_id: str, wrong_keys: bool) -> bytes | None:
    """The session's id mostly, sometimes none, sometimes another one."""
    right = session_id.encode()
    options: list[bytes | None] = [*[right] * 12, None, None, *(WRONG_KEYS if wrong_keys else ())]
    return choices.pick(options)


def message_value(choices: Choices, config: Config, session: Session) -> tuple[Fields, bytes]:
    """The fields and the bytes of a message: an event mostly, sometimes one that was sent before, sometimes broken."""
    kind = choices.pick(KINDS)
    if kind == "again" and session.earlier:
        return choices.pick(session.earlier)
    variant = choices.pick(range(256))
    fields = event_fields(choices, config, session)
    if kind == "not_json":
        return fields, NOT_JSON[variant % len(NOT_JSON)]
    if kind == "bad_field":
        return fields, encode(fields | BAD_FIELDS[variant % len(BAD_FIELDS)])
    if kind == "missing":
        missing = ("tenant", "sessionId", "time", "event")[variant % 4]
        return fields, encode({name: found for name, found in fields.items() if name != missing})
    if kind == "strange":
        return fields, encode(fields | STRANGE_FIELDS[variant % len(STRANGE_FIELDS)])
    if kind == "doubled":
        return fields, b'{"time": "first", ' + encode(fields)[1:]  # of equal names the last one counts
    return fields, encode(fields)


def event_fields(choices: Choices, config: Config, session: Session) -> Fields:
    """The fields of a valid event, its time and identity near to those of events sent earlier."""
    tenant = choices.pick((*[next(iter(config["tenants"]))] * 2, *config["tenants"]))
    fields: Fields = {
        "tenant": tenant,
        "sessionId": session.session_id,
        "time": event_time(choices, config, session),
        "event": choices.pick((*EVENT_NAMES, EVENT_NAMES[0])),
        "eventId": choices.pick(EVENT_IDS),
    }
    if choices.one_in(20):
        del fields["eventId"]
    if not choices.one_in(3):
        fields["assignments"] = assignments(choices, config["tenants"][tenant])
    fields["attributes"] = {name: attribute_value(choices, name) for name in ATTRIBUTES if not choices.one_in(4)}
    return fields


def event_time(choices: Choices, config: Config, session: Session) -> int:
    """An event time: about now, at a telling distance of an earlier event, at the bounds of acceptance, or beyond."""
    now_ms, minute_ms = session.now_ms, session.now_ms - session.now_ms % 60_000
    gap_ms = int(config["time"]["session_gap_s"] * 1000)
    oldest = now_ms - int(config["time"]["allowed_lateness_s"] * 1000)
    newest = now_ms + int(config["time"]["future_tolerance_s"] * 1000)
    if choices.one_in(16):
        return choices.pick((oldest - 1, newest + 1, oldest - gap_ms, newest + gap_ms))
    about_now = (now_ms, now_ms, now_ms - 1_000, (now_ms + oldest) // 2, minute_ms, minute_ms - 1, oldest, newest)
    steps = (0, 0, 1, -1, gap_ms, gap_ms + 1, -gap_ms, -gap_ms - 1)
    earlier = [fields["time"] for fields, _ in session.earlier[-4:]]
    telling = [time + step for time in earlier for step in steps]
    between = [(one + other) // 2 for one, other in pairwise(earlier) if one != other]
    kinds = [[time for time in found if oldest <= time <= newest] for found in (about_now, telling, between, telling)]
    return choices.pick(choices.pick([found for found in kinds if found]))


def assignments(choices: Choices, tenant: Config) -> dict[str, Any]:
    """Assignments: one variation mostly, sometimes another, an unknown or a strange one, or under another name."""
    found: dict[str, Any] = {}
    for name, table in tenant["experiments"].items():
        first, *others = table["variations"]
        picked = choices.pick((first, first, first, first, *others, "teal", *UNNAMED))
        if picked is not UNNAMED[0]:
            found[name] = choices.pick(STRANGE_TEXTS) if choices.one_in(8) else picked
        if choices.one_in(8):
            found[choices.pick((name, *table.get("names", ())))] = choices.pick((*others, *STRANGE_TEXTS))
    if choices.one_in(12):
        found["unheard_of"] = "red"
    return found


def attribute_value(choices: Choices, name: str) -> Any:
    """An attribute's value: one that predicates ask for, mostly; else of any type."""
    return choices.pick(RARE_VALUES if choices.one_in(8) else ATTRIBUTES[name])


@st.composite
def arrivals(draw: st.DrawFn, items: Sequence[T]) -> list[list[T]]:
    """Items in any order, in any batching: a list of batches, none of them empty."""
    order = draw(st.permutations(items))
    batches: list[list[T]] = []
    for item in order:
        joins: bool = draw(st.booleans())
        if joins and batches:
            batches[-1].append(item)
        else:
            batches.append([item])
    return batches


NOT_JSON = (
    b"",
    b"null",
    b"[1]",
    b'"text"',
    b"{",
    b"{} {}",
    b"{'tenant': 1}",
    b'{"time": NaN}',
    b'{"time": -Infinity}',
    b'{"time": 01}',
    b'{"tenant": "\xff"}',
    b'{"tenant": "\xed\xa0\x80"}',
    b'\xef\xbb\xbf{"tenant": "uswm"}',
    b'{"tenant": "a\nb"}',
    b"[" * 20_000,
)
BAD_VALUES: dict[str, tuple[Any, ...]] = {
    "tenant": (None, 7),
    "sessionId": ("", "x" * 257, 1, "\ud800"),
    "time": (0, -1, 10**11 - 1, 10**14, 2**53, 1_795_491_000_000.0, True, "1795491000000", math.inf),
    "event": (None, ["order"]),
    "eventId": (12, "e\udfff"),
    "assignments": ([], "red", 1, True),
    "attributes": ("home", []),
}
BAD_FIELDS = tuple({name: value} for name, values in BAD_VALUES.items() for value in values)
STRANGE_FIELDS: tuple[Fields, ...] = (
    {"sessionId": "undefined"},
    {"sessionId": " NULL\n"},
    {"tenant": "nobody"},
    {"tenant": ""},
    {"event": ""},
    {"extra": {"deep": [1, None, "\udc00"]}},
    {"assignments": None},
    {"attributes": None},
    {"eventId": "x"},
    {"attributes": {"\ud800": 1}},
    {"padding": "p" * MESSAGE_BYTES_SMALL},
)


def encode(fields: Mapping[str, Any]) -> bytes:
    """A message's value; an infinite number is written as a literal beyond every float."""
    return json.dumps(fields).replace("Infinity", "1e999").encode()


def to_toml(config: Mapping[str, Any]) -> str:
    """A configuration as TOML text: a line for each key, tables inline."""
    return "".join(f"{toml_key(name)} = {toml_value(found)}\n" for name, found in config.items())


def toml_value(found: object) -> str:
    """A value in TOML; of strings without lone surrogates, JSON's form is TOML's."""
    if isinstance(found, Mapping):
        return "{ " + ", ".join(f"{toml_key(name)} = {toml_value(inner)}" for name, inner in found.items()) + " }"
    if isinstance(found, list):
        return "[" + ", ".join(map(toml_value, found)) + "]"
    return json.dumps(found, ensure_ascii=False)


def toml_key(name: str) -> str:
    """A key in TOML, quoted where it has to be."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml_value(name)


WEIGHT = st.sampled_from((1, 50))
MESSAGE_CHOICES = st.binary(min_size=CHOICES_MAX, max_size=CHOICES_MAX)
PARTITION_SKEWS_MS = st.tuples(*[st.sampled_from((0, 59_000, 700_000))] * 3)
AA = st.fixed_dictionaries({}, optional={"aa": st.booleans()})
OWN_AA: st.SearchStrategy[Config] = st.one_of(st.just({}), AA)
TARDY = st.fixed_dictionaries({}, optional={"tardy_s": st.sampled_from((0, 1, 10, 25))})
KEY_IS_SESSION_ID = st.fixed_dictionaries({"key_is_session_id": st.booleans()})
SMALL_LIMITS = {
    "message_bytes": st.sampled_from((MESSAGE_BYTES_SMALL, 4_096)),
    "events_per_visit": st.sampled_from((1, 2, 3)),
}
LIMITS = st.fixed_dictionaries({}, optional=SMALL_LIMITS)
OPTIONAL_SECTIONS = st.fixed_dictionaries({}, optional={"kafka": KEY_IS_SESSION_ID, "limits": LIMITS})
EVENT_NAME_OR_LIST = st.one_of(st.sampled_from(EVENT_NAMES), some(EVENT_NAMES, 1, 2))
SCALE_AND_MAX = {"scale": st.sampled_from((1, 100, 0.5, 1e300)), "max": st.sampled_from((2, 1_000))}
VALUE = st.fixed_dictionaries({"attribute": st.sampled_from(("total", "total", "device"))}, optional=SCALE_AND_MAX)
NTH_AND_VALUE = st.fixed_dictionaries({}, optional={"nth": st.integers(1, 3), "value": VALUE})
PREDICATE = predicates()
POINT = measurement_points()
TENANT = tenants()
