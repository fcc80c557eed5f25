"""Which points and rules an event meets, and its tags: remembered signatures answer as direct evaluation does."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core import classify
from monitor.core.classify import Classifier, mentioned
from monitor.core.compiled import CompiledConfig, CompiledTenant
from monitor.core.definitions import Condition, Predicate, Tag
from monitor.core.events import Event
from monitor.core.predicates import holds, scalar
from monitor.core.tags import TagSets, tag_text
from tests.support import oracle
from tests.support.driver import compiled_of
from tests.support.strategies import (
    ATTRIBUTE_NAMES,
    ATTRIBUTES,
    EVENT_NAMES,
    RARE_VALUES,
    Config,
    conditions,
    configs,
    encode,
)

HELD: list[tuple[Any, Any, bool]] = [
    # a value: types agree as in JSON
    ("home", "home", True),
    ("home", "Home", False),
    (1, 1, True),
    (1, 1.0, True),
    (1.0, 1, True),
    (1, True, False),
    (True, 1, False),
    (True, True, True),
    (True, False, False),
    (True, "true", False),
    (0, False, False),
    (False, 0, False),
    (0, -0.0, True),
    (1, "1", False),
    ("1", 1, False),
    (2**60, 2**60 + 1, False),
    ("home", None, False),
    # a list: one of them
    (["home", 2, False], "home", True),
    (["home", 2, False], 2.0, True),
    (["home", 2, False], False, True),
    (["home", 2, False], 0, False),
    (["home", 2, False], None, False),
    # not: present and none of these
    ({"not": "home"}, "item", True),
    ({"not": "home"}, "home", False),
    ({"not": "home"}, None, False),
    ({"not": ["home", 1]}, True, True),
    ({"not": ["home", 1]}, 1.0, False),
    # exists
    ({"exists": True}, "", True),
    ({"exists": True}, 0, True),
    ({"exists": True}, None, False),
    ({"exists": False}, None, True),
    ({"exists": False}, False, False),
    # min and max: a number within, inclusive
    ({"min": 1}, 1, True),
    ({"min": 1}, 0.999, False),
    ({"max": 2.5}, 2.5, True),
    ({"max": 2.5}, 2.501, False),
    ({"min": 1, "max": 2}, 1.5, True),
    ({"min": 1, "max": 2}, 3, False),
    ({"min": 0}, True, False),
    ({"min": 0}, "5", False),
    ({"min": 0}, None, False),
    ({"max": 0}, None, False),
    ({"min": 0}, math.inf, True),
    ({"min": 2**53 + 1}, 2**53, False),
    # several parts: all of them
    ({"not": 2, "min": 1}, 2, False),
    ({"not": 2, "min": 1}, 3, True),
    ({"exists": False, "max": 1}, 0, False),
    ({"exists": False, "not": 1}, None, False),
]


@pytest.mark.parametrize(("condition", "value", "met"), HELD)
def test_conditions(condition: Any, value: Any, met: bool) -> None:
    """Each kind of condition on each type of value; None stands for an absent attribute."""
    assert holds(compiled(condition), value) is met


@given(data=st.data(), name=st.sampled_from(ATTRIBUTE_NAMES))
def test_conditions_are_the_oracles(data: st.DataObject, name: str) -> None:
    """Any condition that can be configured, on any value that an event can carry."""
    condition = data.draw(conditions(name))
    value = scalar(data.draw(st.sampled_from((*ATTRIBUTES[name], *RARE_VALUES))))
    assert holds(compiled(condition), value) is oracle.holds(condition, value)


@pytest.mark.parametrize("value", [None, [], ["home"], {}, {"home": 1}])
def test_a_value_of_another_type_counts_as_absent(value: Any) -> None:
    """Arrays and objects are no attributes, whatever they hold."""
    compiled = one_point({"exists": False})
    assert met(compiled, event(compiled, page=value)) == {"p"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("mobile", "mobile"),
        ("a b/ü|=.-_", "a_b/___.-_"),
        ("", ""),
        (True, "true"),
        (False, "false"),
        (2, "2"),
        (2.0, "2"),
        (-3, "-3"),
        (2.5, "2.5"),
        (0.005, "0.005"),
        (-0.0, "0"),
        (10**18, "1000000000000000000"),
        (None, None),
        (math.inf, None),
        (-math.inf, None),
    ],
)
def test_the_text_of_a_tag(value: Any, text: str | None) -> None:
    """Booleans and numbers as their shortest JSON text, strange characters as `_`; None where there is no text."""
    assert tag_text(value) == text


@pytest.mark.parametrize(
    ("values", "value", "shown"),
    [
        (["mobile"], "mobile", "mobile"),
        (["mobile"], "laptop", "other"),
        (["mobile"], "", "other"),
        (["mobile"], None, "unknown"),
        (["mobile"], ["mobile"], "unknown"),
        (["mobile"], math.inf, "unknown"),
        # the texts of what is absent and not listed, as an event's own values
        (["mobile"], "unknown", "other"),
        (["mobile"], "other", "other"),
        (["unknown"], "unknown", "unknown"),
        (["unknown"], None, "unknown"),
        (["unknown"], "x", "other"),
        (["other"], "other", "other"),
        (["other", "unknown"], "x", "other"),
        (["other", "unknown"], None, "unknown"),
        # what is listed are texts
        (["true"], True, "true"),
        (["true"], "true", "true"),
        (["true"], 1, "other"),
        (["1"], True, "other"),
        (["2"], 2.0, "2"),
        (["a_b"], "a b", "a_b"),
        ([], "x", "other"),
        ([], None, "unknown"),
    ],
)
def test_tags_of_an_event(values: list[str], value: Any, shown: str) -> None:
    """A listed text is shown, another is `other`, and `unknown` where there is none."""
    tags = TagSets([Tag("page", "page", tuple(values))])
    assert tags.texts(tags.number([scalar(value)])) == {"page": shown}


def test_several_tags_do_not_mix() -> None:
    """Each combination of values has a number of its own, which gives the combination back in the order of the tags."""
    tags = TagSets([Tag("b", "x", ("1", "2")), Tag("a", "y", ()), Tag("c", "x", ("2", "3", "other"))])
    values = [[x, y, z] for x in (1, 2, 3, None) for y in (7, None) for z in (2, 3, 4, None)]
    texts = [tuple(tags.texts(tags.number(value)).items()) for value in values]
    assert len({tags.number(value) for value in values}) == len(set(texts)) == 4 * 2 * 4
    assert texts[0] == (("b", "1"), ("a", "other"), ("c", "2"))
    assert all(
        tags.number_of_texts(dict(text)) == tags.number(value) for text, value in zip(texts, values, strict=True)
    )


def test_a_combination_of_another_configuration() -> None:
    """A value that is not listed any more becomes `other`, a tag that is new is `unknown`."""
    tags = TagSets([Tag("a", "a", ("1",)), Tag("new", "new", ("1",))])
    assert tags.texts(tags.number_of_texts({"gone": "1", "a": "2"})) == {"a": "other", "new": "unknown"}


def test_no_tags_is_one_combination() -> None:
    """A tenant without tags has points without tags."""
    assert TagSets([]).number([]) == 0
    assert TagSets([]).texts(0) == {}


def test_mentioned_attributes() -> None:
    """Those of tags and predicates, each once."""
    where = (("page", Condition(("x",))), ("total", Condition(minimum=1)))
    assert mentioned([Tag("t", "page", ())], [Predicate(None, where), Predicate(None, where)]) == ["page", "total"]


@pytest.mark.parametrize("order", [(1, True, 1.0), (True, 1, 1.0), (0, False, -0.0), (False, 0.0, 0)])
@pytest.mark.parametrize("bounded", [False, True])
def test_remembered_signatures_tell_numbers_from_booleans(order: tuple[Any, ...], bounded: bool) -> None:
    """Python takes 1, 1.0 and true for the same key; whichever comes first, each gets its own answer, twice."""
    compiled = one_point([True, False], {"min": -5} if bounded else None)
    for value in order * 2:
        assert met(compiled, event(compiled, page=value)) >= ({"p"} if isinstance(value, bool) else set())
        assert ("p" in met(compiled, event(compiled, page=value))) is isinstance(value, bool)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *[(0.999, set()), (1, {"p"}), (1.0, {"p"}), (1.5, {"p"}), (2, {"p"}), (2.001, set()), (math.inf, set())],
        *[(True, {"q"}), ("1", {"q"}), ("z", {"q"}), (None, set()), ([1], set()), (3, {"q"}), (4, {"q"}), (5, set())],
    ],
)
def test_attributes_that_are_only_compared(value: Any, expected: set[str]) -> None:
    """Values that fall into one interval share a signature; the bounds and listed values have their own."""
    points = {"p": {"where": {"page": {"min": 1, "max": 2}}}, "q": {"where": {"page": ["z", "1", True, 3, 4]}}}
    compiled = compiled_of(config_of(points))
    for other in (0, 1.2, 1.7, 2.5, 3.5, 6, False, "y", None):
        met(compiled, event(compiled, page=other))  # so that neighbours are remembered
    assert met(compiled, event(compiled, page=value)) == expected


@pytest.mark.parametrize("signatures_max", [2, 65_536])
@given(data=st.data())
def test_a_classified_event_is_direct_evaluation(signatures_max: int, data: st.DataObject) -> None:
    """Points, rule clauses and tags of any event, remembered or not, whatever was remembered before it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classify, "SIGNATURES_MAX", signatures_max)
        compiled = compiled_of(data.draw(configs()))
        for tenant in compiled.tenants.values():
            for attributes in data.draw(st.lists(EVENT_ATTRIBUTES, min_size=1, max_size=12)):
                name = data.draw(st.sampled_from((*EVENT_NAMES, "unheard_of")))
                assert_classified_directly(compiled, tenant, event(compiled, tenant.name, name, **attributes))


def assert_classified_directly(compiled: CompiledConfig, tenant: CompiledTenant, event: Event) -> None:
    """Compares the classifier's answer with the conditions and tags, evaluated one by one."""
    classifier: Classifier = tenant.classifier
    classified = classifier.classified(event)
    definitions, program = tenant.program.tenant, tenant.program
    points = {point.name for point in definitions.points if is_met(compiled, point.predicate, event)}
    assert {
        name for i, name in enumerate(program.numbering.point_names) if classified.event_class.points >> i & 1
    } == points
    clauses = [is_met(compiled, predicate, event) for predicate in program.clauses.predicates]
    assert classified.event_class.clauses == program.clauses.in_rules & sum(
        1 << i for i, held in enumerate(clauses) if held
    )
    shown = {}
    for tag in definitions.tags:
        shown[tag.name] = oracle.tag_value(scalar(compiled.decoder.attribute(event, tag.attribute)), tag.values)
    assert classifier.tag_sets.texts(classified.tags) == shown


def is_met(compiled: CompiledConfig, predicate: Predicate, event: Event) -> bool:
    """A predicate, evaluated directly."""
    if predicate.events is not None and event.event not in predicate.events:
        return False
    return all(holds(condition, scalar(compiled.decoder.attribute(event, a))) for a, condition in predicate.where)


EVENT_ATTRIBUTES = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from((*values, *values, *RARE_VALUES)) for name, values in ATTRIBUTES.items()}
)


def compiled(condition: Any) -> Condition:
    """A condition as the core has it."""
    predicate = compiled_of(config_of({"p": {"where": {"page": condition}}})).tenants["t"].program.clauses.predicates[0]
    return predicate.where[0][1]


def config_of(points: Config) -> Config:
    """A configuration with these points and no experiment."""
    return {"dc": "dal", "tenants": {"t": {"points": points}}}


def one_point(*wanted: Any) -> CompiledConfig:
    """A core with the point `p`, and further ones, each with a condition on the attribute `page`."""
    conditions = [condition for condition in wanted if condition is not None]
    return compiled_of(config_of({"pqr"[i]: {"where": {"page": found}} for i, found in enumerate(conditions)}))


def event(compiled: CompiledConfig, tenant: str = "t", name: str = "page_view", **attributes: Any) -> Event:
    """A decoded event with these attributes."""
    fields = {"tenant": tenant, "sessionId": "s", "time": 1_795_491_060_000, "event": name, "attributes": attributes}
    decoded = compiled.decoder.decode(encode(fields))
    assert isinstance(decoded, Event)
    return decoded


def met(compiled: CompiledConfig, event: Event) -> set[str]:
    """The points of the tenant `t` that an event matches."""
    tenant = compiled.tenants["t"]
    points = tenant.classifier.classified(event).event_class.points
    return {name for i, name in enumerate(tenant.program.numbering.point_names) if points >> i & 1}
