"""Which points and clauses an event meets, and its tags. Pure.

Predicates are not run per event. The attributes that a tenant's configuration mentions form the event's *signature*;
each distinct signature is judged once and remembered (bounded). Attributes that are only compared with numbers
enter the signature as the interval they fall into, so that prices do not make every signature new.
"""

import math
import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, TypeAlias, final

from monitor.core.attribution import EventClass, Program
from monitor.core.definitions import Condition, Predicate, Tag
from monitor.core.events import Decoder, Event

SIGNATURES_MAX = 65_536
"""Remembered signatures per tenant and event name; at the bound all are forgotten and judged anew."""

_OUTSIDE_TAG_ALPHABET = re.compile(r"[^A-Za-z0-9._/-]")
UNKNOWN, OTHER = "unknown", "other"


def is_number(value: object) -> bool:
    """A JSON number; true and false are none, though Python counts them as integers."""
    return type(value) is int or type(value) is float


def equal(value: object, wanted: object) -> bool:
    """Equality of JSON scalars: types must agree, except that 1 equals 1.0."""
    if isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted
    return value == wanted


def holds(condition: Condition, value: Any) -> bool:
    """Whether an attribute's value (None: absent) meets a condition."""
    present = value is not None
    if condition.exists is not None and condition.exists is not present:
        return False
    if condition.any_of is not None and not any(equal(value, wanted) for wanted in condition.any_of):
        return False
    if condition.none_of is not None and not (
        present and not any(equal(value, wanted) for wanted in condition.none_of)
    ):
        return False
    if condition.minimum is not None and not (is_number(value) and value >= condition.minimum):
        return False
    return condition.maximum is None or (is_number(value) and value <= condition.maximum)


def scalar(value: Any) -> Any:
    """The value itself if it is a string, number or boolean, else None: it counts as absent."""
    return value if isinstance(value, str | int | float | bool) else None


def tag_text(value: Any) -> str | None:
    """An attribute's value as a tag value: booleans and numbers as their shortest JSON text, strange characters as `_`.

    None if there is no such text: the attribute is absent, or a number beyond any double.
    """
    if value is None or (type(value) is float and not math.isfinite(value)):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if type(value) is float and value.is_integer():
        return str(int(value))
    return sanitised(str(value))


def sanitised(text: str) -> str:
    """A text in the alphabet of tag values: other characters become `_`."""
    return _OUTSIDE_TAG_ALPHABET.sub("_", text)


@final
class TagSets:
    """The combinations of a tenant's tag values, each a number.

    a mixed-radix numeral over the listed values, other, unknown.
    """

    def __init__(self, tags: Sequence[Tag]) -> None:
        self._tags = tags
        self._texts = [list(dict.fromkeys([*tag.values, OTHER, UNKNOWN])) for tag in tags]
        self._listed = [
            {text: texts.index(text) for text in tag.values} for tag, texts in zip(tags, self._texts, strict=True)
        ]

    def number(self, values: Sequence[Any]) -> int:
        """The number of the combination; `values`: the tags' attributes, in the order of the tags."""
        number = 0
        for texts, listed, value in zip(self._texts, self._listed, values, strict=True):
            text = tag_text(value)
            digit = texts.index(UNKNOWN) if text is None else listed.get(text, texts.index(OTHER))
            number = number * len(texts) + digit
        return number

    def count(self) -> int:
        """How many combinations there are."""
        return math.prod(len(texts) for texts in self._texts)

    def texts(self, number: int) -> dict[str, str]:
        """The combination as tag name -> value."""
        found = []
        for tag, texts in zip(reversed(self._tags), reversed(self._texts), strict=True):
            number, digit = divmod(number, len(texts))
            found.append((tag.name, texts[digit]))
        return dict(reversed(found))

    def number_of_texts(self, found: Mapping[str, str]) -> int:
        """The number of the combination with these values, of another configuration; unlisted ones become `other`."""
        number = 0
        for tag, texts in zip(self._tags, self._texts, strict=True):
            text = found.get(tag.name, UNKNOWN)
            number = number * len(texts) + texts.index(text if text in texts else OTHER)
        return number


@final
class Classified:
    """What the core needs to know of an event's signature: its kind and its tag combination."""

    __slots__ = ("booleans", "kind", "tags")

    def __init__(self, kind: EventClass, tags: int, values: Sequence[Any]) -> None:
        self.kind = kind
        self.tags = tags
        self.booleans = tuple(
            (i, isinstance(value, bool))
            for i, value in enumerate(values)
            if isinstance(value, int | float) and value in (0, 1)
        )
        """Where Python's True == 1 would confuse signatures: (position, is a boolean)."""


@final
class Matcher:
    """Judges events of one tenant: `symbol(event)`."""

    def __init__(self, program: Program, decoder: Decoder) -> None:
        self._program = program
        predicates = self._predicates = program.clauses.predicates
        tenant = program.tenant
        self._tags = tenant.tags
        self.tag_sets = TagSets(tenant.tags)
        self._names = mentioned(tenant.tags, predicates)
        self._read = _reader([decoder.fields[name] for name in self._names])
        self._intervals = [
            (i, _Intervals(name, predicates))
            for i, name in enumerate(self._names)
            if _only_compared(name, tenant.tags, predicates)
        ]
        named = {name for predicate in predicates for name in predicate.events or ()}
        self._by_event: dict[str, dict[tuple[Any, ...], Classified]] = {name: {} for name in named}
        self._unnamed: dict[tuple[Any, ...], Classified] = {}

    def symbol(self, event: Event) -> Classified:
        """The symbol of an event."""
        known = self._by_event.get(event.event, self._unnamed)
        exact = values = self._read(event.attributes)
        for i, intervals in self._intervals:
            if (value := exact[i]) is not None:
                values = (*values[:i], intervals.of(value), *values[i + 1 :])
        try:
            symbol = known.get(values)
        except TypeError:  # an array or object, which cannot be part of a signature
            return self._judge(event.event, exact)
        if symbol is None:
            if len(known) >= SIGNATURES_MAX:
                known.clear()
            symbol = known[values] = self._judge(event.event, exact, values)
        if symbol.booleans:
            for i, boolean in symbol.booleans:
                if (type(values[i]) is bool) is not boolean:
                    return self._judge(event.event, exact)
        return symbol

    def _judge(self, event: str, values: Sequence[Any], signature: Sequence[Any] = ()) -> Classified:
        present = {name: scalar(value) for name, value in zip(self._names, values, strict=True)}
        met = 0
        for i, predicate in enumerate(self._predicates):
            if predicate.events is not None and event not in predicate.events:
                continue
            if all(holds(condition, present[name]) for name, condition in predicate.where):
                met |= 1 << i
        tags = self.tag_sets.number([present[tag.attribute] for tag in self._tags])
        return Classified(self._program.kind(met), tags, signature)


def mentioned(tags: Sequence[Tag], predicates: Sequence[Predicate]) -> list[str]:
    """The attributes that tags and predicates look at, each once."""
    names = [tag.attribute for tag in tags]
    names += [name for predicate in predicates for name, _ in predicate.where]
    return list(dict.fromkeys(names))


_Reader: TypeAlias = Callable[[Any], tuple[Any, ...]]


def _reader(fields: Sequence[str]) -> _Reader:
    """Reads fields of a struct as a tuple, whatever their number."""
    if not fields:
        return lambda attributes: ()
    get: Callable[[Any], Any] = attrgetter(*fields)
    return get if len(fields) > 1 else lambda attributes: (get(attributes),)


def _only_compared(name: str, tags: Sequence[Tag], predicates: Sequence[Predicate]) -> bool:
    """Whether an attribute is compared with bounds, and its own text is of no interest: prices, counts."""
    conditions = [condition for predicate in predicates for of, condition in predicate.where if of == name]
    bounded = any(condition.minimum is not None or condition.maximum is not None for condition in conditions)
    return bounded and all(tag.attribute != name for tag in tags)


@final
class _Intervals:
    """Values of one attribute, grouped so that no condition tells two of a group apart."""

    def __init__(self, name: str, predicates: Sequence[Predicate]) -> None:
        conditions = [condition for predicate in predicates for of, condition in predicate.where if of == name]
        listed = [value for c in conditions for value in (*(c.any_of or ()), *(c.none_of or ()))]
        bounds = [bound for c in conditions for bound in (c.minimum, c.maximum) if bound is not None]
        self._bounds: list[float] = sorted(
            {*bounds, *(value for value in listed if isinstance(value, int | float) and is_number(value))}
        )
        self._strings = {value for value in listed if isinstance(value, str)}

    def of(self, value: Any) -> Any:
        """The group of a value: its type and, for numbers, where it lies among the bounds."""
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            i = bisect_left(self._bounds, value)
            return ("number", i, i < len(self._bounds) and self._bounds[i] == value)
        if isinstance(value, str):
            return value if value in self._strings else ("string",)
        return None
