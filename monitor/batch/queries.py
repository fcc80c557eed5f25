"""The SQL for the contributions of a tenant's visits, made from its configuration (specification, section 3).

Four steps, each a table or view: `events` (a visit's events with their tags, configured variations, and the measurement
points they count for), `visits` (the times at which rules are met and experiments assigned), per experiment `firsts`
(the first events from assignment and from qualification on), and `contributions` (the amount that each event adds to
each metric).
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from monitor.batch.columns import ATTRIBUTE_KINDS, Layout, rule_predicates, tag_attribute
from monitor.batch.workspace import literal
from monitor.config.settings import (
    AllRule,
    AnyOfRule,
    AnyRule,
    ConditionTable,
    PointRule,
    PredicateTable,
    TagTable,
    TenantTable,
    ValueTable,
)

MINUTE_MS = 60_000
SCOPES = ("assigned", "fm")
NEVER_MS = 2**62
"""Stands for the time of a rule that is not met, so that `all` is the latest and `any` the earliest of its parts."""

_OUTSIDE_TAG_ALPHABET = "[^A-Za-z0-9._/-]"
_INTEGER_END = 2.0**63


class Metric(NamedTuple):
    """A metric of an experiment: its name is `T.visit.SCOPE.V` and `rest`; `amount` is SQL over an event."""

    scope: str
    rest: str
    amount: str


class TenantQueries:
    """The SQL of one tenant. Tables are named by numbers: those of the tenant and its experiments in the layout."""

    def __init__(self, name: str, table: TenantTable, layout: Layout, tardy_ms: int) -> None:
        self.name = name
        self._tardy_ms = tardy_ms
        self._table = table
        self._layout = layout
        self._number = layout.tenants[name]
        self._points = list(table.points.items())
        self._point_numbers = {point: i for i, point in enumerate(table.points)}
        rules = [p for e in table.experiments.values() for p in rule_predicates(e.qualified_when)]
        self._leaves = {sql: i for i, sql in enumerate(dict.fromkeys(self._predicate(p) for p in rules))}
        self.events = f"events_{self._number}"
        self.visits = f"visits_{self._number}"
        self.experiments = {experiment: layout.experiments[experiment] for experiment in table.experiments}
        self.by_sixteenth = table.with_live_aa()
        """The experiments with live A/A."""

    def contributions(self, experiment: str) -> str:
        """The name of an experiment's view: visit, sixteenth, minute, tags, variation, `c0` and so on."""
        return f"contributions_{self._number}_{self.experiments[experiment]}"

    def statements(self) -> Iterator[str]:
        """The statements that make the tables and views from `arrived` and `placed`."""
        yield f"CREATE TABLE {self.events} AS {self._events_sql()}"
        yield f"CREATE TABLE {self.visits} AS {self._visits_sql()}"
        for experiment in self.experiments:
            firsts = f"firsts_{self._number}_{self.experiments[experiment]}"
            yield f"CREATE TABLE {firsts} AS {self._firsts_sql(experiment)}"
            amounts = ", ".join(f"{metric.amount} AS c{i}" for i, metric in enumerate(self.metrics()))
            counts = "".join(f"p{i} OR " for i in self._point_numbers.values())
            yield (
                f"CREATE VIEW {self.contributions(experiment)} AS "
                f"SELECT e.visit, sixteenth, minute, tags, variation, {amounts} "
                f"FROM {self.events} e JOIN {firsts} f USING (visit) "
                f"WHERE {counts}pos IN (assigned_first, fm_first, crossed_first, tardy_first)"
            )

    def totals(self, experiment: str, first_ms: int, end_ms: int) -> str:
        """The totals of an experiment's minutes from `first_ms` to before `end_ms`, without those of 0.

        Columns name, experiment, minute, tags, value.
        """
        metrics = dict(enumerate(self.metrics()))
        return self._totals_sql(experiment, metrics, "variation", "tags", f"{first_ms} AND {end_ms - 1}")

    def sixteenth_totals(self, experiment: str, first_ms: int, end_ms: int) -> str:
        """The same of live A/A: visits by sixteenth in the place of the variation, over all tags."""
        counted = {i: m for i, m in enumerate(self.metrics()) if m.scope in SCOPES and m.rest.endswith(".beta")}
        named = "'aa-' || lpad(sixteenth::VARCHAR, 2, '0')"
        return self._totals_sql(experiment, counted, named, "''", f"{first_ms} AND {end_ms - 1}")

    def _totals_sql(self, experiment: str, metrics: Mapping[int, Metric], named: str, tags: str, minutes: str) -> str:
        """The totals of these metrics of an experiment, by what stands in their names and by tags, both SQL."""
        sums = ", ".join(f"sum(c{i})::HUGEINT AS c{i}" for i in metrics)
        heads = ", ".join(literal(f"{self.name}.visit.{metric.scope}.") for metric in metrics.values())
        rests = ", ".join(literal(metric.rest) for metric in metrics.values())
        values = ", ".join(f"c{i}" for i in metrics)
        return f"""
            SELECT head || named || rest AS name, {literal(experiment)} AS experiment, minute, tagged AS tags, value
            FROM (
                SELECT named, minute, tagged,
                    unnest([{heads}]) AS head, unnest([{rests}]) AS rest, unnest([{values}]) AS value
                FROM (
                    SELECT {named} AS named, minute, {tags} AS tagged, {sums} FROM {self.contributions(experiment)}
                    WHERE minute BETWEEN {minutes} GROUP BY ALL
                )
            ) WHERE value <> 0"""

    def metrics(self) -> Iterator[Metric]:
        """The metrics of each experiment; `c0`, ... of its view are their amounts, in this order."""
        for scope in SCOPES:
            yield Metric(scope, ".beta", f"CASE WHEN pos = {scope}_first THEN 1 ELSE 0 END")
            for i, (point, table) in enumerate(self._points):
                counts = f"WHEN p{i} AND time >= {scope}_since"
                yield Metric(scope, f".{point}", f"CASE {counts} THEN 1 ELSE 0 END")
                yield Metric(scope, f".{point}.beta", f"CASE WHEN pos = {scope}_first{i} THEN 1 ELSE 0 END")
                if table.value is not None:
                    yield Metric(scope, f".{point}.sum", f"CASE {counts} THEN x{i} ELSE 0 END")
                    # (s + x)^2 - s^2, where s + x is the running sum less what came before the scope began
                    square = f"x{i} * (2 * (s{i} - {scope}_before{i}) - x{i})"
                    yield Metric(scope, f".{point}.sumsq", f"CASE {counts} THEN {square} ELSE 0 END")
        for scope in ("crossed", "tardy"):
            yield Metric(scope, ".beta", f"CASE WHEN pos = {scope}_first THEN 1 ELSE 0 END")

    def _events_sql(self) -> str:
        met = ["seq", "visit", "pos", "time", f"time - time % {MINUTE_MS} AS minute", f"{self._tags()} AS tags"]
        met.append("sixteenth")
        met.append(f"stamp > time + {self._tardy_ms} AS is_tardy")
        met += [f"{self._variation(experiment)} AS v{column}" for experiment, column in self.experiments.items()]
        columns, joins = ["met.*"], []
        for i, (_, point) in enumerate(self._points):
            counts = f"p{i}" if point.nth is None else f"m{i}"
            met.append(f"{self._predicate(point)} AS {counts}")
            if point.value is not None:
                met.append(f"{self._value(point.value)} AS x{i}")
            # A window over the few matching events, joined back, costs a third of a window over all events.
            in_order = "OVER (PARTITION BY visit ORDER BY pos ROWS UNBOUNDED PRECEDING)"
            if point.nth is not None:
                nth = f"WHERE m{i} QUALIFY row_number() {in_order} = {point.nth}"
                joins.append(f"LEFT JOIN (SELECT seq FROM met {nth}) AS nth{i} ON nth{i}.seq = met.seq")
                columns.append(f"nth{i}.seq IS NOT NULL AS p{i}")
                columns += [f"x{i} AS s{i}"] if point.value is not None else []
            elif point.value is not None:
                sums = f"SELECT seq, sum(x{i}) {in_order} AS s{i} FROM met WHERE p{i}"
                joins.append(f"LEFT JOIN ({sums}) AS sum{i} ON sum{i}.seq = met.seq")
                columns.append(f"s{i}")
        met += [f"{predicate} AS l{i}" for predicate, i in self._leaves.items()]
        return f"""
            WITH met AS MATERIALIZED (
                SELECT {", ".join(met)} FROM arrived JOIN placed USING (seq) WHERE tenant = {self._number}
            )
            SELECT {", ".join(columns)} FROM met {" ".join(joins)}"""

    def _variation(self, experiment: str) -> str:
        """SQL over a row for the variation that it carries, null without a known one.

        Of several names of the experiment, the configured one is asked first, and the first with a known text answers.
        """
        table = self._table.experiments[experiment]
        texts = {variation: [variation] for variation in table.variations}
        for alias, variation in table.aliases.items():
            texts[variation].append(alias)
        listed = [(", ".join(map(literal, of_one)), literal(variation)) for variation, of_one in texts.items()]
        answers = []
        for name in (experiment, *table.names):
            key = f"k{self._layout.assignments[name]}"
            answer = " ".join(f"WHEN {key} IN ({of_one}) THEN {variation}" for of_one, variation in listed)
            answers.append(f"CASE {answer} END")
        return f"coalesce({', '.join(answers)})"

    def _visits_sql(self) -> str:
        columns = ["visit", "min(time) AS began"]
        columns += [f"min(time) FILTER (WHERE l{i}) AS l{i}" for i in self._leaves.values()]
        columns += [f"min(time) FILTER (WHERE p{i}) AS p{i}" for i in self._point_numbers.values()]
        for v in self.experiments.values():
            columns.append(f"arg_min(v{v}, pos) FILTER (WHERE v{v} IS NOT NULL) AS v{v}")
            columns.append(f"min(time) FILTER (WHERE v{v} IS NOT NULL) AS at{v}")
        return f"SELECT {', '.join(columns)} FROM {self.events} GROUP BY visit"

    def _firsts_sql(self, experiment: str) -> str:
        v = self.experiments[experiment]
        rule = self._rule_time(self._table.experiments[experiment].qualified_when)
        columns = [f"min(pos) FILTER (WHERE v{v} <> variation) AS crossed_first"]
        columns.append("min(pos) FILTER (WHERE is_tardy AND time >= assigned_since) AS tardy_first")
        for scope in SCOPES:
            columns.append(f"min(pos) FILTER (WHERE time >= {scope}_since) AS {scope}_first")
            for i, (_, point) in enumerate(self._points):
                columns.append(f"min(pos) FILTER (WHERE p{i} AND time >= {scope}_since) AS {scope}_first{i}")
                if point.value is not None:
                    before = f"sum(x{i}) FILTER (WHERE p{i} AND time < {scope}_since)"
                    columns.append(f"coalesce({before}, 0)::HUGEINT AS {scope}_before{i}")
        return f"""
            SELECT visit, variation, assigned_since, fm_since, {", ".join(columns)}
            FROM {self.events} JOIN (
                SELECT visit, v{v} AS variation, at{v} AS assigned_since,
                    nullif(greatest(at{v}, {rule}), {NEVER_MS}) AS fm_since
                FROM {self.visits} WHERE at{v} IS NOT NULL
            ) USING (visit) GROUP BY ALL"""

    def _rule_time(self, rule: AnyRule) -> str:
        """SQL over a visit for the time at which it meets a rule, NEVER_MS if it does not."""
        match rule:
            case PointRule():
                return f"coalesce(p{self._point_numbers[rule.point]}, {NEVER_MS})"
            case AllRule():
                return f"greatest(0, {', '.join(map(self._rule_time, rule.all))})"
            case AnyOfRule():
                return f"least({NEVER_MS}, {', '.join(map(self._rule_time, rule.any))})"
            case PredicateTable():
                return f"coalesce(l{self._leaves[self._predicate(rule)]}, {NEVER_MS})"

    def _predicate(self, table: PredicateTable) -> str:
        """SQL over a row that is true if the event meets a predicate; never null."""
        parts = [self._condition(name, condition) for name, condition in table.where.items()]
        if table.event is not None:
            names = table.event if isinstance(table.event, list) else [table.event]
            parts.insert(0, f"event IN ({', '.join(map(literal, names))})")
        return f"({' AND '.join(parts)})" if parts else "true"

    def _condition(self, attribute: str, condition: object) -> str:
        text = f"a{self._layout.attributes[attribute]}"
        if not isinstance(condition, ConditionTable):
            return f"coalesce({text} IN ({_scalars(condition)}), false)"
        parts = []
        if condition.none_of is not None:
            parts.append(f"coalesce({text} NOT IN ({_scalars(condition.none_of)}), false)")
        if condition.exists is not None:
            parts.append(f"{text} IS {'NOT ' if condition.exists else ''}NULL")
        for bound, sign in ((condition.minimum, ">"), (condition.maximum, "<")):
            if bound is not None:
                number = self._layout.numbers[attribute]
                parts.append(f"coalesce({_compared(f'n{number}', f'coalesce(r{number}, 0)', sign, bound)}, false)")
        return " AND ".join(parts) or "true"

    def _value(self, value: ValueTable) -> str:
        """SQL over a row for x = round(attribute * scale), halves to even, clipped; 0 without a finite number."""
        i, limit = self._layout.numbers[value.attribute], value.max
        n, r = f"n{i}", f"r{i}"
        product = f"({n} * {_double(float(value.scale))})"
        clipped = (
            f"WHEN {_compared(product, '0', '>', limit)} THEN {limit}::HUGEINT "
            f"WHEN {_compared(product, '0', '<', -limit)} THEN {-limit}::HUGEINT "
        )
        exact = ""
        if isinstance(value.scale, int):
            # Integers times integers are exact; from 2^63 on any product is beyond the limit, as the double's is.
            whole = f"(({n}::HUGEINT + {r}) * ({value.scale})::HUGEINT)"
            inside = f"{r} IS NOT NULL AND abs({n}) < {_double(_INTEGER_END)}"
            exact = f"WHEN {inside} THEN greatest({-limit}::HUGEINT, least({limit}::HUGEINT, {whole})) "
        finite = f"{n} IS NULL OR (isinf({n}) AND {r} IS NULL)"
        return f"CASE WHEN {finite} THEN 0::HUGEINT {exact}{clipped} ELSE round_even({product}, 0)::HUGEINT END"

    def _tags(self) -> str:
        """SQL over a row for `tag=value|...`, in order of the tags' names."""
        parts = [f"{literal(name + '=')} || {self._tag(name, tag)}" for name, tag in sorted(self._table.tags.items())]
        return " || '|' || ".join(parts) or "''"

    def _tag(self, name: str, tag: TagTable | list[str]) -> str:
        text = f"a{self._layout.attributes[tag_attribute(name, tag)]}"
        listed = [re.sub(_OUTSIDE_TAG_ALPHABET, "_", v) for v in (tag.values if isinstance(tag, TagTable) else tag)]
        absent = f"{text} IS NULL OR {text} IN ('ninf', 'n-inf')"
        if not listed:
            return f"CASE WHEN {absent} THEN 'unknown' ELSE 'other' END"
        values = f"[{', '.join(map(literal, listed))}]"
        # Most values need no cleaning, which costs ten times as much.
        plain = ", ".join(literal(kind + value) for value in listed for kind in ATTRIBUTE_KINDS)
        clean = f"regexp_replace({text}[2:], '{_OUTSIDE_TAG_ALPHABET}', '_', 'g')"
        return (
            f"(CASE WHEN {absent} THEN 'unknown' WHEN {text} IN ({plain}) THEN {text}[2:] "
            f"WHEN {clean} IN {values} THEN {clean} ELSE 'other' END)"
        )


def tags_text(tags: Mapping[str, str]) -> str:
    """Tags as the tables have them."""
    return "|".join(f"{name}={value}" for name, value in sorted(tags.items()))


def _scalars(one_or_more: object) -> str:
    """The values of a condition as the texts of attributes."""
    values = one_or_more if isinstance(one_or_more, list) else [one_or_more]
    return ", ".join(literal(_scalar(value)) for value in values)


def _scalar(value: object) -> str:
    match value:
        case bool():
            return f"b{str(value).lower()}"
        case float() if value.is_integer():
            return f"n{int(value)}"
        case int() | float():
            return f"n{value!r}"
        case _:
            return f"s{value}"


def _compared(number: str, rest: str, sign: str, bound: int | float) -> str:
    """SQL that is true if a number (double and rest) lies beyond or at a bound, exactly."""
    nearest = float(bound)
    short = int(bound) - int(nearest) if isinstance(bound, int) else 0
    return f"({number} {sign} {_double(nearest)} OR ({number} = {_double(nearest)} AND {rest} {sign}= {short}))"


def _double(number: float) -> str:
    return f"'{number!r}'::DOUBLE"
