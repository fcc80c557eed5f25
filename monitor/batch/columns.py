"""The columns of an event's row: fixed ones, and those for the attributes that a configuration uses."""

from collections.abc import Iterator
from typing import NamedTuple

from monitor.config.settings import (
    AllRule,
    AnyOfRule,
    AnyRule,
    ConditionTable,
    PointRule,
    PredicateTable,
    Settings,
    TagTable,
    TenantTable,
)

ATTRIBUTE_KINDS = "sbn"
"""The first letter of an attribute as text: string, boolean, number."""


class Layout(NamedTuple):
    """The numbers in column names: each field maps a name to its number, in the order of the configuration.

    A row has `seq` (order of arrival), `tenant` (number), `session`, `time`, `id`, `event`, `stamp` (message time),
    `high` (how far the partition had come before the message, if `stamp` is behind that), `sixteenth` (of live A/A),
    `k0`... (the text of an assignment, by its key), `a0`... (attribute as text: s + string, b + true or false, n +
    number) and, for attributes that are measured or compared with a bound, `n0`... (nearest double) and `r0`... (the
    integer minus that double).
    """

    tenants: dict[str, int]
    experiments: dict[str, int]
    assignments: dict[str, int]
    """Keys of assignments that mean an experiment: its configured name, and its further names."""
    attributes: dict[str, int]
    numbers: dict[str, int]
    """Attributes that are used as numbers."""

    def columns(self) -> dict[str, str]:
        """Column name to SQL type."""
        fixed = {"seq": "BIGINT", "tenant": "INTEGER", "session": "VARCHAR", "time": "BIGINT", "id": "VARCHAR"}
        fixed |= {"event": "VARCHAR", "stamp": "BIGINT", "high": "BIGINT", "sixteenth": "TINYINT"}
        fixed |= {f"k{i}": "VARCHAR" for i in self.assignments.values()}
        fixed |= {f"a{i}": "VARCHAR" for i in self.attributes.values()}
        for i in self.numbers.values():
            fixed |= {f"n{i}": "DOUBLE", f"r{i}": "BIGINT"}
        return fixed


def layout_of(settings: Settings) -> Layout:
    """The layout that a configuration needs."""
    experiments, assignments = dict[str, None](), dict[str, None]()
    attributes, numbers = dict[str, None](), dict[str, None]()
    for tenant in settings.tenants.values():
        experiments |= dict.fromkeys(tenant.experiments)
        assignments |= dict.fromkeys(assignment_keys(tenant))
        attributes |= {tag_attribute(name, tag): None for name, tag in tenant.tags.items()}
        for predicate in predicates(tenant):
            attributes |= dict.fromkeys(predicate.where)
            numbers |= {name: None for name, condition in predicate.where.items() if _is_bounded(condition)}
        numbers |= {point.value.attribute: None for point in tenant.points.values() if point.value is not None}
    numbered = {name: i for i, name in enumerate(attributes | numbers)}
    return Layout(
        {name: i for i, name in enumerate(settings.tenants)},
        {name: i for i, name in enumerate(experiments)},
        {key: i for i, key in enumerate(assignments)},
        numbered,
        {name: numbered[name] for name in numbers},
    )


def assignment_keys(tenant: TenantTable) -> Iterator[str]:
    """The keys of assignments that mean an experiment of a tenant."""
    for name, experiment in tenant.experiments.items():
        yield name
        yield from experiment.names


def tag_attribute(name: str, tag: TagTable | list[str]) -> str:
    """The attribute that a tag is read from."""
    return tag.attribute if isinstance(tag, TagTable) else name


def predicates(tenant: TenantTable) -> Iterator[PredicateTable]:
    """The predicates of a tenant's points and rules."""
    yield from tenant.points.values()
    for experiment in tenant.experiments.values():
        yield from rule_predicates(experiment.qualified_when)


def rule_predicates(rule: AnyRule) -> Iterator[PredicateTable]:
    """The predicates in a rule, without those of the measurement points that it names."""
    match rule:
        case PointRule():
            return
        case AllRule():
            parts = rule.all
        case AnyOfRule():
            parts = rule.any
        case PredicateTable():
            yield rule
            return
    for part in parts:
        yield from rule_predicates(part)


def _is_bounded(condition: object) -> bool:
    return isinstance(condition, ConditionTable) and (condition.minimum is not None or condition.maximum is not None)
