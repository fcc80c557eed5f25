"""All tenants and their experiments, the worst first. Pure: answers in, HTML out."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from monitor.page import address, figures
from monitor.page.address import Search
from monitor.page.issues import beside, issues_of, of_tenant, of_values, unknown_experiments
from monitor.page.markup import Html, element, joined
from monitor.page.overview_rows import COLUMNS, ExperimentRow, Judged, chips, row
from monitor.serve.health_models import HealthAnswer
from monitor.serve.messages import MESSAGES_S, STRANGERS, Messages, messages, strangers_share
from monitor.serve.models import ExperimentsAnswer, Running


class Overview(NamedTuple):
    """All that the overview shows."""

    rows: Sequence[ExperimentRow]
    messages: Mapping[str, Messages]

    @property
    def tenants(self) -> list[str]:
        """Their names, that with the worst experiment first."""
        return list(dict.fromkeys(of.tenant for of in self.rows))


def gather(
    answers: Sequence[ExperimentsAnswer], health: HealthAnswer, judged_of: Callable[[str, str], Judged]
) -> Overview:
    """From the answers of all tenants, and what is judged of an experiment; the worst first."""
    serving = next((dc for dc in health.dcs if dc.is_serving), None)
    by_tenant = {} if serving is None else messages(serving)
    rows = []
    for answer in answers:
        name = answer.tenant
        found = of_tenant(by_tenant[name], unknown_experiments(name, serving)) if serving and name in by_tenant else []
        found += [] if serving is None else of_values(name, serving)
        for state in answer.experiments:
            judged = judged_of(name, state.experiment)
            issues = beside(judged.verdicts, issues_of(name, state, answer.at, answer.basis, serving))
            rows.append(ExperimentRow(name, state, issues, found, judged))
    return Overview(sorted(rows, key=lambda of: of.rank), by_tenant)


def summary(overview: Overview, search: Search) -> Html:
    """The number of experiments and of those that need attention, with links to show all or only those."""
    running = sum(of.state.state is Running.RUNNING for of in overview.rows)
    needy = sum(of.needs_attention for of in overview.rows)
    links = [
        _choice(f"all {len(overview.rows)}", search._replace(only_attention=False), not search.only_attention),
        _choice(f"needs attention {needy}", search._replace(only_attention=True), search.only_attention),
    ]
    said = f"{running} of {figures.plural(len(overview.rows), 'experiment')} running"
    attention = f"{figures.plural(needy, 'experiment needs', 'experiments need')} attention"
    return joined(
        element("p", said, class_="said", data_say=""),
        element("span", attention, class_="unseen", data_say=""),
        element("nav", links, class_="choices", aria_label="Filter"),
    )


def tenants(overview: Overview, search: Search) -> Html:
    """The experiments that match the search, by tenant."""
    rows = [of for of in overview.rows if _matches(of, search)]
    if not overview.rows:
        return _empty(
            "No experiment is configured.", "Add one to the configuration file; `monitor check` shows its metrics."
        )
    if not rows:
        return _nothing_found(search)
    names = [name for name in overview.tenants if any(of.tenant == name for of in rows)]
    return joined(*(_tenant(name, [of for of in rows if of.tenant == name], overview) for name in names))


def _nothing_found(search: Search) -> Html:
    href = "/" if search.text or search.only_attention else None
    among = " needs attention" if search.only_attention else ""
    matching = f" matches “{search.text}”" if search.text else ""
    said = f"No experiment{among}{' and' if among and matching else ''}{matching}."
    return joined(
        _empty(said, "The search looks at the names of tenants, experiments and variations."),
        element("p", element("a", "Show all", href=href, data_local=True, class_="button")),
    )


def strangers(overview: Overview) -> Html:
    """A notice of messages whose tenant is not configured or could not be read."""
    share = strangers_share(overview.messages)
    if share is None:
        return joined()
    rejected = overview.messages[STRANGERS].lost
    reasons = ", ".join(f"{reason} {figures.count(n)}" for reason, n in sorted(rejected.items()))
    return element(
        "p",
        element("strong", "High rejection rate. "),
        f"{figures.percent(share)} of all messages in the last 5 minutes belong to no configured tenant: {reasons}. ",
        element("a", "Health", href="/health"),
        class_="notice",
    )


def _matches(of: ExperimentRow, search: Search) -> bool:
    if search.only_attention and not of.needs_attention:
        return False
    return search.finds(of.tenant, of.state.experiment, *of.state.variations)


def _choice(text: str, search: Search, is_chosen: bool) -> Html:
    href = f"/{search.query()}"
    only = f"only={address.ATTENTION if search.only_attention else ''}"
    return element("a", text, href=href, data_local=True, data_set=only, aria_current="true" if is_chosen else None)


def _empty(text: str, fix: str) -> Html:
    return element("div", element("p", element("strong", text)), element("p", fix), class_="empty")


def _tenant(name: str, rows: Sequence[ExperimentRow], overview: Overview) -> Html:
    messages = overview.messages.get(name)
    pace = 0.0 if messages is None else messages.accepted / MESSAGES_S
    head = element("tr", *(element("th", column, scope="col") for column in COLUMNS))
    return element(
        "section",
        element(
            "header",
            element("h2", name),
            element("span", f"{pace:,.1f} events/s", class_="faint"),
            chips(rows[0].of_tenant),
        ),
        element(
            "table",
            element("caption", f"Experiments of {name}", class_="unseen"),
            element("thead", head),
            element("tbody", [row(of) for of in rows]),
            class_="cards overview",
        ),
        class_="tenant",
    )
