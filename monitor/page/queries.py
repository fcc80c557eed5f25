"""The KairosDB queries behind a number, with which anyone can check it. Pure."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from monitor.config.settings import ExperimentTable
from monitor.config.stored_names import stored_experiments, stored_metrics
from monitor.core.codes import MetricKey
from monitor.core.metrics import metric_name
from monitor.page.markup import Html, element, joined, moment
from monitor.serve.models import Scope, Served
from monitor.serve.problems import refuse_parameter
from monitor.serve.results import SCOPES

SCOPE_OF = {"assigned": "assigned", "qualified": "fm", "crossed": "crossed"}
PART_OF = {"visits": "beta", "total": None, "sum": "sum"}
WHATS = (*SCOPE_OF, *PART_OF)


class QueriedNumber(NamedTuple):
    """A number of a variation; of a point if `what` is one of PART_OF."""

    tenant: str
    experiment: str
    variation: str
    what: str
    point: str | None
    scope: Scope

    def metric(self) -> str:
        """The KairosDB metric whose sum it is."""
        if self.point is None:
            key = MetricKey(self.experiment, SCOPE_OF[self.what], self.variation, None, "beta")
        else:
            key = MetricKey(self.experiment, SCOPES[self.scope], self.variation, self.point, PART_OF[self.what])
        return metric_name(self.tenant, key)

    def title(self) -> str:
        """Its name for people."""
        return f"{self.what}{f' of {self.point}' if self.point else ''}, {self.variation}"


def number_of(
    tenant: str,
    experiment: str,
    variations: Collection[str],
    points: Collection[str],
    scope: Scope,
    parameters: Mapping[str, str],
) -> QueriedNumber:
    """The number that the parameters of an address name. Raises ProblemError where there is no such number."""

    def chosen(name: str, among: Collection[str]) -> str:
        given = parameters.get(name, "")
        if given not in among:
            refuse_parameter(name, f"must be one of {', '.join(among)}; got '{given}'", "Follow a number's link.")
        return given

    what, variation = chosen("what", WHATS), chosen("variation", variations)
    point = chosen("point", points) if what in PART_OF else None
    return QueriedNumber(tenant, experiment, variation, what, point, scope)


def body(
    number: QueriedNumber, served: Served, tags: Mapping[str, Sequence[str]], table: ExperimentTable | None = None
) -> dict[str, Any]:
    """The query for the part of the number that one data center serves; its answer has one value, or none for 0.

    `table`: the experiment, whose old names are asked for too, each as a metric of its own: their values add up.
    """
    start_ms, end_ms = (round(at.timestamp() * 1_000) for at in (served.start, served.end))
    whole = {"value": (end_ms - start_ms) // 60_000, "unit": "minutes"}
    experiments = [number.experiment] if table is None else list(stored_experiments(number.experiment, table))
    names = [number.metric()] if table is None else list(stored_metrics([number.metric()], table))
    of_all = {"dc": [served.dc], "experiment": experiments, **{tag: list(values) for tag, values in tags.items()}}
    summed = [{"name": "sum", "sampling": whole, "align_sampling": False}]
    metrics = [{"name": name, "tags": of_all, "aggregators": summed} for name in names]
    return {"start_absolute": start_ms, "end_absolute": end_ms - 1, "metrics": metrics}


def address(url: str, query: Mapping[str, Any]) -> str:
    """The address at which KairosDB answers the query to a browser."""
    return f"{url.rstrip('/')}/api/v1/datapoints/query?query={quote(json.dumps(query, separators=(',', ':')))}"


def content(
    number: QueriedNumber,
    served: Sequence[Served],
    tags: Mapping[str, Sequence[str]],
    url: str,
    table: ExperimentTable | None = None,
) -> Html:
    """The queries of a number, one for each stretch of minutes of one data center."""
    parts = [_part(served_part, body(number, served_part, tags, table), url) for served_part in served]
    many = (
        ""
        if len(parts) == 1
        else f" It is the sum of {len(parts)} queries, since the data center changed within the range."
    )
    return joined(
        element("p", "The number is the sum of ", element("code", number.metric()), f" over minutes and tags.{many}"),
        parts,
    )


def _part(served: Served, query: Mapping[str, Any], url: str) -> Html:
    text = json.dumps(query, indent=1)
    command = f"curl -s {url.rstrip('/')}/api/v1/datapoints/query -d '{json.dumps(query)}'"
    return element(
        "section",
        element("h2", moment(served.start, "day"), " to ", moment(served.end, "day"), f", {served.dc}"),
        element("p", element("a", "Ask KairosDB", href=address(url, query), class_="button")),
        element("h3", "Query"),
        element("pre", text, tabindex="0"),
        element("h3", "On the command line"),
        element("pre", command, tabindex="0", class_="wrapped"),
        class_="card",
    )
