"""Rules, compiled: the predicates in a tenant's definitions, and a test of each experiment's rule. Pure.

A *clause* is a part of a rule that events can meet: a predicate, or a point with `nth`. A visit's met clauses are a bit
mask, so a rule is a test of a mask: `all` and `any` of bits.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TypeAlias

import msgspec

from monitor.core.definitions import All, AnyOf, PointMet, Predicate, Rule, Tenant

MASKS_MAX = 65_536
"""Remembered masks per rule; at the bound the least recently used one makes room. A mask is a few machine words."""

RuleTest: TypeAlias = Callable[[int], bool]
"""Tells if the rule is met, from the mask of the clauses met so far."""


class Clauses:
    """The predicates and rules of a tenant.

    Bit i of a mask stands for `predicates[i]`, further bits for points with `nth`.
    """

    def __init__(self, tenant: Tenant) -> None:
        rules = [experiment.qualified_when for experiment in tenant.experiments]
        everything = [point.predicate for point in tenant.points]
        everything += [predicate for rule in rules for predicate in _predicates(rule)]
        self.predicates: list[Predicate] = list({_identity(predicate): predicate for predicate in everything}.values())
        self._numbers = {_identity(predicate): i for i, predicate in enumerate(self.predicates)}
        self.identities = [
            *self._numbers,
            *(f"nth of {point.name}" for point in tenant.points if point.nth is not None),
        ]
        """The meaning of each bit of a mask, as text that does not depend on the other definitions."""
        self._points = {point.name: point for point in tenant.points}
        self._point_bits = [1 << self._numbers[_identity(point.predicate)] for point in tenant.points]
        self._nth_names = [point.name for point in tenant.points if point.nth is not None]
        self.in_rules = 0
        """Mask of the clauses that occur in a rule; no other clause can change a state."""
        self.rules: list[RuleTest] = [lru_cache(MASKS_MAX)(self._compile(rule)) for rule in rules]
        """One per experiment, in order."""

    def points(self, met: int) -> int:
        """Mask of the points whose predicate is met, from the mask of the predicates met."""
        return sum(1 << i for i, bit in enumerate(self._point_bits) if met & bit)

    def nth_bit(self, name: str) -> int:
        """The bit of a point with `nth`."""
        return 1 << len(self.predicates) + self._nth_names.index(name)

    def _compile(self, rule: Rule) -> RuleTest:
        match rule:
            case All(rules):
                parts = [self._compile(part) for part in rules]
                return lambda seen: all(part(seen) for part in parts)
            case AnyOf(rules):
                parts = [self._compile(part) for part in rules]
                return lambda seen: any(part(seen) for part in parts)
            case PointMet(name):
                point = self._points[name]
                bit = self.nth_bit(name) if point.nth is not None else 1 << self._numbers[_identity(point.predicate)]
            case Predicate():
                bit = 1 << self._numbers[_identity(rule)]
        self.in_rules |= bit
        return lambda seen: bool(seen & bit)


def _identity(predicate: Predicate) -> str:
    """A text that tells predicates apart as JSON does; Python's == would take 1 for true."""
    return msgspec.json.encode(predicate).decode()


def _predicates(rule: Rule) -> Iterator[Predicate]:
    if isinstance(rule, Predicate):
        yield rule
    elif isinstance(rule, All | AnyOf):
        for part in rule.rules:
            yield from _predicates(part)
