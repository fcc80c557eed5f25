"""Logs as shops and flag tools really send them, once counted wrongly, through the core and the batch answer.

Each case is a configuration and a recorded log of `tests/support/cases`; the right totals are written here, over all
minutes and tags. The core reads the log at once, and one message at a time with a snapshot and restart in the middle.
"""

import tomllib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from monitor.topics import recorded
from tests.support.batch_answers import batch_answer
from tests.support.driver import Core
from tests.support.oracle import Key, Message

CASES = Path(__file__).parents[1] / "support/cases"
Totals = dict[str, int | float]


class Right(NamedTuple):
    """What a log comes to: accepted messages, rejected ones by tenant and reason, and totals of scope `assigned`.

    A total is named `experiment.variation.rest`.
    """

    accepted: int
    rejected: dict[tuple[str, str], int]
    totals: Totals


def visits(name: str, count: int, orders: int = 0, total: int = 0, squares: float = 0) -> Totals:
    """The totals of a variation whose visits have one home page each, and some one order each.

    `total` is the sum of their values in cents, `squares` that of the visits' squared values.
    """
    ordered = {"order": orders, "order.beta": orders, "order.sum": total, "order.sumsq": squares}
    counted = {"beta": count, "home": count, "home.beta": count, **ordered}
    return {f"{name}.{rest}": n for rest, n in counted.items() if n}


RIGHT = {
    # An experiment of two is not assigned: its assignment is null, and the other one counts.
    "a1": Right(40, {}, visits("button.blue", 10, 10, 10_000, 10**7) | visits("button.red", 10, 10, 10_000, 10**7)),
    # Variations are numbers in one producer, booleans in another, and texts in a third.
    "a2": Right(
        60,
        {},
        visits("landing.0", 20) | visits("landing.1", 20) | visits("flag.false", 20) | visits("flag.true", 20),
    ),
    # One id, `undefined`, for many visitors, who are beside 300 that have ids.
    "a9": Right(300, {("a9", "placeholder_id"): 360}, visits("cta.c_a", 150) | visits("cta.c_b", 150)),
    # Visits that go on after midnight, with orders that carry no assignment.
    "a15": Right(20, {}, visits("mid.d_a", 5, 5, 5_000, 5 * 10**6) | visits("mid.d_b", 5, 5, 5_000, 5 * 10**6)),
    # Revenue as text in one variation: its orders count, with no value.
    "a18": Right(120, {}, visits("rev.g_a", 30, 30, 75_000, 30 * 2_500**2) | visits("rev.g_b", 30, 30)),
    # One order of 31,000,000 in cents: its square is beyond 64 bits, and is counted all the same.
    "a20": Right(
        960,
        {},
        visits("price.p_old", 400, 80, 8 * 10**9, 80 * 10.0**16)
        | visits("price.p_new", 400, 80, 11 * 10**9, 79 * 10.0**16 + 3_100_000_000.0**2),
    ),
    # Fields of wrong types: seven messages of the tenant, and one that names none. Null and unknown fields are fine.
    "a21": Right(
        4,
        {("a21", "bad_field"): 7, ("unknown", "bad_field"): 1},
        {"btn.k_a.beta": 3, "btn.k_a.home": 2, "btn.k_a.home.beta": 2},
    ),
}


@pytest.mark.parametrize("case", RIGHT)
def test_a_log_as_it_is_really_sent(case: str) -> None:
    """The batch answer has the right totals, and the core the same in every minute, at once and with a restart."""
    config, log = read(case)
    right = RIGHT[case]
    found, accepted, rejected = batch_answer(config, log)
    assert (accepted, rejected) == ({case: right.accepted}, right.rejected)
    assert assigned(found) == right.totals
    for core in (fed_at_once(config, log), fed_with_a_restart(config, log)):
        assert core.answer() == found
        assert {tenant: n for tenant, n in core.accepted.items() if n} == accepted
        assert {(tenant, str(reason)): n for (tenant, reason), n in core.rejected.items()} == rejected


def test_every_case_is_read() -> None:
    """Each file of the folder belongs to a case above."""
    assert {file.name.partition(".")[0] for file in CASES.iterdir()} == RIGHT.keys()


def test_a_square_beyond_64_bits_is_stored_as_a_double() -> None:
    """It was a dead letter once, while its sum stayed: the difference of two variations became clear that is not."""
    core = fed_at_once(*read("a20"))
    squares = [total for (name, _, _), total in core.answer().items() if name.endswith(".sumsq")]
    assert max(squares) > 2**63
    assert all(type(square) is float for square in squares)


def read(case: str) -> tuple[dict[str, Any], list[Message]]:
    """A case's configuration and log."""
    config = tomllib.loads((CASES / f"{case}.toml").read_text())
    return config, [Message(*record) for record in recorded.read(CASES / f"{case}.ndjson.gz")]  # type: ignore[arg-type]


def fed_at_once(config: dict[str, Any], log: list[Message]) -> Core:
    """The core after the whole log."""
    core = Core(config)
    core.feed(log)
    return core


def fed_with_a_restart(config: dict[str, Any], log: list[Message]) -> Core:
    """The core after the log, message by message, restarted in the middle of it."""
    core = Core(config)
    for number, message in enumerate(log):
        if number == len(log) // 2:
            core.restart()
        core.feed([message])
    return core


def assigned(totals: Mapping[Key, int | float]) -> Totals:
    """The totals of scope `assigned` over all minutes and tags, by `experiment.variation.rest`."""
    sums: defaultdict[str, int | float] = defaultdict(int)
    for (name, _, tags), total in totals.items():
        scope, variation_and_rest = name.split(".", 2)[2].split(".", 1)
        if scope == "assigned":
            sums[f"{dict(tags)['experiment']}.{variation_and_rest}"] += total
    return dict(sums)
