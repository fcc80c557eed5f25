"""The batch answer against the oracle: what DuckDB computes from a log is what the specification says.

The directed tests name the rules that SQL gets wrong most easily; each also holds the oracle to the expected numbers.
"""

import tomllib
from collections import defaultdict
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings

from monitor import batch as batch_package
from monitor.batch import Batch, Cell, VisitBehind, workspace
from monitor.config.reader import parse
from monitor.topics.recorded import Record
from tests.support import oracle
from tests.support.batch_answers import batch_answer
from tests.support.messages import BASE_MS, MINUTE_MS, message, shop
from tests.support.oracle import Message
from tests.support.strategies import Case, Config, cases, to_toml
from tests.support.wrong_clocks import WRONG, wrong_log


def agreed(config: Config, log: Sequence[Message]) -> tuple[dict[tuple[str, int], int | float], dict[str, int]]:
    """What batch and oracle agree on: (name after `T.visit.`, minutes after the base) -> total; rejected by reason."""
    wanted = oracle.answer(config, log)
    found = batch_answer(config, log)
    assert found == (wanted.totals, dict(wanted.accepted), dict(wanted.rejected))
    totals: defaultdict[tuple[str, int], int | float] = defaultdict(int)
    for (name, minute_ms, _), value in found[0].items():
        totals[name.split(".", 2)[2], (minute_ms - BASE_MS) // MINUTE_MS] += value
    return dict(totals), {reason: count for (_, reason), count in found[2].items()}


def order(at_ms: int, total: Any, **fields: Any) -> Message:
    """An order of this total."""
    return message(at_ms, event="order", attributes={"total": total}, **fields)


@settings(max_examples=25)
@given(cases())
def test_batch_equals_oracle(case: Case) -> None:
    """Totals, accepted and rejected are the oracle's, for any configuration and any log."""
    config, log = tomllib.loads(to_toml(case[0])), case[1]
    wanted = oracle.answer(config, log)
    assert batch_answer(config, log) == (wanted.totals, dict(wanted.accepted), dict(wanted.rejected))


@pytest.mark.parametrize("where", ["first", "tenth"])
@pytest.mark.parametrize("kind", WRONG)
def test_wrong_clocks_are_judged_as_the_oracle_judges(kind: str, where: str) -> None:
    """What is behind the watermark of its partition is late, in either of two partitions; the rest counts."""
    config, log = shop(), wrong_log(3, kind, where, 600, partitions=2)
    wanted = oracle.answer(config, log, create_time=True)
    assert batch_answer(config, log) == (wanted.totals, dict(wanted.accepted), dict(wanted.rejected))


def test_nth_counts_in_event_time_whatever_arrives_first() -> None:
    """`nth` is the n-th matching event of the visit by (time, eventId), and of each visit of a session anew."""
    views = [message(at, "item", arrives_ms=200_000) for at in (10_000, 70_000, 130_000)]
    later = [message(at, "item") for at in (4_000_000, 4_070_000)]
    for arrival in permutations(views):
        totals, _ = agreed(shop(), [*arrival, *later])
        engaged = {minute: total for (name, minute), total in totals.items() if name == "assigned.red.engaged"}
        assert engaged == {1: 1, 4_070_000 // MINUTE_MS: 1}


def test_nth_point_with_a_value_sums_its_one_event() -> None:
    """A point with both counts, and sums, one event of a visit; its square is that event's."""
    config = shop()
    config["tenants"]["uswm"]["points"]["order"]["nth"] = 2
    totals, _ = agreed(config, [order(0, 5), order(60_000, 7), order(120_000, 9)])
    assert {key: total for key, total in totals.items() if key[0].startswith("assigned.red.order")} == {
        ("assigned.red.order", 1): 1,
        ("assigned.red.order.beta", 1): 1,
        ("assigned.red.order.sum", 1): 700,
        ("assigned.red.order.sumsq", 1): 490_000,
    }


def test_squares_are_of_a_visits_running_sum_in_its_scope() -> None:
    """The squares add up to the square of the visit's sum; before qualification only `assigned` counts an order."""
    log = [order(0, 5), message(60_000, "home"), order(120_000, -2), order(180_000, 0.035)]
    totals, _ = agreed(shop(), log)
    sumsq = {key: total for key, total in totals.items() if key[0].endswith("sumsq")}
    assert sumsq == {
        ("assigned.red.order.sumsq", 0): 500**2,
        ("assigned.red.order.sumsq", 2): 300**2 - 500**2,
        ("assigned.red.order.sumsq", 3): 304**2 - 300**2,
        ("fm.red.order.sumsq", 2): 200**2,
        ("fm.red.order.sumsq", 3): 196**2 - 200**2,
    }


@pytest.mark.parametrize(
    ("total", "x"),
    [
        (0.005, 0),
        (0.015, 2),
        (0.025, 2),
        (19.99, 1999),
        (10**30, 1_000_000),
        (-(10**400), -1_000_000),
        (2**63, 1_000_000),
        (float("inf"), 0),
        (True, 0),
        ("7", 0),
        (None, 0),
    ],
)
def test_values_round_half_to_even_and_clip(total: Any, x: int) -> None:
    """A value is rounded, halves to even, and clipped; what is no finite number counts 0, and the event counts."""
    totals, _ = agreed(shop(), [order(0, total)])
    assert totals.get(("assigned.red.order.sum", 0), 0) == x
    assert totals["assigned.red.order", 0] == 1


def test_events_of_one_time_are_ordered_by_their_ids() -> None:
    """Of two variations at one time the smaller eventId assigns; events of that time all lie in the scope."""
    blue = message(0, "item", eventId="b", assignments={"button_color": "blue"})
    red = message(0, "item", eventId="a", assignments={"button_color": "red"})
    before = message(0, "home", eventId="A", assignments={})
    for log in permutations([blue, red, before]):
        totals, _ = agreed(shop(), log)
        assert totals["assigned.red.beta", 0] == 1
        assert totals["assigned.red.home_page", 0] == 1
        assert totals["crossed.red.beta", 0] == 1
        assert ("assigned.blue.beta", 0) not in totals


def test_a_late_event_joins_two_visits() -> None:
    """Two visits at more than the gap become one by an event between them; at a gap exactly, they are one anyway."""
    apart = [message(0, "home"), message(120_001, "home")]
    config = shop(gap_s=120, lateness_s=120)
    assert agreed(config, apart)[0]["assigned.red.beta", 2] == 1
    joined, _ = agreed(config, [*apart, message(60_000, "item", arrives_ms=130_000)])
    assert ("assigned.red.beta", 2) not in joined
    touching, _ = agreed(config, [message(0, "home"), message(120_000, "home")])
    assert ("assigned.red.beta", 2) not in touching


def test_lateness_and_future_are_of_each_message() -> None:
    """Rejected are those later than allowed, and those too far ahead, of their own timestamp; the bounds are kept."""
    log = [
        message(600_000, "home", arrives_ms=1_200_000),
        message(599_999, "item", arrives_ms=1_200_000),
        message(1_260_000, "home", arrives_ms=1_200_000)._replace(partition=1),
        message(1_260_001, "home", arrives_ms=1_200_000)._replace(partition=1),
    ]
    totals, rejected = agreed(shop(), log)
    assert rejected == {"late": 1, "future": 1}
    assert totals["assigned.red.home_page", 10] == totals["assigned.red.home_page", 21] == 1


def test_timestamps_at_the_ends_of_64_bits() -> None:
    """They are judged as any other."""
    first = message(0, sessionId="a")._replace(timestamp=-(2**63))
    last = message(0, sessionId="b")._replace(timestamp=2**63 - 1)
    assert agreed(shop(), [first, message(0), last])[1] == {"future": 1, "late": 1}


def test_a_duplicate_is_one_of_the_same_visit() -> None:
    """An id is refused where the visit holds it, at whatever time; in another visit of the session it is new."""
    config = shop(gap_s=120, lateness_s=120)
    log = [message(at, "home", eventId="same") for at in (0, 0, 60_000, 300_000)]
    totals, rejected = agreed(config, log)
    assert rejected == {"duplicate": 2}
    assert totals["assigned.red.home_page", 0] == totals["assigned.red.home_page", 5] == 1
    assert ("assigned.red.home_page", 1) not in totals


def test_what_is_refused_joins_no_visits() -> None:
    """A duplicate between two visits does not make them one, and neither does an event that the visit has no room for.

    So the run of all that arrived falls into two visits.
    """
    config = shop(gap_s=120, lateness_s=120)
    first, between = message(0, "home", eventId="a"), message(110_000, "item", eventId="a")
    totals, rejected = agreed(config, [first, between, message(220_000, "home")])
    assert rejected == {"duplicate": 1}
    assert totals["assigned.red.beta", 0] == totals["assigned.red.beta", 3] == 1
    small = shop(gap_s=120, lateness_s=120, events_per_visit=1)
    totals, rejected = agreed(small, [first, message(110_000, "item"), message(220_000, "home")])
    assert rejected == {"visit_full": 1}
    assert totals["assigned.red.beta", 0] == totals["assigned.red.beta", 3] == 1


def test_a_full_visit_keeps_what_arrived_first() -> None:
    """The limit counts accepted events of the visit, in order of arrival; what is refused first makes no later room."""
    log = [message(at, "home") for at in (50_000, 40_000, 30_000, 20_000)] + [message(40_000, "home")]
    totals, rejected = agreed(shop(events_per_visit=3), log)
    assert rejected == {"visit_full": 1, "duplicate": 1}
    assert totals["assigned.red.home_page", 0] == 3


def test_a_joining_event_meets_the_ids_and_the_limit_of_both_visits() -> None:
    """An event between two visits joins them: it is a duplicate of either, and has to find room in both together."""
    config = shop(gap_s=120, lateness_s=120)
    apart = [message(at, "home", eventId=name) for at, name in ((0, "a"), (200_000, "b"))]
    _, rejected = agreed(config, [*apart, message(100_000, "home", eventId="b", arrives_ms=210_000)])
    assert rejected == {"duplicate": 1}
    full = shop(gap_s=120, lateness_s=120, events_per_visit=2)
    _, rejected = agreed(full, [*apart, message(100_000, "home", eventId="c", arrives_ms=210_000)])
    assert rejected == {"visit_full": 1}


@pytest.mark.parametrize(
    ("sent", "tag"),
    [
        ("mobile", "mobile"),
        ("a b", "a_b"),
        ("a_b", "a_b"),
        ("phone", "other"),
        (None, "unknown"),
        (float("inf"), "unknown"),
        (2.0, "2"),
        (2.5, "2.5"),
        (True, "true"),
        ([], "unknown"),
        ("", "other"),
        ("a\ud800b", "a_b"),
        ("unknown", "other"),
    ],
)
def test_tags_are_cleaned_and_listed(sent: Any, tag: str) -> None:
    """A tag is its listed value, cleaned; `other` and `unknown` stand for the rest. A listed `inf` is no number's."""
    config = shop()
    config["tenants"]["uswm"]["tags"] = {"device": ["mobile", "a b", "2", "2.5", "true", "inf"]}
    log = [message(0, attributes={"device": sent})]
    agreed(config, log)
    assert {dict(tags)["device"] for _, _, tags in batch_answer(config, log)[0]} == {tag}


def test_a_value_that_is_not_utf_8_is_no_json_wherever_it_stands() -> None:
    """Bytes that are not UTF-8 reject a message, in a field that nothing looks at too."""
    good = message(0, "home", unread="?")
    _, rejected = agreed(shop(), [good._replace(value=good.value.replace(b"?", b"\xff"))])
    assert rejected == {"not_json": 1}


def test_squares_of_the_largest_values_are_exact() -> None:
    """They are beyond 64 bits, and not rounded here: the nearest double is what the job stores of the whole square."""
    config = shop()
    config["tenants"]["uswm"]["points"]["order"]["value"]["max"] = 2**43
    log = [order(n, 2**41 / 100 + n, eventId=str(n)) for n in range(200)]
    x = sum(round((2**41 / 100 + n) * 100) for n in range(200))
    with workspace() as work:
        batch = Batch(work, parse(config))
        batch.read(Record(*each) for each in log)
        batch.judge()
        batch.compute()
        totals = {cell.name.rsplit(".", 1)[1]: value for cell, value in batch.totals() if ".sum" in cell.name}
    assert totals == {"sum": x, "sumsq": x**2}
    assert x**2 > 2**97


def test_visits_behind_a_total_are_named() -> None:
    """A total is explained by the visits that contribute to it: the session, when it began, and how much."""
    log = [
        message(0, "item"),
        message(61_000, "item"),
        message(62_000, "item"),
        message(61_000, "item", sessionId="other"),
        message(61_000, "home", sessionId="elsewhere"),
    ]
    with workspace() as work:
        batch = Batch(work, parse(shop()))
        batch.read(Record(*each) for each in log)
        batch.judge()
        batch.compute()
        cell = Cell(
            "uswm.visit.assigned.red.item_page", "button_color", BASE_MS + 60_000, "device=unknown|login=unknown"
        )
        assert dict(batch.totals())[cell] == 3
        behind = batch.visits_behind(cell, 5)
        assert behind == [VisitBehind("s-1", BASE_MS, 2), VisitBehind("other", BASE_MS + 61_000, 1)]
        assert batch.visits_behind(cell, 1) == behind[:1]
        assert batch.visits_behind(cell._replace(name="uswm.visit.assigned.green.item_page"), 5) == []
        assert batch.visits_behind(cell._replace(experiment="unheard_of"), 5) == []


def test_visits_behind_a_total_of_a_sixteenth_are_named() -> None:
    """Those of the sixteenth, whatever their variation and tags."""
    config = shop()
    config["tenants"]["uswm"]["aa"] = True
    sixteenth = f"aa-{crc32(b's-1') % 16:02d}"
    with workspace() as work:
        batch = Batch(work, parse(config))
        batch.read(Record(*each) for each in [message(0, "item"), message(0, "item", sessionId="s-2")])
        batch.judge()
        batch.compute()
        cell = Cell(f"uswm.visit.assigned.{sixteenth}.item_page.beta", "button_color", BASE_MS, "")
        assert dict(batch.totals())[cell] == 1
        assert batch.visits_behind(cell, 5) == [VisitBehind("s-1", BASE_MS, 1)]


def test_a_small_memory_gives_the_same_answer() -> None:
    """Tables larger than DuckDB may hold in memory are worked on from disk."""
    log = [message(at, "home", sessionId=f"s-{at}", arrives_ms=at) for at in range(0, 60_000, 2)]
    totals = 0
    with workspace(memory_bytes=40 << 20) as work:
        batch = Batch(work, parse(shop()))
        batch.read(Record(*each) for each in log)
        batch.judge()
        batch.compute()
        totals = sum(value for cell, value in batch.totals() if cell.name == "uswm.visit.fm.red.beta")
    assert totals == len(log)


def test_batch_shares_no_code_with_the_job() -> None:
    """An error in the core is not one in the batch answer: nothing of the core is imported by it."""
    allowed = {"monitor.batch", "monitor.config.settings", "monitor.topics.recorded"}
    for file in Path(batch_package.__file__).parent.glob("*.py"):
        for line in file.read_text().splitlines():
            if line.startswith(("from monitor", "import monitor")):
                module = line.split()[1]
                assert any(module == name or module.startswith(f"{name}.") for name in allowed), f"{file.name}: {line}"
