"""What the configuration says of points and experiments for their readers."""

from pydantic import Field

from monitor.config.about import AboutTable
from monitor.config.settings import ExperimentTable, TenantTable
from monitor.serve.findings import Answer


class About(Answer):
    """What is said of a point."""

    description: str | None
    owner: str | None
    unit: str | None = Field(description="of a point: of its value; of an experiment: what is assigned")
    link: str | None


class ExperimentAbout(About):
    """What is said of an experiment, and of the points of its tenant."""

    goal: str | None = Field(description="the primary metric")
    points: dict[str, About] = Field(description="the points that something is said of")


def about_experiment(tenant: TenantTable, table: ExperimentTable) -> ExperimentAbout:
    """What is said of an experiment."""
    points = {name: About(**_said(point)) for name, point in tenant.points.items() if any(_said(point).values())}
    return ExperimentAbout(**_said(table), goal=table.goal, points=points)


def about_experiments(tenant: TenantTable) -> dict[str, ExperimentAbout]:
    """What is said of each experiment of a tenant."""
    return {name: about_experiment(tenant, table) for name, table in tenant.experiments.items()}


def _said(of: AboutTable) -> dict[str, str | None]:
    return {name: getattr(of, name) for name in AboutTable.model_fields}
