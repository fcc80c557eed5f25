"""The dashboard of an experiment, for all tenants that run it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from monitor.core import wording
from monitor.core.definitions import Experiment, Tenant
from monitor.core.tags import OTHER, UNKNOWN
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
from monitor.grafana.stored import StoredNames, stored_names
from monitor.grafana.targets import Json, divided, newest, per_interval, target
from monitor.grafana.transformations import Ratio

CROSSED = Steps(warning=0.01, alarm=0.05)
"""Shares of the assigned visits that were given another variation later."""
CONVERTED, VISITS, AMOUNT, CROSSING = "converted", "visits", "amount", "crossing"
"""The words after a variation's name in the names of series that ratios are computed from."""


class ShownExperiment(NamedTuple):
    """An experiment by its name, with all that any of its tenants measures.

    `points`: point to the divisor of its value, 1 where tenants differ, None where it has no value. `tags`: tag to its
    values.
    """

    name: str
    control: str
    stored: StoredNames
    tenants: dict[str, Experiment]
    points: dict[str, float | None]
    tags: dict[str, tuple[str, ...]]
    rules: dict[str, str]

    @property
    def variations(self) -> list[str]:
        """The variations of all tenants, the control first."""
        return list(self.stored.variations)


def shown(tenants: Sequence[Tenant]) -> list[ShownExperiment]:
    """The experiments of these tenants, in the order in which they come first."""
    names = dict.fromkeys(experiment.name for tenant in tenants for experiment in tenant.experiments)
    return [_shown(name, tenants) for name in names]


def _shown(name: str, tenants: Sequence[Tenant]) -> ShownExperiment:
    running = [
        (tenant, experiment) for tenant in tenants for experiment in tenant.experiments if experiment.name == name
    ]
    points: dict[str, float | None] = {}
    tags: dict[str, dict[str, None]] = {}
    for tenant, _ in running:
        for point in tenant.points:
            scale = None if point.value is None else float(point.value.scale)
            first = points.setdefault(point.name, scale)
            points[point.name] = first if first == scale or scale is None else scale if first is None else 1.0
        for tag in tenant.tags:
            tags.setdefault(tag.name, {}).update(dict.fromkeys(tag.values))
    return ShownExperiment(
        name,
        running[0][1].control,
        stored_names(running),
        {tenant.name: experiment for tenant, experiment in running},
        points,
        {tag: tuple(dict.fromkeys([*values, OTHER, UNKNOWN])) for tag, values in tags.items()},
        {
            tenant.name: wording.rule(experiment.qualified_when, {point.name: point for point in tenant.points})
            for tenant, experiment in running
        },
    )


def experiment_dashboard(experiment: ShownExperiment, dcs: Sequence[str]) -> Json:
    """The dashboard: the split of the visits, conversion and values by metric, and the same by tag."""
    variables = [
        choice("tenant", "Tenant", list(experiment.tenants)),
        constant("experiment", experiment.name),
        data_center(dcs),
    ]
    if experiment.points:
        points = list(experiment.points)
        variables.append(choices("point", "Metrics", points, "The metrics that are shown below."))
        variables.append(choice("of_point", "Metric by tag", points, "The metric that is split by tags."))
    names = tag_variables(experiment.tags)
    for tag, values in experiment.tags.items():
        variables.append(choices(names[tag], f"Tag {tag}", values, "All: without this filter.", every=NO_FILTER))
    return dashboard(
        experiment_uid(experiment.name),
        f"Experiment {experiment.name}",
        "One experiment: its split, and its metrics by variation.",
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
        self._stored = experiment.stored
        self._tags: dict[str, str | Sequence[str]] = {"dc": "$dc"}
        self._tags["experiment"] = ["$experiment", *self._stored.experiments[1:]]
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
        totals = panels.stat(
            "Qualified visits",
            "Visits that met the rule, each counted once, in the whole range.",
            qualified,
            calculation="sum",
            unit=EXACT,
            overrides=self._colours,
            transformations=self._stored.added(),
        )
        split = panels.shares(
            "Split of the assigned visits",
            "Compare it with the planned shares above. If it differs by more than chance, it is a sample ratio "
            "mismatch: find the cause before reading any result.",
            assigned,
            self._colours,
            self._stored.added(),
        )
        yield TimeSeries(7, [(7, totals), (7, split), (6, self._qualified()), (4, self._newest())])
        assigned_course = panels.timeseries(
            "Assigned visits",
            "By the minute of the first event after the assignment, per interval. The legend has the sum.",
            assigned,
            overrides=self._colours,
            transformations=self._stored.added(),
        )
        qualified_course = panels.timeseries(
            "Qualified visits over time",
            "By the minute in which they qualified, per interval. The last minutes are provisional. The legend has "
            "the sum.",
            qualified,
            overrides=self._colours,
            transformations=self._stored.added(),
        )
        yield TimeSeries(9, [(9, assigned_course), (9, qualified_course), (6, self._crossed())])

    def _qualified(self) -> Json:
        targets = [*self._of("fm", "beta", CONVERTED), *self._of("assigned", "beta", VISITS)]
        return panels.bars(
            "Qualified, of the assigned visits",
            "Qualified visits / assigned visits, in the whole range. It should be the same in all variations: if not, "
            "the comparisons below are of different kinds of visits.",
            targets,
            unit="percentunit",
            overrides=self._colours,
            transformations=transformations.in_total(self._ratios(CONVERTED, VISITS)),
        )

    def _crossed(self) -> Json:
        targets = [*self._of("crossed", "beta", CROSSING), *self._of("assigned", "beta", VISITS)]
        return panels.bars(
            "Crossovers, of the assigned visits",
            "Visits that were given another variation later; they keep their first one. Normal: below 1 %. More point "
            "to a bug in the assignment service, which blurs every comparison.",
            targets,
            unit="percentunit",
            limits=CROSSED,
            transformations=transformations.in_total(self._ratios(CROSSING, VISITS)),
        )

    def _newest(self) -> Json:
        return panels.stat(
            "Newest minute",
            "The newest minute in which a visit of this experiment was assigned. If it is old, there are no visits, or "
            "the job is behind: see the dashboard Health of the monitor.",
            self._of("assigned", "beta", aggregators=(newest(),)),
            calculation="lastNotNull",
            unit="dateTimeFromNow",
            transformations=transformations.joined(),
            fields="/^Time$/",
            graph=False,
        )

    def _points(self) -> Iterator[TimeSeries]:
        """The panels of each chosen metric: the row is repeated."""
        targets = [*self._of("fm", "$point.beta", CONVERTED), *self._of("fm", "beta", VISITS)]
        ratios = self._ratios(CONVERTED, VISITS)
        yield heading(panels.row("Metric $point", repeat="point"))
        rate = panels.bars(
            "Conversion: $point",
            "Conversion rate in the whole range: qualified visits with at least one $point after they qualified / "
            "qualified visits.",
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
            "All events of qualified visits, also several a visit, per interval. The legend has the sum.",
            self._of("fm", "$point"),
            overrides=self._colours,
            transformations=self._stored.added(),
        )
        yield TimeSeries(9, [(6, rate), (10, course), (8, events)])

    def _values(self, point: str, divisor: float) -> Iterator[TimeSeries]:
        amounts = self._of("fm", f"{point}.sum", aggregators=(per_interval("sum"), *_unscaled(divisor)))
        parts = self._of("fm", f"{point}.sum", AMOUNT, (per_interval("sum"), *_unscaled(divisor)))
        yield heading(panels.row(f"Value of {point}"))
        per_visit = panels.bars(
            f"{point}: value per qualified visit",
            "The sum of the values / all qualified visits, also those without any, in the whole range.",
            [*parts, *self._of("fm", "beta", VISITS)],
            overrides=self._colours,
            transformations=transformations.in_total(self._ratios(AMOUNT, VISITS)),
        )
        course = panels.timeseries(
            f"{point}: value per qualified visit, from the beginning of the range on",
            "The sum of the values up to each moment / qualified visits up to then. A few large values move it a lot.",
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
            transformations=self._stored.added(),
        )
        yield TimeSeries(9, [(6, per_visit), (10, course), (8, in_all)])

    def _split(self, tag: str) -> Iterator[TimeSeries]:
        renamed = transformations.by_tag(tag)
        values = self._experiment.tags[tag]
        yield heading(panels.row(f"By {tag}"))
        visits = panels.bars(
            f"Qualified visits by {tag}",
            f"In the whole range, by the value of the tag {tag} when the visit qualified.",
            self._of("fm", "beta", by=(tag,)),
            calculation="sum",
            unit=EXACT,
            overrides=self._colours,
            transformations=self._stored.added(renamed, values),
        )
        height = max(8, len(values) * len(self._experiment.variations))
        if not self._experiment.points:
            yield TimeSeries(height, [(24, visits)])
            return
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
            transformations=transformations.in_total(_ratios(self._stored.names(values), CONVERTED, VISITS), renamed),
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
        """A target for each name of each variation, called by the name and what follows it."""
        return [
            target(
                f"$tenant.visit.{scope}.{name}.{what}",
                f"{name} {called or self._stored.called}".strip(),
                self._tags,
                *(aggregators or (per_interval("sum"),)),
                by=by,
            )
            for names in self._stored.variations.values()
            for name in names
        ]

    def _ratios(self, top: str, bottom: str) -> list[Ratio]:
        return _ratios(self._stored.variations, top, bottom)


def facts(experiment: ShownExperiment) -> str:
    """The definition of an experiment, as a table in Markdown."""
    lines = [
        "| tenant | control | planned shares | a visit qualifies with |",
        "| --- | --- | --- | --- |",
    ]
    for tenant, of_tenant in experiment.tenants.items():
        whole = sum(weight for _, weight in of_tenant.variations)
        planned = ", ".join(f"{variation} {weight / whole:.1%}" for variation, weight in of_tenant.variations)
        rule = _cell(experiment.rules[tenant])
        lines.append(f"| {tenant} | {of_tenant.control} | {planned} | {rule} |")
    return "\n".join(lines)


def _cell(words: str) -> str:
    """Words as code in a cell of a Markdown table, whatever is in them."""
    return "`" + words.replace("`", "'").replace("|", "\\|") + "`"


def _ratios(stored: Mapping[str, Sequence[str]], top: str, bottom: str) -> list[Ratio]:
    return [
        Ratio(name, tuple(f"{one} {top}" for one in names), tuple(f"{one} {bottom}" for one in names))
        for name, names in stored.items()
    ]


def _unscaled(divisor: float) -> tuple[Json, ...]:
    return () if divisor == 1 else (divided(divisor),)
