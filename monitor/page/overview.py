"""All tenants and their experiments. Pure: answers in, HTML out."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from monitor.page import address, colours, figures, plots
from monitor.page.address import Search
from monitor.page.issues import MESSAGES_S, REJECTED_SHARE, Issue, Messages, messages, of_experiment, of_tenant
from monitor.page.markup import Html, element, joined, moment
from monitor.serve.models import ExperimentsAnswer, ExperimentState, HealthAnswer, Running

SPARK_HOURS = 2
"""That is how far `qualified_recent` reaches back."""
UNKNOWN = "unknown"
COLUMNS = ("Experiment", f"Qualified, {SPARK_HOURS} h", "Qualified, 24 h", "Assigned, 24 h", "Share", "Last visit")


class ExperimentRow(NamedTuple):
    """One experiment, and what is odd about it."""

    tenant: str
    state: ExperimentState
    oddities: Sequence[Issue]


class Overview(NamedTuple):
    """All that the overview shows."""

    rows: Sequence[ExperimentRow]
    messages: Mapping[str, Messages]

    @property
    def tenants(self) -> list[str]:
        """In the order of the configuration."""
        return list(dict.fromkeys(row.tenant for row in self.rows))


def gather(answers: Sequence[ExperimentsAnswer], health: HealthAnswer) -> Overview:
    """From the answers of all tenants."""
    rows = [
        ExperimentRow(answer.tenant, state, of_experiment(state, health.at))
        for answer in answers
        for state in answer.experiments
    ]
    serving = next((dc for dc in health.dcs if dc.is_serving), None)
    return Overview(rows, {} if serving is None else messages(serving))


def summary(overview: Overview, search: Search) -> Html:
    """How many there are and how many are odd, with a switch to see only those."""
    running = sum(row.state.state is Running.RUNNING for row in overview.rows)
    odd = sum(bool(row.oddities) for row in overview.rows)
    links = [
        _choice(f"all {len(overview.rows)}", search._replace(only_odd=False), not search.only_odd),
        _choice(f"odd {odd}", search._replace(only_odd=True), search.only_odd),
    ]
    said = f"{running} of {figures.plural(len(overview.rows), 'experiment')} running"
    return joined(
        element("p", said, class_="said"), element("nav", links, class_="choices", aria_label="Which are shown")
    )


def tenants(overview: Overview, search: Search) -> Html:
    """The experiments that are searched for, by tenant."""
    found = [row for row in overview.rows if _wanted(row, search)]
    if not overview.rows:
        return _empty(
            "No experiment is configured.", "Add one to the configuration file; `monitor check` shows what it measures."
        )
    if not found:
        href = "/" if search.text or search.only_odd else None
        what = f"Nothing is called “{search.text}”" if search.text else "Nothing is odd"
        return joined(
            _empty(
                f"{what}{' among what is odd' if search.text and search.only_odd else ''}.",
                "Words are looked for in the names of tenants, experiments and variations.",
            ),
            element("p", element("a", "Show all", href=href, data_local=True, class_="button")),
        )
    names = [name for name in overview.tenants if any(row.tenant == name for row in found)]
    return joined(*(_tenant(name, [row for row in found if row.tenant == name], overview) for name in names))


def strangers(overview: Overview) -> Html:
    """Messages of which the tenant is not known."""
    messages = overview.messages.get(UNKNOWN)
    lost = sum(messages.rejected.values()) if messages else 0
    accepted = sum(of.accepted for name, of in overview.messages.items() if name != UNKNOWN)
    if messages is None or lost <= REJECTED_SHARE * (accepted + lost):
        return joined()
    reasons = ", ".join(f"{reason} {figures.count(n)}" for reason, n in sorted(messages.rejected.items()))
    return element(
        "p",
        element("strong", "Many rejects. "),
        f"{figures.percent(lost / (accepted + lost))} of all messages of the last 5 minutes belong to no "
        f"known tenant: {reasons}. ",
        element("a", "Health", href="/health"),
        class_="notice",
    )


def _wanted(row: ExperimentRow, search: Search) -> bool:
    if search.only_odd and not row.oddities:
        return False
    return search.finds(row.tenant, row.state.experiment, *row.state.variations)


def _choice(text: str, search: Search, is_chosen: bool) -> Html:
    href = f"/{search.query()}"
    only = f"only={'odd' if search.only_odd else ''}"
    return element("a", text, href=href, data_local=True, data_set=only, aria_current="true" if is_chosen else None)


def _empty(text: str, fix: str) -> Html:
    return element("div", element("p", element("strong", text)), element("p", fix), class_="empty")


def _tenant(name: str, rows: Sequence[ExperimentRow], overview: Overview) -> Html:
    messages = overview.messages.get(name)
    pace = 0.0 if messages is None else messages.accepted / MESSAGES_S
    odd = () if messages is None else of_tenant(messages)
    head = element("tr", *(element("th", column, scope="col") for column in COLUMNS))
    return element(
        "section",
        element(
            "header",
            element("h2", name),
            element("span", f"{pace:,.1f} events/s", class_="faint"),
            _chips(odd),
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
    label = f"Qualified visits over {SPARK_HOURS} hours"
    age = moment(state.last_assigned, "age") if state.last_assigned else "none in 24 h"
    return element(
        "tr",
        element("th", _light(row), link, _chips(row.oddities), scope="row"),
        element("td", plots.spark(state.qualified_recent, label), data_label=COLUMNS[1], class_="drawn"),
        element("td", figures.count(state.qualified), data_label=COLUMNS[2], class_="figure"),
        element("td", figures.count(state.assigned), data_label=COLUMNS[3], class_="figure"),
        element("td", _shares(state), data_label=COLUMNS[4], class_="drawn"),
        element("td", age, data_label=COLUMNS[5], class_="figure"),
    )


def _light(row: ExperimentRow) -> Html:
    """Running or not, in colour and as a word for those who do not see it."""
    kind, word = {
        Running.RUNNING: ("good", "running"),
        Running.SILENT: ("bad", "silent"),
        Running.NO_DATA: ("none", "no data"),
    }[row.state.state]
    kind = "odd" if kind == "good" and row.oddities else kind
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
    return joined(plots.shares(parts, f"{names}; planned {planned}"), element("small", f"{text}, planned {planned}"))


def _chips(found: Sequence[Issue]) -> Html:
    return joined(*(element("span", o.short, class_="tag odd", title=f"{o.text} {o.fix}") for o in found))
