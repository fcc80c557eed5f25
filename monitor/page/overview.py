"""All tenants and their experiments. Pure: answers in, HTML out."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple

from monitor.page import address, colours, figures, plots
from monitor.page.address import Search
from monitor.page.issues import Issue, distinct, issues_of, of_tenant, of_values, of_verdicts, unknown_experiments
from monitor.page.markup import Html, element, joined, moment
from monitor.serve.messages import MESSAGES_S, STRANGERS, Messages, messages, strangers_share
from monitor.serve.models import DcHealth, ExperimentsAnswer, ExperimentState, HealthAnswer, Running
from monitor.serve.verdict_models import VerdictsAnswer

SPARK_HOURS = 2
"""The hours that `qualified_recent` covers."""
NAMES_SHOWN = 4
"""The shares of more variations than these are not written out."""
COLUMNS = ("Experiment", f"Qualified, {SPARK_HOURS} h", "Qualified, 24 h", "Assigned, 24 h", "Share", "Last visit")


class ExperimentRow(NamedTuple):
    """One experiment, and its issues."""

    tenant: str
    state: ExperimentState
    issues: Sequence[Issue]


class Overview(NamedTuple):
    """All that the overview shows."""

    rows: Sequence[ExperimentRow]
    messages: Mapping[str, Messages]
    serving: DcHealth | None = None

    @property
    def tenants(self) -> list[str]:
        """Their names, in the order of the configuration."""
        return list(dict.fromkeys(row.tenant for row in self.rows))


def gather(
    answers: Sequence[ExperimentsAnswer],
    health: HealthAnswer,
    verdicts_of: Callable[[str, str], VerdictsAnswer | None],
) -> Overview:
    """From the answers of all tenants, and the verdicts of an experiment, if there are some."""
    serving = next((dc for dc in health.dcs if dc.is_serving), None)
    rows = [
        ExperimentRow(
            answer.tenant,
            state,
            distinct(
                of_verdicts(verdicts_of(answer.tenant, state.experiment))
                + issues_of(answer.tenant, state, answer.at, answer.basis, serving)
            ),
        )
        for answer in answers
        for state in answer.experiments
    ]
    return Overview(rows, {} if serving is None else messages(serving), serving)


def summary(overview: Overview, search: Search) -> Html:
    """The number of experiments and of those with issues, with links to show all or only those."""
    running = sum(row.state.state is Running.RUNNING for row in overview.rows)
    with_issues = sum(bool(row.issues) for row in overview.rows)
    links = [
        _choice(f"all {len(overview.rows)}", search._replace(only_issues=False), not search.only_issues),
        _choice(f"issues {with_issues}", search._replace(only_issues=True), search.only_issues),
    ]
    said = f"{running} of {figures.plural(len(overview.rows), 'experiment')} running"
    issues = f"{figures.plural(with_issues, 'experiment')} with issues"
    return joined(
        element("p", said, class_="said", data_say=""),
        element("span", issues, class_="unseen", data_say=""),
        element("nav", links, class_="choices", aria_label="Filter"),
    )


def tenants(overview: Overview, search: Search) -> Html:
    """The experiments that match the search, by tenant."""
    rows = [row for row in overview.rows if _matches(row, search)]
    if not overview.rows:
        return _empty(
            "No experiment is configured.", "Add one to the configuration file; `monitor check` shows its metrics."
        )
    if not rows:
        href = "/" if search.text or search.only_issues else None
        among = " with issues" if search.only_issues else ""
        matching = f" matches “{search.text}”" if search.text else ""
        return joined(
            _empty(
                f"No experiment{among}{matching}.",
                "The search looks at the names of tenants, experiments and variations.",
            ),
            element("p", element("a", "Show all", href=href, data_local=True, class_="button")),
        )
    names = [name for name in overview.tenants if any(row.tenant == name for row in rows)]
    return joined(*(_tenant(name, [row for row in rows if row.tenant == name], overview) for name in names))


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


def _matches(row: ExperimentRow, search: Search) -> bool:
    if search.only_issues and not row.issues:
        return False
    return search.finds(row.tenant, row.state.experiment, *row.state.variations)


def _choice(text: str, search: Search, is_chosen: bool) -> Html:
    href = f"/{search.query()}"
    only = f"only={'issues' if search.only_issues else ''}"
    return element("a", text, href=href, data_local=True, data_set=only, aria_current="true" if is_chosen else None)


def _empty(text: str, fix: str) -> Html:
    return element("div", element("p", element("strong", text)), element("p", fix), class_="empty")


def _tenant(name: str, rows: Sequence[ExperimentRow], overview: Overview) -> Html:
    messages = overview.messages.get(name)
    pace = 0.0 if messages is None else messages.accepted / MESSAGES_S
    issues: list[Issue] = []
    if messages is not None and overview.serving is not None:
        issues = of_tenant(messages, unknown_experiments(name, overview.serving)) + of_values(name, overview.serving)
    head = element("tr", *(element("th", column, scope="col") for column in COLUMNS))
    return element(
        "section",
        element(
            "header",
            element("h2", name),
            element("span", f"{pace:,.1f} events/s", class_="faint"),
            _chips(issues),
        ),
        element(
            "table",
            element("caption", f"Experiments of {name}", class_="unseen"),
            element("thead", head),
            element("tbody", [_experiment(row) for row in rows]),
            class_="cards overview",
        ),
        class_="tenant",
    )


def _experiment(row: ExperimentRow) -> Html:
    state = row.state
    link = element("a", state.experiment, href=address.of_experiment(row.tenant, state.experiment), class_="goes")
    age = moment(state.last_assigned, "age") if state.last_assigned else "none in 24 h"
    return element(
        "tr",
        element("th", _light(row), link, _chips(row.issues), scope="row"),
        element("td", _spark(state), data_label=COLUMNS[1], class_="drawn"),
        element("td", figures.count(state.qualified), data_label=COLUMNS[2], class_="figure"),
        element("td", figures.count(state.assigned), data_label=COLUMNS[3], class_="figure"),
        element("td", _shares(state), data_label=COLUMNS[4], class_="drawn"),
        element("td", age, data_label=COLUMNS[5], class_="figure"),
    )


def _spark(state: ExperimentState) -> Html:
    """The qualified visits of the last hours; of an experiment that began within them, those since then."""
    counts, first, last = state.qualified_recent, state.first_assigned, state.last_assigned
    label = f"Qualified visits over {SPARK_HOURS} hours"
    if first is None or last is None or last - first >= timedelta(hours=SPARK_HOURS):
        return plots.spark(counts, label)
    begun = next((i for i, count in enumerate(counts) if count), 0)
    return joined(
        plots.spark(counts[begun:], "Qualified visits since the first one"),
        element("small", "began ", moment(first, "age")),
    )


def _light(row: ExperimentRow) -> Html:
    """The traffic of an experiment as a coloured dot, with a word for readers who do not see it."""
    kind, word = {
        Running.RUNNING: ("good", "running"),
        Running.SILENT: ("bad", "no traffic now"),
        Running.NO_DATA: ("none", "no data"),
    }[row.state.state]
    kind = "warning" if kind == "good" and row.issues else kind
    return element("span", element("span", word, class_="unseen"), class_=f"light {kind}", title=word)


def _shares(state: ExperimentState) -> Html:
    weights = sum(state.variations.values())
    visits = sum(state.assigned_by_variation.values())
    if not visits:
        return element("span", figures.NONE, class_="faint")
    palette = colours.of_variations(state.control, state.variations)
    parts = [
        (palette[name], state.assigned_by_variation[name] / visits, weight / weights)
        for name, weight in state.variations.items()
    ]
    text = " / ".join(f"{100 * share:.1f}" for _, share, _ in parts)
    planned = " / ".join(f"{100 * plan:.0f}" for _, _, plan in parts)
    names = ", ".join(f"{n} {figures.percent(share)}" for n, (_, share, _) in zip(state.variations, parts, strict=True))
    short = f"{text}, planned {planned}" if len(parts) <= NAMES_SHOWN else f"{len(parts)} variations"
    return joined(plots.shares(parts, f"{names}; planned {planned}"), element("small", short, aria_hidden="true"))


def _chips(issues: Sequence[Issue]) -> Html:
    return joined(*(element("span", i.short, class_="tag warning", title=f"{i.text} {i.fix}") for i in issues))
