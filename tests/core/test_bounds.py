"""Each collection that the core remembers answers in has a bound, in entries and in bytes: it is filled here.

A bound is made small, events that never repeat are fed, the collection stays within it, and no total changes.
"""

import pytest

from monitor.core import attribution, classify, deltas
from monitor.core.classify import Classifier
from monitor.core.deltas import SeriesTable
from tests.support import oracle
from tests.support.driver import Core
from tests.support.messages import message, shop
from tests.support.oracle import Message
from tests.support.strategies import Config

EVENTS = 400


def distinct(**limits: int) -> tuple[Config, list[Message]]:
    """A shop in which many sessions meet many points in many orders, and events with texts that never repeat."""
    config = shop(**limits)
    tenant = config["tenants"]["uswm"]
    for i in range(8):
        tenant["points"][f"p{i}"] = {"where": {f"a{i}": True}}
        tenant["points"][f"n{i}"] = {"where": {f"a{i}": True}, "nth": 2 + i % 3}
    tenant["tags"]["country"] = [f"c{i}" for i in range(50)]
    log = [
        message(
            i * 500,
            "home",
            sessionId=f"s-{i % 40}",
            assignments={"button_color": ("red", "blue")[i % 40 % 2], f"experiment-{i}": "x"},
            attributes={"page": "home", "device": f"d{i}", "country": f"c{i % 50}"}
            | {f"a{bit}": True for bit in range(8) if i * 37 >> bit & 1},
        )
        for i in range(EVENTS)
    ]
    return config, log


def test_what_is_remembered_without_a_bound_in_reach() -> None:
    """The same events fill each collection further than the small bounds of the tests below: those tests test."""
    config, log = distinct()
    core = Core(config)
    core.feed(log)
    tenant = core.compiled.tenants["uswm"]
    program, classifier = tenant.program, tenant.classifier
    assert len(program._event_classes) > 20
    assert len(program._experiment_states) > 20
    assert program._transitions > 20
    assert program._refinements > 20
    assert signatures(classifier) > 20
    assert len(classifier.remembered) > 20


@pytest.mark.parametrize(
    "bound",
    ["TRANSITIONS_MAX", "TRANSITIONS_BYTES_MAX", "EVENT_CLASSES_MAX", "REFINEMENTS_MAX"],
)
def test_automata_are_forgotten_at_their_bounds(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transitions, experiment states, patterns, event classes and results of `nth`."""
    config, log = distinct()
    entries = 10_000 if bound.endswith("BYTES_MAX") else 10
    monkeypatch.setattr(attribution, bound, entries)
    core = Core(config)
    program = core.compiled.tenants["uswm"].program
    for arriving in log:
        core.feed([arriving])
        transitions = [len(state.transitions) for state in program._experiment_states.values()]
        assert sum(transitions) <= program._transitions
        assert len(program._patterns) <= program._transitions + 1
        refined = sum(len(event_class.refined) for event_class in program._event_classes.values())
        assert refined <= program._refinements
        match bound:
            case "TRANSITIONS_MAX":
                assert program._transitions <= entries
                assert len(program._experiment_states) <= entries
            case "TRANSITIONS_BYTES_MAX":
                assert program._transitions_bytes <= entries + 2_000, "the last one is put behind the check"
            case "EVENT_CLASSES_MAX":
                assert len(program._event_classes) <= entries
                assert len(program._refined) <= entries
            case "REFINEMENTS_MAX":
                assert program._refinements <= entries
    assert core.answer() == oracle.answer(config, log).totals


@pytest.mark.parametrize("bound", ["SIGNATURES_MAX", "SIGNATURES_BYTES_MAX"])
def test_signatures_are_forgotten_at_their_bounds(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever attributes events carry."""
    config, log = distinct()
    monkeypatch.setattr(classify, bound, 8_000 if bound.endswith("BYTES_MAX") else 10)
    core = Core(config)
    classifier = core.compiled.tenants["uswm"].classifier
    for arriving in log:
        core.feed([arriving])
        assert signatures(classifier) <= 10
    assert core.answer() == oracle.answer(config, log).totals


@pytest.mark.parametrize("bound", ["ASSIGNMENTS_MAX", "ASSIGNMENTS_BYTES_MAX"])
def test_assignments_are_forgotten_at_their_bounds(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever assignments events carry."""
    config, log = distinct()
    monkeypatch.setattr(classify, bound, 5_000 if bound.endswith("BYTES_MAX") else 12)
    core = Core(config)
    classifier = core.compiled.tenants["uswm"].classifier
    for arriving in log:
        core.feed([arriving])
        assert len(classifier.remembered) <= 12
    assert core.answer() == oracle.answer(config, log).totals


def test_long_texts_are_not_remembered() -> None:
    """Neither of assignments nor of attributes; such events count like others."""
    long = "x" * classify.REMEMBERED_TEXT_BYTES_MAX
    log = [
        message(i * 500, None, attributes={"page": "home", "device": f"{i}{long}"}, assignments={"button_color": "red"})
        for i in range(10)
    ]
    log += [
        message(10_000 + i * 500, "home", assignments={"button_color": "red", f"{i}{long}": "x"}) for i in range(10)
    ]
    core = Core(shop())
    core.feed(log)
    classifier = core.compiled.tenants["uswm"].classifier
    assert signatures(classifier) == 1
    assert len(classifier.remembered) == 1
    assert core.answer() == oracle.answer(shop(), log).totals


@pytest.mark.parametrize("bound", ["SERIES_MAX", "SERIES_BYTES_MAX"])
def test_series_are_forgotten_at_their_bounds(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And written anew, the same."""
    config, log = distinct()
    core = Core(config)
    core.feed(log)
    tenant = core.compiled.tenants["uswm"]
    keys = range(len(tenant.program.numbering.key_objects))
    pairs = [(key, tags) for tags in range(tenant.classifier.tag_sets.count()) for key in list(keys)[:20]]
    unbounded = SeriesTable(tenant, 4)
    expected = [unbounded.series(key, tags) for key, tags in pairs]
    monkeypatch.setattr(deltas, bound, 30_000 if bound.endswith("BYTES_MAX") else 50)
    table = SeriesTable(tenant, 4)
    for (key, tags), series in zip(pairs, expected, strict=True):
        assert table.series(key, tags) == series
        assert sum(map(len, table._remembered.values())) <= 100


def signatures(classifier: Classifier) -> int:
    """The number of remembered signatures."""
    remembered = [*classifier._by_event.values(), classifier._other_events]
    return sum(map(len, remembered))
