"""Warnings about valid configurations: what is most likely not meant is said once, and nothing else is."""

from typing import Any

import pytest
from hypothesis import given

from monitor.config.costs import VISIT_OVERHEAD_BYTES, cost, series_of
from monitor.config.hints import hints
from monitor.config.reader import parse
from monitor.core.definitions import Experiment, Limits, PointMet, Tenant
from tests.support.messages import shop
from tests.support.strategies import Config, configs

ONE = "experiments.button_color"


def changed(**tables: Any) -> Config:
    """The small shop, with other points, variations, ... of its tenant or its experiment."""
    config = shop()
    tenant = config["tenants"]["uswm"]
    experiment = tenant["experiments"]["button_color"]
    for name, found in tables.items():
        (experiment if name in experiment else tenant)[name] = found
    return config


def told(config: Config) -> list[tuple[str, str]]:
    """The warnings, places below the tenant."""
    return [(place.removeprefix("tenants.uswm."), why) for place, why in hints(parse(config).compiled_tenants())]


def test_an_ordinary_configuration_has_none() -> None:
    """Also where an attribute is asked for several types on purpose."""
    assert told(shop()) == []
    both = {"p": {"where": {"loggedIn": ["true", True]}}, "q": {"where": {"loggedIn": True}}}
    assert told(changed(points=both, qualified_when={"point": "p"})) == []


@pytest.mark.parametrize(
    ("value", "written"), [("true", "the boolean true"), ("0", "the number 0"), ("-2.5", "the number -2.5")]
)
def test_a_text_written_like_another_type(value: str, written: str) -> None:
    """Nobody will qualify if events carry the other type; a text like any other is no matter."""
    points = {"q": {"where": {"b": ["2.5.1", "v2", "yes", "-"]}}, "p": {"event": "page_view", "where": {"a": value}}}
    ((place, why),) = told(changed(points=points, qualified_when={"point": "q"}))
    assert place == "points.p.where.a"
    assert why.startswith(f'is met by the text "{value}" only, never by {written}')


@pytest.mark.parametrize(
    ("elsewhere", "kind", "place"),
    [
        ({"where": {"total": {"min": 2}}}, "a number", "points.q.where.total"),
        ({"where": {"total": [1, 2]}}, "a number", "points.q.where.total"),
        ({"where": {"total": True}}, "true or false", "points.q.where.total"),
        ({"value": {"attribute": "total"}}, "a number", "points.q.value"),
    ],
)
def test_types_that_cannot_both_be_met(elsewhere: Config, kind: str, place: str) -> None:
    """Text here, another type elsewhere, of one attribute."""
    rule = {"any": [{"point": "q"}, {"event": "order", "where": {"total": "much"}}]}
    ((where, why),) = told(changed(points={"q": elsewhere}, qualified_when=rule))
    assert where == f"{ONE}.qualified_when.any.1.where.total"
    assert why.startswith(f"expects text, but {place} expects {kind} of the same attribute")


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ({"min": 2, "max": 1}, "min 2 is above max 1"),
        ({"exists": False, "not": "a"}, "must be absent, and have a value"),
        ({"exists": False, "max": 1}, "must be absent, and have a value"),
    ],
)
def test_a_condition_that_nothing_meets(condition: Config, why: str) -> None:
    """Its parts exclude each other."""
    ((place, said),) = told(changed(qualified_when={"where": {"a": condition}}))
    assert (place, said.startswith("can never be met: "), why in said) == (f"{ONE}.qualified_when.where.a", True, True)


def test_nothing_to_compare() -> None:
    """One variation, or all weight on one."""
    assert told(changed(variations={"blue": 1})) == [
        (f"{ONE}.variations", "has only blue: there is nothing to compare it with")
    ]
    assert told(changed(variations={"blue": 0, "red": 3})) == [
        (f"{ONE}.variations", "has all its weight on red: no visit is expected in the others")
    ]


def test_points_that_come_before_qualification() -> None:
    """By their order in the file; a rule that any of the points meets needs the first of them only."""
    rule = {
        "all": [
            {"event": "page_view"},
            {"any": [{"event": "page_view", "where": {"page": "item"}}, {"point": "order"}]},
        ]
    }
    ((place, why),) = told(changed(qualified_when=rule))
    assert place == f"{ONE}.qualified_when"
    assert why == (
        "needs item_page, which stands behind home_page: if visits meet the points in this order, it is always 0 for "
        "qualified visits (scope `assigned` has it)"
    )
    assert told(changed(qualified_when={"any": [{"point": "order"}, {"event": "search"}]})) == []


def test_a_point_that_is_over_when_the_rule_is_met() -> None:
    """The first view of those that the rule needs three of."""
    points = {name: {"event": "view", "nth": nth} for name, nth in (("third", 3), ("first", 1), ("fourth", 4))}
    ((_, why),) = told(changed(points=points, qualified_when={"point": "third"}))
    assert why == "is met only after first: it is always 0 for qualified visits"
    rule = {"any": [{"point": "third"}, {"point": "fourth"}]}
    assert [why for _, why in told(changed(points=points, qualified_when=rule))] == [why]
    assert told(changed(points=points, qualified_when={"any": [{"point": "third"}, {"event": "a"}]})) == []


def test_shared_variations_are_told_once() -> None:
    """With the experiments that share them; the same of several tenants in one warning."""
    variations = (("a", 1), ("b", 1))
    experiments = tuple(Experiment(name, "a", variations, PointMet("p")) for name in ("one", "two"))
    tenants = [Tenant(name, (), (), experiments) for name in ("t", "u", "v")]
    ((place, why),) = hints(tenants)
    assert place == "tenants.t.experiments (also of u, v)"
    assert why.startswith("share variations: a (one, two), b (one, two); ")


@given(configs())
def test_any_configuration_can_be_looked_at(config: Config) -> None:
    """Hints have places of the configuration, and costs are positive."""
    tenants = parse(config).compiled_tenants()
    assert all(place.startswith("tenants.") and why for place, why in hints(tenants))
    assert cost(tenants, Limits()).visit_bytes > VISIT_OVERHEAD_BYTES


def test_costs() -> None:
    """By hand: 768 series; totals of 10 minutes of lateness, the present minute and the one that ends.

    A visit in more experiments takes more memory.
    """
    tenants = parse(shop()).compiled_tenants()
    assert series_of(tenants[0]) == {"button_color": (48, 768)}
    by_sixteenth = shop()
    by_sixteenth["tenants"]["uswm"]["aa"] = True
    added = 16 * 2 * (1 + 4)  # without tags: sixteenths, scopes, the visits and those with each of four points
    assert series_of(parse(by_sixteenth).compiled_tenants()[0]) == {"button_color": (48 + added, 768 + added)}
    small = cost(tenants, Limits())
    assert (small.series, small.totals_bytes) == (768, 768 * 12 * 200)
    many = changed()
    table = many["tenants"]["uswm"]["experiments"]["button_color"]
    for n in range(20):
        names = {f"a{n}": 1, f"b{n}": 1}
        many["tenants"]["uswm"]["experiments"][f"e{n}"] = table | {"control": f"a{n}", "variations": names}
    assert cost(parse(many).compiled_tenants(), Limits()).visit_bytes > small.visit_bytes + 50
