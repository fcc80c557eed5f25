"""The settings: every table and key of the configuration file, with its rule, default and meaning.

`compiled` methods give them as definitions of the core. `reader` reads the file, `values` has the types of single
values, `relations` the rules between settings.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field
from pydantic import Tag as Case

from monitor.config.about import AboutTable
from monitor.config.alerts import AlertsTable
from monitor.config.guard import Action, CheckKind, GuardTable
from monitor.config.values import (
    AnyScalar,
    DataCenter,
    KafkaProperty,
    Moment,
    Name,
    NonZero,
    Number,
    OneOrMoreNames,
    OneOrMoreScalars,
    Scalars,
    Seconds,
    Text,
    Unique,
    Url,
    Weight,
    as_tuple,
    one_or_more,
)
from monitor.config.watch import WatchTable
from monitor.core import definitions
from monitor.core.tags import sanitised

DEFAULT_MAXIMUM = 1_000_000_000_000
"""The largest value that a point sums, where its table says no other."""
VALUE_MAX = 2**43
"""The largest that it can say: a million of them in a minute still fit KairosDB's long."""


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", validate_default=False)


class ConditionTable(_Model):
    """A condition on an attribute, other than equality."""

    none_of: OneOrMoreScalars | None = Field(None, alias="not", description="present and none of these")
    exists: bool | None = Field(None, description="present (true) or absent (false)")
    minimum: Number | None = Field(None, alias="min", description="a number of at least this")
    maximum: Number | None = Field(None, alias="max", description="a number of at most this")

    def compiled(self) -> definitions.Condition:
        """The condition for the core."""
        none_of = None if self.none_of is None else as_tuple(self.none_of)
        return definitions.Condition(None, none_of, self.exists, self.minimum, self.maximum)


def _condition_case(value: object) -> str:
    return "<table>" if isinstance(value, dict) else one_or_more(value)


Condition = Annotated[
    Annotated[ConditionTable, Case("<table>")]
    | Annotated[Scalars, Case("<list>")]
    | Annotated[AnyScalar, Case("<one>")],
    Discriminator(_condition_case),
]


class PredicateTable(_Model):
    """A condition on events: their name and their attributes."""

    event: OneOrMoreNames | None = Field(None, description="name of the event, or a list of names; absent: any")
    where: dict[Text, Condition] = Field({}, description="attribute to condition, all must hold; absent: any")

    def predicate(self) -> definitions.Predicate:
        """The predicate for the core."""
        where = tuple(
            (name, c.compiled() if isinstance(c, ConditionTable) else definitions.Condition(as_tuple(c)))
            for name, c in self.where.items()
        )
        return definitions.Predicate(None if self.event is None else as_tuple(self.event), where)


class ValueTable(_Model):
    """The number that a point measures."""

    attribute: Text = Field(description="the attribute that holds it")
    scale: NonZero = Field(1, description="factor before rounding to an integer, 100 for cents")
    max: int = Field(DEFAULT_MAXIMUM, gt=0, le=VALUE_MAX, description="larger ones are clipped, in scaled units")


class PointTable(PredicateTable, AboutTable):
    """A measurement point."""

    nth: int | None = Field(None, ge=1, description="count only the n-th matching event of a visit")
    value: ValueTable | None = Field(None, description="also sum this number")
    better: Literal["up", "down", "none"] = Field(
        "up", description="more conversions are better, or fewer: the other is harm; none: nothing is harm"
    )

    def compiled(self, name: str) -> definitions.MeasurementPoint:
        """The point for the core."""
        measured = self.value
        value = None if measured is None else definitions.Value(measured.attribute, measured.scale, measured.max)
        return definitions.MeasurementPoint(name, self.predicate(), self.nth, value)


class PointRule(_Model):
    """Met by the first event that counts for a point."""

    point: str


class AllRule(_Model):
    """Met when all parts are."""

    all: Annotated[list["AnyRule"], Field(min_length=1)]


class AnyOfRule(_Model):
    """Met when one part is."""

    any: Annotated[list["AnyRule"], Field(min_length=1)]


def _rule_case(value: object) -> str:
    keys = value if isinstance(value, dict) else ()
    return next((f"<{case}>" for case in ("point", "all", "any") if case in keys), "<predicate>")


AnyRule = Annotated[
    Annotated[PointRule, Case("<point>")]
    | Annotated[AllRule, Case("<all>")]
    | Annotated[AnyOfRule, Case("<any>")]
    | Annotated[PredicateTable, Case("<predicate>")],
    Discriminator(_rule_case),
]


class PhaseTable(_Model):
    """A change of the weights of a running experiment."""

    begins: Moment = Field(alias="from", description="from when on assignment follows the weights")
    weights: Annotated[dict[Name, Weight], Field(min_length=1)] = Field(description="variation to weight")


class ExperimentTable(AboutTable):
    """An experiment."""

    control: str = Field(description="the variation that the others are compared with")
    variations: Annotated[dict[Name, Weight], Field(min_length=1)] = Field(description="variation to weight")
    qualified_when: AnyRule = Field(description="the rule from which on an assigned visit is qualified")
    aliases: dict[str, str] = Field({}, description="further texts of variations, as events carry them")
    names: list[str] = Field([], description="further names of the experiment, as events carry them")
    aa: bool | None = Field(None, description="count visits by sixteenth too, for live A/A; absent: as the tenant says")
    started: Moment | None = Field(None, description="from when on it is judged; absent: from its first visit")
    phases: list[PhaseTable] = Field([], description="changes of the weights since then, in order of time")
    settle_s: int = Field(300, ge=0, le=86_400, description="visits so soon after a phase began are not judged")
    sticky: bool = Field(False, description="true: visitors keep their variation when the weights change")
    goal: str | None = Field(None, description="the point that it is about; absent: order, if there is one")
    smallest_effect: float | None = Field(
        None, ge=0, lt=1, description="a smaller relative change is no harm; absent: as guard says"
    )
    highest: dict[CheckKind, Action] = Field(
        {}, description="the worst that checks of a kind may say; absent: as guard says"
    )

    def compiled(self, name: str, *, aa: bool = False) -> definitions.Experiment:
        """The experiment for the core; `aa`: what the tenant says of live A/A."""
        variations, aliases = tuple(self.variations.items()), tuple(self.aliases.items())
        rule = _compiled(self.qualified_when)
        own = aa if self.aa is None else self.aa
        return definitions.Experiment(name, self.control, variations, rule, aliases, tuple(self.names), own)


class TagTable(_Model):
    """A tag whose attribute has another name."""

    attribute: Text
    values: list[Text]


class TenantTable(_Model):
    """The tags, points and experiments of one tenant."""

    tags: dict[
        Name,
        Annotated[
            Annotated[TagTable, Case("<table>")] | Annotated[list[Text], Case("<list>")], Discriminator(_condition_case)
        ],
    ] = {}
    points: dict[Name, PointTable] = {}
    experiments: dict[Name, ExperimentTable] = {}
    aa: bool = Field(False, description="count visits of experiments by sixteenth too, for live A/A")

    def with_live_aa(self) -> list[str]:
        """The experiments with live A/A."""
        return [name for name, table in self.experiments.items() if (self.aa if table.aa is None else table.aa)]

    def compiled(self, name: str) -> definitions.Tenant:
        """The tenant for the core."""
        tags = [
            definitions.Tag(tag, t.attribute, _tag_values(t.values))
            if isinstance(t, TagTable)
            else definitions.Tag(tag, tag, _tag_values(t))
            for tag, t in self.tags.items()
        ]
        points = [point.compiled(name) for name, point in self.points.items()]
        experiments = [experiment.compiled(name, aa=self.aa) for name, experiment in self.experiments.items()]
        return definitions.Tenant(name, tuple(tags), tuple(points), tuple(experiments))


class KafkaTable(_Model):
    """The source of the events."""

    brokers: Text = Field(
        "127.0.0.1:9092", description="bootstrap servers, host:port, separated by commas", examples=["a:9092,b:9092"]
    )
    topics: Annotated[list[Text], Field(min_length=1)] = Field(["useful-events"], description="topics to read")
    tail: bool = Field(True, description="false: stop at the present end of the topics")
    start: Literal["beginning", "end"] = Field("beginning", description="where to begin when no offset was recovered")
    on_new_partitions: Literal["restart", "warn"] = Field(
        "restart", description="when a topic gets partitions: end with status 75, to be started again, or only warn"
    )
    key_is_session_id: bool = Field(True, description="false: route by the decoded sessionId, not by the message key")
    allow_compacted: bool = Field(False, description="true: read topics that are compacted, which lose messages")
    options: dict[str, KafkaProperty] = Field({}, description="any librdkafka property: SASL, TLS, ...")


class KairosDbTable(_Model):
    """The store of the totals."""

    url: Url = Field("http://127.0.0.1:8080", description="base URL of KairosDB")
    ttl_days: int = Field(30, ge=1, le=7_300, description="how long points live, days from their writing")
    rewrite_s: Seconds = Field(
        60, ge=0, le=600, description="what was accepted so long before an outage is written again"
    )
    readback_points: int = Field(
        100_000, ge=0, le=10_000_000, description="totals of final minutes that are read back, a minute"
    )
    dead_letters: Text = Field("dead-letters.jsonl", description="file for points that KairosDB rejects permanently")


class TimeTable(_Model):
    """Durations, in seconds."""

    session_gap_s: Seconds = Field(1_800, gt=0, description="a longer silence ends a visit")
    allowed_lateness_s: Seconds = Field(600, ge=0, description="how long after it happened an event may arrive")
    future_tolerance_s: Seconds = Field(60, ge=0, description="how far an event may be ahead of its arrival")
    tardy_s: Seconds = Field(60, ge=0, description="an event that arrives later after it happened is tardy")
    idle_after_s: Seconds = Field(
        30, ge=1, description="a partition read to its end and silent for so long does not hold the watermark back"
    )
    flush_s: Annotated[float, Field(gt=0, le=3_600, allow_inf_nan=False)] = Field(
        10, description="how often changed totals are written"
    )


class LimitsTable(_Model):
    """Bounds of what is accepted."""

    message_bytes: int = Field(1_048_576, ge=1, description="longer messages are rejected, bytes")
    events_per_visit: int = Field(5_000, ge=1, description="further events of a visit are rejected")
    crowded_events: int = Field(500, ge=1, description="a visit with more events is warned about")
    placeholder_ids: list[str] = Field(
        list(definitions.PLACEHOLDER_IDS), description="texts that are no sessionId; trimmed, in any case"
    )


class ServeTable(_Model):
    """The query service: the data centers that it reads, when it changes to another one, and its bounds."""

    dcs: Annotated[list[DataCenter], Unique] = Field(
        [], description="data centers, in order of preference; empty: `dc` alone"
    )
    host: Text = Field("127.0.0.1", description="the address to listen on")
    port: int = Field(8_090, ge=1, le=65_535, description="the port")
    stale_after_s: int = Field(30, ge=1, le=3_600, description="a data center without a report for longer is stale")
    behind_s: int = Field(
        60, ge=1, le=86_400, description="a watermark further behind another data center's is too old"
    )
    return_after_s: int = Field(
        120, ge=0, le=86_400, description="how long a data center must be healthy before it serves again"
    )
    fewer_percent: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] = Field(
        5, description="a minute that lacks more of an experiment's assigned visits is less complete"
    )
    fewer_visits: int = Field(10, ge=1, description="and lacks more visits than this")
    range_days: int = Field(31, ge=1, le=366, description="the longest range of an answer")
    values: int = Field(50_000, ge=100, le=1_000_000, description="the most values in an answer")
    queries: int = Field(4, ge=1, le=64, description="requests to KairosDB at a time")
    query_timeout_s: Annotated[float, Field(gt=0, le=300, allow_inf_nan=False)] = Field(
        10, description="how long KairosDB may take for one"
    )
    cached_values: int = Field(2_000_000, ge=0, le=100_000_000, description="final values kept in memory")


class Settings(_Model):
    """The whole configuration."""

    dc: DataCenter = Field(examples=["dal"], description="tag `dc` of every point: the data center")
    kafka: KafkaTable = KafkaTable()
    kairosdb: KairosDbTable = KairosDbTable()
    time: TimeTable = TimeTable()
    limits: LimitsTable = LimitsTable()
    serve: ServeTable = ServeTable()
    guard: GuardTable = GuardTable()
    alerts: AlertsTable = AlertsTable()
    watch: WatchTable = WatchTable()
    tenants: Annotated[dict[Name, TenantTable], Field(min_length=1)] = Field(description="what is measured")

    def compiled_tenants(self) -> list[definitions.Tenant]:
        """The tenants, for the core."""
        return [tenant.compiled(name) for name, tenant in self.tenants.items()]

    def served_dcs(self) -> list[str]:
        """The data centers that the query service may read, in order of preference; one at least."""
        return self.serve.dcs or [self.dc]

    def compiled_limits(self) -> definitions.Limits:
        """The bounds, for the core."""
        return definitions.Limits(
            message_bytes=self.limits.message_bytes,
            events_per_visit=self.limits.events_per_visit,
            placeholder_ids=tuple(self.limits.placeholder_ids),
            crowded_events=self.limits.crowded_events,
            session_gap_ms=milliseconds(self.time.session_gap_s),
            lateness_ms=milliseconds(self.time.allowed_lateness_s),
            future_ms=milliseconds(self.time.future_tolerance_s),
            tardy_ms=milliseconds(self.time.tardy_s),
        )


def milliseconds(seconds: float) -> int:
    """A duration as the core takes it."""
    return round(seconds * 1_000)


def _tag_values(listed: list[str]) -> tuple[str, ...]:
    """The values in the alphabet of KairosDB's tag values, as those of events are when they are compared."""
    return tuple(dict.fromkeys(sanitised(value) for value in listed))


def _compiled(rule: PointRule | AllRule | AnyOfRule | PredicateTable) -> definitions.Rule:
    match rule:
        case PointRule():
            return definitions.PointMet(rule.point)
        case AllRule():
            return definitions.All(tuple(_compiled(part) for part in rule.all))
        case AnyOfRule():
            return definitions.AnyOf(tuple(_compiled(part) for part in rule.any))
        case PredicateTable():
            return rule.predicate()
