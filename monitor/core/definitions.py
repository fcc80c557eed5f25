"""Definitions of all that is measured: tenants, tags, measurement points, experiments, rules. Plain immutable values.

The configuration (monitor/config) checks and builds them, the core (compiled.py) compiles them. Nothing here
does anything.
"""

from typing import TypeAlias

from msgspec import Struct

Scalar: TypeAlias = str | int | float | bool
"""The types of an attribute; a value of any other JSON type counts as absent."""


class Condition(Struct, frozen=True):
    """A condition on one attribute; every part that is given must hold.

    `any_of`: equal to one of these; `none_of`: present and equal to none of these; `exists`: present or not;
    `minimum` and `maximum`: a number within, inclusive. Types agree as in JSON, except that 1 equals 1.0.
    """

    any_of: tuple[Scalar, ...] | None = None
    none_of: tuple[Scalar, ...] | None = None
    exists: bool | None = None
    minimum: int | float | None = None
    maximum: int | float | None = None


class Predicate(Struct, frozen=True, tag=True):
    """A set of events: by name (None: any) and by attributes (all conditions must hold)."""

    events: tuple[str, ...] | None = None
    where: tuple[tuple[str, Condition], ...] = ()


class Value(Struct, frozen=True):
    """A measured number: x = round(attribute * scale), clipped to [-maximum, maximum]."""

    attribute: str
    scale: int | float
    maximum: int


class MeasurementPoint(Struct, frozen=True):
    """A measurement point; with `nth` only the n-th matching event of the visit counts."""

    name: str
    predicate: Predicate
    nth: int | None = None
    value: Value | None = None


class PointMet(Struct, frozen=True, tag=True):
    """A rule: met by the first event that counts for the point."""

    point: str


class All(Struct, frozen=True, tag=True):
    """A rule: met when the last of its parts is met."""

    rules: tuple["Rule", ...]


class AnyOf(Struct, frozen=True, tag=True):
    """A rule: met when the first of its parts is met."""

    rules: tuple["Rule", ...]


Rule: TypeAlias = Predicate | PointMet | All | AnyOf


class Tag(Struct, frozen=True):
    """A tag of every point of a tenant, read from an attribute; values that are not listed become `other`."""

    name: str
    attribute: str
    values: tuple[str, ...]


class Experiment(Struct, frozen=True, omit_defaults=True):
    """An experiment: its variations with their weights, and from when a visit counts as qualified.

    `aliases`: further texts of variations, as events carry them: (text, variation). `names`: further names of the
    experiment in events, asked for in this order after its own. `aa`: visits are counted by sixteenth too.
    """

    name: str
    control: str
    variations: tuple[tuple[str, int | float], ...]
    qualified_when: Rule
    aliases: tuple[tuple[str, str], ...] = ()
    names: tuple[str, ...] = ()
    aa: bool = False


class Tenant(Struct, frozen=True):
    """All that is measured for one tenant."""

    name: str
    tags: tuple[Tag, ...]
    points: tuple[MeasurementPoint, ...]
    experiments: tuple[Experiment, ...]


PLACEHOLDER_IDS = (
    "undefined",
    "null",
    "none",
    "nan",
    "nil",
    "anonymous",
    "unknown",
    "(not set)",
    "[object object]",
    "0",
    "-1",
    "00000000-0000-0000-0000-000000000000",
)
"""Texts that clients send where they have no id, so that one would stand for many visitors."""


class Limits(Struct, frozen=True):
    """The bounds of what is accepted, in bytes, events and milliseconds.

    `placeholder_ids`: rejected as a sessionId; compared trimmed and case-folded. `crowded_events`: a visit with more is
    warned about. `tardy_ms`: an event that comes later after it happened is tardy.
    """

    message_bytes: int = 1_048_576
    events_per_visit: int = 5_000
    session_gap_ms: int = 1_800_000
    lateness_ms: int = 600_000
    future_ms: int = 60_000
    placeholder_ids: tuple[str, ...] = PLACEHOLDER_IDS
    crowded_events: int = 500
    tardy_ms: int = 60_000
