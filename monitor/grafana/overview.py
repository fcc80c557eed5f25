"""The dashboard of all experiments: the health of the monitor, and the state of each experiment."""

from collections.abc import Iterator, Sequence

from monitor.config.settings import Settings
from monitor.core import wording
from monitor.core.definitions import Experiment, Tenant
from monitor.grafana import glance, panels, transformations
from monitor.grafana.dashboards import OVERVIEW_UID, TimeSeries, dashboard, data_center, experiment_url, heading
from monitor.grafana.panels import EXACT
from monitor.grafana.stored import stored_names
from monitor.grafana.targets import Json, newest, per_interval, target

TITLE = "A/B experiments: overview"


def overview_dashboard(settings: Settings, dcs: Sequence[str]) -> Json:
    """A row for each tenant, a line for each of its experiments: newest minute, qualified visits, their history."""
    return dashboard(
        OVERVIEW_UID,
        TITLE,
        "Every experiment of every tenant at a glance. The title of a panel leads to the experiment.",
        [data_center(dcs)],
        _lines(settings),
    )


def _lines(settings: Settings) -> Iterator[TimeSeries]:
    width = 24 // 4
    at_a_glance = [
        glance.final_until(settings.time),
        glance.furthest_behind(),
        glance.rejected_share(),
        glance.dead_letters(),
    ]
    yield TimeSeries(4, [(width, panel) for panel in at_a_glance])
    for tenant in settings.compiled_tenants():
        yield heading(panels.row(f"Tenant {tenant.name}"))
        for experiment in tenant.experiments:
            yield TimeSeries(6, _of_experiment(tenant, experiment))


def _of_experiment(tenant: Tenant, experiment: Experiment) -> list[tuple[int, Json]]:
    variations = [variation for variation, _ in experiment.variations]
    colours = panels.coloured(variations, experiment.control)
    stored = stored_names([(tenant, experiment)])
    tags = {"dc": "$dc", "experiment": stored.experiments}
    names = [name for of_variation in stored.variations.values() for name in of_variation]
    qualified = [
        target(f"{tenant.name}.visit.fm.{name}.beta", f"{name} {stored.called}".strip(), tags, per_interval("sum"))
        for name in names
    ]
    assigned = [target(f"{tenant.name}.visit.assigned.{name}.beta", name, tags, newest()) for name in names]
    points = {point.name: point for point in tenant.points}
    rule = f"Control: {experiment.control}. A visit qualifies with: {wording.rule(experiment.qualified_when, points)}."
    fresh = panels.stat(
        f"{experiment.name}: newest minute",
        "The newest minute in which a visit was assigned. If it is old, this tenant sends no events with this "
        "experiment, or the job is behind (see the top of this dashboard).",
        assigned,
        calculation="lastNotNull",
        unit="dateTimeFromNow",
        transformations=transformations.joined(),
        fields="/^Time$/",
        graph=False,
    )
    totals = panels.stat(
        f"{experiment.name}: qualified visits",
        f"In the whole range, each visit once. {rule}",
        qualified,
        calculation="sum",
        unit=EXACT,
        overrides=colours,
        transformations=stored.added(),
        graph=False,
    )
    history = panels.timeseries(
        f"{experiment.name}: qualified visits over time",
        f"By the minute in which they qualified, per interval. {rule}",
        qualified,
        overrides=colours,
        transformations=stored.added(),
    )
    link = {"title": f"Experiment {experiment.name}", "url": experiment_url(experiment.name, tenant.name)}
    return [(width, panel | {"links": [link]}) for width, panel in ((4, fresh), (8, totals), (12, history))]
