"""What events say in assignments and ids, as the batch answer understands it."""

import re
from collections.abc import Sequence
from typing import Any

from monitor.batch import Batch, Cell, workspace
from monitor.config.reader import parse
from monitor.topics.recorded import Record
from tests.support.batch_answers import batch_answer
from tests.support.messages import BASE_MS, MINUTE_MS, message, shop
from tests.support.strategies import Config


def answered(config: Config, carried: Sequence[Any]) -> list[set[tuple[str, str]]]:
    """The (experiment, variation) that the batch answer finds for each of some assignments, all of which are accepted.

    Each is carried by a message of a session and a minute of its own, so that one answer tells them apart.
    """
    log = [message(n * MINUTE_MS, sessionId=f"s{n}", assignments=each) for n, each in enumerate(carried)]
    totals, accepted, rejected = batch_answer(config, log)
    assert (accepted, rejected) == ({"uswm": len(log)}, {})
    found: list[set[tuple[str, str]]] = [set() for _ in carried]
    for (name, minute_ms, tags), value in totals.items():
        if variation := re.fullmatch(r"uswm\.visit\.assigned\.([^.]*)\.beta", name):
            assert value == 1
            found[(minute_ms - BASE_MS) // MINUTE_MS].add((dict(tags)["experiment"], variation[1]))
    return found


def renamed() -> Config:
    """The shop, whose experiment and variations have other names in events."""
    config = shop()
    color = config["tenants"]["uswm"]["experiments"]["button_color"]
    color["aliases"] = {"Blue (old)": "blue", "rosé": "red", "it's\0": "red", "": "red", "1": "red", "false": "blue"}
    color["names"] = ["Button Colour", "btn's", "no\0thing"]
    return config


def test_an_assignment_is_its_text() -> None:
    """Numbers and booleans say their text; what cannot be read is ignored by itself, and the event counts."""
    config = shop()
    color = config["tenants"]["uswm"]["experiments"]["button_color"]
    color |= {"control": "one", "variations": dict.fromkeys(("one", "on", "off", "half"), 1)}
    halves = dict.fromkeys(("2.5", "10000000000000000", f"{10**25}", "1e-07"), "half")
    color["aliases"] = {"1": "one", "false": "off", "0": "on", "inf": "on", "-inf": "on", "null": "on", **halves}
    other = {"control": "here", "variations": {"here": 1}, "qualified_when": {"point": "home_page"}}
    config["tenants"]["uswm"]["experiments"]["other"] = other
    meaning: dict[str | None, tuple[Any, ...]] = {
        "one": ("1", 1, 1.0),
        "off": ("false", False),
        "on": (0, -0.0, "0", "on"),
        "half": (2.5, "2.5", 1e16, 10**16, 10**25, 1e-7),
        None: (None, True, "True", "1.0", "2.50", 2, {}, {"key": "1"}, [], ["1"], "", " 1"),
    }
    unread = (float("inf"), float("-inf"), "\ud800", "1\udc00")
    cases = [(text, variation) for variation, texts in meaning.items() for text in texts]
    cases += [(value, None) for value in unread]
    found = answered(config, [{"button_color": sent, "other": "here"} for sent, _ in cases])
    for (sent, variation), seen in zip(cases, found, strict=True):
        assert seen == {("other", "here"), *([("button_color", variation)] if variation else [])}, sent


def test_only_assignments_that_are_no_object_are_a_bad_field() -> None:
    """Of equal keys the last counts, whatever came before it; half a surrogate pair in a key is that key's fault."""
    log = [message(0, assignments=wrong) for wrong in ("red", 1, True)] + [message(0, assignments=["red"])]
    assert batch_answer(shop(), log)[2] == {("uswm", "bad_field"): 4}
    value = message(0).value.replace(b'"red"', b'{}, "button_color": 1e999, "\\ud800": [], "button_color": "red"')
    totals, _, rejected = batch_answer(shop(), [message(0)._replace(value=value)])
    assert {name for name, _, _ in totals} == {"uswm.visit.assigned.red.beta"}
    assert not rejected


def test_names_and_aliases() -> None:
    """The configured name is asked first, then the others in their order; the first known text decides."""
    cases: list[tuple[dict[str, Any], str | None]] = [
        ({"Button Colour": "Blue (old)"}, "blue"),
        ({"Button Colour": "red"}, "red"),
        ({"btn's": "rosé", "no\0thing": "blue"}, "red"),
        ({"no\0thing": "it's\0"}, "red"),
        ({"no\0thing": ""}, "red"),
        ({"btn's": 1.0}, "red"),
        ({"btn's": False}, "blue"),
        ({"btn's": "blue", "button_color": "red"}, "red"),
        ({"btn's": "blue", "button_color": "teal"}, "blue"),
        ({"btn's": "blue", "Button Colour": "red", "button_color": None}, "red"),
        ({"btn's": "blue", "Button Colour": [], "button_color": {}}, "blue"),
        ({"button color": "red", "Btn's": "red"}, None),
        ({"button_color": "Rosé"}, None),
    ]
    found = answered(renamed(), [carried for carried, _ in cases])
    for (carried, variation), seen in zip(cases, found, strict=True):
        assert seen == ({("button_color", variation)} if variation else set()), carried


def test_another_name_of_a_variation_is_no_crossing() -> None:
    """A visit that carries its variation by several names has one; another one by an alias is a crossing."""
    log = [
        message(at, sessionId=session, assignments=assignments)
        for session, second in (("same", {"button_color": "rosé"}), ("other", {"btn's": "Blue (old)"}))
        for at, assignments in ((0, {"btn's": "red"}), (1, second))
    ]
    totals, _, _ = batch_answer(renamed(), log)
    assert sum(n for (name, _, _), n in totals.items() if ".crossed.red." in name) == 1


def test_experiments_may_share_names_of_variations() -> None:
    """A variation's name means one within its experiment only: totals and the visits behind them are told apart."""
    config = shop()
    experiments = config["tenants"]["uswm"]["experiments"]
    size = experiments["button_color"] | {"aliases": {"blue one": "red"}, "names": ["Size"]}
    experiments["size"] = size
    carried = {"button_color": "blue", "Size": "blue one"}, {"size": "red"}, {"button_color": "blue one"}
    assert answered(config, carried) == [{("button_color", "blue"), ("size", "red")}, {("size", "red")}, set()]
    with workspace() as work:
        batch = Batch(work, parse(config))
        batch.read([Record(*message(0, sessionId=f"s{n}", assignments=each)) for n, each in enumerate(carried)])
        batch.judge()
        batch.compute()
        cell = Cell("uswm.visit.assigned.red.beta", "size", BASE_MS, "device=unknown|login=unknown")
        assert {visit.session_id for visit in batch.visits_behind(cell, 5)} == {"s0", "s1"}
        assert batch.visits_behind(cell._replace(experiment="button_color"), 5) == []


def test_an_id_that_stands_for_no_session_is_rejected() -> None:
    """Placeholders are compared trimmed and case-folded: after the tenant, before the time."""
    ids = ("undefined", " Null\u3000", "NONE", "[object Object]", "0", "-1", "(NOT SET)")
    log = [message(10**9, sessionId=each, arrives_ms=0) for each in ids]
    log.append(message(0, sessionId="undefined", tenant="nobody"))
    found = batch_answer(shop(), log)[2]
    assert found == {("uswm", "placeholder_id"): len(ids), ("unknown", "unknown_tenant"): 1}


def test_placeholders_are_configured() -> None:
    """The list replaces the default one; its texts are trimmed and case-folded too."""
    config = shop()
    config["limits"]["placeholder_ids"] = [" STRASSE"]
    for session_id, rejected in (("straße\t", {("uswm", "placeholder_id"): 1}), ("undefined", {})):
        assert batch_answer(config, [message(0, sessionId=session_id)])[2] == rejected


def test_times_are_milliseconds_from_1973_to_5138() -> None:
    """An event's time in another unit is a bad field; one that can be stored counts, far from today too."""
    times = (1_795_491_000, 10**11 - 1, 10**11, 10**14 - 1, 10**14, 2**53 - 1)
    totals, accepted, rejected = batch_answer(shop(), [message(0, time=at)._replace(timestamp=at) for at in times])
    assert {at for _, at, _ in totals} == {at - at % MINUTE_MS for at in (10**11, 10**14 - 1)}
    assert (accepted, rejected) == ({"uswm": 2}, {("uswm", "bad_field"): 4})
