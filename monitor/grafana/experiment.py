"""The dashboard of an experiment, for all tenants that run it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from monitor.core.definitions import Experiment, Tenant
from monitor.core.tags import OTHER, UNKNOWN
from monitor.explain.rules import Clause, told
from monitor.grafana import panels, transformations
from monitor.grafana.dashboards import (
    EXPERIMENT_TAG,
    NO_FILTER,
    TimeSeries,
    choice,
    choices,
    constant,
    dashboard,
    data_center,
    experiment_uid,
    heading,
    tag_variables,
)
from monitor.grafana.panels import EXACT, Steps
from monitor.grafana.targets import Json, divided, newest, per_interval, target
from monitor.grafana.transformations import Ratio

CROSSED = Steps(warning=0.01, alarm=0.05)
"""Shares of the assigned visits that were given another variation later."""
CONVERTED, VISITS, AMOUNT, CROSSING = "converted", "visits", "amount", "crossing"
"""What follows a variation's name in the names of series that ratios are made of."""


class ShownExperiment(NamedTuple):
    """An experiment by its name: what any of its tenants measures.

    `points`: point to the divisor of its value, 1 where tenants differ, None where it has no value. `tags`: tag to its
    values.
    """

    name: str
    control: str
    variations: tuple[str, ...]
    tenants: dict[str, Experiment]
    points: dict[str, float | None]
    tags: dict[str, tuple[str, ...]]
    rules: dict[str, str]


def shown(tenants: Sequence[Tenant]) -> list[ShownExperiment]:
    """The experiments of these tenants, in the order in which they come first."""
    names = dict.fromkeys(experiment.name for tenant in tenants for experiment in tenant.experiments)
    return [_shown(name, tenants) for name in names]


def _shown(name: str, tenants: Sequence[Tenant]) -> ShownExperiment:
    running = [
        (tenant, experiment) for tenant in tenants for experiment in tenant.experiments if experiment.name == name
    ]
    control = running[0][1].control
    variations = dict.fromkeys([control, *(variation for _, e in running for variation, _ in e.variations)])
    points: dict[str, float | None] = {}
    tags: dict[str, dict[str, None]] = {}
    for tenant, _ in running:
        for point in tenant.points:
            scale = None if point.value is None else float(point.value.scale)
            known = points.setdefault(point.name, scale)
            points[point.name] = known if known == scale or scale is None else scale if known is None else 1.0
        for tag in tenant.tags:
            tags.setdefault(tag.name, {}).update(dict.fromkeys(tag.values))
    return ShownExperiment(
        name,
        control,
        tuple(variations),
        {tenant.name: experiment for tenant, experiment in running},
        points,
        {tag: tuple(dict.fromkeys([*values, OTHER, UNKNOWN])) for tag, values in tags.items()},
        {tenant.name: rule_words(tenant, experiment) for tenant, experiment in running},
    )


def experiment_dashboard(experiment: ShownExperiment, dcs: Sequence[str]) -> Json:
    """The dashboard: how visits split, what they do by point, what that is worth, and the same by tag."""
    variables = [
        choice("tenant", "Tenant", list(experiment.tenants)),
        constant("experiment", experiment.name),
        data_center(dcs),
    ]
    if experiment.points:
        points = list(experiment.points)
        variables.append(choices("point", "Points", points, "The measurement points that are shown below."))
        variables.append(choice("of_point", "By tag", points, "The measurement point that is split by tags."))
    names = tag_variables(experiment.tags)
    for tag, values in experiment.tags.items():
        variables.append(choices(names[tag], f"Tag {tag}", values, "All: without this filter.", every=NO_FILTER))
    return dashboard(
        experiment_uid(experiment.name),
        f"Experiment {experiment.name}",
        "One experiment: how its visits split, and what they do, by variation.",
        variables,
        _Panels(experiment).lines(),
        [EXPERIMENT_TAG],
    )


class _Panels:
    """The panels of one experiment, all with its colours and filters."""

    def __init__(self, experiment: ShownExperiment) -> None:
        self._experiment = experiment
        self._colours = panels.coloured(experiment.variations, experiment.control)
        names = tag_variables(experiment.tags)
        self._tags = {"dc": "$dc", "experiment": "$experiment"}
        self._tags |= {tag: f"${name}" for tag, name in names.items()}

    def lines(self) -> Iterator[TimeSeries]:
        yield TimeSeries(4 + len(self._experiment.tenants), [(24, panels.text("", facts(self._experiment)))])
        yield from self._visits()
        if self._experiment.points:
            yield from self._points()
        for point, divisor in self._experiment.points.items():
            if divisor is not None:
                yield from self._values(point, divisor)
        for tag in self._experiment.tags:
            yield from self._split(tag)

    def _visits(self) -> Iterator[TimeSeries]:
        qualified, assigned = self._of("fm", "beta"), self._of("assigned", "beta")
        yield heading(panels.row("Visits"))
        yield TimeSeries(
            7,
            [
                (
                    7,
                    panels.stat(
                        "Qualified visits",
                        "Visits that met the rule, each counted once, in the whole range.",
                        qualified,
                        calculation="sum",
                        unit=EXACT,
                        overrides=self._colours,
                    ),
                ),
                (
                    7,
                    panels.shares(
                        "Split of the assigned visits",
                        "To be compared with the planned shares above. If it differs by more than chance, the system "
                        "that assigns, or the way to Kafka, treats variations differently: do not trust the "
                        "comparison.",
                        assigned,
                        self._colours,
                    ),
                ),
                (6, self._qualified()),
                (4, self._newest()),
            ],
        )
        yield TimeSeries(
            9,
            [
                (
                    9,
                    panels.timeseries(
                        "Assigned visits",
                        "By the minute of the first event from the assignment on, per interval. The legend has the "
                        "sum.",
                        assigned,
                        overrides=self._colours,
                    ),
                ),
                (
                    9,
                    panels.timeseries(
                        "Qualified visits over time",
                        "By the minute in which they qualified, per interval. The last minutes may still grow. "
                        "The legend has the sum.",
                        qualified,
                        overrides=self._colours,
                    ),
                ),
                (6, self._crossed()),
            ],
        )

    def _qualified(self) -> Json:
        targets = [*self._of("fm", "beta", CONVERTED), *self._of("assigned", "beta", VISITS)]
        return panels.bars(
            "Qualified, of the assigned visits",
            "How many of the assigned visits met the rule, in the whole range. Should be alike in all variations: "
            "where it is not, what is compared below are different kinds of visits.",
            targets,
            unit="percentunit",
            overrides=self._colours,
            transformations=transformations.in_total(self._ratios(CONVERTED, VISITS)),
        )

    def _crossed(self) -> Json:
        targets = [*self._of("crossed", "beta", CROSSING), *self._of("assigned", "beta", VISITS)]
        return panels.bars(
            "Crossed over, of the assigned visits",
            "Visits that were given another variation later; they stay with their first one. Normal: below 1 %. "
            "If not: the system that assigns changes its mind within a visit, which blurs every comparison.",
            targets,
            unit="percentunit",
            limits=CROSSED,
            transformations=transformations.in_total(self._ratios(CROSSING, VISITS)),
        )

    def _newest(self) -> Json:
        return panels.stat(
            "Newest minute",
            "The newest minute in which a visit of this experiment was assigned. If it is old: no visits, or the job "
            "is behind; see the dashboard Health of the monitor.",
            self._of("assigned", "beta", aggregators=(newest(),)),
            calculation="lastNotNull",
            unit="dateTimeFromNow",
            transformations=transformations.joined(),
            fields="/^Time$/",
            graph=False,
        )

    def _points(self) -> Iterator[TimeSeries]:
        """What comes for each chosen point: the row is repeated."""
        targets = [*self._of("fm", "$point.beta", CONVERTED), *self._of("fm", "beta", VISITS)]
        ratios = self._ratios(CONVERTED, VISITS)
        yield heading(panels.row("Point $point", repeat="point"))
        rate = panels.bars(
            "Conversion: $point",
            "Of the qualified visits, those with at least one $point from then on, in the whole range.",
            targets,
            unit="percentunit",
            overrides=self._colours,
            transformations=transformations.in_total(ratios),
        )
        course = panels.timeseries(
            "Conversion from the beginning of the range on: $point",
            "Converted visits up to each moment, divided by qualified visits up to then. Wide swings at the "
            "beginning are chance; lines that stay apart are not.",
            targets,
            unit="percentunit",
            legend=("lastNotNull",),
            overrides=self._colours,
            transformations=transformations.so_far(ratios),
        )
        events = panels.timeseries(
            "Events: $point",
            "All of them, several a visit too, by qualified visits, per interval. The legend has the sum.",
            self._of("fm", "$point"),
            overrides=self._colours,
        )
        yield TimeSeries(9, [(6, rate), (10, course), (8, events)])

    def _values(self, point: str, divisor: float) -> Iterator[TimeSeries]:
        amounts = self._of("fm", f"{point}.sum", aggregators=(per_interval("sum"), *_unscaled(divisor)))
        parts = self._of("fm", f"{point}.sum", AMOUNT, (per_interval("sum"), *_unscaled(divisor)))
        yield heading(panels.row(f"Value of {point}"))
        per_visit = panels.bars(
            f"{point}: value per qualified visit",
            "The sum of the values, divided by all qualified visits, also those without any, in the whole range.",
            [*parts, *self._of("fm", "beta", VISITS)],
            overrides=self._colours,
            transformations=transformations.in_total(self._ratios(AMOUNT, VISITS)),
        )
        course = panels.timeseries(
            f"{point}: value per qualified visit, from the beginning of the range on",
            "The sum of the values up to each moment, divided by qualified visits up to then. Few large values move "
            "it much.",
            [*parts, *self._of("fm", "beta", VISITS)],
            legend=("lastNotNull",),
            overrides=self._colours,
            transformations=transformations.so_far(self._ratios(AMOUNT, VISITS)),
        )
        in_all = panels.timeseries(
            f"{point}: value",
            "The sum of the values of qualified visits, per interval. The legend has the sum.",
            amounts,
            overrides=self._colours,
        )
        yield TimeSeries(9, [(6, per_visit), (10, course), (8, in_all)])

    def _split(self, tag: str) -> Iterator[TimeSeries]:
        renamed = transformations.by_tag(tag)
        values = self._experiment.tags[tag]
        yield heading(panels.row(f"By {tag}"))
        visits = panels.bars(
            f"Qualified visits by {tag}",
            f"In the whole range, by the value that the tag {tag} had when the visit qualified.",
            self._of("fm", "beta", by=(tag,)),
            calculation="sum",
            unit=EXACT,
            overrides=self._colours,
            transformations=renamed,
        )
        height = max(8, len(values) * len(self._experiment.variations))
        if not self._experiment.points:
            yield TimeSeries(height, [(24, visits)])
            return
        series = [f"{variation} · {value}" for value in values for variation in self._experiment.variations]
        rate = panels.bars(
            f"Conversion by {tag}: $of_point",
            f"Visits with at least one $of_point, divided by qualified visits, each by the value that the tag {tag} "
            "had then: where it changes within visits, as a login does, this can be above 100 %. A difference in one "
            "value only is often a fault there.",
            [
                *self._of("fm", "$of_point.beta", CONVERTED, by=(tag,)),
                *self._of("fm", "beta", VISITS, by=(tag,)),
            ],
            unit="percentunit",
            overrides=self._colours,
            transformations=transformations.in_total(_ratios(series, CONVERTED, VISITS), renamed),
        )
        yield TimeSeries(height, [(10, visits), (14, rate)])

    def _of(
        self,
        scope: str,
        what: str,
        called: str = "",
        aggregators: Sequence[Json] = (),
        by: Sequence[str] = (),
    ) -> list[Json]:
        """A target for each variation, called by its name and what follows it."""
        return [
            target(
                f"$tenant.visit.{scope}.{variation}.{what}",
                f"{variation} {called}".strip(),
                self._tags,
                *(aggregators or (per_interval("sum"),)),
                by=by,
            )
            for variation in self._experiment.variations
        ]

    def _ratios(self, top: str, bottom: str) -> list[Ratio]:
        return _ratios(self._experiment.variations, top, bottom)


def facts(experiment: ShownExperiment) -> str:
    """What the configuration says of an experiment, as a table in Markdown."""
    lines = [
        "| tenant | control | planned shares | a visit qualifies when |",
        "| --- | --- | --- | --- |",
    ]
    for tenant, of_tenant in experiment.tenants.items():
        whole = sum(weight for _, weight in of_tenant.variations)
        planned = ", ".join(f"{variation} {weight / whole:.1%}" for variation, weight in of_tenant.variations)
        rule = _cell(experiment.rules[tenant])
        lines.append(f"| {tenant} | {of_tenant.control} | {planned} | {rule} |")
    return "\n".join(lines)


def rule_words(tenant: Tenant, experiment: Experiment) -> str:
    """A rule in words: `all of (a; any of (b; c))`."""
    return _words(told(experiment.qualified_when, {point.name: point for point in tenant.points}, ()))


def _words(clause: Clause) -> str:
    return f"{clause.words} ({'; '.join(map(_words, clause.parts))})" if clause.parts else clause.words


def _cell(words: str) -> str:
    """Words as they stand in a cell of a table, whatever is in them."""
    return "`" + words.replace("`", "'").replace("|", "\\|") + "`"


def _ratios(names: Sequence[str], top: str, bottom: str) -> list[Ratio]:
    return [Ratio(name, (f"{name} {top}",), (f"{name} {bottom}",)) for name in names]


def _unscaled(divisor: float) -> tuple[Json, ...]:
    return () if divisor == 1 else (divided(divisor),)
