"""The classifier: makes an `Entry` of an accepted event: its variations, event class, tags and values. Pure.

Predicates are not run per event. The attributes that a tenant's configuration mentions form the event's *signature*;
each distinct signature is judged once and remembered. Attributes that are only compared with numbers enter the
signature as the interval that they fall into, so that prices do not make every signature new.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final, TypeAlias, final

import xxhash

from monitor.core.attribution import Program
from monitor.core.definitions import MeasurementPoint, Predicate, Tag, Value
from monitor.core.events import Decoder, Event, EventWarning, assigned_text
from monitor.core.predicates import holds, is_number, scalar
from monitor.core.states import Entry, EventClass
from monitor.core.tags import TagSets

SIGNATURES_MAX = 65_536
"""Remembered signatures of a tenant; at the bound all are forgotten and judged anew."""
SIGNATURES_BYTES_MAX = 67_108_864
"""Their estimated size, texts included; at the bound likewise."""
ASSIGNMENTS_MAX = 65_536
"""Remembered `assignments` texts of a tenant; at the bound all are forgotten and read anew."""
ASSIGNMENTS_BYTES_MAX = 67_108_864
"""Their estimated size; at the bound likewise."""
REMEMBERED_TEXT_BYTES_MAX = 1_024
"""Longer texts, of `assignments` or of the attributes in a signature, are not remembered."""

_LAST_RANK: Final = 1_000_000
_SIGNATURE_BYTES: Final = 400
_FIELD_BYTES: Final = 64
_ASSIGNMENT_BYTES: Final = 550
"""Measured with tracemalloc on CPython 3.11: a remembered signature, each field of it, a remembered text, without their
texts."""

UnknownName: TypeAlias = tuple[str, str]
"""An experiment's configured name, and a text that is none of its variations; or "", and a name of no experiment."""


@final
class Assigned:
    """The meaning of an event's assignments.

    `variations`: numbers of the known ones, one per experiment at most; `warnings`: about the others; `unknown`: their
    names; `texts`: for each known experiment that is named, its number and what it says: a variation's number, or a
    negative hash of an unknown text.
    """

    __slots__ = ("has_unknown_text", "texts", "unknown", "variations", "warnings")

    def __init__(
        self,
        variations: tuple[int, ...],
        warnings: tuple[tuple[EventWarning, int], ...],
        unknown: tuple[UnknownName, ...],
        texts: tuple[tuple[int, int], ...],
    ) -> None:
        self.variations = variations
        self.warnings = warnings
        self.unknown = unknown
        self.texts = texts
        self.has_unknown_text = any([text < 0 for _, text in texts])


@final
class Classified:
    """All that the core needs of an event's signature: its event class and its tag combination."""

    __slots__ = ("booleans", "event_class", "tags")

    def __init__(self, event_class: EventClass, tags: int, signature: Sequence[Any]) -> None:
        self.event_class = event_class
        self.tags = tags
        self.booleans = tuple(
            (i, isinstance(value, bool))
            for i, value in enumerate(signature)
            if isinstance(value, int | float) and value in (0, 1)
        )
        """Fields in which Python's True == 1 would confuse signatures: (position, is a boolean)."""


@final
class Classifier:
    """Classifies the events of one tenant."""

    def __init__(self, program: Program, decoder: Decoder) -> None:
        tenant = program.tenant
        self._program = program
        self._decoder = decoder
        self._predicates = program.clauses.predicates
        self._points = tenant.points
        self._experiments = [_ExperimentTexts(program, number) for number in range(len(tenant.experiments))]
        self._names: dict[str, tuple[int, int]] = {
            name: (number, rank)
            for number, experiment in enumerate(tenant.experiments)
            for rank, name in enumerate((experiment.name, *experiment.names))
        }
        """Name in events -> number of the experiment, and the place of the name among the experiment's."""
        self._tags = tenant.tags
        self.tag_sets = TagSets(tenant.tags)
        self._attributes = mentioned(tenant.tags, self._predicates)
        self._read = _reader([decoder.fields[name] for name in self._attributes])
        self._intervals = [
            (i, _Intervals(name, self._predicates))
            for i, name in enumerate(self._attributes)
            if _only_compared(name, tenant.tags, self._predicates)
        ]
        names = {name for predicate in self._predicates for name in predicate.events or ()}
        self._by_event: dict[str, dict[tuple[Any, ...], Classified]] = {name: {} for name in names}
        self._other_events: dict[tuple[Any, ...], Classified] = {}
        self._signatures = self._signatures_bytes = 0
        self.remembered: dict[bytes, Assigned] = {}
        """Results of `assigned`, by text: to be looked up first."""
        self._remembered_bytes = 0

    def entry(
        self, event: Event, event_id: str, assigned: Assigned, is_tardy: bool, bad_values: dict[int, int]
    ) -> Entry:
        """The event as its visit keeps it; counts in `bad_values` the points whose attribute is no finite number."""
        classified = self.classified(event)
        event_class = classified.event_class
        values: tuple[int, ...] = ()
        if event_class.value_points:
            measured = self._measured(event, event_class)
            values = tuple([x or 0 for x in measured])
            if None in measured:
                for point, x in zip(event_class.value_points, measured, strict=True):
                    if x is None:
                        bad_values[point] = bad_values.get(point, 0) + 1
        if is_tardy:
            event_class = self._program.event_class_of(event_class.points, event_class.clauses, is_tardy=True)
        return Entry(event.time, event_id, event_class, classified.tags, assigned.variations, values)

    def assigned(self, text: bytes) -> Assigned | None:
        """The meaning of the JSON text of an event's assignments; None if it is a bad field."""
        assigned = self._read_assignments(text)
        if assigned is not None and len(text) <= REMEMBERED_TEXT_BYTES_MAX:
            if len(self.remembered) >= ASSIGNMENTS_MAX or self._remembered_bytes >= ASSIGNMENTS_BYTES_MAX:
                self.remembered.clear()
                self._remembered_bytes = 0
            self.remembered[text] = assigned
            self._remembered_bytes += _ASSIGNMENT_BYTES + 5 * len(text)  # itself, and its names as 4-byte characters
        return assigned

    def _read_assignments(self, text: bytes) -> Assigned | None:
        assignments = self._decoder.assignments(text)
        if assignments is None:
            return None
        warnings: Counter[EventWarning] = Counter()
        unknown: list[UnknownName] = []
        texts: dict[int, tuple[int, int]] = {}
        for name, value in assignments.items():
            if value is None:
                continue
            variation_text = assigned_text(name, value)
            of_experiment = self._names.get(name)
            if variation_text is None:
                warnings[EventWarning.BAD_ASSIGNMENT] += 1
            elif of_experiment is None:
                warnings[EventWarning.UNKNOWN_EXPERIMENT] += 1
                unknown.append(("", name))
            else:
                number, rank = of_experiment
                experiment = self._experiments[number]
                meaning = experiment.meaning(variation_text)
                if meaning < 0:
                    warnings[EventWarning.UNKNOWN_VARIATION] += 1
                    unknown.append((experiment.name, variation_text))
                    rank += _LAST_RANK  # a known one under any name comes before it
                if number not in texts or rank < texts[number][0]:
                    texts[number] = rank, meaning
        variations = tuple([meaning for _, meaning in texts.values() if meaning >= 0])
        named = tuple([(number, meaning) for number, (_, meaning) in texts.items()])
        return Assigned(variations, tuple(warnings.items()), tuple(unknown), named)

    def _measured(self, event: Event, event_class: EventClass) -> list[int | None]:
        """x of each value point that the event matches; None where its attribute is no finite number."""
        points = [self._points[p] for p in event_class.value_points]
        return [measure(p, self._decoder.attribute(event, p.value.attribute)) for p in points if p.value is not None]

    def classified(self, event: Event) -> Classified:
        """The class and tags of an event."""
        remembered = self._by_event.get(event.event, self._other_events)
        exact = values = self._read(event.attributes)
        for i, intervals in self._intervals:
            if (value := exact[i]) is not None:
                values = (*values[:i], intervals.of(value), *values[i + 1 :])
        try:
            classified = remembered.get(values)
        except TypeError:  # an array or object, which cannot be part of a signature
            return self._judge(event.event, exact)
        if classified is None:
            classified = self._judge(event.event, exact, values)
            self._remember(event.event, values, classified)
        if classified.booleans:
            for i, boolean in classified.booleans:
                if (type(values[i]) is bool) is not boolean:
                    return self._judge(event.event, exact)
        return classified

    def _remember(self, event: str, values: tuple[Any, ...], classified: Classified) -> None:
        """Remembers a signature within the bounds."""
        texts = sum([len(value) for value in values if isinstance(value, str)])
        if texts > REMEMBERED_TEXT_BYTES_MAX:
            return
        if self._signatures >= SIGNATURES_MAX or self._signatures_bytes >= SIGNATURES_BYTES_MAX:
            for signatures in (*self._by_event.values(), self._other_events):
                signatures.clear()
            self._signatures = self._signatures_bytes = 0
        self._signatures += 1
        self._signatures_bytes += (
            _SIGNATURE_BYTES + _FIELD_BYTES * len(values) + 4 * texts
        )  # at most 4 bytes a character
        self._by_event.get(event, self._other_events)[values] = classified

    def _judge(self, event: str, values: Sequence[Any], signature: Sequence[Any] = ()) -> Classified:
        """Runs all predicates."""
        present = {name: scalar(value) for name, value in zip(self._attributes, values, strict=True)}
        met = 0
        for i, predicate in enumerate(self._predicates):
            if predicate.events is not None and event not in predicate.events:
                continue
            if all(holds(condition, present[name]) for name, condition in predicate.where):
                met |= 1 << i
        tags = self.tag_sets.number([present[tag.attribute] for tag in self._tags])
        return Classified(self._program.event_class(met), tags, signature)


@final
class _ExperimentTexts:
    """The texts that mean a variation of one experiment."""

    def __init__(self, program: Program, number: int) -> None:
        experiment = program.tenant.experiments[number]
        numbers = program.numbering.variation_numbers
        self.name = experiment.name
        self._numbers = {variation: numbers[experiment.name, variation] for variation, _ in experiment.variations}
        self._numbers |= {alias: numbers[experiment.name, variation] for alias, variation in experiment.aliases}

    def meaning(self, text: str) -> int:
        """The variation's number; negative, and different for different texts as far as 63 bits go, if it is none."""
        number = self._numbers.get(text)
        return number if number is not None else -1 - (xxhash.xxh3_64_intdigest(text.encode()) >> 1)


def measure(point: MeasurementPoint, attribute: Any) -> int | None:
    """x of a value point: round(attribute * scale), half to even, clipped; None if it is not a finite number."""
    assert isinstance(point.value, Value), "asked of a point with a value"
    if (type(attribute) is not int and type(attribute) is not float) or attribute - attribute != 0:
        return None
    maximum, scale = point.value.maximum, point.value.scale
    try:
        product = attribute * scale
    except OverflowError:  # an integer beyond any double
        product = maximum if (attribute > 0) == (scale > 0) else -maximum
    return round(max(-maximum, min(maximum, product)))


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
    """True for an attribute that is compared with bounds and whose own text matters to nobody: prices, counts."""
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
