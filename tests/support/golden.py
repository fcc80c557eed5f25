"""Golden cases: rich configurations, each with a seeded log that collides with every rule of it.

Together they use every clause of the contract; `Case.shows` says what a case is for, and a test holds it to that. On a
topic with LogAppendTime the times of events are drawn around the present, so that the log is judged as it came to lie.
"""

import random
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tests.support.oracle import Answer, Event, Message, classify, runs
from tests.support.servers import Kafka, Record
from tests.support.strategies import BASE_MS, CHOICES_MAX, Choices, Config, Fields, Session, message_key, message_value

LOG_APPEND_TIME = {"message.timestamp.type": "LogAppendTime"}
CHUNK = 60
"""Messages that are produced together, a batch for each partition."""
MESSAGES_PER_SESSION = 8
SKEWS_MS = (0, 59_000, 700_000)
"""By how much the clocks of partitions run apart, where the producer sets the time."""
STEPS_MS = (0, 0, 1, 1_000, 1_000, 7_000, 7_000, 30_000)
"""By how much a partition's clock moves on from message to message there."""
PAUSE_ONE_IN = 30

Placed = tuple[int, Record]
"""The number of a topic, and a record for it."""


class Case(NamedTuple):
    """A configuration, and what the log for it is drawn from.

    `topics`: their numbers of partitions. `places`: (topic, partition), the sessions go round them; what is listed more
    often gets more. `alive`: sessions that are under way together. `by_producer`: timestamps are the producer's, over
    many hours; else the broker's own. `lasts_s`: how long it takes to come in.
    """

    name: str
    text: str
    seed: int
    shows: frozenset[str]
    messages: int
    topics: tuple[int, ...] = (3,)
    places: tuple[tuple[int, int], ...] = ((0, 0),) * 9 + ((0, 1),) * 3 + ((0, 2),)
    alive: int = 40
    by_producer: bool = False
    lasts_s: float = 0.0

    @property
    def config(self) -> Config:
        """The configuration as `tomllib` gives it, without servers and dc."""
        return {"dc": "golden", **tomllib.loads(self.text)}


def chunks(case: Case) -> Iterator[list[Placed]]:
    """The log, some messages at a time; what is not produced at once is drawn around a later present."""
    rng = random.Random(case.seed)
    earlier: defaultdict[int, list[tuple[Fields, bytes]]] = defaultdict(list)
    clocks_ms = {
        place: BASE_MS + SKEWS_MS[number % len(SKEWS_MS)] for number, place in enumerate(dict.fromkeys(case.places))
    }
    for first in range(0, case.messages, CHUNK):
        chunk: list[Placed] = []
        for number in range(first, min(first + CHUNK, case.messages)):
            choices = Choices(rng.randbytes(2 * CHOICES_MAX))
            index = number // MESSAGES_PER_SESSION + rng.randrange(case.alive)
            topic, partition = case.places[index % len(case.places)]
            if case.by_producer:
                clocks_ms[topic, partition] += _step_ms(choices, case.config)
                now_ms = clocks_ms[topic, partition]
            else:
                now_ms = time.time_ns() // 1_000_000
            session = Session(_session_id(index), now_ms, earlier[index])
            fields, value = message_value(choices, case.config, session)
            earlier[index].append((fields, value))
            key = message_key(choices, session.session_id, wrong_keys=True)
            chunk.append((topic, (partition, key, value, now_ms)))
        yield chunk


def produce(kafka: Kafka, case: Case, name: str) -> list[str]:
    """Makes the topics of a case and puts its log into them, over the time that it takes to come in; their names."""
    topics = [f"{name}-{number}" for number in range(len(case.topics))]
    for topic, partitions in zip(topics, case.topics, strict=True):
        kafka.create_topic(topic, partitions, {} if case.by_producer else LOG_APPEND_TIME)
    pause_s = case.lasts_s * CHUNK / case.messages
    for chunk in chunks(case):
        for number, topic in enumerate(topics):
            kafka.produce(topic, (record for at, record in chunk if at == number))
        time.sleep(pause_s)
    return topics


def shown(config: Config, log: Sequence[Message], answer: Answer) -> set[str]:
    """What a log has in it: reasons, notes, and the names below."""
    found = {reason for _, reason in (*answer.rejected, *answer.warnings)}
    events = [visit.events for visit in answer.visits]
    present = {
        "joined": bool(_joined(config, log)),
        "equal times": any(len({event.time for event in visit}) < len(visit) for visit in events),
        "crossed": any(".crossed." in name for name, _, _ in answer.totals),
        "aa": any(".fm.aa-" in name for name, _, _ in answer.totals),
        "tardy": any(".tardy." in name for name, _, _ in answer.totals),
        "refund": any(name.endswith(".sum") and total < 0 for (name, _, _), total in answer.totals.items()),
        "several visits": max(Counter(visit[:2] for visit in answer.visits).values()) > 1,
        "no key": any(message.key is None for message in log),
    }
    return found | {name for name, there in present.items() if there}


def _joined(config: Config, log: Sequence[Message]) -> int:
    """How many accepted events joined two visits into one."""
    held: defaultdict[tuple[str, str], list[Event]] = defaultdict(list)
    gap_ms = config["time"]["session_gap_s"] * 1_000
    found = 0
    for message in log:
        reason, event = classify(config, message, held)[1:]
        if reason is None and event is not None:
            events = held[event.tenant, event.session_id]
            before = len(runs(events, gap_ms))
            events.append(event)
            found += len(runs(events, gap_ms)) < before
    return found


def _session_id(index: int) -> str:
    """Ids of all kinds: plain ones mostly, others not of ASCII, and of the greatest length."""
    return (f"s-{index}", f"s-{index}", f"s-{index}", f"größe {index}", f"{index:x>256}")[index % 5]


def _step_ms(choices: Choices, config: Config) -> int:
    if choices.one_in(PAUSE_ONE_IN):
        return int(config["time"]["session_gap_s"]) * 1_000 + choices.pick((-1, 0, 1, 2_000))
    return choices.pick(STEPS_MS)


CORRECTIONS = Case(
    name="corrections",
    seed=1,
    messages=1_200,
    shows=frozenset(
        [
            *("oversized", "not_json", "bad_field", "unknown_tenant", "future", "late", "duplicate"),
            *("unknown_experiment", "unknown_variation", "bad_value", "key_mismatch"),
            *("joined", "crossed", "tardy", "aa", "several visits", "no key"),
        ]
    ),
    text="""
[time]
session_gap_s = 60
allowed_lateness_s = 60
future_tolerance_s = 120
tardy_s = 20

[limits]
message_bytes = 600

[tenants.corrected]
aa = true

[tenants.corrected.tags]
device = ["mobile", "desktop", "2"]
login = { attribute = "loggedIn", values = ["true", "false"] }

[tenants.corrected.points]
home_page = { event = "page_view", where = { page = "home" } }
item_page = { event = ["page_view", "click"], where = { page = ["item", "a b/ü"] } }
order     = { event = "order", value = { attribute = "total", scale = 100, max = 1_000 } }
engaged   = { event = "page_view", nth = 2 }

[tenants.corrected.experiments.button_color]
control = "blue"
variations = { blue = 50, red = 50, green = 0 }
qualified_when = { all = [ { point = "home_page" },
                           { any = [ { point = "engaged" },
                                     { all = [ { event = "order", where = { total = { min = 1, max = 19.99 } } },
                                               { event = "click" } ] } ] } ] }

[tenants.corrected.experiments.fast_checkout]
aa = false
control = "fc_off"
variations = { fc_off = 1, fc_on = 1 }
qualified_when = { event = ["click", "order"], where = { device = { not = ["mobile", "true"] } } }
""",
)

TENANTS = Case(
    name="tenants",
    seed=2,
    messages=900,
    topics=(3, 4),
    places=((0, 0),) * 5 + ((0, 1), (1, 0), (1, 0), (1, 2)),  # three partitions stay empty
    shows=frozenset(("visit_full", "duplicate", "no key", "crossed", "tardy", "aa", "equal times", "refund")),
    text="""
[kafka]
key_is_session_id = false

[time]
session_gap_s = 90
allowed_lateness_s = 30
future_tolerance_s = 5
tardy_s = 10

[limits]
events_per_visit = 3

[tenants.first]                              # nothing but experiments and points, as little as can be
points.any = {}
experiments.Search = { control = "s0", variations = { s0 = 1, s1 = 1, s2 = 2.5 }, qualified_when = {} }

[tenants.second.tags]
amount = { attribute = "total", values = ["1", "2", "2.5", "-3"] }
page = ["home", "a b/ü"]

[tenants.second.points]
assigned = { where = { loggedIn = true }, value = { attribute = "total", scale = -2.5 } }
third    = { nth = 3, value = { attribute = "device", max = 1_000_000 } }

[tenants.second.experiments.button_color]
aa = true
control = "red"
variations = { blue = 1, red = 1 }
qualified_when = { any = [ { point = "third" }, { where = { total = { exists = false } } } ] }
""",
)

LONG_DAY = Case(
    name="long-day",
    seed=3,
    messages=900,
    topics=(4,),
    places=((0, 0),) * 5 + ((0, 1),) * 3 + ((0, 3),),
    alive=12,
    by_producer=True,
    shows=frozenset(
        ("joined", "several visits", "future", "late", "duplicate", "equal times", "crossed", "tardy", "aa")
    ),
    text="""
[time]
session_gap_s = 600
allowed_lateness_s = 600
future_tolerance_s = 60

[tenants.day]
aa = true
tags.device = ["mobile"]

[tenants.day.points]
order = { event = "order", where = { total = { exists = true, min = -3 } }, value = { attribute = "total", max = 2 } }
guest = { where = { loggedIn = { not = true }, page = { not = "item" } } }
mixed = { where = { device = [2, true, "desktop"], total = { max = 2.5 } } }

[tenants.day.experiments.fast_checkout]
control = "fc_off"
variations = { fc_off = 1, fc_on = 1, fc-2 = 1 }
qualified_when = { all = [ { any = [ { point = "mixed" }, { point = "guest" } ] }, { event = "page_view" } ] }
""",
)

LIVE = Case(
    name="live",
    seed=4,
    messages=900,
    alive=20,
    lasts_s=3.0,
    shows=frozenset(("joined", "several visits", "late", "duplicate", "equal times", "crossed")),
    text="""
[time]
session_gap_s = 2
allowed_lateness_s = 1
future_tolerance_s = 5

[tenants.live]
tags.login = { attribute = "loggedIn", values = ["true"] }

[tenants.live.points]
home_page = { event = "page_view", where = { page = "home" } }
order     = { event = "order", value = { attribute = "total", scale = 100, max = 1_000_000 } }
engaged   = { event = "page_view", nth = 2 }

[tenants.live.experiments.button_color]
control = "blue"
variations = { blue = 50, red = 50 }
qualified_when = { all = [ { point = "home_page" }, { point = "engaged" } ] }
""",
)

CASES = (CORRECTIONS, TENANTS, LONG_DAY, LIVE)
